"""Change the depth of a base's transformer before it is trained: grow it, or remove its least important blocks.

Validation measures the cost before and after, which is recorded.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sanarestore.errors import UsageError
from sanarestore.model.depth import TUNED_TO_OUTPUT, append_blocks, depth_of, remove_blocks, tuned_to_output
from sanarestore.training.batching import Batch, batch_at
from sanarestore.training.data import without_files
from sanarestore.training.decoder_pruning import arbitrarily_pruned
from sanarestore.training.depth_record import FILE, DepthRecord
from sanarestore.training.importance import SAMPLES, block_importances, least_important
from sanarestore.training.objective import Objective
from sanarestore.training.objectives import objective_of
from sanarestore.training.parts import Parts
from sanarestore.training.ranks import Ranks
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.scores import Validation, measure

FEWEST_LEFT = 2
"""Fewest blocks that pruning leaves: the first and the last."""


def check_depth(recipe: TrainingRecipe, transformer: Any) -> None:
    """Raise UsageError if the transformer has too few blocks for the recipe."""
    depth = depth_of(transformer)
    if recipe.prune > depth - FEWEST_LEFT:
        most = max(depth - FEWEST_LEFT, 0)
        raise UsageError(
            f"the base has {depth} blocks, and the first and the last stay", where="--prune",
            next_step=f"Remove {most} at most." if most else "Leave it out.",
        )  # fmt: skip
    if recipe.grow and not recipe.keep_all and depth <= TUNED_TO_OUTPUT:
        raise UsageError(
            f"the base has {depth} blocks, and growth drops the last {TUNED_TO_OUTPUT}", where="--grow",
            next_step="Add --keep-all.",
        )  # fmt: skip


def at_depth(objective: Any, recipe: TrainingRecipe) -> Any:
    """Return the objective at the recipe's depth, with arbitrary blocks, to estimate memory; its transformer is
    changed."""
    if not recipe.changes_depth:
        return objective
    if recipe.prune_decoder:
        return arbitrarily_pruned(objective)
    transformer = objective.parts.path.transformer.transformer
    check_depth(recipe, transformer)
    return _changed(objective.parts, recipe, _dropped(recipe, transformer, [0.0] * depth_of(transformer)))


def change_depth(
    objective: Any, recipe: TrainingRecipe, samples: Any, validation: Sequence[Batch], device: torch.device,
    ranks: Ranks,
) -> tuple[Any, DepthRecord]:  # fmt: skip
    """Bring the transformer of an objective to the recipe's depth; return a new objective, and the record of the
    change.

    Importances are measured on samples of the training data, which processes share. Only the first process
    validates. UsageError if the transformer has too few blocks.
    """
    transformer = objective.parts.path.transformer.transformer
    check_depth(recipe, transformer)
    objective.to(device)
    before, depth = _validated(objective, validation, device, ranks), depth_of(transformer)
    importances: list[float] = []
    if recipe.prune:
        drawn = without_files(samples)
        steps = range(max(1, SAMPLES // recipe.batch))
        batches = (batch_at(drawn, recipe, step, rank=ranks.rank, count=ranks.count) for step in steps)
        importances = [ranks.mean(found) for found in block_importances(objective, batches, device)]
    removed = _dropped(recipe, transformer, importances)
    changed = _changed(objective.parts, recipe, removed)
    return changed, DepthRecord(
        before=depth, removed=removed, appended=recipe.grow, importances=tuple(importances),
        validation_before=before, validation_after=_validated(changed, validation, device, ranks),
    )  # fmt: skip


def restored_depth(objective: Any, recipe: TrainingRecipe, folder: Path) -> tuple[Any, DepthRecord]:
    """Bring the transformer to the depth that the folder of a resumed run records; UsageError if it has no such record.

    The run's checkpoint replaces the weights later.
    """
    record = DepthRecord.load(folder)
    depth = depth_of(objective.parts.path.transformer.transformer)
    if record is None or record.before != depth or record.appended != recipe.grow:
        fact = "is missing" if record is None else "is of another run"
        raise UsageError(
            f"{fact}: it records which blocks were removed", where=folder / FILE,
            next_step="Restore it from a backup, or begin another run with -o.",
        )  # fmt: skip
    return _changed(objective.parts, recipe, record.removed), record


def _dropped(recipe: TrainingRecipe, transformer: Any, importances: Sequence[float]) -> tuple[int, ...]:
    """Numbers of the blocks that the recipe removes."""
    if recipe.prune:
        return least_important(importances, recipe.prune)
    return () if recipe.keep_all else tuned_to_output(transformer)


def _changed(parts: Parts, recipe: TrainingRecipe, removed: tuple[int, ...]) -> Any:
    """Return the recipe's objective on parts with other blocks, which are put into the transformer as well."""
    transformer = parts.path.transformer.transformer
    if removed:
        remove_blocks(transformer, removed)
    if recipe.grow:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            append_blocks(transformer, recipe.grow)
    return objective_of(replace(parts, new_blocks=recipe.grow if recipe.new_blocks_only else None), recipe)


def _validated(objective: Objective, batches: Sequence[Batch], device: torch.device, ranks: Ranks) -> Validation | None:
    """Validate an objective as it is; None if there are no photographs to validate on."""
    if not batches or not ranks.is_first:
        return None
    objective.modules.eval()
    try:
        return measure(objective.restore, [batch.to(device) for batch in batches])
    finally:
        objective.modules.train()
