"""Detection of the degraded image of a pair, for pairs of `degrade` in both orders."""

import numpy as np
import pytest

from sanarestore.degradations.recipes import Recipe, stream
from sanarestore.images import Pixels, quantize
from sanarestore.training.direction import degraded_side
from tests.conftest import photo


def scene(seed: int, grain: float = 0.0) -> Pixels:
    clean = photo(160, 176, seed=seed)
    noisy = clean + np.random.default_rng(seed).normal(0, grain / 255, clean.shape).astype(np.float32)
    return quantize(np.clip(noisy, 0, 1))


def sides(line: str, grain: float = 0.0, count: int = 4) -> list[str | None]:
    """The sides that look degraded in pairs of a recipe, in which the second one is."""
    found = []
    for seed in range(count):
        plan = Recipe.parse(line).draw(stream("direction", line, seed), seed)
        target, degraded = quantize(plan.target(scene(seed, grain))), quantize(plan.degraded(scene(seed, grain)))
        found.append(degraded_side(target, degraded))
        swapped = degraded_side(degraded, target)
        assert (found[-1], swapped) in ((None, None), ("first", "second"), ("second", "first"))
    return found


@pytest.mark.parametrize("line", ["noise:5", "noise:25", "poisson:4", "jpeg:20", "jpeg-twice:40", "blur:1"])
@pytest.mark.parametrize("grain", [0.0, 4.0])
def test_noise_blur_and_blocks_show_the_degraded_image(line: str, grain: float) -> None:
    assert sides(line, grain) == ["second"] * 4


@pytest.mark.parametrize("line", ["blur:1.6", "kernel:5", "lowres:2", "lowres:3", "messenger", "noise:25+jpeg:30"])
def test_lost_detail_shows_the_degraded_image_also_where_the_target_is_noisy(line: str) -> None:
    assert sides(line, grain=4) == ["second"] * 4


@pytest.mark.parametrize(
    "line",
    [
        "camera",
        "photograph",
        "grain",
        "blotches:10",
        "jpeg:60",
        "jpeg:90",
        "webp:20",
        "webp:60",
        "defocus:3",
        "motion:8",
    ],
)
@pytest.mark.parametrize("grain", [0.0, 4.0])
def test_a_target_is_not_taken_for_the_degraded_image(line: str, grain: float) -> None:
    assert "first" not in sides(line, grain, count=3)


@pytest.mark.parametrize("line", ["clean", "unneeded", "colour:0.2"])
def test_pairs_that_are_equally_sharp_show_nothing(line: str) -> None:
    assert sides(line) == [None] * 4


def test_mixtures_show_the_degraded_image_more_often_than_the_target() -> None:
    found = [side for line in ("combined", "selective", "everything", "lowlight:2") for side in sides(line, count=6)]
    assert found.count("second") > 3 * found.count("first")


def test_small_and_plain_images_show_nothing() -> None:
    plain = np.full((64, 64, 3), 0.5, np.float32)
    assert degraded_side(plain, plain) is None
    assert degraded_side(photo(20, 40), 1 - photo(20, 40)) is None
    assert degraded_side(photo(1, 1), photo(1, 1)) is None
    assert degraded_side(photo(64, 64)[..., :1], photo(64, 64)[..., :1]) is None


def test_gray_and_colour_are_compared() -> None:
    clean = photo(128, 128)
    noisy = clean.mean(axis=2, keepdims=True) + np.random.default_rng(0).normal(0, 0.1, (128, 128, 1))
    assert degraded_side(clean, noisy.astype(np.float32)) == "second"
