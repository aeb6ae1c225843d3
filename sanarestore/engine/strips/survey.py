"""The first pass over a photograph that is restored in strips: what its refiners need to know of it as a whole.

Shape suffixes: W columns of the photograph, h w rows and columns of a part or cells of an overview, S channels as
stored, C colours.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sanarestore import images
from sanarestore.engine.pixels import check_finite, host_tensor, is_gray
from sanarestore.engine.strips.rows import Rows
from sanarestore.model.colour_correction import overview_of_rows, overview_rows
from sanarestore.model.routing import SIDE, window_places


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """A photograph as it is known after the first pass."""

    frame: images.Image
    """Everything but its pixels."""
    is_gray: bool
    """Whether red, green and blue are equal everywhere."""
    is_hidden: bool
    """Whether alpha hides some pixels: then the photograph has to be restored whole, as these get other colours."""
    windows: tuple[Tensor, ...]
    """The windows [3,h,w] of which its routing features are made."""
    overview_Chw: Tensor | None
    """Its `overview`, if it was asked for."""


def survey(strips: images.StripImage, *, is_corrected: bool) -> Survey:
    """Read all rows once; the overview is made if light or colour `is_corrected`.

    UnreadableImage for values that are not finite, and for damage.
    """
    frame = strips.frame
    seen = _Seen(frame)
    bands = seen.passing(strips.bands())
    overview_Chw = None
    if is_corrected:
        most = max(bottom - top for top, bottom in overview_rows(frame.height, frame.width))
        rows = Rows(bands, most)
        overview_Chw = overview_of_rows(
            lambda top, bottom: colours_of(rows(top, bottom), frame), frame.height, frame.width
        )
    for _ in bands:
        pass
    return Survey(
        frame=frame, is_gray=seen.is_gray, is_hidden=seen.is_hidden, windows=tuple(seen.windows),
        overview_Chw=overview_Chw,
    )  # fmt: skip


def colours_of(codes_hwS: images.Stored, frame: images.Image) -> Tensor:
    """The colours of a part of a photograph in float, [3,h,w]; gray is repeated three times."""
    colours = frame.pixels_HWC.shape[2]
    return host_tensor(images.to_float(codes_hwS[..., :colours], frame.depth))


class _Seen:
    """What the bands show that pass."""

    def __init__(self, frame: images.Image) -> None:
        self._frame = frame
        self.is_gray, self.is_hidden = True, False
        self._places = window_places(frame.height, frame.width)
        size = min(SIDE, frame.height), min(SIDE, frame.width)
        self.windows = [torch.empty(3, *size) for _ in self._places]

    def passing(self, bands: Iterator[images.Stored]) -> Iterator[images.Stored]:
        """Pass on bands from the top down, and look at each."""
        top = 0
        for band_hWS in bands:
            self._look(band_hWS, top)
            yield band_hWS
            top += len(band_hWS)

    def _look(self, band_hWS: images.Stored, top: int) -> None:
        frame = self._frame
        colours_hWC = band_hWS[..., : frame.pixels_HWC.shape[2]]
        if frame.depth == "float32":
            check_finite(colours_hWC)
        self.is_gray = self.is_gray and is_gray(colours_hWC)
        if frame.alpha_HW is not None and frame.alpha_kind != images.UNSPECIFIED:
            alpha_hW = band_hWS[..., colours_hWC.shape[2] + (frame.extra.before if frame.extra else 0)]
            self.is_hidden = self.is_hidden or bool((alpha_hW <= 0).any())
        for window, (row, left) in zip(self.windows, self._places, strict=True):
            first, last = max(row, top), min(row + SIDE, top + len(band_hWS))
            if first < last:
                part_hwS = band_hWS[first - top : last - top, left : left + SIDE]
                window[:, first - row : last - row] = colours_of(part_hwS, frame)
