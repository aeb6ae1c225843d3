"""Tests of the agreement of a restored image with its photograph."""

import numpy as np
import pytest

from sanarestore.degradations.operations import Blur, ColourShift, GaussianNoise, Jpeg, LowResolution, Operation
from sanarestore.degradations.requests import Request
from sanarestore.engine.agreement import ROUNDING, agreement, noise_variance, powers, score
from sanarestore.images import Pixels, resize
from tests.conftest import photo


def noisy(image_HWC: Pixels, sigma: float, seed: int = 0) -> Pixels:
    return GaussianNoise(sigma=sigma, seed=seed)(image_HWC)


@pytest.mark.parametrize("sigma", [2, 10, 40])
def test_the_variance_of_white_noise_is_measured(sigma: float) -> None:
    measured = 255 * noise_variance(noisy(photo(200, 300), sigma)) ** 0.5
    assert measured == pytest.approx(sigma, rel=0.15)


def test_what_does_not_vary_has_no_noise() -> None:
    flat = np.full((40, 50, 3), 0.3, np.float32)
    assert noise_variance(flat) == noise_variance(flat[:2, :2]) == 0
    half = np.concatenate([flat, noisy(np.full((160, 50, 3), 0.3, np.float32), 10)])
    assert 255 * noise_variance(half) ** 0.5 == pytest.approx(10, rel=0.15), "clipped areas count for nothing"


def test_the_power_of_white_noise_falls_with_the_area_it_is_averaged_over() -> None:
    residual = noisy(np.zeros((256, 256, 3), np.float32), 255)
    assert powers(residual) == pytest.approx([1, 1 / 4, 1 / 16, 1 / 64], rel=0.1)
    assert len(powers(residual[:5, :3])) == 2, "as far as there are pixels"


def test_the_score_is_best_where_the_residual_is_the_noise() -> None:
    noise = [0.01 / 4**side for side in range(4)]
    assert score(noise, 0.01) == 0
    assert score([2 * each for each in noise], 0.01) == pytest.approx(-0.5 * np.log(2))
    kept = score([each / 4 for each in noise], 0.01)
    assert kept == pytest.approx(-0.5 * (1 / 4 - 1 + np.log(4))), "the noise was not removed"
    assert np.isfinite(score([0.0], ROUNDING))


def test_a_clean_image_explains_a_noisy_photograph_better_than_the_photograph_itself() -> None:
    clean = photo(128, 160)
    degraded = noisy(clean, 20)
    request = Request.of("noise")
    scores = [agreement(degraded, each, request) for each in (clean, degraded, Blur(sigma=2)(clean))]
    assert scores[0] == max(scores) > -0.1
    # If the noise is kept, its pattern stays.
    assert agreement(degraded, degraded, Request.of("blur")) > agreement(degraded, clean, Request.of("blur"))


@pytest.mark.parametrize(
    ("kind", "operation"),
    [("blur", Blur(sigma=1.5)), ("lowres", LowResolution(factor=3.5)), ("jpeg", Jpeg(quality=10))],
)
def test_the_image_is_degraded_again_as_the_prompt_says(kind: str, operation: Operation) -> None:
    clean, other = photo(128, 160), noisy(photo(128, 160), 4)
    degraded = operation(clean)
    asked, unasked = Request.of(kind), Request.of("blur" if kind == "jpeg" else "jpeg")
    assert agreement(degraded, clean, asked) > agreement(degraded, other, asked)
    assert agreement(degraded, clean, asked) > agreement(degraded, clean, unasked)
    assert agreement(degraded, clean, Request()) > agreement(degraded, clean, unasked), "unprompted, all are tried"


def test_an_enlarged_image_is_reduced_to_the_photograph() -> None:
    clean = photo(128, 160)
    degraded = resize(clean, 40, 32)
    request = Request.of("lowres")
    assert agreement(degraded, clean, request) > agreement(degraded, np.roll(clean, 4, axis=1), request)
    small = resize(clean, 80, 64)
    assert agreement(clean, small, request) > agreement(clean, np.roll(small, 2, axis=1), request)


def test_a_change_of_light_that_was_asked_for_is_no_disagreement() -> None:
    clean = photo(64, 96)
    dark = ColourShift(brightness=-0.1, contrast=-0.2, gains=(0.9, 1.0, 1.05))(clean)
    assert agreement(dark, clean, Request.of("lowlight", "colour")) > agreement(dark, clean, Request.of("noise")) + 1


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (17, 3)])
def test_the_smallest_images_have_a_score(size: tuple[int, int]) -> None:
    image = photo(*size)
    for request in (Request(), Request.of("lowlight")):
        assert np.isfinite(agreement(image, image, request))
    assert np.isfinite(agreement(image, resize(image, 4 * size[1], 4 * size[0]), Request()))
