"""Seams as one HTML page: tables, maps of the difference from the untiled result, and crops of the worst seam."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt

from sanarestore.evaluation.columns import Place, table
from sanarestore.evaluation.page import CROP, Page, Pictures, Section
from sanarestore.evaluation.seams import Measured, SchemeRun
from sanarestore.evaluation.seams_metrics import BAND, Borders
from sanarestore.images import Pixels

MAP = 480
"""Longest side of a map of differences, in pixels."""

FAINTEST, STRONGEST = -120.0, -20.0
"""Errors in dB of full scale that maps show as black and as white."""


class Maps:
    """The pictures of each image and scheme, collected while these are measured."""

    def __init__(self) -> None:
        self._by_image: dict[str, list[Pictures]] = {}

    def add(self, image: str, scheme: str, seen: SchemeRun, untiled: SchemeRun, borders: Borders) -> None:
        """Keep the map of differences, and the crop at the border where the difference is largest."""
        result, reference = (np.moveaxis(each.maps["result"], 0, 2) for each in (seen, untiled))
        error = np.square(result - reference).mean(axis=2)
        rows, columns = _worst(error, borders)
        kept = {
            "difference from untiled": _map(error),
            # Views would keep the whole results in memory.
            "at its worst seam": result[rows, columns].copy(),
            "the same place, untiled": reference[rows, columns].copy(),
        }
        self._by_image.setdefault(image, []).append(Pictures(scheme, kept))

    def of(self, image: str) -> list[Pictures]:
        """Return the pictures of an image, scheme by scheme."""
        return self._by_image.get(image, [])


def page_of(rows: Sequence[Measured], maps: Maps) -> Page:
    """Return the page of measured images, a section each."""
    notes = [
        f"Compared with the untiled image, with the same noise. At seams: PSNR in bands of {BAND} px on each side of "
        "every border between tiles. Steps: those across borders over all others, relative to the untiled result. "
        "Shifted compares what tiling changes in the image and in the image moved by half a tile. "
        "Flat and gradient: the largest step that tiles add, in 16-bit codes.",
        f"Maps go from {FAINTEST:.0f} dB (black) to {STRONGEST:.0f} dB (white).",
    ]
    sections = []
    for image, group in groupby(rows, lambda row: row.image):
        here = list(group)
        stages = [stage for row in here for stage in row.by_stage()]
        sections.append(
            Section(title=image, tables=[table(here, Place.PAGE), table(stages, Place.PAGE)], pictures=maps.of(image))
        )
    return Page(title="sanarestore seams", notes=notes, sections=sections)


def _map(error_HW: npt.NDArray[np.floating]) -> Pixels:
    """Show errors as gray on a scale in decibels; large images are reduced to the largest error of every block."""
    step = -(-max(error_HW.shape) // MAP)
    height, width = (-(-side // step) * step for side in error_HW.shape)
    padded = np.zeros((height, width), np.float64)
    padded[: error_HW.shape[0], : error_HW.shape[1]] = error_HW
    worst = padded.reshape(height // step, step, width // step, step).max(axis=(1, 3))
    decibels = 10 * np.log10(np.maximum(worst, 10 ** (FAINTEST / 10)))
    gray: Pixels = ((decibels - FAINTEST) / (STRONGEST - FAINTEST)).astype(np.float32)[..., None]
    return gray


def _worst(error_HW: npt.NDArray[np.floating], borders: Borders) -> tuple[slice, slice]:
    """Return a crop around the pixel that differs most, on a border if there is one."""
    on = np.full(error_HW.shape, not any(borders))
    for rows in borders[0]:
        on[rows - 1 : rows + 1] = True
    for columns in borders[1]:
        on[:, columns - 1 : columns + 1] = True
    place = np.unravel_index(np.argmax(np.where(on, error_HW, -1)), error_HW.shape)
    begins = [max(min(int(at) - CROP // 2, side - CROP), 0) for at, side in zip(place, error_HW.shape, strict=True)]
    return slice(begins[0], begins[0] + CROP), slice(begins[1], begins[1] + CROP)
