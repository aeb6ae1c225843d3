"""SiLU, depthwise convolution and gate of a feed-forward in one kernel.

    o = a silu(g),   (a, g) = halves of depthwise conv3x3(silu(x)) + bias               [B,H,W,G] -> [B,H,W,C], G = 2 C

The wide map is read once and a map of half its width is written once; eager PyTorch writes and reads three maps of the
full width between SiLU, convolution and gate. A program goes down some rows of a strip: each row of x passes through
SiLU once for each of the three columns that use it, and contributes to the row above, its own and the row below, which
are summed in registers.

Shape suffixes: B batch, H W positions, C channels, G = 2 C, K = 9 taps of the convolution.
"""

import triton
import triton.language as tl
from torch import Tensor

from sanarestore.kernels.on_cuda.launching import launch

ROWS, COLUMNS, CHANNELS = 8, 16, 64
"""Size of the result per program. Two more rows are read, which are in the cache; the channels fill a cache line."""


def depthwise_glu(hidden_BHWG: Tensor, weight_G133: Tensor, bias_G: Tensor) -> Tensor:
    """Triton version of `reference.depthwise_glu`; channels must be contiguous in memory."""
    batch, height, width, both = hidden_BHWG.shape
    gated_BHWC = hidden_BHWG.new_empty((batch, height, width, both // 2))
    strips = triton.cdiv(both // 2, CHANNELS), triton.cdiv(width, COLUMNS), triton.cdiv(height, ROWS)
    # Contiguous channels let weights be read together; the copy is 9 G numbers, a thousandth of the map.
    weight_KG = weight_G133.flatten(1).t().contiguous()
    launch(
        depthwise_glu_kernel, batch * strips[0] * strips[1] * strips[2], hidden_BHWG.device,
        hidden_BHWG, weight_KG, bias_G.contiguous(), gated_BHWC, height, width, both // 2, *hidden_BHWG.stride()[:3],
        ROWS=ROWS, COLUMNS=COLUMNS, CHANNELS=CHANNELS, num_warps=4,
    )  # fmt: skip
    return gated_BHWC


@triton.jit
def _silu(x):  # type: ignore[no-untyped-def]
    return x / (1 + tl.exp(-x))


@triton.jit
def _lifted(given, there):  # type: ignore[no-untyped-def]
    """SiLU of the values inside the map; zero beyond its edges."""
    return _silu(tl.load(given, there, other=0.0).to(tl.float32))


@triton.jit
def _tap(weight, tap, c, there):  # type: ignore[no-untyped-def]
    return tl.load(weight + tap + c, there, other=0.0).to(tl.float32)[None, :]


@triton.jit(do_not_specialize=["H", "W"])  # type: ignore[untyped-decorator]
def depthwise_glu_kernel(  # type: ignore[no-untyped-def]
    hidden, weight, bias, gated, H, W, C, stride_b, stride_h, stride_w,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """One program per block of rows, columns and channels; programs that run together share pixels."""
    program = tl.program_id(0)
    blocks, strips, heights = tl.cdiv(C, CHANNELS), tl.cdiv(W, COLUMNS), tl.cdiv(H, ROWS)
    c = program % blocks * CHANNELS + tl.arange(0, CHANNELS)
    x = program // blocks % strips * COLUMNS + tl.arange(0, COLUMNS)
    top = program // (blocks * strips) % heights * ROWS
    b = (program // (blocks * strips * heights)).to(tl.int64)
    known = c < C
    value_bias = tl.load(bias + c, known, other=0.0).to(tl.float32)[None, :]
    gate_bias = tl.load(bias + C + c, known, other=0.0).to(tl.float32)[None, :]
    nothing = tl.zeros([COLUMNS, CHANNELS], tl.float32)
    value_above, gate_above = nothing, nothing
    value_here, gate_here = nothing + value_bias, nothing + gate_bias
    value_below, gate_below = nothing + value_bias, nothing + gate_bias
    for step in range(ROWS + 2):
        # Row offsets need 64 bits; within a row, 32 bits suffice.
        y = top + step - 1
        row = hidden + (b * stride_b + y.to(tl.int64) * stride_h)
        for shift in tl.static_range(3):
            column = x + shift - 1
            there = (y >= 0) & (y < H) & ((column >= 0) & (column < W))[:, None] & known[None, :]
            given = row + (column[:, None] * stride_w + c[None, :])
            lifted = _lifted(given, there)
            value_below += _tap(weight, 2 * C * shift, c, known) * lifted
            value_here += _tap(weight, 2 * C * (3 + shift), c, known) * lifted
            value_above += _tap(weight, 2 * C * (6 + shift), c, known) * lifted
            lifted = _lifted(given + C, there)
            gate_below += _tap(weight + C, 2 * C * shift, c, known) * lifted
            gate_here += _tap(weight + C, 2 * C * (3 + shift), c, known) * lifted
            gate_above += _tap(weight + C, 2 * C * (6 + shift), c, known) * lifted
        # All three rows of input have now been added to the row above.
        complete = (step >= 2) & (y - 1 < H) & (x < W)[:, None] & known[None, :]
        out = gated + (b * H + y - 1) * W * C + (x[:, None] * C + c[None, :])
        tl.store(out, (value_above * _silu(gate_above)).to(gated.dtype.element_ty), complete)
        value_above, gate_above = value_here, gate_here
        value_here, gate_here = value_below, gate_below
        value_below, gate_below = nothing + value_bias, nothing + gate_bias
