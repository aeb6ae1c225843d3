"""Operations of a DC-AE residual block besides its convolutions; Triton where it fits, otherwise the reference.

Shape suffixes: B batch, C channels, H W positions.
"""

import torch
from torch import Tensor

from sanarestore.kernels import choice, reference
from sanarestore.kernels.reference import Norm

__all__ = ["Norm", "bias_silu", "norm_add"]

MOST_CHANNELS = 4096
"""Most channels that one program can normalize at once."""


def bias_silu(hidden_BCHW: Tensor, bias_C: Tensor) -> Tensor:
    """`reference.bias_silu`; the kernel needs channels last in memory."""
    if not (choice.fits(hidden_BCHW, bias_C) and _channels_last(hidden_BCHW)):
        return reference.bias_silu(hidden_BCHW, bias_C)
    from sanarestore.kernels.on_cuda import residual as on_cuda

    return on_cuda.bias_silu(hidden_BCHW, bias_C)


def norm_add(hidden_BCHW: Tensor, residual_BCHW: Tensor, norm: Norm, bias_C: Tensor) -> Tensor:
    """`reference.norm_add`; the kernel needs channels last in memory."""
    fits = (
        choice.fits(hidden_BCHW, residual_BCHW, norm.weight_F, bias_C)
        and hidden_BCHW.shape == residual_BCHW.shape
        and hidden_BCHW.shape[1] <= MOST_CHANNELS
        and _channels_last(hidden_BCHW, residual_BCHW)
    )
    if not fits:
        return reference.norm_add(hidden_BCHW, residual_BCHW, norm, bias_C)
    from sanarestore.kernels.on_cuda import residual as on_cuda

    return on_cuda.norm_add(hidden_BCHW, residual_BCHW, norm, bias_C)


def _channels_last(*maps: Tensor) -> bool:
    return all(given.is_contiguous(memory_format=torch.channels_last) for given in maps)
