"""Default lengths of trainings: they follow the data, within bounds, and are shorter for LoRA and on a CPU."""

from pathlib import Path

import pytest

from sanarestore.training.lengths import passes_of, pixels_of, scaled
from sanarestore.training.recipe import TrainingRecipe
from tests.conftest import save_photo

RECIPE = TrainingRecipe(steps=40_000, batch=32, patch=128)
"""Half a megapixel per step."""


@pytest.mark.parametrize(
    ("megapixels", "low_rank", "is_cpu", "steps"),
    [
        (0, True, True, 300),
        (1, False, False, 300),
        (100, True, False, 1100),
        (100, True, True, 1000),
        (100, False, False, 2300),
        (100, False, True, 2300),
        (1_000, True, False, 4000),
        (1_000, False, True, 10_000),
        (100_000, False, False, 40_000),
    ],
)
def test_steps_follow_the_data_within_bounds(megapixels: float, low_rank: bool, is_cpu: bool, steps: int) -> None:
    found = scaled(RECIPE, round(megapixels * 1e6), low_rank=low_rank, is_cpu=is_cpu)
    assert found.steps == steps
    found.check()


def test_the_rhythm_of_a_short_training_follows_its_steps() -> None:
    short = scaled(RECIPE, 10**6, low_rank=True, is_cpu=True)
    assert (short.warmup, short.validate_every, short.checkpoint_every) == (60, 60, 60)
    long = scaled(RECIPE, 10**11, low_rank=False, is_cpu=False)
    assert (long.warmup, long.validate_every) == (RECIPE.warmup, RECIPE.validate_every)


def test_a_recipe_of_few_steps_is_not_lengthened_beyond_the_least() -> None:
    assert scaled(TrainingRecipe(steps=50), 10**9, low_rank=False, is_cpu=False).steps == 300


def test_pixels_are_read_from_headers_and_damaged_files_are_empty(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path in paths[:2]:
        save_photo(path, 40, 50)
    paths[2].write_bytes(b"no image")
    assert pixels_of(paths) == 2 * 40 * 50
    assert pixels_of(paths[:1] * 1000) == 1000 * 40 * 50, "estimated from some"
    assert pixels_of([]) == 0


def test_passes_count_pixels() -> None:
    assert passes_of(RECIPE, 32 * 128**2 * 10, 30) == 3
    assert passes_of(RECIPE, 0, 30) == 0
