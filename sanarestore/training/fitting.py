"""Whether a training fits into the memory of its device, and what would make it fit."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from sanarestore import weights
from sanarestore.engine.budget import free_memory
from sanarestore.errors import UsageError
from sanarestore.sizes import spoken_size
from sanarestore.training.memory import Memory, Setting, estimate_memory
from sanarestore.training.objective import Objective
from sanarestore.training.objectives import new_objective
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.recipe_shapes import DECODER, ENCODING, LATENT_STRIDE
from sanarestore.training.shapes import is_by_shapes
from sanarestore.training.starting import Start

SMALLEST_PATCH = 64
"""Side of the smallest crops that are recommended, in pixels."""

WORTH_IT = 0.98
"""A change is recommended if it takes less than this share of the memory."""

RANK = 32
"""Rank of the low-rank weights that are recommended."""

_RECIPE = "in the recipe"


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """A training as far as it decides on memory."""

    recipe: TrainingRecipe
    start: Start
    setting: Setting

    def memory(self, objective: Objective | None = None) -> Memory:
        """Estimate its memory."""
        return estimate_memory(self.recipe, self.start, self.setting, objective)


Change = tuple[str, str, Callable[[Training], Training]]
"""A change of a training: its group, its words, and what it does."""


def fitting_objective(training: Training) -> tuple[Objective, Memory]:
    """Create the objective of a training that fits its device, and estimate its memory; UsageError if it does not fit.

    The weights of a published base are not read before that is known.
    """
    recipe, start = training.recipe, training.start
    # Only the estimate uses the recipe's depth: the objective still has the base's.
    objective = None if is_by_shapes(start) or recipe.changes_depth else new_objective(recipe, start)
    memory, free = training.memory(objective), free_bytes(training.setting)
    if free is not None and memory.total > free:
        raise too_large(training, memory, free)
    return objective or new_objective(recipe, start), memory


def free_bytes(setting: Setting) -> int | None:
    """Bytes that a process may still take on its device; None if that is not known."""
    if setting.device.type == "cuda":
        free = torch.cuda.mem_get_info(setting.device)[0]
        return free + torch.cuda.memory_reserved(setting.device) - torch.cuda.memory_allocated(setting.device)
    if setting.device.type == "cpu":
        return free_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", setting.processes))
    return None


def too_large(training: Training, memory: Memory, free: int, fact: str = "") -> UsageError:
    """The error of a training that takes more than `free` bytes: it names changes that would make it fit."""
    changes = list(_changes(training))
    fitting: dict[str, str] = {}
    for group, words, change in changes:
        total = memory.total if group in fitting else change(training).memory().total
        if total <= min(free, WORTH_IT * memory.total):
            fitting[group] = f"{words} ({spoken_size(total)})"
    step = f"It would fit with {_joined([*fitting.values()], 'or')}." if fitting else _together(training, changes, free)
    need = spoken_size(memory.total)
    return UsageError(
        fact or f"a training step takes about {need} of memory, and {spoken_size(free)} are free",
        where=str(training.setting.device), next_step=step,
    )  # fmt: skip


def _together(training: Training, changes: list[Change], free: int) -> str:
    """Advice where no single change is enough: one after the other, the cheapest first, until the training fits."""
    applied: dict[str, str] = {}
    total = training.memory().total
    for group, words, change in changes:
        changed = training if group in applied else change(training)
        if (smaller := changed.memory().total) < WORTH_IT * total:
            applied[group], training, total = words, changed, smaller
        if total <= free:
            return f"It would fit with {_joined([*applied.values()], 'and')} together ({spoken_size(total)})."
    what = f"Even with {_joined([*applied.values()], 'and')} it takes {spoken_size(total)}: use" if applied else "Use"
    return f"{what} a device with more memory."


def _changes(training: Training) -> Iterator[Change]:
    """Changes that save memory: a group, of which one is enough, words and what changes. Those that cost the result
    least come first."""
    recipe, start, setting = training.recipe, training.start, training.setting
    own = recipe.batch // setting.processes
    if recipe.objective in ENCODING and not recipe.gradient_checkpointing:
        yield "checkpointing", f"gradient_checkpointing = true {_RECIPE}", _field(gradient_checkpointing=True)
    if own > recipe.accumulate and recipe.objective != "router":
        yield "accumulate", f"accumulate = {own} {_RECIPE}", _field(accumulate=own)
    if start.dtype == torch.float32 and setting.device.type == "cuda":
        yield "dtype", "--dtype bfloat16", partial(_started, dtype=torch.bfloat16)
    if not recipe.optimizer.endswith("8bit") and not setting.is_sharded:
        for optimizer in ("adamw8bit", "came8bit"):
            yield "optimizer", f'optimizer = "{optimizer}" {_RECIPE}', _field(optimizer=optimizer)
    if recipe.workers and setting.device.type == "cpu":
        yield "workers", f"workers = 0 {_RECIPE}", _field(workers=0)
    if recipe.ema:
        yield "ema", f"ema = 0 {_RECIPE}", _field(ema=0.0)
    side = LATENT_STRIDE if recipe.objective in ENCODING else max(16, 2 ** len(recipe.model.widths))
    smaller = recipe.patch // 2 // side * side
    if smaller >= SMALLEST_PATCH:
        yield "patch", f"patch = {smaller} {_RECIPE}", _field(patch=smaller)
    if recipe.objective == DECODER:
        return
    if start.rank is not None or not is_by_shapes(start) or weights.is_adapter(weights.resolve(str(start.base))):
        return
    if not recipe.changes_depth:
        yield "lora", "--lora", partial(_started, rank=RANK)
    elif recipe.grow and not recipe.new_blocks_only:
        yield "blocks", f"new_blocks_only = true {_RECIPE}", _field(new_blocks_only=True)
    for count in (2, 4, 8):
        if recipe.batch % count == 0 and count > setting.processes and setting.device.type == "cuda":
            also = "" if recipe.optimizer == "adamw" else ' and optimizer = "adamw"'
            yield "shard", f"--shard on {count} devices{also}", partial(_sharded, count=count)


def _field(**changes: object) -> Callable[[Training], Training]:
    return lambda training: replace(training, recipe=replace(training.recipe, **changes))  # type: ignore[arg-type]


def _started(training: Training, **changes: Any) -> Training:
    return replace(training, start=replace(training.start, **changes))


def _sharded(training: Training, count: int) -> Training:
    recipe = replace(training.recipe, optimizer="adamw", accumulate=1)
    return replace(training, recipe=recipe, setting=replace(training.setting, processes=count, is_sharded=True))


def _joined(words: list[str], last: str) -> str:
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), words[-1])))
