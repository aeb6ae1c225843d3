"""Whether a training fits into the memory of its device, and what would make it fit."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from sanarestore import weights
from sanarestore.engine.budget import free_memory, spoken_size
from sanarestore.errors import UsageError
from sanarestore.training.memory import Memory, Setting, estimate_memory
from sanarestore.training.objective import Objective
from sanarestore.training.objectives import new_objective
from sanarestore.training.recipe import FLOWING, LATENT_OBJECTIVES, LATENT_STRIDE, TrainingRecipe
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

    def changed(self, **changes: object) -> "Training":
        """The training with other fields of its recipe."""
        return replace(self, recipe=replace(self.recipe, **changes))  # type: ignore[arg-type]


def fitting_objective(training: Training) -> tuple[Objective, Memory]:
    """Create the objective of a training that fits its device, and estimate its memory; UsageError if it does not fit.

    The weights of a published base are not read before that is known.
    """
    recipe, start = training.recipe, training.start
    objective = None if is_by_shapes(start) else new_objective(recipe, start)
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
    found = [(words, changed, changed.memory().total) for words, changed in _changes(training)]
    useful = [(words, total) for words, _, total in found if total < WORTH_IT * memory.total]
    fitting = [f"{words} ({spoken_size(total)})" for words, total in useful if total <= free]
    step = f"It would fit with {_any_of(fitting)}." if fitting else _together(training, free)
    return UsageError(
        fact or f"a training step takes about {spoken_size(memory.total)} of memory, and {spoken_size(free)} are free",
        where=str(training.setting.device), next_step=step,
    )  # fmt: skip


def _together(training: Training, free: int) -> str:
    """Advice where no single change is enough: changes one after the other, the cheapest first, until it fits."""
    words: list[str] = []
    total = training.memory().total
    while total > free:
        for name, changed in _changes(training):
            if (smaller := changed.memory().total) < WORTH_IT * total:
                words, training, total = [*words, name], changed, smaller
                break
        else:
            return f"Even with {_all_of(words)} it takes {spoken_size(total)}: use a device with more memory."
    return f"It would fit with {_all_of(words)} together ({spoken_size(total)})."


def _changes(training: Training) -> Iterator[tuple[str, Training]]:
    """Changes that save memory, in words; those come first that cost the result least."""
    recipe, start, setting = training.recipe, training.start, training.setting
    own = recipe.batch // setting.processes
    is_flowing = recipe.objective in FLOWING
    if recipe.objective in LATENT_OBJECTIVES and not recipe.gradient_checkpointing:
        yield f"gradient_checkpointing = true {_RECIPE}", training.changed(gradient_checkpointing=True)
    if own > recipe.accumulate and recipe.objective != "router":
        yield f"accumulate = {own} {_RECIPE}", training.changed(accumulate=own)
    if start.dtype == torch.float32 and setting.device.type == "cuda":
        yield "--dtype bfloat16", replace(training, start=replace(start, dtype=torch.bfloat16))
    for optimizer in ("adamw8bit", "came8bit"):
        if not recipe.optimizer.endswith("8bit") and not setting.is_sharded:
            yield f'optimizer = "{optimizer}" {_RECIPE}', training.changed(optimizer=optimizer)
    if recipe.ema:
        yield f"ema = 0 {_RECIPE}", training.changed(ema=0.0)
    side = LATENT_STRIDE if recipe.objective in LATENT_OBJECTIVES else max(16, 2 ** len(recipe.model.widths))
    smaller = recipe.patch // 2 // side * side
    if smaller >= SMALLEST_PATCH:
        yield f"patch = {smaller} {_RECIPE}", training.changed(patch=smaller)
    if start.rank is None and start.base and is_flowing and not weights.is_adapter(weights.resolve(start.base)):
        yield "--lora", replace(training, start=replace(start, rank=RANK))
    if start.rank is None and start.base and is_flowing and not setting.is_sharded:
        for count in (2, 4, 8):
            if recipe.batch % count == 0 and count > setting.processes and setting.device.type == "cuda":
                words = f"--shard on {count} devices" + ("" if recipe.optimizer == "adamw" else ' and "adamw"')
                changed = training.changed(optimizer="adamw", accumulate=1)
                yield words, replace(changed, setting=replace(setting, processes=count, is_sharded=True))


def _any_of(words: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _all_of(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else "all of that"
