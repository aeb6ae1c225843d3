"""Synthetic dead-leaves pictures: deterministic, in range, sharp, varied, and with natural spectra."""

import numpy as np
import pytest

from sanarestore.degradations.recipes import stream
from sanarestore.images import Pixels
from sanarestore.training import dead_leaves as module
from sanarestore.training.dead_leaves import SHAPES, dead_leaves


def synthetic(seed: int, side: int = 96) -> Pixels:
    return dead_leaves(side, stream("leaves", seed))


def test_a_picture_depends_on_its_stream_only() -> None:
    assert np.array_equal(synthetic(0), synthetic(0))
    assert not np.array_equal(synthetic(0), synthetic(1))


@pytest.mark.parametrize("side", [16, 96, 161])
def test_pictures_of_any_side_have_the_right_shape_and_range(side: int) -> None:
    picture = synthetic(3, side)
    assert picture.shape == (side, side, 3)
    assert picture.dtype == np.float32
    assert picture.min() >= 0
    assert picture.max() <= 1


def test_amplitudes_fall_with_frequency_as_in_photographs() -> None:
    """Amplitudes fall by about 1/f (Field 1987): noise would not fall, and smooth pictures would fall faster."""
    amplitudes = np.mean([np.abs(np.fft.fft2(synthetic(seed)[..., 1] - 0.5)) for seed in range(24)], axis=0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(96), np.fft.fftfreq(96)))
    band = (frequency > 0.04) & (frequency < 0.4)
    slope = np.polyfit(np.log(frequency[band]), np.log(amplitudes[band]), 1)[0]
    assert -1.5 < slope < -0.7


def test_edges_are_sharp_to_the_pixel() -> None:
    """One pixel step holds most of the strongest changes over three pixels.

    Straight borders at random subpixel positions give three quarters, and a blur of half a pixel's sigma gives half.
    """
    shares = []
    for seed in range(12):
        gray = synthetic(seed).mean(axis=2)
        steps = np.diff(gray, axis=1)
        change = np.abs(gray[:, 3:] - gray[:, :-3])
        largest = np.abs(np.stack([steps[:, :-2], steps[:, 1:-1], steps[:, 2:]])).max(axis=0)
        strong = change > np.quantile(change, 0.98)
        shares.append((largest[strong] / change[strong]).mean())
    assert np.mean(shares) > 0.65


def test_colours_and_shapes_vary(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = set()
    real = module._draw
    monkeypatch.setattr(module, "_draw", lambda draw, shape, *rest: (shapes.add(shape), real(draw, shape, *rest)))
    pictures = [synthetic(seed) for seed in range(6)]
    assert shapes == set(SHAPES)
    assert np.std([picture.mean() for picture in pictures]) > 0.03
    assert min(picture.std() for picture in pictures) > 0.02


def fine_share(texture: np.ndarray) -> float:
    """Return the share of a texture's power at periods below 12 px."""
    power = np.abs(np.fft.fft2(texture)) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
    return float(power[frequency > 1 / 12].sum() / power.sum())


def test_regular_textures_have_fine_detail_and_unit_contrast() -> None:
    """Most of their power is at the short periods of fabric and mesh, unlike that of fractal textures."""
    regular, fractal = (
        [make(128, stream("texture", seed)) for seed in range(16)] for make in (module._regular, module._fractal)
    )
    for texture in regular:
        assert abs(texture.mean()) < 0.01
        assert texture.std() == pytest.approx(1, abs=0.01)
    assert np.median([fine_share(texture) for texture in regular]) > 0.8
    assert np.median([fine_share(texture) for texture in fractal]) < 0.6
