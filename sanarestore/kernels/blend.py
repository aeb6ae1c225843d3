"""Blending of windows into a map; Triton where it fits, otherwise the reference.

Shape suffixes: C channels, H W positions of the map, T windows, h w positions of a window.
"""

from collections.abc import Sequence

from torch import Tensor

from sanarestore.kernels import choice, reference


def add_windows(
    blended_CHW: Tensor, window_TChw: Tensor, weight_Thw: Tensor, corners: Sequence[tuple[int, int]]
) -> None:
    """`reference.add_windows`: in place, and bitwise the same at every call."""
    if not choice.fits(blended_CHW, window_TChw, weight_Thw):
        reference.add_windows(blended_CHW, window_TChw, weight_Thw, corners)
        return
    from sanarestore.kernels.on_cuda import blend as on_cuda

    on_cuda.add_windows(blended_CHW, window_TChw, weight_Thw, corners)
