"""Tests of the metrics of seams on images with known seams."""

import numpy as np
import pytest

from sanarestore.evaluation.seams_metrics import MOST_DECIBELS, Borders, banded_psnr, discontinuity, largest_step


def test_bands_span_sixteen_pixels_on_each_side_of_a_border() -> None:
    untiled = np.zeros((3, 100, 120), np.float32)
    tiled = untiled.copy()
    tiled[:, 50 - 16, 7] = 0.1
    tiled[:, 3, 60 + 15] = 0.1
    inside, outside = banded_psnr(tiled, untiled, ((50,), (60,)))
    band = 32 * 120 + 100 * 32 - 32 * 32
    assert inside == pytest.approx(-10 * np.log10(2 * 0.01 / band))
    assert outside == MOST_DECIBELS
    tiled[:, 50 - 17, 0] = 0.2
    assert banded_psnr(tiled, untiled, ((50,), (60,)))[1] == pytest.approx(-10 * np.log10(0.04 / (100 * 120 - band)))
    assert banded_psnr(tiled, untiled, ((), ()))[0] is None


def test_bands_of_downsampled_maps_have_at_least_one_position_per_side() -> None:
    untiled = np.zeros((8, 10, 10), np.float32)
    tiled = untiled.copy()
    tiled[:, 4] = 0.1
    assert banded_psnr(tiled, untiled, ((128,), ()), cell=32)[0] == pytest.approx(-10 * np.log10(0.01 / 2)), (
        "the band is rows 3 and 4"
    )


def test_steps_across_borders_raise_the_discontinuity() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(0.5, 0.05, (60, 80, 3)).astype(np.float32)
    borders: Borders = ((20,), (40,))
    assert discontinuity(image, borders) == pytest.approx(1, abs=0.15)
    image[20:] += 0.3
    assert discontinuity(image, borders) > 5
    assert largest_step(image, borders) > 0.3
    assert discontinuity(np.full((60, 80, 3), 0.5, np.float32), borders) == 1


def test_the_largest_step_counts_only_borders() -> None:
    image = np.zeros((20, 20, 1))
    image[10:, :, 0] = 0.25
    image[:, 5:, 0] += 0.5
    assert largest_step(image, ((10,), ())) == 0.25
    assert largest_step(image, ((), (5,))) == 0.5
    assert largest_step(image, ((9,), (6,))) == 0
    assert largest_step(image, ((), ())) == 0
