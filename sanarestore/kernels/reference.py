"""Specification of the kernels in plain PyTorch, which also runs wherever the kernels do not.

Shape suffixes: B batch, N tokens, H heads, D features of a head, E = D + 1, F = H D features of a token; for maps
H W positions, C channels, G = 2 C; for windows T of them, h w positions; for products M rows, K inputs, N outputs,
P = K / 2 bytes of two codes each, J groups of inputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST = 1e-15
"""Epsilon added to the sum of weights before dividing, as in the training of SANA's checkpoints."""


@dataclass(frozen=True, slots=True)
class Norm:
    """An RMS norm with a weight for every feature, like diffusers' `RMSNorm`."""

    weight_F: Tensor
    epsilon: float


def rms_norm(feature_F: Tensor, norm: Norm) -> Tensor:
    """RMS norm over the last dimension, with any leading dimensions; bitwise equal to diffusers'."""
    square = feature_F.float().pow(2).mean(-1, keepdim=True)
    normed_F = feature_F * torch.rsqrt(square + norm.epsilon)
    if norm.weight_F.dtype in (torch.float16, torch.bfloat16):
        normed_F = normed_F.to(norm.weight_F.dtype)
    return normed_F * norm.weight_F


def key_sums(
    key_BNHD: Tensor,
    value_BNHD: Tensor,
    *,
    norm: Norm | None = None,
    counted_BN1: Tensor | None = None,
    state_BHED: Tensor | None = None,
) -> Tensor:
    """State of linear attention over tokens, [B,H,E,D] in float32: sum over n of (v_n, 1) relu(k_n)^T.

    States of disjoint tokens add up in any order: the result is added to `state_BHED` if that is given. Keys are
    normalized first, over all heads together, if there is a `norm`. `counted_BN1` is 1 for tokens that count and 0 for
    the others; None counts all.
    """
    if norm is not None:
        key_BNHD = _normed(key_BNHD, norm)
    if counted_BN1 is not None:
        key_BNHD = key_BNHD * counted_BN1[..., None]
    values_BHEN = F.pad(value_BNHD.permute(0, 2, 3, 1).float(), (0, 0, 0, 1), value=1.0)
    sums_BHED = values_BHEN @ F.relu(key_BNHD).transpose(1, 2).float()
    return sums_BHED if state_BHED is None else sums_BHED + state_BHED


def attend(query_BNHD: Tensor, sums_BHED: Tensor, *, norm: Norm | None = None) -> Tensor:
    """Linear attention to the summed tokens, [B,N,H,D] in the dtype of the queries (Xie et al. 2024, eq. 1).

    sum_m v_m relu(k_m)^T relu(q_n) / sum_m relu(k_m)^T relu(q_n), in float32. Queries are normalized first, over all
    heads together, if there is a `norm`.
    """
    if norm is not None:
        query_BNHD = _normed(query_BNHD, norm)
    weighed_BHEN = sums_BHED @ F.relu(query_BNHD).permute(0, 2, 3, 1).float()
    mean_BHDN = weighed_BHEN[:, :, :-1] / (weighed_BHEN[:, :, -1:] + SMALLEST)
    return mean_BHDN.permute(0, 3, 1, 2).to(query_BNHD.dtype)


def depthwise_glu(hidden_BHWG: Tensor, weight_G133: Tensor, bias_G: Tensor) -> Tensor:
    """SiLU, depthwise 3x3 convolution and the gate a SiLU(g) on the halves a, g of the channels, [B,H,W,C].

    The convolution pads with zeros.
    """
    lifted_BGHW = F.silu(hidden_BHWG).permute(0, 3, 1, 2)
    mixed_BGHW = F.conv2d(lifted_BGHW, weight_G133, bias_G, padding=1, groups=len(bias_G))
    value_BCHW, gate_BCHW = mixed_BGHW.chunk(2, dim=1)
    return (value_BCHW * F.silu(gate_BCHW)).permute(0, 2, 3, 1)


def bias_silu(hidden_BCHW: Tensor, bias_C: Tensor) -> Tensor:
    """Bias and SiLU after the first convolution of a residual block."""
    return F.silu(hidden_BCHW + bias_C[:, None, None])


def norm_add(hidden_BCHW: Tensor, residual_BCHW: Tensor, norm: Norm, bias_C: Tensor) -> Tensor:
    """End of a residual block: an RMS norm over channels with a bias, added to the block's input."""
    normed_BHWC = rms_norm(hidden_BCHW.movedim(1, -1), norm) + bias_C
    return normed_BHWC.movedim(-1, 1) + residual_BCHW


