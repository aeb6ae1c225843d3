"""Gradient checkpointing: equal gradients, fewer activations kept, and no effect outside of training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sanarestore.degradations.requests import Request
from sanarestore.model.colour_correction import colour_statistics, overview
from sanarestore.model.prompts import PromptEncoder
from sanarestore.training.batching import Batch
from sanarestore.training.loop import Trainer
from sanarestore.training.objective import Objective
from sanarestore.training.objectives import new_objective
from sanarestore.training.progress import Schedule
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.recipe_shapes import LATENT_OBJECTIVES
from sanarestore.training.starting import Start
from tests.conftest import photo
from tests.published import TINY_RECIPE, write_published

RECIPE = replace(TINY_RECIPE, batch=2, optimizer="adamw")


def batch() -> Batch:
    clean = torch.stack([torch.from_numpy(photo(64, 64, seed)).permute(2, 0, 1) for seed in range(2)])
    degraded = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    return Batch(
        degraded_BCHW=degraded, target_BCHW=clean, prompts=["remove noise"] * 2, requests=(Request.of("noise"),) * 2,
        statistics_BK=torch.stack([colour_statistics(overview(image)) for image in degraded]),
    )  # fmt: skip


def trained(folder: Path, recipe: TrainingRecipe, start: Start, dtype: str) -> tuple[Objective, float, int]:
    """Compute the gradients of a batch; return the objective, its loss, and the bytes kept for the backward pass."""
    objective = new_objective(recipe, start)
    for parameter in objective.modules.parameters():  # a new condition and a new LoRA would have no effect
        parameter.data += 0.05 * torch.randn(
            parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())
        )
    trainer = Trainer(folder, objective, recipe, Schedule(dtype=dtype))  # type: ignore[arg-type]
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = trainer.learner.backward(batch())
    return objective, loss, sum(kept.values())


def assert_equal_but_for_memory(folder: Path, recipe: TrainingRecipe, start: Start, dtype: str = "float32") -> None:
    plain, loss, kept = trained(folder, recipe, start, dtype)
    sparing, other, less = trained(folder, replace(recipe, gradient_checkpointing=True), start, dtype)
    assert other == loss
    for one, two in zip(plain.modules.parameters(), sparing.modules.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None)
        assert one.grad is None or torch.equal(one.grad, two.grad)  # type: ignore[arg-type]
    assert any(each.grad is not None and each.grad.abs().max() > 0 for each in plain.modules.parameters())
    assert less < kept


@pytest.mark.parametrize("objective", LATENT_OBJECTIVES)
def test_gradients_are_those_without_checkpointing(objective: str, tmp_path: Path) -> None:
    assert_equal_but_for_memory(tmp_path, replace(RECIPE, objective=objective), Start())


@pytest.mark.parametrize("objective", ["flow", "end-to-end"])
def test_gradients_of_low_rank_weights_in_bfloat16_are_those_without_checkpointing(
    objective: str, tmp_path: Path, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "cache")
    base = write_published(tmp_path / "base", encoder)
    start = Start(base=str(base), rank=2, dtype=torch.bfloat16)
    assert_equal_but_for_memory(tmp_path, replace(RECIPE, objective=objective), start, "bfloat16")


def test_validation_is_not_checkpointed(monkeypatch: pytest.MonkeyPatch) -> None:
    objective: Any = new_objective(replace(RECIPE, objective="end-to-end", gradient_checkpointing=True))
    monkeypatch.setattr("sanarestore.model.blocks.checkpoint", None)
    with torch.no_grad():
        assert objective.restore(batch()).shape == (2, 3, 64, 64)
