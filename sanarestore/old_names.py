"""Names that weights, adapters, recipes and rows of earlier versions use for what has another name now."""

from collections.abc import Mapping
from typing import Any, TypeVar

from sanarestore.errors import UsageError

Value = TypeVar("Value")

TENSORS = {
    "middle": "bottleneck", "steering": "spatial_modulation", "tone": "colour_correction", "evidence": "features",
}  # fmt: skip
"""Parts of the dotted names of tensors of refiners, their low-rank changes, experts and routers."""

REFINER = {"steering": "modulation_width", "tone": "colour_correction"}
"""Fields of a refiner's configuration."""

RECIPE = {"drawn": "synthetic_fraction", "stored": "quantized_fraction", "shifted": "jpeg_offset_fraction"}
"""Fields of a training recipe."""

DROPPED = {"loss": ("psnr",), "fresh_flow": (False,), "generated_weight": (0.3,)}
"""Removed fields of a training recipe, with their former defaults, which are still accepted."""

MODEL_SHAPE = {"tone": "colour_correction"}
"""Fields of a training recipe's table `model`."""

OBJECTIVES = {"tone": "colour-correction"}
"""Objectives of a training recipe."""

ROW = {"task": {"ceiling": "reconstruction"}, "method": {"ceiling": "autoencoder reconstruction"}}
"""Fields of a row of `bench --json`, with the values that have another name now."""


def renamed(table: Mapping[str, Value], names: Mapping[str, str]) -> dict[str, Value]:
    """Give the fields of a table their new names; UsageError if it has one under both."""
    for old, new in names.items():
        if old in table and new in table:
            raise UsageError(f"{old} is the former name of {new}, and both are given", next_step=f"Delete {old}.")
    return {names.get(key, key): value for key, value in table.items()}


def renamed_tensors(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """Give tensors their new names, part by part."""
    return {".".join(TENSORS.get(part, part) for part in key.split(".")): tensor for key, tensor in tensors.items()}


def renamed_recipe(table: Mapping[str, Any]) -> dict[str, Any]:
    """Give the fields of a training recipe, as TOML or JSON hold it, their new names."""
    found = {name: value for name, value in renamed(table, RECIPE).items() if value not in DROPPED.get(name, ())}
    if isinstance(model := found.get("model"), Mapping):
        found["model"] = renamed(model, MODEL_SHAPE)
    if isinstance(objective := found.get("objective"), str):
        found["objective"] = OBJECTIVES.get(objective, objective)
    return found


def renamed_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Give the task and the method of a row of `bench --json` their new names."""
    return {name: ROW[name].get(value, value) if name in ROW else value for name, value in row.items()}
