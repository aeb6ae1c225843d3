"""Check whether a run can continue from a checkpoint, and whether batches and weights can be divided among
processes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sanarestore.errors import UsageError
from sanarestore.old_names import renamed_recipe
from sanarestore.training.ranks import Ranks
from sanarestore.training.recipe import TrainingRecipe

FREE_FIELDS = (
    "workers", "validate_every", "checkpoint_every", "pictures_every", "accumulate", "gradient_checkpointing",
)  # fmt: skip
"""Fields of a recipe that may change when a run is resumed, because they affect only rounding."""


def check_resumable(state: Mapping[str, Any], recipe: TrainingRecipe, folder: Path, *, origin: str, data: str) -> None:
    """Raise UsageError unless recipe, origin and data are those of the checkpoint of `state`.

    More steps are allowed.
    """
    # Fields that are newer than the checkpoint have their defaults.
    known = {**recipe_identity(TrainingRecipe()), **_identity_of(state["recipe"])}
    changed = _differences(known, recipe_identity(recipe))
    if recipe.steps > known["steps"]:
        changed = [name for name in changed if name != "steps"]
    if changed:
        raise UsageError(
            f"the run began with another recipe: it differs in {', '.join(changed)}",
            where=folder,
            next_step="Resume with its own recipe and at least as many steps, or start a new folder.",
        )
    if state["origin"] != origin:
        raise UsageError(
            f"the run began from {state['origin'] or 'other weights'}, not from {origin or 'these'}",
            where=folder,
            next_step="Use the --base, --lora and --rank that it began with.",
        )
    if state.get("data", data) != data:
        raise UsageError(
            "the photos or pairs are not those that the run began with",
            where=folder,
            next_step="Restore the original files, or begin another run with this one's model as --base.",
        )


def recipe_identity(recipe: TrainingRecipe) -> dict[str, Any]:
    """The recipe's fields that must be equal to resume: all but those that do not affect the weights."""
    return _identity_of(json.loads(json.dumps(recipe.to_dict())))


def _identity_of(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in renamed_recipe(table).items() if key not in FREE_FIELDS}


def _differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """List the fields in which two recipes differ."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def check_division(recipe: TrainingRecipe, ranks: Ranks) -> None:
    """Raise UsageError if a batch cannot be divided into equal parts."""
    if recipe.batch % (ranks.count * recipe.accumulate):
        among = f"{ranks.count} processes" if ranks.count > 1 else ""
        parts = f"{recipe.accumulate} parts" if recipe.accumulate > 1 else ""
        raise UsageError(
            f"a batch of {recipe.batch} cannot be divided equally into {' of '.join(filter(None, (parts, among)))}",
            where="batch in the recipe",
            next_step=f"Use a multiple of {ranks.count * recipe.accumulate}.",
        )
    if recipe.objective == "router" and ranks.count * recipe.accumulate > 1:
        raise UsageError(
            "a router remembers samples and cannot be trained in parts", where="objective",
            next_step="Use one process and accumulate = 1.",
        )  # fmt: skip


def check_sharded(recipe: TrainingRecipe) -> None:
    """Raise UsageError if the optimizer needs whole weights: Muon and CAME take matrices, 8-bit states whole blocks."""
    if recipe.optimizer != "adamw" and (recipe.optimizer, recipe.muon_rate) != ("muon", 0):
        raise UsageError(
            f"the optimizer '{recipe.optimizer}' does not train sharded weights", where="--shard",
            next_step='Write optimizer = "adamw" in the recipe, or leave out --shard.',
        )  # fmt: skip
