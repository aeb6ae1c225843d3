"""The Triton kernels: each module imports Triton, and is imported only once it is known that a kernel will run.

A launcher takes what the public function of its name takes, and does not ask whether it fits. Blocks are fixed and not
tuned at run time: tuning would make results depend on the machine's mood, and everything here waits for memory anyway.
The number of tokens or pixels is no constant of a kernel (`do_not_specialize`); strides of maps that come channel by
channel may be, and then a photo of odd size compiles a second variant.
"""
