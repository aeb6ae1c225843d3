"""Depthwise convolution and gate of SANA's feed-forward; Triton where it fits, otherwise the reference.

Shape suffixes: B batch, H W positions, C channels, G = 2 C.
"""

from torch import Tensor

from sanarestore.kernels import choice, reference


def depthwise_glu(hidden_BHWG: Tensor, weight_G133: Tensor, bias_G: Tensor) -> Tensor:
    """`reference.depthwise_glu`; the kernel needs channels last in memory."""
    if not (choice.fits(hidden_BHWG, weight_G133, bias_G) and hidden_BHWG.stride(3) == 1):
        return reference.depthwise_glu(hidden_BHWG, weight_G133, bias_G)
    from sanarestore.kernels.on_cuda import feed_forward as on_cuda

    return on_cuda.depthwise_glu(hidden_BHWG, weight_G133, bias_G)
