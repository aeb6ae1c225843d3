"""ReLU linear attention with explicit state; Triton where it fits, otherwise the reference.

Shape suffixes: B batch, N tokens, H heads, D features of a head, E = D + 1.
"""

import torch
from torch import Tensor

from sanarestore.kernels import choice, reference
from sanarestore.kernels.reference import Norm

__all__ = ["Norm", "attend", "key_sums"]

SIZES = (16, 32, 64, 128)
"""Values of D that matrix units take without padding."""


def key_sums(
    key_BNHD: Tensor,
    value_BNHD: Tensor,
    *,
    norm: Norm | None = None,
    counted_BN1: Tensor | None = None,
    state_BHED: Tensor | None = None,
) -> Tensor:
    """`reference.key_sums`: bitwise the same at every call, whatever else runs on the device."""
    fits = (
        choice.fits(key_BNHD, value_BNHD, norm.weight_F if norm else None, counted_BN1)
        and key_BNHD.shape == value_BNHD.shape
        and key_BNHD.shape[3] in SIZES
        and (state_BHED is None or _fits_sums(key_BNHD, state_BHED))
    )
    if not fits:
        return reference.key_sums(key_BNHD, value_BNHD, norm=norm, counted_BN1=counted_BN1, state_BHED=state_BHED)
    from sanarestore.kernels.on_cuda import linear_attention as on_cuda

    return on_cuda.key_sums(key_BNHD, value_BNHD, norm=norm, counted_BN1=counted_BN1, state_BHED=state_BHED)


def attend(query_BNHD: Tensor, sums_BHED: Tensor, *, norm: Norm | None = None) -> Tensor:
    """`reference.attend`."""
    fits = (
        choice.fits(query_BNHD, norm.weight_F if norm else None)
        and query_BNHD.shape[3] in SIZES
        and _fits_sums(query_BNHD, sums_BHED)
    )
    if not fits:
        return reference.attend(query_BNHD, sums_BHED, norm=norm)
    from sanarestore.kernels.on_cuda import linear_attention as on_cuda

    return on_cuda.attend(query_BNHD, sums_BHED, norm=norm)


def _fits_sums(token_BNHD: Tensor, sums_BHED: Tensor) -> bool:
    batch, _, heads, size = token_BNHD.shape
    return (
        choice.fits(sums_BHED)
        and sums_BHED.device == token_BNHD.device
        and sums_BHED.dtype == torch.float32
        and sums_BHED.shape == (batch, heads, size + 1, size)
    )
