"""Importance of blocks: zero for a block without effect; both ends of a transformer stay."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from sanarestore.evaluation.columns import Place, table
from sanarestore.model.depth import append_blocks
from sanarestore.training.batching import Batch, collate
from sanarestore.training.data import PhotoSamples
from sanarestore.training.importance import block_importances, importance_rows, least_important
from sanarestore.training.objectives import new_objective
from sanarestore.training.recipe import TrainingRecipe
from tests.published import TINY_RECIPE

CPU = torch.device("cpu")

RECIPE = replace(
    TINY_RECIPE, objective="flow", batch=2, patch=32, workers=0, degradations={"noise:30": 1.0},
    latent=replace(TINY_RECIPE.latent, layers=3),
)  # fmt: skip


def a_batch(photos: list[Path], recipe: TrainingRecipe = RECIPE) -> Batch:
    samples = PhotoSamples(photos, recipe)
    return collate([samples[0], samples[1]])


def unruly(recipe: TrainingRecipe) -> object:
    """An objective on random parts whose blocks are not identities."""
    objective = new_objective(recipe)
    with torch.no_grad():
        for number, parameter in enumerate(objective.modules.parameters()):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    return objective


def test_a_block_without_effect_has_no_importance(photos: list[Path]) -> None:
    objective = unruly(RECIPE)
    append_blocks(objective.parts.path.transformer.transformer, 1)  # type: ignore[attr-defined]
    found = block_importances(objective, [a_batch(photos)], CPU)  # type: ignore[arg-type]
    assert found[3] == pytest.approx(0, abs=1e-12)
    assert all(1e-4 < each < 2 for each in found[:3])
    assert not any(block._forward_hooks for block in objective.parts.path.transformer.blocks)  # type: ignore[attr-defined]


def test_importance_is_one_minus_the_mean_cosine_over_tokens_samples_and_times(photos: list[Path]) -> None:
    objective = unruly(RECIPE)
    batches = [a_batch(photos), replace(a_batch(photos), first=2)]
    passed: list[tuple[torch.Tensor, torch.Tensor]] = []
    second = [*objective.parts.path.transformer.blocks][1]  # type: ignore[attr-defined]
    with second.register_forward_hook(lambda _, given, result: passed.append((given[0], result))):
        found = block_importances(objective, batches, CPU)  # type: ignore[arg-type]
    assert len(passed) == 2 * 8
    cosines = [float(F.cosine_similarity(one, other, dim=-1).mean()) for one, other in passed]
    assert found[1] == pytest.approx(1 - sum(cosines) / len(cosines), abs=1e-6)


def test_a_model_of_one_step_is_measured_at_time_one_alone(photos: list[Path]) -> None:
    objective = unruly(replace(RECIPE, objective="end-to-end"))
    times = []
    transformer = objective.parts.path.transformer  # type: ignore[attr-defined]
    with transformer.register_forward_pre_hook(lambda _, given: times.append(given[3].tolist())):
        block_importances(objective, [a_batch(photos)], CPU)  # type: ignore[arg-type]
    assert times == [[1.0, 1.0]]


def test_the_least_important_blocks_between_both_ends_are_removed() -> None:
    assert least_important([0.0, 0.3, 0.1, 0.2, 0.0], 2) == (2, 3)
    assert least_important([0.5, 0.1, 0.1, 0.5], 1) == (2,)
    for count in (0, 3):
        with pytest.raises(ValueError, match=f"{count} of 4 blocks cannot be removed"):
            least_important([0.1] * 4, count)


def test_the_table_says_which_blocks_are_removed() -> None:
    found = table(importance_rows([0.25, 0.000123456, 0.5], [1]), Place.TERMINAL)
    assert found.rows == [["0", "0.25", "kept"], ["1", "0.000123", "removed"], ["2", "0.5", "kept"]]
