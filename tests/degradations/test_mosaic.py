"""Colour filter arrays: measured samples are kept, smooth colours are recovered, and phases shift the pattern."""

import numpy as np
import pytest

from sanarestore.degradations.mosaic import METHODS, PATTERNS, colour_sites, demosaic
from sanarestore.images import Pixels

WAYS = [(pattern, method) for pattern, methods in METHODS.items() for method in methods]


def mosaicked(image_HWC: Pixels, pattern: str, phase: tuple[int, int] = (0, 0)) -> tuple[Pixels, np.ndarray]:
    site_HW = colour_sites(*image_HWC.shape[:2], pattern, phase)
    return np.take_along_axis(image_HWC, site_HW[..., None], axis=2)[..., 0], site_HW


def planes(height: int = 24, width: int = 26) -> Pixels:
    """Make an image whose channels are planes of different slopes."""
    y, x = np.mgrid[:height, :width].astype(np.float32) / 100
    return np.stack([0.2 + x, 0.3 + y, 0.5 + x - y], axis=2)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_row_and_column_of_sites_contains_green(pattern: str) -> None:
    site_HW = colour_sites(12, 12, pattern)
    assert (site_HW == 1).any(axis=0).all()
    assert (site_HW == 1).any(axis=1).all()
    shares = np.bincount(site_HW.ravel()) / site_HW.size
    assert shares == pytest.approx({"bayer": (0.25, 0.5, 0.25), "xtrans": (8 / 36, 20 / 36, 8 / 36)}[pattern])


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_phase_shifts_the_start_of_the_pattern(pattern: str) -> None:
    whole = colour_sites(20, 20, pattern)
    assert np.array_equal(colour_sites(12, 12, pattern, (1, 2)), whole[1:13, 2:14])


@pytest.mark.parametrize("phase", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize(("pattern", "method"), WAYS)
def test_demosaicing_keeps_the_measured_samples(pattern: str, method: str, phase: tuple[int, int]) -> None:
    image = np.random.default_rng(1).random((18, 19, 3)).astype(np.float32)
    mosaic_HW, site_HW = mosaicked(image, pattern, phase)
    colour_HWC = demosaic(mosaic_HW, site_HW, pattern, method)
    assert colour_HWC.dtype == np.float32
    assert np.array_equal(np.take_along_axis(colour_HWC, site_HW[..., None], axis=2)[..., 0], mosaic_HW)


@pytest.mark.parametrize("phase", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_bayer_demosaicing_recovers_planes_away_from_the_border(phase: tuple[int, int]) -> None:
    image = planes()
    mosaic_HW, site_HW = mosaicked(image, "bayer", phase)
    inside = np.s_[3:-3, 3:-3]
    assert demosaic(mosaic_HW, site_HW, "bayer", "bilinear")[inside] == pytest.approx(image[inside], abs=1e-5)
    # The gradient method recovers planes of equal slopes only, because it takes slopes from other colours.
    gray = np.repeat(image[..., :1], 3, axis=2)
    mosaic_HW, site_HW = mosaicked(gray, "bayer", phase)
    assert demosaic(mosaic_HW, site_HW, "bayer", "gradient")[inside] == pytest.approx(gray[inside], abs=1e-5)


def test_the_gradient_method_keeps_a_gray_edge_better() -> None:
    edge = np.repeat((np.arange(32)[None, :, None] > 15).astype(np.float32), 32, axis=0).repeat(3, axis=2)
    errors = {
        method: float(np.mean((demosaic(*mosaicked(edge, "bayer"), "bayer", method) - edge) ** 2))
        for method in METHODS["bayer"]
    }
    assert errors["gradient"] < 0.6 * errors["bilinear"]


@pytest.mark.parametrize(("pattern", "method"), WAYS)
def test_flat_colours_stay_flat_to_the_border(pattern: str, method: str) -> None:
    gray = np.full((13, 14, 3), 0.4, np.float32)
    assert demosaic(*mosaicked(gray, pattern), pattern, method) == pytest.approx(gray, abs=1e-6)
    colour = gray * np.array([0.5, 1, 1.5], np.float32)
    assert demosaic(*mosaicked(colour, pattern), pattern, method) == pytest.approx(colour, abs=1e-6)
