"""Operations of a DC-AE residual block besides its convolutions, on channels-last maps.

    bias_silu   silu(x + bias)                                            [B,C,H,W] -> the same
    norm_add    x / sqrt(mean over C of x^2 + eps) * weight + bias + r    [B,C,H,W] twice -> the same

Each kernel reads its inputs once and writes its result once. In eager PyTorch, a convolution's bias and SiLU are two
passes, and the norm, its factors and the residual about eight, some of them in float32 whatever the input's dtype.

Shape suffixes: B batch, C channels, H W positions.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sanarestore.kernels.on_cuda.launching import launch
from sanarestore.kernels.reference import Norm

VALUES = 4096
"""Values that a program of 128 threads takes at once: 32 per thread, enough to keep many loads in flight."""


def bias_silu(hidden_BCHW: Tensor, bias_C: Tensor) -> Tensor:
    """Triton version of `reference.bias_silu`."""
    result_BCHW = _like(hidden_BCHW)
    places, channels, block, wide = _sizes(hidden_BCHW)
    launch(
        bias_silu_kernel, triton.cdiv(places, block), hidden_BCHW.device,
        hidden_BCHW, bias_C.contiguous(), result_BCHW, places, channels, BLOCK=block, CHANNELS=wide, num_warps=4,
    )  # fmt: skip
    return result_BCHW


def norm_add(hidden_BCHW: Tensor, residual_BCHW: Tensor, norm: Norm, bias_C: Tensor) -> Tensor:
    """Triton version of `reference.norm_add`."""
    result_BCHW = _like(hidden_BCHW)
    places, channels, block, wide = _sizes(hidden_BCHW)
    launch(
        norm_add_kernel, triton.cdiv(places, block), hidden_BCHW.device,
        hidden_BCHW, residual_BCHW, norm.weight_F.contiguous(), bias_C.contiguous(), result_BCHW,
        norm.epsilon, places, channels, BLOCK=block, CHANNELS=wide, num_warps=4,
    )  # fmt: skip
    return result_BCHW


def _sizes(hidden_BCHW: Tensor) -> tuple[int, int, int, int]:
    """Positions, channels, positions per program, and channels per program (all, padded to a power of two)."""
    channels = hidden_BCHW.shape[1]
    wide = triton.next_power_of_2(channels)
    return hidden_BCHW.numel() // channels, channels, max(VALUES // wide, 1), wide


def _like(hidden_BCHW: Tensor) -> Tensor:
    # Not the input's strides, which are arbitrary for a map of one channel or one position.
    return torch.empty_like(hidden_BCHW, memory_format=torch.channels_last)


@triton.jit(do_not_specialize=["P"])  # type: ignore[untyped-decorator]
def bias_silu_kernel(hidden, bias, result, P, C, BLOCK: tl.constexpr, CHANNELS: tl.constexpr):  # type: ignore[no-untyped-def]
    """One program per block of positions, with all their channels."""
    first = tl.program_id(0).to(tl.int64) * BLOCK
    p, c = tl.arange(0, BLOCK), tl.arange(0, CHANNELS)
    there = (p < P - first)[:, None] & (c < C)[None, :]
    at = p[:, None] * C + c[None, :]
    x = tl.load(hidden + first * C + at, there, other=0.0).to(tl.float32)
    x += tl.load(bias + c, c < C, other=0.0).to(tl.float32)[None, :]
    tl.store(result + first * C + at, (x / (1 + tl.exp(-x))).to(result.dtype.element_ty), there)


@triton.jit(do_not_specialize=["P"])  # type: ignore[untyped-decorator]
def norm_add_kernel(  # type: ignore[no-untyped-def]
    hidden, residual, weight, bias, result, epsilon, P, C, BLOCK: tl.constexpr, CHANNELS: tl.constexpr
):
    """One program per block of positions, with all their channels."""
    first = tl.program_id(0).to(tl.int64) * BLOCK
    p, c = tl.arange(0, BLOCK), tl.arange(0, CHANNELS)
    there = (p < P - first)[:, None] & (c < C)[None, :]
    at = p[:, None] * C + c[None, :]
    x = tl.load(hidden + first * C + at, there, other=0.0).to(tl.float32)
    r = tl.load(residual + first * C + at, there, other=0.0).to(tl.float32)
    gain = tl.load(weight + c, c < C, other=0.0).to(tl.float32)[None, :]
    shift = tl.load(bias + c, c < C, other=0.0).to(tl.float32)[None, :]
    scale = 1 / tl.sqrt_rn(tl.sum(x * x, 1) / C + epsilon)
    tl.store(result + first * C + at, (x * scale[:, None] * gain + shift + r).to(result.dtype.element_ty), there)
