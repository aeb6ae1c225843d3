"""Blending of windows into a map, all in one launch.

    y[:, top_t : top_t + h, left_t : left_t + w] += weight_t x_t   for t = 0, 1, ...     [C,H,W] in place, T windows

Windows overlap, so programs divide the map, not the windows: a program owns positions and goes through the windows in
their order. There are no races, and a window is not read at positions that it does not cover. The map is read and
written once, for any number of windows.

Shape suffixes: C channels, H W positions of the map, T windows, h w positions of a window.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from sanarestore.kernels.on_cuda.launching import launch

POSITIONS = 512
"""Positions that a program owns."""

SIZES = ["H", "W", "T", "h", "w", "stride_c", "stride_h", "window_t", "window_c", "window_h"]


def add_windows(
    blended_CHW: Tensor, window_TChw: Tensor, weight_Thw: Tensor, corners: Sequence[tuple[int, int]]
) -> None:
    """Triton version of `reference.add_windows`."""
    channels, height, width = blended_CHW.shape
    count, _, rows, columns = window_TChw.shape
    corner_T2 = torch.tensor(corners, dtype=torch.int32).to(blended_CHW.device, non_blocking=True)
    launch(
        add_windows_kernel, channels * triton.cdiv(height * width, POSITIONS), blended_CHW.device,
        blended_CHW, window_TChw, weight_Thw.contiguous(), corner_T2, channels, height, width, count, rows, columns,
        *blended_CHW.stride(), *window_TChw.stride(), BLOCK=POSITIONS, num_warps=4,
    )  # fmt: skip


@triton.jit(do_not_specialize=SIZES)  # type: ignore[untyped-decorator]
def add_windows_kernel(  # type: ignore[no-untyped-def]
    blended, window, weight, corner, C, H, W, T, h, w, stride_c, stride_h, stride_w,
    window_t, window_c, window_h, window_w, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program per block of positions of one channel."""
    program = tl.program_id(0)
    c = (program % C).to(tl.int64)
    index = program // C * BLOCK + tl.arange(0, BLOCK)
    y, x = index // W, index % W
    at = c * stride_c + y * stride_h + x * stride_w
    total = tl.load(blended + at, y < H, other=0.0).to(tl.float32)
    for t in range(T):
        row, column = y - tl.load(corner + 2 * t), x - tl.load(corner + 2 * t + 1)
        there = (y < H) & (row >= 0) & (row < h) & (column >= 0) & (column < w)
        share = tl.load(weight + (t * h + row) * w + column, there, other=0.0).to(tl.float32)
        given = window + t * window_t + c * window_c + row * window_h + column * window_w
        total += share * tl.load(given, there, other=0.0).to(tl.float32)
    tl.store(blended + at, total.to(blended.dtype.element_ty), y < H)
