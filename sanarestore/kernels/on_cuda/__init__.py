"""The Triton kernels: each module imports Triton, and is imported only once it is known that a kernel will run.

A launcher takes the arguments of the public function of its name and does not check whether they fit. Block sizes are
fixed, not tuned at run time: tuning would make results depend on timing, and all kernels here are memory-bound. The
number of tokens or pixels is not a compile-time constant (`do_not_specialize`). Strides of maps stored channel by
channel may be, and then a photo of odd size compiles a second variant.
"""
