"""ReLU linear attention, with keys and queries normalized as they are read.

    key_sums   S[e,d] = sum_n (v_n, 1)_e relu(k_n)_d      [B,N,H,D] twice -> [B,H,E,D] float32, E = D + 1
    attend     o_n = S[:D] relu(q_n) / (S[D] relu(q_n))   [B,N,H,D] -> the same

Keys, values and queries are read once, unchanged, and nothing of their size is written but the result; in eager PyTorch
the norm, the ReLU, the cast to float32, the padding and the transposition each write a copy. An RMS norm over all heads
needs a pass before, which reads the tokens and writes one number per token.

Sums are made in two stages: every program sums a part of the tokens into a workspace, and then the parts are added in
order. There are no races, so the result is bitwise the same at every call. The number of parts depends only on the
number of tokens and on D.

Shape suffixes: B batch, N tokens, H heads, D features of a head, E = D + 1, P parts.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sanarestore.kernels.on_cuda.launching import launch
from sanarestore.kernels.reference import SMALLEST, Norm

TOKENS = 64
"""Tokens that a program holds at once; half as many for heads of 128 features."""

PART = 256
"""Fewest tokens that a program sums."""

MOST_PARTS = 64
"""Most parts; more would enlarge the workspace without filling any device better."""

STEP = 32
"""Features of a query that are multiplied at once."""

FEATURES, SUMS = 1024, 256
"""Features of a token, and sums of each part, that a program takes at once."""


def key_sums(
    key_BNHD: Tensor,
    value_BNHD: Tensor,
    *,
    norm: Norm | None = None,
    counted_BN1: Tensor | None = None,
    state_BHED: Tensor | None = None,
) -> Tensor:
    """Triton version of `reference.key_sums`."""
    batch, tokens, heads, size = key_BNHD.shape
    block = _block(size)
    part = max(PART, triton.cdiv(triton.cdiv(tokens, MOST_PARTS), block) * block)
    parts = triton.cdiv(tokens, part)
    partial_PBHED = key_BNHD.new_empty((parts, batch, heads, size + 1, size), dtype=torch.float32)
    scale_BN, weight_F = _scales(key_BNHD, norm)
    # An argument that is not given is never read, so any tensor can stand for it.
    counted = key_BNHD[:, :, 0, :1] if counted_BN1 is None else counted_BN1
    launch(
        partial_sums_kernel, parts * batch * heads, key_BNHD.device,
        key_BNHD, value_BNHD, weight_F, scale_BN, counted, partial_PBHED,
        tokens, heads, batch * heads, part, *key_BNHD.stride(), *value_BNHD.stride(), *counted.stride()[:2],
        NORMED=norm is not None, COUNTED=counted_BN1 is not None, WIDE=_wide(key_BNHD), D=size, BLOCK=block,
        num_warps=_warps(size),
    )  # fmt: skip
    sums_BHED = torch.empty_like(partial_PBHED[0])
    state = sums_BHED if state_BHED is None else state_BHED.contiguous()
    count = sums_BHED.numel()
    launch(
        add_parts_kernel, triton.cdiv(count, SUMS), key_BNHD.device, partial_PBHED, state, sums_BHED, count, parts,
        STATE=state_BHED is not None, BLOCK=SUMS, num_warps=4,
    )  # fmt: skip
    return sums_BHED


def attend(query_BNHD: Tensor, sums_BHED: Tensor, *, norm: Norm | None = None) -> Tensor:
    """Triton version of `reference.attend`."""
    batch, tokens, heads, size = query_BNHD.shape
    block = _block(size)
    scale_BN, weight_F = _scales(query_BNHD, norm)
    mean_BNHD = query_BNHD.new_empty(query_BNHD.shape)
    launch(
        attend_kernel, triton.cdiv(tokens, block) * batch * heads, query_BNHD.device,
        query_BNHD, sums_BHED.contiguous(), weight_F, scale_BN, mean_BNHD,
        SMALLEST, tokens, heads, batch * heads, *query_BNHD.stride(),
        NORMED=norm is not None, D=size, STEP=min(size, STEP), BLOCK=block, num_warps=_warps(size),
    )  # fmt: skip
    return mean_BNHD


def _scales(token_BNHD: Tensor, norm: Norm | None) -> tuple[Tensor, Tensor]:
    """The norm's factor for each token, [B,N] in float32, and its weights; unused stand-ins if there is no norm."""
    if norm is None:
        return token_BNHD, token_BNHD
    batch, tokens, heads, size = token_BNHD.shape
    scale_BN = token_BNHD.new_empty((batch, tokens), dtype=torch.float32)
    launch(
        row_scales_kernel, batch * tokens, token_BNHD.device,
        token_BNHD, scale_BN, norm.epsilon, tokens, heads * size, *token_BNHD.stride(),
        D=size, BLOCK=FEATURES, num_warps=4,
    )  # fmt: skip
    return scale_BN, norm.weight_F.contiguous()


def _block(size: int) -> int:
    # A head of 128 with its sums fills the shared memory of smaller devices.
    return TOKENS if size < 128 else TOKENS // 2


def _warps(size: int) -> int:
    return 4 if size < 64 else 8


def _wide(token_BNHD: Tensor) -> bool:
    """Return whether products are computed in float32; Triton's interpreter, on a CPU, multiplies bfloat16 wrongly."""
    return token_BNHD.dtype == torch.float32 or token_BNHD.device.type == "cpu"


