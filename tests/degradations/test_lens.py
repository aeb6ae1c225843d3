"""Kernels of defocus and motion blur: shapes and moments."""

import numpy as np
import pytest

from sanarestore.degradations.lens import Defocus, MotionBlur


@pytest.mark.parametrize("radius", [0.5, 1.0, 2.3, 6.0])
def test_a_defocused_point_is_an_even_disc(radius: float) -> None:
    kernel = Defocus(radius=radius).kernel()
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert np.allclose(kernel, kernel.T)
    assert np.allclose(kernel, kernel[::-1])
    places = np.arange(len(kernel)) - len(kernel) // 2
    assert kernel.max() == pytest.approx(min(1 / (np.pi * radius**2), 1), rel=0.06)
    if radius > 2:
        # The variance of a disc along an axis is r^2 / 4; rounding to pixels adds 1 / 12.
        assert (kernel.sum(axis=0) * places**2).sum() == pytest.approx(radius**2 / 4 + 1 / 12, rel=0.04)


@pytest.mark.parametrize("angle", [0.0, np.pi / 6, np.pi / 2, 2.0])
def test_motion_blur_spreads_a_point_along_its_line(angle: float) -> None:
    kernel = MotionBlur(length=12, angle=angle).kernel()
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    places = np.arange(len(kernel)) - len(kernel) // 2
    rows, columns = np.meshgrid(places, places, indexing="ij")
    along = columns * np.cos(angle) + rows * np.sin(angle)
    across = rows * np.cos(angle) - columns * np.sin(angle)
    assert (kernel * along**2).sum() == pytest.approx(12**2 / 12 + 1 / 12, rel=0.05)
    # The line is one pixel wide; oblique lines are widened by rounding to pixels.
    assert (kernel * across**2).sum() <= 2.1 / 12


@pytest.mark.parametrize("blur", [Defocus(radius=3), MotionBlur(length=9, angle=0.4)])
def test_blurs_are_convolutions_with_their_kernels(blur: Defocus | MotionBlur) -> None:
    point = np.zeros((41, 41, 1), np.float32)
    point[20, 20] = 1
    kernel = blur.kernel()
    half = len(kernel) // 2
    spread = blur(point)[20 - half : 21 + half, 20 - half : 21 + half, 0]
    assert spread == pytest.approx(kernel, abs=1e-6)
    flat = np.full((9, 50, 3), 0.3, np.float32)
    assert blur(flat) == pytest.approx(flat, abs=1e-6)
