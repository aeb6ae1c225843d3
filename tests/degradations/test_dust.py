"""Dust and scratches: number, tone, shape and purity of the marks."""

import numpy as np
import pytest

from sanarestore.degradations.dust import DustAndScratches
from sanarestore.degradations.recipes import Recipe, stream
from sanarestore.degradations.requests import Request
from sanarestore.images import Pixels
from tests.conftest import photo


def gray(height: int, width: int, channels: int = 3) -> Pixels:
    return np.full((height, width, channels), 0.5, np.float32)


@pytest.mark.parametrize("white", [0.0, 1.0])
def test_marks_are_thin_and_nearly_white_or_black(white: float) -> None:
    change = DustAndScratches(density=500, white=white, seed=3)(gray(300, 400)) - 0.5
    assert ((change >= 0) if white else (change <= 0)).all()
    assert 0.4 < np.abs(change).max() <= 0.5
    assert 0.002 < (np.abs(change) > 0.05).mean() < 0.08


def test_more_density_covers_more() -> None:
    covered = [
        np.mean([DustAndScratches(density=each, white=1, seed=seed)(gray(200, 200)) > 0.51 for seed in range(10)])
        for each in (0, 100, 1000)
    ]
    assert covered[0] == 0
    assert 5 < covered[2] / covered[1] < 20


def test_the_image_between_the_marks_is_unchanged_and_the_input_too() -> None:
    image = photo(128, 160)
    before = image.copy()
    marked = DustAndScratches(density=300, white=0.5, seed=1)(image)
    assert np.array_equal(image, before)
    assert 0.9 < (marked == image).all(axis=2).mean() < 1
    assert np.array_equal(marked, DustAndScratches(density=300, white=0.5, seed=1)(image))
    assert not np.array_equal(marked, DustAndScratches(density=300, white=0.5, seed=2)(image))


@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (90, 1)])
def test_tiny_images_and_gray_ones_are_marked(shape: tuple[int, int]) -> None:
    marked = DustAndScratches(density=5000, white=1, seed=5)(gray(*shape, 1))
    assert marked.shape == (*shape, 1)
    assert marked.dtype == np.float32
    assert ((marked >= 0.5) & (marked <= 1)).all()


def test_pairs_with_dust_have_one_prompt_that_no_reader_knows() -> None:
    plans = [Recipe.parse("dust:50-500,dust:100+jpeg:40").draw(stream("dust", turn), turn) for turn in range(6)]
    assert {plan.prompt for plan in plans} == {"remove dust and scratches"}
    assert {plan.request for plan in plans} == {Request(understood=False)}
    assert plans[1].label == "dust:100+jpeg:40"
    clean = photo(64, 64)
    assert all(np.array_equal(plan.target(clean), clean) for plan in plans)