@triton.jit(do_not_specialize=["N"])  # type: ignore[untyped-decorator]
def row_scales_kernel(  # type: ignore[no-untyped-def]
    token, scale, epsilon, N, F, stride_b, stride_n, stride_h, stride_d, D: tl.constexpr, BLOCK: tl.constexpr
):
    """One program per token: the reciprocal of the root mean square of its features."""
    row = tl.program_id(0).to(tl.int64)
    token += row // N * stride_b + row % N * stride_n
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, F, BLOCK):
        feature = start + tl.arange(0, BLOCK)
        given = tl.load(token + feature // D * stride_h + feature % D * stride_d, feature < F, other=0.0)
        total += given.to(tl.float32) * given.to(tl.float32)
    tl.store(scale + row, 1 / tl.sqrt_rn(tl.sum(total, 0) / F + epsilon))


@triton.jit  # type: ignore[untyped-decorator]
def _raised(given, scale, weight, NORMED: tl.constexpr):  # type: ignore[no-untyped-def]
    """Normalize, rounding where the reference rounds, and apply ReLU, in float32; NaN stays NaN."""
    wide = given.to(tl.float32)
    if NORMED:
        normed = (wide * scale[:, None]).to(given.dtype).to(tl.float32)
        wide = (normed * weight.to(tl.float32)[None, :]).to(given.dtype).to(tl.float32)
    return tl.where(wide < 0, 0.0, wide)


@triton.jit(do_not_specialize=["N", "BH", "part"])  # type: ignore[untyped-decorator]
def partial_sums_kernel(  # type: ignore[no-untyped-def]
    key, value, weight, scale, counted, partial, N, H, BH, part,
    key_b, key_n, key_h, key_d, value_b, value_n, value_h, value_d, counted_b, counted_n,
    NORMED: tl.constexpr, COUNTED: tl.constexpr, WIDE: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program per part of the tokens and head of an image; heads are adjacent in memory."""
    program = tl.program_id(0).to(tl.int64)
    place, turn = program % BH, program // BH
    b, h = place // H, place % H
    d = tl.arange(0, D)
    key += b * key_b + h * key_h
    value += b * value_b + h * value_h
    gain = tl.load(weight + h * D + d) if NORMED else 0.0
    sums = tl.zeros([D, D], tl.float32)
    total = tl.zeros([D], tl.float32)
    first = turn * part
    for start in range(0, part, BLOCK):
        n = first + start + tl.arange(0, BLOCK)
        there = n < N
        k = tl.load(key + n[:, None] * key_n + d[None, :] * key_d, there[:, None], other=0.0)
        v = tl.load(value + n[:, None] * value_n + d[None, :] * value_d, there[:, None], other=0.0)
        by = tl.load(scale + b * N + n, there, other=0.0) if NORMED else 0.0
        wide = _raised(k, by, gain, NORMED)
        if COUNTED:
            counts = tl.load(counted + b * counted_b + n * counted_n, there, other=0.0)
            wide = (wide * counts.to(tl.float32)[:, None]).to(k.dtype).to(tl.float32)
        total += tl.sum(wide, 0)
        if WIDE:
            sums = tl.dot(tl.trans(v.to(tl.float32)), wide, sums, input_precision="ieee")
        else:
            # No precision is lost: the keys are already rounded to this dtype.
            sums = tl.dot(tl.trans(v), wide.to(k.dtype), sums)
    partial += program * (D + 1) * D
    tl.store(partial + d[:, None] * D + d[None, :], sums)
    tl.store(partial + D * D + d, total)


@triton.jit(do_not_specialize=["count", "parts"])  # type: ignore[untyped-decorator]
def add_parts_kernel(partial, state, sums, count, parts, STATE: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Add the parts in their order, and the state last."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = index < count
    total = tl.zeros([BLOCK], tl.float32)
    for _ in range(parts):
        total += tl.load(partial + index, there, other=0.0)
        partial += count
    if STATE:
        total += tl.load(state + index, there, other=0.0)
    tl.store(sums + index, total, there)


@triton.jit(do_not_specialize=["N", "BH"])  # type: ignore[untyped-decorator]
def attend_kernel(  # type: ignore[no-untyped-def]
    query, sums, weight, scale, mean, smallest, N, H, BH, query_b, query_n, query_h, query_d,
    NORMED: tl.constexpr, D: tl.constexpr, STEP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program per block of tokens and head of an image. Sums stay in float32, because they are large."""
    program = tl.program_id(0).to(tl.int64)
    place, turn = program % BH, program // BH
    b, h = place // H, place % H
    e = tl.arange(0, D)
    n = turn * BLOCK + tl.arange(0, BLOCK)
    there = n < N
    query += b * query_b + h * query_h
    sums += place * (D + 1) * D
    by = tl.load(scale + b * N + n, there, other=0.0) if NORMED else 0.0
    weighed = tl.zeros([BLOCK, D], tl.float32)
    weights = tl.zeros([BLOCK], tl.float32)
    # A few features at a time: float32 products are computed in registers, which wide heads would overflow.
    for start in range(0, D, STEP):
        d = start + tl.arange(0, STEP)
        q = tl.load(query + n[:, None] * query_n + d[None, :] * query_d, there[:, None], other=0.0)
        gain = tl.load(weight + h * D + d) if NORMED else 0.0
        q = _raised(q, by, gain, NORMED)
        weighed = tl.dot(q, tl.load(sums + e[None, :] * D + d[:, None]), weighed, input_precision="ieee")
        weights += tl.sum(q * tl.load(sums + D * D + d)[None, :], 1)
    out = ((b * N + n) * H + h)[:, None] * D + e[None, :]
    mean_of = weighed / (weights + smallest)[:, None]
    tl.store(mean + out, mean_of.to(mean.dtype.element_ty), there[:, None])
