"""The training loop of all objectives: a generator of progress that can be stopped and resumed at any step.

A run's folder holds `recipe.json`, `metrics.jsonl`, `checkpoint/` (replaced as a whole, never half-written) and, at the
end, `model/`. Closing the generator (or Ctrl-C) saves a checkpoint first. A run resumed from it ends with the same
weights as one that was never stopped, as long as its schedule is set by steps and not by minutes. Several processes
compute a part of every batch each (`ranks`); the first one writes to the folder.
"""

import json
import platform
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch

from sanarestore import __version__
from sanarestore.errors import Diverged, UsageError
from sanarestore.model.tensors import write_json
from sanarestore.training import checkpoint
from sanarestore.training.batching import Batch, batches
from sanarestore.training.checkpoint import StopRequest, stopping, uninterrupted
from sanarestore.training.guard import LossGuard
from sanarestore.training.learner import Learner
from sanarestore.training.objective import Objective
from sanarestore.training.optimizers import lr_scale
from sanarestore.training.progress import Schedule, TrainingProgress
from sanarestore.training.ranks import Ranks, unsharded
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.results import Results
from sanarestore.training.resuming import check_division, check_resumable, check_sharded, recipe_identity
from sanarestore.training.scores import Validation
from sanarestore.training.validator import Validator

MOST_SETBACKS = 2
"""How often a run that diverges goes back to its last checkpoint before it stops."""

SETBACK_RATE = 0.5
"""Factor on all learning rates after each time that a run went back."""


