"""The one training loop: a generator of progress, whatever the objective, stoppable and resumable at any step.

A run's folder holds `recipe.json`, `metrics.jsonl`, `checkpoint/` (replaced whole, never half-written) and, at the
end, `model/`. Closing the generator (or Ctrl-C) saves a checkpoint first; a run resumed from it ends in the same
weights as one that was never stopped, as long as its schedule goes by steps and not by minutes.
"""

import json
import shutil
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sanarestore.errors import SanarestoreError, UsageError
from sanarestore.model.tensors import write_json
from sanarestore.training.data import Batch, batches
from sanarestore.training.objectives import Objective
from sanarestore.training.optimizers import Average, optimizers, rate_share
from sanarestore.training.recipe import Recipe

UNSEEN = 1e-4
"""Squared errors below this, 40 dB, count alike in validation: a photo out of focus would outweigh all the others."""

STOP_DIVERGED = "the loss is not a number"


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """What happened at one step."""

    step: int
    """Steps done so far."""
    steps: int
    """Steps in all."""
    loss: float
    learning_rate: float
    images_per_second: float
    """Crops, over the last hundred steps or so."""
    minutes: float
    """Since the run began, sessions added up."""
    share: float
    """How much of the run is done, by steps or by minutes, in [0, 1]."""
    validation: float | None = None
    """PSNR gain in dB, up to 40 dB, of the averaged weights on the photos or pairs kept back; None in between."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Where a run runs and when it ends."""

    device: str = "cpu"
    max_minutes: float | None = None
    """The cosine and the run end here at the latest."""
    compile: bool = False
    """torch.compile the model (CUDA)."""


