"""The plan of a run, before it begins: data, steps, memory, time by a trial step, and room on the disk."""

import math
import os
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage
from typing import Any

import torch
from torch import nn

from sanarestore.errors import UsageError
from sanarestore.sizes import spoken_size
from sanarestore.training import checkpoint
from sanarestore.training.batching import batch_at
from sanarestore.training.data import without_files
from sanarestore.training.decoder_objective import DecoderObjective
from sanarestore.training.depth_record import DepthRecord
from sanarestore.training.fitting import free_bytes, too_large
from sanarestore.training.lengths import passes_of
from sanarestore.training.loop import Trainer
from sanarestore.training.memory import Memory
from sanarestore.training.objective import PartsObjective
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.run import Run

LONG_TRIAL = 5.0
"""Seconds from which a trial step is not repeated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingPlan:
    """The plan of a run: its steps, memory, time and disk space."""

    stage: str
    """Number of the stage and of all stages, in words; empty for a single stage."""
    base: str
    rank: int | None
    """Rank of low-rank weights; None if weights themselves are trained."""
    objective: str
    optimizer: str
    device: str
    dtype: str
    """Type of the arithmetic."""
    processes: int
    kind: str
    """Kind of the data: pairs, photos or wordings."""
    samples: int
    """Photographs or pairs to train on."""
    held_back: int
    """Photographs or pairs to validate on."""
    megapixels: float
    """Size of the images to train on, estimated from some of them."""
    trained_parameters: int
    parameters: int
    """Parameters of all networks that a step uses."""
    depth: DepthRecord | None = None
    """The change of the blocks of the transformer or of the decoder; None if they are the base's."""
    step: int
    """Steps that are done; 0 unless a run is resumed."""
    steps: int
    batch: int
    accumulate: int
    patch: int
    passes: float
    """Number of passes over all pixels of the data."""
    memory: dict[str, int]
    """Bytes of one process by part, and their sum as `total`."""
    memory_free: int | None
    """Bytes that one process may take; null if that is not known."""
    seconds_per_step: float | None
    """Seconds of a step, as a trial step took; null if none was tried."""
    max_minutes: float | None
    """The time limit, earlier sessions of the run included."""
    minutes: float
    """Minutes that earlier sessions of a resumed run took."""
    checkpoint_bytes: int
    result_bytes: int
    """Size of the model or adapter, about."""
    disk_free: int

    @property
    def seconds(self) -> float | None:
        """Seconds to the end of the run, without validations; None if no step was tried."""
        if self.seconds_per_step is None:
            return None
        whole = (self.steps - self.step) * self.seconds_per_step
        return min(whole, self.seconds_left) if self.max_minutes else whole

    @property
    def seconds_left(self) -> float:
        """Seconds up to the time limit; infinite without one."""
        return max(0.0, self.max_minutes - self.minutes) * 60 if self.max_minutes else math.inf

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {name: getattr(self, name) for name in self.__slots__}
        seconds = self.seconds_per_step
        values["seconds_per_step"] = None if seconds is None else round(seconds, 4)
        values["depth"] = self.depth.to_dict() if self.depth else None
        return {**values, "passes": round(self.passes, 2), "megapixels": round(self.megapixels, 2)}


def plan_of(run: Run, *, tries: bool = True) -> TrainingPlan:
    """Plan a run, if it `tries` with a step that changes nothing; UsageError if memory or disk are too small for it.

    Every process of a run must ask for it.
    """
    trainer, recipe, memory = run.trainer, run.recipe, run.memory
    modules, setting = trainer.objective.modules, run.training.setting
    step, free = _done(run), free_bytes(setting)
    trained = sum(each.numel() for each in modules.parameters())
    sharing = setting.processes if setting.is_sharded else 1
    saved = 4 * trained * (2 if recipe.ema else 1) + memory.optimizer * sharing
    result = result_bytes(trainer.objective)
    room = _room(run.folder, 2 * saved + result, is_first=trainer.ranks.is_first)
    return TrainingPlan(
        stage=run.name, base=run.order.base, rank=_rank(trainer.objective), objective=recipe.objective,
        optimizer=_optimizer(recipe), device=run.order.schedule.device,
        dtype=str(run.order.schedule.arithmetic).removeprefix("torch."), processes=trainer.ranks.count, kind=run.kind,
        samples=run.count, held_back=run.facts.held_back,
        megapixels=run.pixels / 1e6, trained_parameters=trained, parameters=_parameters(trainer.objective),
        depth=run.depth, step=step, steps=recipe.steps, batch=recipe.batch, accumulate=recipe.accumulate,
        patch=recipe.patch,
        passes=passes_of(recipe, run.pixels, recipe.steps), memory={**memory.parts(), "total": memory.total},
        memory_free=free, seconds_per_step=_try(run, step, memory, free) if tries else None,
        max_minutes=run.order.schedule.max_minutes, minutes=_minutes(run), checkpoint_bytes=saved,
        result_bytes=result, disk_free=room,
    )  # fmt: skip