class Trainer:
    """One run: its folder, its state, its loop."""

    def __init__(
        self,
        folder: Path,
        objective: Objective,
        recipe: TrainingRecipe,
        schedule: Schedule,
        validation: Sequence[Batch] = (),
        *,
        origin: str = "",
        data: str = "",
        ranks: Ranks | None = None,
    ) -> None:
        """`origin` names the weights before training, `data` is a hash of the training files; both must be unchanged to
        resume a run. UsageError if the batch cannot be divided among `ranks`."""
        self.folder = folder
        self.objective = objective
        self.recipe = recipe
        self.schedule = schedule
        self.validation = validation
        self.origin = origin
        self.data = data
        self.step = 0
        self.ranks = ranks or Ranks()
        check_division(recipe, self.ranks)
        objective.to(torch.device(schedule.device))
        if schedule.sharded:
            check_sharded(recipe)
            objective.shard(self.ranks)
        self.learner = Learner(objective, recipe, schedule, self.ranks)
        self._minutes_before = 0.0
        self._begun = time.monotonic()
        self._guard = LossGuard()
        self._setbacks = 0
        self._notes: list[str] = []
        self._validator = Validator(folder, objective, recipe, writes=self.ranks.is_first)

    @property
    def minutes(self) -> float:
        """Training time in minutes, earlier sessions of the run included."""
        return self._minutes_before + (time.monotonic() - self._begun) / 60

    @property
    def share(self) -> float:
        """Share of the run that is done, in [0, 1]: by steps or by minutes, whichever is larger."""
        by_steps = self.step / self.recipe.steps
        by_minutes = self.minutes / self.schedule.max_minutes if self.schedule.max_minutes else 0.0
        share = min(max(by_steps, by_minutes), 1.0)
        return self.ranks.agreed(share) if self.schedule.max_minutes else share

    @property
    def results(self) -> Results:
        """The results of validation so far."""
        return self._validator.results

    def begin(self) -> Results | None:
        """Prepare the run's folder and return the validation before training, None without one.

        The first checkpoint is written here, so that a full disk is noticed before training, and a run that diverges
        early can go back.
        """
        self.ranks.wait()  # the first one clears what dead runs have left in the folder
        if self.ranks.is_first:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / "recipe.json", self.recipe.to_dict())
            self._log({"event": "start", **self._facts()})
        if self.step:
            self._validator.load()
            return None
        self.save_checkpoint()
        if not self._is_validating:
            return None
        with self._evaluating() as batches:
            results = self._validator.begin(batches)
            self._validator.draw(batches, 0)
        if self.ranks.is_first and results.before:
            gains = {"validation": results.before.gain, "validations": results.before.gains}
            self._log({"event": "before", "step": 0, **gains})
        return results

    def resume(self) -> None:
        """Continue from the folder's checkpoint; UsageError if there is none, or if recipe, origin or data differ.

        A recipe with more steps lengthens the run; its schedule then follows the new number.
        """
        found = checkpoint.find_checkpoint(self.folder)
        if found is None:
            raise UsageError(
                "there is no checkpoint to resume from", where=self.folder, next_step="Leave out --resume."
            )
        check_resumable(checkpoint.read_state(found), self.recipe, self.folder, origin=self.origin, data=self.data)
        self._load(found)

    def _load(self, found: Path) -> None:
        """Load a checkpoint's weights, EMA, optimizer state and counters."""
        state = checkpoint.read_state(found)
        self.learner.load(found)
        self.step, self._minutes_before = int(state["step"]), float(state["minutes"])
        self._setbacks = int(state.get("setbacks", 0))
        self._guard = LossGuard()
        if "guard" in state:
            self._guard.load(state["guard"])
        self._begun = time.monotonic()

    def run(self, samples: Any) -> Generator[TrainingProgress, None, None]:
        """Train from the current step on, yielding after each step; save a checkpoint even when closed early.

        If the loss is not a number or rises far above its earlier level, the run goes back to its last checkpoint and
        continues at half the learning rate, at most `MOST_SETBACKS` times; then it raises Diverged.
        """
        with stopping(self.ranks.count > 1) as stop:
            while True:
                try:
                    yield from self._train(samples, stop)
                except Diverged as error:
                    self._go_back(error)
                else:
                    return

    def _train(self, samples: Any, stop: StopRequest) -> Generator[TrainingProgress, None, None]:
        recent: list[float] = [time.monotonic()]
        try:
            with closing(self._batches(samples)) as found:
                for batch in found:
                    rate = lr_scale(self.recipe, self.step, self.share) * SETBACK_RATE**self._setbacks
                    loss = self._optimize(batch, rate)
                    recent = [*recent[-100:], time.monotonic()]
                    speed = self.recipe.batch * (len(recent) - 1) / (recent[-1] - recent[0])
                    progress = self._report(loss, rate * self.recipe.learning_rate, speed, batch.notes)
                    yield progress
                    if self.ranks.count > 1 and self.ranks.any(stop.is_due):
                        raise KeyboardInterrupt
                    if progress.share >= 1:
                        break
                    if _is_due(self.step, self.recipe.checkpoint_every):
                        self.save_checkpoint()
        except Diverged:
            raise  # keep the last checkpoint: it may be older than the divergence
        except BaseException:
            self.save_checkpoint()
            raise
        self.save_checkpoint()

    def _go_back(self, error: Diverged) -> None:
        """Return to the last checkpoint at a lower rate; raise the error after `MOST_SETBACKS` times."""
        found = checkpoint.find_checkpoint(self.folder)
        if found is None or self._setbacks == MOST_SETBACKS:
            raise error
        setbacks = self._setbacks + 1
        self._load(found)
        self._setbacks = setbacks
        factor = SETBACK_RATE**setbacks
        self._notes.append(f"{error.fact}: back to step {self.step}, at {factor:g} times the learning rate")
        if self.ranks.is_first:
            self._log({"event": "setback", "step": self.step, "reason": error.fact, "rate_factor": factor})

    def finish(self, training: dict[str, Any]) -> Path:
        """Write a model folder of the EMA weights, with `training` as their history, and return its path."""
        model = self.folder / "model"
        with self.learner.averaged(), unsharded(self.objective.modules):
            if self.ranks.is_first:
                self.objective.save(model, self.recipe, training)
        self.ranks.wait()
        return model

    def note(self, text: str) -> None:
        """Show a note with the next step."""
        self._notes.append(text)

    def save_checkpoint(self) -> None:
        """Replace the checkpoint folder as a whole."""
        state: dict[str, Any] = {
            "step": self.step, "minutes": self.minutes, "origin": self.origin, "data": self.data,
            "setbacks": self._setbacks, "guard": self._guard.state(),
        }  # fmt: skip
        tensors = self.learner.tensors()
        if self.ranks.is_first:
            checkpoint.write(self.folder, tensors, {**state, "recipe": recipe_identity(self.recipe)})

    def validate(self, *, is_last: bool = False) -> Validation:
        """Measure the EMA weights on the validation batches."""
        with self._evaluating() as batches:
            return self._validator.measure(batches, self.step, is_last=is_last)

    @contextmanager
    def _evaluating(self) -> Iterator[list[Batch]]:
        """Use the EMA weights without gradients within the block; yields the validation batches on the device."""
        modules = self.objective.modules
        with self.learner.averaged(), torch.no_grad():
            modules.eval()
            try:
                yield [batch.to(self.learner.device) for batch in self.validation]
            finally:
                modules.train()

    def _batches(self, samples: Any) -> Generator[Batch, None, None]:
        if self.share >= 1:
            return
        yield from batches(samples, self.recipe, self.step, rank=self.ranks.rank, count=self.ranks.count)

    def _optimize(self, batch: Batch, rate: float) -> float:
        """Take a step at `rate` times the learning rates, and return the loss; Diverged leaves weights as they were."""
        loss, norm = self.learner.gradients(batch)
        if fault := self._guard.fault(loss, norm):
            raise Diverged(
                f"{fault} at step {self.step + 1}",
                where=self.folder,
                next_step="Its last checkpoint stays. Lower learning_rate and muon_rate, or set clip, in a new run.",
            )
        with uninterrupted():
            self.learner.update(self.step, rate)
            self.step += 1
        return loss

    def _report(self, loss: float, rate: float, speed: float, notes: tuple[str, ...]) -> TrainingProgress:
        share = self.share
        due = self._is_validating and (_is_due(self.step, self.recipe.validate_every) or share >= 1)
        found = self.validate(is_last=share >= 1) if due else None
        if self._is_validating and (_is_due(self.step, self.recipe.pictures_every) or share >= 1):
            with self._evaluating() as batches:
                self._validator.draw(batches, self.step)
        notes, self._notes = (*self._notes, *notes), []
        progress = TrainingProgress(
            step=self.step,
            steps=self.recipe.steps,
            loss=loss,
            learning_rate=rate,
            images_per_second=speed,
            minutes=self.minutes,
            share=share,
            validation=found.gain if found else None,
            validations=found.gains if found else None,
            notes=notes,
        )
        if self.ranks.is_first and (due or self.step % 50 == 0):
            self._log(progress.to_dict())
        return progress

    @property
    def _is_validating(self) -> bool:
        """Whether this process measures validation: only the first, or all where weights are sharded."""
        return bool(self.validation) and (self.ranks.is_first or self.schedule.sharded)

    def _log(self, record: dict[str, Any]) -> None:
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def _facts(self) -> dict[str, Any]:
        """Facts about the run for readers of its metrics."""
        return {
            "step": self.step, "steps": self.recipe.steps, "processes": self.ranks.count,
            "device": self.schedule.device, "dtype": str(self.schedule.arithmetic).removeprefix("torch."),
            "sharded": self.schedule.sharded, "batch": self.recipe.batch,
            "batch_per_process": self.recipe.batch // self.ranks.count, "accumulate": self.recipe.accumulate,
            "trained_parameters": sum(each.numel() for each in self.objective.modules.parameters()),
            "origin": self.origin, "data": self.data, "sanarestore": __version__, "torch": torch.__version__,
            "python": platform.python_version(),
        }  # fmt: skip


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
