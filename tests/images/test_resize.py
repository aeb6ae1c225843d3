"""Tests of bicubic resampling."""

import numpy as np
import pytest

from sanarestore.images import resize


def test_resize_is_bicubic_with_a_coefficient_of_minus_one_half() -> None:
    line = np.random.default_rng(0).random((1, 32, 1), dtype=np.float32)

    def weight(x: float) -> float:
        x = abs(x)
        return 1.5 * x**3 - 2.5 * x**2 + 1 if x < 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0

    doubled = resize(line, 64, 1)[0, :, 0]
    for place in (20, 31, 40):
        centre = (place + 0.5) / 2 - 0.5
        taps = range(int(centre) - 3, int(centre) + 5)
        assert doubled[place] == pytest.approx(sum(weight(centre - tap) * line[0, tap, 0] for tap in taps), abs=1e-5)


def test_channels_are_resampled_separately_without_clipping() -> None:
    image = np.random.default_rng(1).normal(0.5, 1, (9, 7, 3)).astype(np.float32)
    smaller = resize(image, 5, 4)
    assert (smaller.shape, smaller.dtype) == ((4, 5, 3), np.float32)
    assert np.array_equal(smaller[..., 1:2], resize(image[..., 1:2], 5, 4))
    assert np.array_equal(resize(image, 7, 9), image)
    edge = resize(np.repeat(np.float32([0, 1]), 8)[None, :, None], 32, 1)
    assert edge.min() < 0
    assert edge.max() > 1