def trial_seconds(trainer: Trainer, samples: Any, step: int) -> float:
    """Seconds of one step, by forward and backward passes of its batch that change neither weights nor random state.

    Samples are made by `workers` beside the training, or before each step if there are none.
    """
    recipe, ranks, device = trainer.recipe, trainer.ranks, torch.device(trainer.schedule.device)
    drawn = without_files(samples)
    modules = trainer.objective.modules
    buffers = {name: buffer.clone() for name, buffer in modules.named_buffers()}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        batch = batch_at(drawn, recipe, step, rank=ranks.rank, count=ranks.count)
        try:
            # The first one also compiles and chooses algorithms, which is little beside a long step.
            passes = _timed(lambda: trainer.learner.backward(batch), device)
            if passes < LONG_TRIAL or trainer.schedule.compile:
                passes = _timed(lambda: trainer.learner.backward(batch), device)
        finally:
            for parameter in modules.parameters():
                parameter.grad = None
            for name, buffer in modules.named_buffers():
                buffer.copy_(buffers[name])
        # The photographs are decoded by now, as they are during most of a run.
        made = _timed(lambda: batch_at(drawn, recipe, step, rank=ranks.rank, count=ranks.count), torch.device("cpu"))
    return max(passes, made / recipe.workers) if recipe.workers else passes + made


def result_bytes(objective: Any) -> int:
    """Size of the model or adapter that an objective saves, about: without prompts, and without files in text."""
    if isinstance(objective, DecoderObjective):
        return objective.result_bytes
    if not isinstance(objective, PartsObjective):
        return 0
    parts = objective.parts
    refiner = 4 * _count([parts.refiner_lora]) if parts.refiner_lora else 2 * _count([parts.refiner])
    transformer = parts.latent.transformer if parts.latent else None
    if not parts.base:
        latent = [parts.latent.autoencoder, transformer] if parts.latent else []
        experts = parts.experts.parameters if parts.experts else 0  # 8 bits each
        return refiner + 2 * _count([parts.encoder, parts.reader, *latent]) + experts
    if parts.refiner_lora or transformer is None:
        return refiner
    changed = 4 * _count([parts.lora]) if parts.lora else 2 * _count([transformer.transformer])
    return refiner + changed + 4 * _count([transformer.condition])


def _try(run: Run, step: int, memory: Memory, free: int | None) -> float | None:
    """Seconds of a trial step, None if none is left; UsageError if the device has too little memory for it."""
    if step >= run.recipe.steps:
        return None
    try:
        return trial_seconds(run.trainer, run.samples, step)
    except torch.OutOfMemoryError as error:
        run.trainer.objective.modules.zero_grad()
        fact = f"memory ran out in a trial step, which takes about {spoken_size(memory.total)}"
        raise too_large(run.training, memory, min(free or 0, memory.total - 1), fact) from error


def _done(run: Run) -> int:
    """Steps that a run to resume has done."""
    found = checkpoint.find_checkpoint(run.folder) if run.order.resume else None
    return int(checkpoint.read_state(found)["step"]) if found else 0


def _minutes(run: Run) -> float:
    """Minutes that a resumed run took before."""
    found = checkpoint.find_checkpoint(run.folder) if run.order.resume else None
    return float(checkpoint.read_state(found)["minutes"]) if found else 0.0


def _optimizer(recipe: TrainingRecipe) -> str:
    """Name of the optimizer in use: without a rate of its own, Muon leaves all weights to AdamW."""
    return "adamw" if recipe.optimizer == "muon" and not recipe.muon_rate else recipe.optimizer


def _rank(objective: Any) -> int | None:
    """Rank of the low-rank weights that are trained; None if weights themselves are."""
    if not isinstance(objective, PartsObjective):
        return None
    lora = objective.parts.refiner_lora or objective.parts.lora
    return lora.rank if lora else None


def _room(folder: Path, needed: int, *, is_first: bool) -> int:
    """Free bytes of the disk of a folder that may not exist yet, where a trial file is written and removed.

    UsageError if that fails, or if there is no room for `needed` bytes: two checkpoints, while one replaces the other,
    and the result.
    """
    place = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not place.is_dir():
        raise UsageError(
            "cannot be made a folder (Not a directory)", where=folder, next_step="Name another one with -o."
        )
    try:
        if is_first:
            with tempfile.TemporaryFile(dir=place) as file:
                file.write(bytes(2**16))
                file.flush()
                os.fsync(file.fileno())
        free = disk_usage(place).free
    except OSError as error:
        raise UsageError(
            f"nothing can be written there ({error.strerror or error})", where=place,
            next_step="Check its permissions, or name another folder with -o.",
        ) from error  # fmt: skip
    if needed > free:
        raise UsageError(
            f"checkpoints and result take {spoken_size(needed)}, and {spoken_size(free)} are free", where=place,
            next_step="Name a folder on another disk with -o.",
        )  # fmt: skip
    return free


def _timed(work: Any, device: torch.device) -> float:
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def _parameters(objective: Any) -> int:
    return _count(held for held in vars(objective).values() if isinstance(held, nn.Module))


def _count(modules: Iterable[nn.Module | None]) -> int:
    found = {id(each): each.numel() for module in modules if module is not None for each in module.parameters()}
    return sum(found.values())