class Trainer:
    """One run: its folder, its state, its loop."""

    def __init__(
        self,
        folder: Path,
        objective: Objective,
        recipe: Recipe,
        schedule: Schedule,
        validation: Sequence[Batch] = (),
        *,
        origin: str = "",
    ) -> None:
        """`origin` says what the objective's parts were before training: a run goes on only from the same."""
        self.folder = folder
        self.objective = objective
        self.recipe = recipe
        self.schedule = schedule
        self.validation = validation
        self.origin = origin
        self.step = 0
        self._device = torch.device(schedule.device)
        self._cuda = self._device.type == "cuda"
        objective.to(self._device)
        self._optimizers = optimizers(objective.modules, recipe)
        self._average = Average(objective.modules, recipe.ema)
        self._minutes_before = 0.0
        self._begun = time.monotonic()
        self._loss = torch.compile(objective.loss) if schedule.compile and self._cuda else objective.loss

    @property
    def minutes(self) -> float:
        """Training time, earlier sessions of the run included."""
        return self._minutes_before + (time.monotonic() - self._begun) / 60

    @property
    def share(self) -> float:
        """How far the run is: by steps, or by minutes if those are further."""
        by_steps = self.step / self.recipe.steps
        by_minutes = self.minutes / self.schedule.max_minutes if self.schedule.max_minutes else 0.0
        return min(max(by_steps, by_minutes), 1.0)

    def resume(self) -> None:
        """Go on from the folder's checkpoint; UsageError if there is none or it is of another recipe."""
        folder = self.folder / "checkpoint"
        if not folder.is_dir():
            # Stopped between removing the old one and renaming the new one, which is whole.
            folder = self.folder / "checkpoint.new"
        if not (folder / "state.json").is_file():
            raise UsageError(
                "there is no checkpoint to resume from", where=self.folder, next_step="Leave out --resume."
            )
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if state["recipe"] != _recipe_identity(self.recipe):
            raise UsageError(
                "the checkpoint was made by another recipe",
                where=self.folder,
                next_step="Leave out --recipe to resume with the run's own, or start a new folder.",
            )
        if state["origin"] != self.origin:
            raise UsageError(
                f"the run began from {state['origin'] or 'other weights'}, not from {self.origin or 'these'}",
                where=self.folder,
                next_step="Give the --base, --lora and --rank that it began with.",
            )
        self.objective.modules.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
        self._average.load(load_file(folder / "average.safetensors"))
        self._load_optimizer(load_file(folder / "optimizer.safetensors"))
        self.step, self._minutes_before = int(state["step"]), float(state["minutes"])
        self._begun = time.monotonic()

    def run(self, samples: Any) -> Generator[Progress, None, None]:
        """Train from the current step to the end, yielding after each step; save when closed early."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "recipe.json", self.recipe.to_dict())
        recent: list[float] = [time.monotonic()]
        try:
            for batch in self._batches(samples):
                rate = rate_share(self.recipe, self.step, self.share)
                loss = self._optimize(batch, rate)
                self.step += 1
                recent = [*recent[-100:], time.monotonic()]
                speed = self.recipe.batch * (len(recent) - 1) / (recent[-1] - recent[0])
                progress = self._report(loss, rate * self.recipe.learning_rate, speed)
                yield progress
                if progress.share >= 1:
                    break
                if self.step % self.recipe.checkpoint_every == 0:
                    self.save_checkpoint()
        finally:
            self.save_checkpoint()

    def finish(self, training: dict[str, Any]) -> Path:
        """Write the averaged weights as a model folder, with how they came about, and return it."""
        model = self.folder / "model"
        self._average.swap(self.objective.modules)
        try:
            self.objective.save(model, self.recipe, training)
        finally:
            self._average.swap(self.objective.modules)
        return model

    def save_checkpoint(self) -> None:
        """Replace the checkpoint folder, whole."""
        fresh, old = self.folder / "checkpoint.new", self.folder / "checkpoint"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        save_file(_plain(self.objective.modules.state_dict()), fresh / "model.safetensors")
        save_file(_plain(self._average.state()), fresh / "average.safetensors")
        save_file(_plain(self._optimizer_state()), fresh / "optimizer.safetensors")
        state: dict[str, Any] = {"step": self.step, "minutes": self.minutes, "origin": self.origin}
        state["recipe"] = _recipe_identity(self.recipe)
        write_json(fresh / "state.json", state)
        shutil.rmtree(old, ignore_errors=True)
        fresh.replace(old)

    def validate(self) -> float:
        """Mean PSNR gain in dB over the validation batches, averaged weights."""
        modules = self.objective.modules
        self._average.swap(modules)
        modules.eval()
        try:
            with torch.inference_mode():
                gains = [self._gain(batch) for batch in self.validation]
        finally:
            modules.train()
            self._average.swap(modules)
        return sum(gains) / len(gains)

    def _gain(self, batch: Batch) -> float:
        batch = self._move(batch)
        restored = self.objective.restore(batch).clamp(0, 1)
        before, after = (
            (image - batch.target_BCHW).square().mean(dim=(1, 2, 3)).clamp(min=UNSEEN)
            for image in (batch.degraded_BCHW.clamp(0, 1), restored)
        )
        return float((10 * torch.log10(before / after)).mean())

    def _batches(self, samples: Any) -> Iterator[Batch]:
        if self.share >= 1:
            return
        yield from batches(samples, self.recipe, self.step)

    def _optimize(self, batch: Batch, share: float) -> float:
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = share * group["initial_lr"]
        batch = self._move(batch)
        # bf16 where it is native; float32 on the CPU, where bf16 convolutions are a hundred times slower.
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self._cuda):
            loss = self._loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(self.objective.modules.parameters(), self.recipe.clip)
        for optimizer in self._optimizers:
            optimizer.step()
        self._average.update(self.objective.modules, self.step)
        return float(loss.detach())

    def _move(self, batch: Batch) -> Batch:
        degraded, target = (
            tensor.to(self._device, memory_format=torch.channels_last, non_blocking=True)
            for tensor in (batch.degraded_BCHW, batch.target_BCHW)
        )
        return replace(batch, degraded_BCHW=degraded, target_BCHW=target, tone_BK=batch.tone_BK.to(self._device))

    def _report(self, loss: float, rate: float, speed: float) -> Progress:
        if loss != loss:  # NaN
            raise SanarestoreError(
                f"{STOP_DIVERGED} at step {self.step}",
                where=self.folder,
                next_step="Lower learning_rate, or set clip, and start again.",
            )
        share = self.share
        due = self.validation and (self.step % self.recipe.validate_every == 0 or share >= 1)
        progress = Progress(
            step=self.step,
            steps=self.recipe.steps,
            loss=loss,
            learning_rate=rate,
            images_per_second=speed,
            minutes=self.minutes,
            share=share,
            validation=self.validate() if due else None,
        )
        if due or self.step % 50 == 0:
            with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(progress.to_dict()) + "\n")
        return progress

    def _optimizer_state(self) -> dict[str, Tensor]:
        return {
            f"{which}.{index}.{key}": torch.as_tensor(value)
            for which, optimizer in enumerate(self._optimizers)
            for index, entry in optimizer.state_dict()["state"].items()
            for key, value in entry.items()
        }

    def _load_optimizer(self, tensors: dict[str, Tensor]) -> None:
        states: list[dict[int, dict[str, Tensor]]] = [{} for _ in self._optimizers]
        for name, tensor in tensors.items():
            which, index, key = name.split(".", 2)
            states[int(which)].setdefault(int(index), {})[key] = tensor
        for optimizer, state in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Safetensors writes contiguous tensors only; clones, because some may share memory."""
    return {key: tensor.detach().cpu().contiguous().clone() for key, tensor in state.items()}


def _recipe_identity(recipe: Recipe) -> dict[str, Any]:
    """What must be equal to resume: all but the fields that change nothing of what is learnt."""
    free = {"workers", "validate_every", "checkpoint_every"}
    return json.loads(json.dumps({key: value for key, value in recipe.to_dict().items() if key not in free}))  # type: ignore[no-any-return]
