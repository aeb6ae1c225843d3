"""How long a training is if nobody says: its steps follow the data and the device."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sanarestore import images
from sanarestore.errors import ImageError
from sanarestore.training.recipe import TrainingRecipe

PASSES = 12
"""Passes over all pixels of the data when all weights are trained."""

LORA_PASSES = 6
"""Passes over all pixels of the data for low-rank weights, which learn faster and forget less."""

FEWEST = 300
"""Steps of the shortest training: with less, the learning rate hardly reaches its peak."""

MOST_LORA = 4000
"""Steps of the longest training of low-rank weights; for all weights, those of the recipe."""

CPU_SHARE = 0.25
"""Share of the largest number of steps on a CPU, which takes seconds for each."""

MEASURED = 256
"""Images whose size is read; those of the others are taken to be alike."""


def pixels_of(paths: Sequence[Path]) -> int:
    """Pixels of all images together, by the headers of some of them; unreadable ones count as empty."""
    some = paths[:: -(-len(paths) // MEASURED)] if paths else []
    total = 0
    for path in some:
        try:
            header = images.measure(path)
        except ImageError:
            continue
        total += header.width * header.height
    return round(total * len(paths) / len(some)) if some else 0


def passes_of(recipe: TrainingRecipe, pixels: int, steps: int) -> float:
    """Number of passes over all pixels of the data in `steps`; 0 if there are none."""
    return steps * _pixels_per_step(recipe) / pixels if pixels else 0.0


def scaled(recipe: TrainingRecipe, pixels: int, *, low_rank: bool, is_cpu: bool) -> TrainingRecipe:
    """The recipe with as many steps as the data deserve, and fewer on a CPU.

    12 passes over all pixels, 6 for low-rank weights: at least 300 steps, at most those of the recipe, or 4,000 for
    low-rank weights; on a CPU at most a quarter of that. Warm-up, validations and checkpoints follow.
    """
    most = min(recipe.steps, MOST_LORA) if low_rank else recipe.steps
    most = round(most * CPU_SHARE) if is_cpu else most
    wanted = (LORA_PASSES if low_rank else PASSES) * pixels / _pixels_per_step(recipe)
    steps = _rounded(min(max(wanted, FEWEST), max(most, FEWEST)))
    often = max(steps // 5, 1)
    return replace(
        recipe, steps=steps, warmup=min(recipe.warmup, often), validate_every=min(recipe.validate_every, often),
        checkpoint_every=min(recipe.checkpoint_every, often),
    )  # fmt: skip


def _pixels_per_step(recipe: TrainingRecipe) -> int:
    return recipe.batch * recipe.patch * recipe.patch


def _rounded(steps: float) -> int:
    """A number of steps with two digits that mean something."""
    unit = int(10 ** max(len(str(int(steps))) - 2, 0))
    return round(steps / unit) * unit
