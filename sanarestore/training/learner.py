"""The trained weights with their optimizers and EMA, and the two halves of a step: gradients, then an update."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sanarestore.old_names import renamed_tensors
from sanarestore.training import checkpoint
from sanarestore.training.batching import Batch
from sanarestore.training.checkpoint import uninterrupted
from sanarestore.training.objective import Objective
from sanarestore.training.optimizers import EMA, load_state, optimizers, state_of
from sanarestore.training.progress import Schedule
from sanarestore.training.ranks import Ranks, full, like, norm_of, partitioned
from sanarestore.training.recipe import TrainingRecipe


class Learner:
    """The modules of an objective, on their device and divided among processes, and what changes them."""

    def __init__(self, objective: Objective, recipe: TrainingRecipe, schedule: Schedule, ranks: Ranks) -> None:
        self.modules = objective.modules
        self.device = torch.device(schedule.device)
        self.loss = torch.compile(objective.loss) if schedule.compile else objective.loss
        self.optimizers = optimizers(objective.modules, recipe, schedule.arithmetic)
        self.ema = EMA(objective.modules, recipe.ema)
        self._recipe, self._ranks = recipe, ranks
        self._is_mixed = schedule.arithmetic != torch.float32

    def gradients(self, batch: Batch) -> tuple[float, float]:
        """Compute the gradients of a batch, averaged over all processes and clipped; return its loss and their norm."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        return self._ranks.mean(self.backward(batch)), self._clip()

    def update(self, step: int, rate: float) -> None:
        """Change the weights by their gradients, at `rate` times the learning rates, and the EMA with them."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["initial_lr"]
            optimizer.step()
        self.ema.update(self.modules, step)

    def backward(self, batch: Batch) -> float:
        """Add the gradients of a batch, computed in the recipe's parts, to those that are there; return its loss."""
        parts = self._recipe.accumulate
        total = 0.0
        for part in batch.parts(parts):
            # What is computed again in the backward pass must be computed by the same operations.
            with _attention(self.device):
                with self.autocast():
                    loss = self.loss(part.to(self.device)) / parts
                total += float(loss.detach())
                loss.backward()  # type: ignore[no-untyped-call]
        return total

    def autocast(self) -> torch.autocast:
        """The arithmetic of the run, for the block."""
        # Its cache would keep a cast copy of every weight until the end of the forward pass.
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self._is_mixed,
            cache_enabled=not self._recipe.gradient_checkpointing,
        )  # fmt: skip

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Use the EMA weights in place of the current ones within the block."""
        swapped = False
        try:
            with uninterrupted():
                self.ema.swap(self.modules)
                swapped = True
            yield
        finally:
            if swapped:
                with uninterrupted():
                    self.ema.swap(self.modules)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return weights, EMA and optimizer state by name; every process takes part in collecting sharded tensors."""
        groups = {
            "model": self.modules.state_dict(), "average": self.ema.state(), "optimizer": state_of(self.optimizers),
        }  # fmt: skip
        return {name: {key: full(tensor) for key, tensor in group.items()} for name, group in groups.items()}

    def load(self, folder: Path) -> None:
        """Load what a checkpoint folder holds of `tensors`."""
        places = self.modules.state_dict()
        weights = renamed_tensors(checkpoint.read_tensors(folder, "model"))
        self.modules.load_state_dict({name: _placed(weights[name], places, name) for name in weights}, strict=True)
        self.ema.load(renamed_tensors(checkpoint.read_tensors(folder, "average")))
        load_state(self.optimizers, checkpoint.read_tensors(folder, "optimizer"))

    def _clip(self) -> float:
        """Average the gradients over all processes and shorten them to the recipe's largest norm; return their norm."""
        parameters = [each for each in self.modules.parameters() if each.requires_grad]
        self._ranks.fill(parameters)
        gradients = [each.grad for each in parameters if each.grad is not None]
        self._ranks.average(gradients)
        norm = norm_of(gradients)
        if self._recipe.clip:
            for alike in partitioned(parameters):
                nn.utils.clip_grads_with_norm_(alike, self._recipe.clip, like(norm, alike[0]))
        return float(norm)


def _attention(device: torch.device) -> AbstractContextManager[Any]:
    """Avoid fused attention on CPUs: its backward pass on short prompts is slow, a quarter of a training step."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def _placed(whole: Tensor, places: dict[str, Any], name: str) -> Tensor:
    """Return a loaded tensor, sharded as the module's own is."""
    return like(whole, places[name]) if isinstance(places.get(name), Tensor) else whole