def add_windows(
    blended_CHW: Tensor, window_TChw: Tensor, weight_Thw: Tensor, corners: Sequence[tuple[int, int]]
) -> None:
    """Add windows times their weights in place, one after another, at their (top, left) corners."""
    height, width = weight_Thw.shape[1:]
    for window_Chw, weight_hw, (top, left) in zip(window_TChw, weight_Thw, corners, strict=True):
        blended_CHW[:, top : top + height, left : left + width] += weight_hw * window_Chw


def _normed(feature_BNHD: Tensor, norm: Norm) -> Tensor:
    return rms_norm(feature_BNHD.flatten(2), norm).reshape(feature_BNHD.shape)


def codes(value_BCHW: Tensor, scale: float, zero: int) -> Tensor:
    """Round floats to codes from 0 to 255, as uint8: value = (code - zero) * scale."""
    return ((value_BCHW / scale).round() + zero).clamp(0, 255).to(torch.uint8)


def int8_convolution(
    code_BIHW: Tensor,
    code_OIKK: Tensor,
    scale_O: Tensor,
    bias_O: Tensor,
    *,
    zero: int,
    stride: int = 1,
    padding: int = 0,
) -> Tensor:
    """Convolution of uint8 codes, of which `zero` stands for 0, with int8 weights, [B,O,H,W] in float32.

    Sums of products are exact; then they are multiplied by `scale_O`, and `bias_O` is added.
    """
    sums = F.conv2d(code_BIHW.double() - zero, code_OIKK.double(), stride=stride, padding=padding)
    return (sums * scale_O[:, None, None] + bias_O[:, None, None]).float()


def int8_linear(given_MK: Tensor, code_NK: Tensor, scale_N: Tensor) -> Tensor:
    """Product with weights in int8, [M,N] in the dtype of the input; W8A8, no bias.

    Rows of the input are rounded to int8 as well, each with its own scale (`int8_rows`).
    """
    code_MK, scale_M1 = int8_rows(given_MK)
    # Every dtype that networks compute in represents codes exactly.
    product_MN = F.linear(code_MK.to(given_MK.dtype), code_NK.to(given_MK.dtype))
    return (product_MN.float() * scale_M1 * scale_N).to(given_MK.dtype)


def int8_rows(given_MK: Tensor) -> tuple[Tensor, Tensor]:
    """Round every row to int8 codes from -127 to 127, [M,K], with float32 scales [M,1]: given = code * scale."""
    given_MK = given_MK.float()
    scale_M1 = given_MK.abs().amax(dim=1, keepdim=True).clamp(min=SMALLEST) / 127
    return (given_MK / scale_M1).round().to(torch.int8), scale_M1


def int4_linear(given_MK: Tensor, code_NP: Tensor, scale_NJ: Tensor, zero_NJ: Tensor) -> Tensor:
    """Product with weights in 4 bits, [M,N] in the dtype of the input; W4A16, no bias."""
    return F.linear(given_MK, int4_weights(code_NP, scale_NJ, zero_NJ).to(given_MK.dtype))


def int4_weights(code_NP: Tensor, scale_NJ: Tensor, zero_NJ: Tensor) -> Tensor:
    """Weights [N,K] in float32 from codes: weight = (code - zero) * scale, with scale and zero of the group.

    A byte holds the codes, 0 to 15, of inputs 2 p (the lower four bits) and 2 p + 1.
    """
    code_NK = torch.stack([code_NP & 15, code_NP >> 4], dim=2).flatten(1)
    code_NJk = code_NK.view(*scale_NJ.shape, -1).float()
    weight_NJk = (code_NJk - zero_NJ.float()[..., None]) * scale_NJ.float()[..., None]
    return weight_NJk.flatten(1)


def fp8_linear(given_MK: Tensor, code_NK: Tensor, scale_N: Tensor) -> Tensor:
    """Product with weights in float8 (e4m3), [M,N] in the dtype of the input; W8A16, no bias.

    Codes are the bytes of the floats, as uint8, so that casting a module does not change them.
    """
    weight_NK = code_NK.view(torch.float8_e4m3fn).float() * scale_N[:, None]
    return F.linear(given_MK, weight_NK.to(given_MK.dtype))
