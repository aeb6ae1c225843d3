"""The stages that restore an image at its size, one after another, or window by window for `--tiling independent`.

Shape suffixes: C channels, H W pixels of the image, h w pixels of a window.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sanarestore import tiling
from sanarestore.engine.generation import Draw, Generation, Region
from sanarestore.engine.refinement import Refinement
from sanarestore.engine.tiles import Steps, run_stages
from sanarestore.options import RestoreOptions


class Stages:
    """The latent path and the refiner, each if the options use it."""

    def __init__(self, options: RestoreOptions, generation: Generation | None, refinement: Refinement) -> None:
        self._options, self._generation, self._refinement = options, generation, refinement
        self._is_unrefined = generation is not None and options.fidelity == 0

    def __call__(self, degraded_CHW: Tensor, restored_CHW: Tensor, draw: Draw | None = None) -> Steps:
        """Fill `restored_CHW`, both on the host; `draw` is one of several samples, None if there is one."""
        if self._options.tiling != "independent":
            yield from self._whole(degraded_CHW, restored_CHW, None, draw)
            return
        restored_CHW.zero_()
        is_encoded = draw is not None and bool(draw.conditions)
        yield from run_stages(
            [
                (self._window(each, degraded_CHW, restored_CHW, draw), self._count_window(each, is_encoded))
                for each in self._windows(*degraded_CHW.shape[1:])
            ]
        )

    def count(self, height: int, width: int, *, is_encoded: bool) -> int:
        """Number of progress steps for an image of this size at the current tile size."""
        if self._options.tiling != "independent":
            return self._count_whole(height, width, is_encoded=is_encoded)
        return sum(self._count_window(window, is_encoded) for window in self._windows(height, width))

    def _whole(self, degraded_CHW: Tensor, restored_CHW: Tensor, place: Region | None, draw: Draw | None) -> Steps:
        """Restore an image, or its part at `place`, stage by stage."""
        size = degraded_CHW.shape[1:]
        stages = []
        generated_CHW = degraded_CHW
        if self._generation:
            generated_CHW = restored_CHW if self._is_unrefined else torch.empty_like(degraded_CHW)
            is_encoded = draw is not None and (place or Region(0, 0, *size)) in (draw.conditions or {})
            count = self._generation.count(*size, is_encoded=is_encoded)
            stages.append((self._generation(degraded_CHW, generated_CHW, place, draw), count))
        if not self._is_unrefined:
            stages.append((self._refinement(degraded_CHW, generated_CHW, restored_CHW), self._refinement.count(*size)))
        yield from run_stages(stages)

    def _windows(self, height: int, width: int) -> Sequence[tiling.Window]:
        """Return the windows that are restored as images of their own."""
        stride = self._generation.stride if self._generation else self._refinement.stride
        tile, overlap = tiling.whole_strides(*self._options.blended, stride)
        return tiling.overlapping(height, width, tile=tile, overlap=overlap, stride=stride)

    def _window(self, window: tiling.Window, degraded_CHW: Tensor, restored_CHW: Tensor, draw: Draw | None) -> Steps:
        """Restore one window as an image of its own, and add its weighted result."""
        top, bottom, left, right = window.box
        given_Chw = degraded_CHW[:, top:bottom, left:right]
        result_Chw = torch.empty(given_Chw.shape)
        yield from self._whole(given_Chw, result_Chw, Region(top, left, *degraded_CHW.shape[1:]), draw)
        restored_CHW[:, top:bottom, left:right] += window.weight_hw * result_Chw

    def _count_window(self, window: tiling.Window, is_encoded: bool) -> int:
        top, bottom, left, right = window.box
        return self._count_whole(bottom - top, right - left, is_encoded=is_encoded)

    def _count_whole(self, height: int, width: int, *, is_encoded: bool) -> int:
        generated = self._generation.count(height, width, is_encoded=is_encoded) if self._generation else 0
        return generated if self._is_unrefined else generated + self._refinement.count(height, width)
