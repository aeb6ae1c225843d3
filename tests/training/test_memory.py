"""Estimated peak memory of a training: as measured on narrow models, and plausible for the published ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sanarestore.engine.live_bytes import LiveBytes, held_by
from sanarestore.evaluation.speed.random_models import CHECKPOINTS, DC_AE
from sanarestore.model.colour_correction import COLOUR_STATISTICS
from sanarestore.training.batching import Batch
from sanarestore.training.loop import Trainer
from sanarestore.training.memory import Setting, estimate_memory
from sanarestore.training.objectives import new_objective
from sanarestore.training.progress import Schedule
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.recipe_shapes import OBJECTIVES
from sanarestore.training.shapes import AnyPrompts
from sanarestore.training.starting import Start
from tests.published import TINY_RECIPE, write_configurations
from tests.training.test_objectives import made

RECIPE = replace(
    TINY_RECIPE, batch=2, patch=128, workers=0, optimizer="adamw", model=replace(TINY_RECIPE.model, widths=(16, 32, 64))
)


def measured(folder: Path, recipe: TrainingRecipe, start: Start, dtype: str) -> int:
    """Bytes of all tensors that are alive at once at most in two steps and a checkpoint of a training."""
    objective: Any = new_objective(recipe, start)
    objective.parts = replace(objective.parts, prompts=AnyPrompts(objective.parts.prompts.width, Setting().length))
    trainer = Trainer(folder, objective, recipe, Schedule(dtype=dtype))  # type: ignore[arg-type]
    held = [tensor for module in (objective._everything, objective.modules) for tensor in module.parameters()]
    batch = Batch(
        degraded_BCHW=torch.rand(recipe.batch, 3, recipe.patch, recipe.patch).contiguous(
            memory_format=torch.channels_last
        ),
        target_BCHW=torch.rand(recipe.batch, 3, recipe.patch, recipe.patch).contiguous(
            memory_format=torch.channels_last
        ),
        statistics_BK=torch.rand(recipe.batch, COLOUR_STATISTICS), prompts=[""] * recipe.batch,
        requests=(None,) * recipe.batch,
    )  # fmt: skip
    objective._requests = lambda batch: objective.parts.prompts.requests(batch.prompts, batch.requests)
    before = held_by([*held, *trainer.learner.ema._kept, batch.degraded_BCHW, batch.target_BCHW])
    with LiveBytes() as live:
        trainer._optimize(batch, 1.0)
        trainer._optimize(batch, 1.0)
        trainer.save_checkpoint()
    return before + live.most


@pytest.mark.parametrize(
    ("rank", "dtype", "changes"),
    [
        (4, "float32", {"objective": "end-to-end"}),
        (4, "float32", {"objective": "flow"}),
        (None, "float32", {"objective": "flow"}),
        (4, "bfloat16", {"objective": "end-to-end"}),
        (4, "float32", {"objective": "end-to-end", "gradient_checkpointing": True}),
        (None, "float32", {"objective": "flow", "accumulate": 2, "optimizer": "adamw8bit", "ema": 0.0}),
    ],
)
def test_the_estimate_is_what_a_narrow_model_takes(
    rank: int | None, dtype: str, changes: dict[str, Any], narrow: str, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, **changes)
    start = Start(base=narrow, rank=rank, dtype=torch.bfloat16 if dtype == "bfloat16" else torch.float32)
    estimated, found = estimate_memory(recipe, start).total, measured(tmp_path, recipe, start, dtype)
    assert found > 20e6
    assert estimated == pytest.approx(found, rel=0.1)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_is_estimated_without_changing_it(name: str) -> None:
    objective: Any = made(name, batch=4)
    before = {key: tensor.clone() for key, tensor in objective.modules.state_dict().items()}
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    found = estimate_memory(objective.recipe, Start(), objective=objective)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[key], tensor) for key, tensor in objective.modules.state_dict().items())
    assert all(parameter.grad is None for parameter in objective.modules.parameters())
    trained = [*objective.modules.parameters(), *objective.modules.buffers()]
    assert found.trained == held_by(trained)
    assert found.frozen + found.trained >= held_by([*objective._everything.parameters(), *trained])
    if name not in ("wording", "router"):
        assert found.gradients == held_by(objective.modules.parameters())
        assert found.activations > 0


def test_the_agreement_of_two_seeds_is_estimated_as_twice_the_draws(narrow: str) -> None:
    # With fewer draws, encoding the crops takes more than the transformer.
    recipe, start = replace(RECIPE, objective="flow", draws=64), Start(base=narrow, rank=2)
    agreeing = estimate_memory(replace(recipe, agreement_weight=0.5), start)
    assert agreeing == estimate_memory(replace(recipe, draws=128), start)
    assert agreeing.activations > estimate_memory(recipe, start).activations


def test_a_published_model_is_estimated_from_its_configuration(tmp_path: Path) -> None:
    recipe = TrainingRecipe(objective="flow", patch=256, batch=2, optimizer="adamw", gradient_checkpointing=True)
    base = write_configurations(tmp_path, transformer=CHECKPOINTS["Sana_1600M_1024px"].changes, vae=DC_AE)
    start = Start(base=base, rank=32, dtype=torch.bfloat16)
    found = estimate_memory(recipe, start, Setting(device=torch.device("cuda")))
    assert found.frozen == pytest.approx(2 * (1.604e9 + 0.312e9), rel=0.02), "transformer and autoencoder"
    assert found.optimizer == pytest.approx(2 * found.trained, rel=1e-3)
    assert found.workers == 0, "crops are made in the host's memory"
    assert 0.1e9 < found.activations < 0.4e9


def test_a_distilled_model_and_long_prompts_are_estimated(tmp_path: Path) -> None:
    changes = {**CHECKPOINTS["Sana_Sprint_0.6B_1024px"].changes, "num_layers": 2}
    base = write_configurations(tmp_path, transformer=changes, vae=DC_AE)
    recipe, start = TrainingRecipe(objective="flow", patch=64, batch=1), Start(base=base, rank=4, dtype=torch.bfloat16)
    short, long = (
        estimate_memory(recipe, start, Setting(device=torch.device("cuda"), length=length)).activations
        for length in (8, 300)
    )
    assert 0 < short < long


def test_sharding_divides_what_is_trained_among_the_processes(narrow: str) -> None:
    recipe, start = replace(RECIPE, objective="flow", batch=4), Start(base=narrow)
    alone, half = replace(recipe, batch=2), Setting(processes=2)
    whole = estimate_memory(alone, start)
    replicated = estimate_memory(recipe, start, half)
    sharded = estimate_memory(recipe, start, replace(half, is_sharded=True))
    assert replicated.trained == whole.trained
    assert replicated.total >= whole.total
    for part in ("trained", "gradients", "optimizer", "ema"):
        assert getattr(sharded, part) == pytest.approx(getattr(whole, part) / 2, rel=0.05)
    assert sharded.frozen == whole.frozen
    assert sharded.total < replicated.total


def test_workers_count_where_training_is_on_the_cpu(narrow: str) -> None:
    recipe, start = replace(RECIPE, objective="flow", workers=2), Start(base=narrow, rank=2)
    on_cpu = estimate_memory(recipe, start, Setting(data_bytes=10**7))
    assert on_cpu.workers == pytest.approx(2 * (400 * 2**20 + 10**7), rel=1e-6)
    assert on_cpu.total == sum(on_cpu.parts().values())
    assert estimate_memory(recipe, start, Setting(device=torch.device("cuda"))).workers == 0
