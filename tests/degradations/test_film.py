"""Film grain and colour blotches: standard deviations, sizes and colours."""

import numpy as np
import pytest

from sanarestore.degradations.film import ColourBlotches, FilmGrain, smooth_noise


def flat(value: float, channels: int = 3) -> np.ndarray:
    return np.full((256, 256, channels), value, np.float32)


@pytest.mark.parametrize(("value", "share"), [(0.0, 0.0), (0.1, 0.6), (0.5, 1.0), (0.9, 0.6), (1.0, 0.0)])
@pytest.mark.parametrize("size", [0.0, 0.5, 1.5])
def test_grain_is_strongest_in_the_midtones(value: float, share: float, size: float) -> None:
    grain = FilmGrain(sigma=12, size=size, colour=0.4, seed=3)
    left = grain(flat(value)) - value
    assert left.std() * 255 == pytest.approx(12 * share, abs=0.35)


def test_black_and_white_grain_is_gray_and_colour_grain_is_not() -> None:
    gray, coloured = (FilmGrain(sigma=12, size=0.8, colour=colour, seed=3)(flat(0.5)) for colour in (0.0, 0.5))
    assert np.ptp(gray, axis=2).max() < 1e-6
    channels = np.corrcoef(coloured.reshape(-1, 3).T)
    assert channels[0, 1] == pytest.approx(0.5, abs=0.03)


def test_larger_grain_is_more_correlated_between_neighbours() -> None:
    found = []
    for size in (0.0, 0.7, 1.4):
        noise = FilmGrain(sigma=12, size=size, colour=0.0, seed=3)(flat(0.5, 1))[..., 0] - 0.5
        found.append(float(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]))
    # The correlation of a Gaussian of width s is exp(-1 / (4 s^2)).
    assert found == pytest.approx([0, np.exp(-1 / (4 * 0.49)), np.exp(-1 / (4 * 1.96))], abs=0.03)


def test_blotches_do_not_change_luma_or_gray_images() -> None:
    blotches = ColourBlotches(sigma=10, size=3, seed=4)
    noise = blotches(flat(0.5)) - 0.5
    assert np.abs(noise @ [0.299, 0.587, 0.114]).max() < 1e-6
    # Removing luma from three channels of variance 1 leaves 1 - 2 w + sum w^2, averaged over the channels.
    assert noise.std() * 255 == pytest.approx(10 * 0.883, rel=0.05)
    assert np.array_equal(blotches(flat(0.5, 1)), flat(0.5, 1))


@pytest.mark.parametrize("size", [0.0, 0.3, 1.0, 4.0])
def test_smooth_noise_has_unit_variance(size: float) -> None:
    assert smooth_noise(np.random.default_rng(5), (768, 768, 1), size).std() == pytest.approx(1, rel=0.04)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 40, 1), (4, 4, 3)])
def test_smooth_noise_has_unit_variance_in_small_images_too(shape: tuple[int, int, int]) -> None:
    sampled = [smooth_noise(np.random.default_rng(seed), shape, 5.0) for seed in range(400)]
    assert np.std(sampled) == pytest.approx(1, rel=0.15)
