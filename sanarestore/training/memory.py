"""Peak memory of a training, estimated before any of it is allocated.

One step is computed with fake tensors, which have shapes but no values, by the code that trains: the objective's loss,
the backward pass, the optimizer. Bytes of the tensors that are alive are counted after each operation.

Not counted: workspaces within an operation, the allocator's fragments, and the CUDA context.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import _engine_run_backward
from torch.overrides import TorchFunctionMode

from sanarestore.degradations.requests import Request
from sanarestore.engine.live_bytes import LiveBytes, held_by
from sanarestore.model.colour_correction import COLOUR_STATISTICS
from sanarestore.training.batching import Batch
from sanarestore.training.objective import Objective
from sanarestore.training.optimizers import optimizers, state_bytes
from sanarestore.training.photos import CACHE_BYTES
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.refining import RouterObjective, WordingObjective
from sanarestore.training.shapes import is_by_shapes, shaped_objective, without_values
from sanarestore.training.starting import Start

CPU = torch.device("cpu")

WORKER_BYTES = 400 * 2**20
"""Memory of a process that makes crops, without its photographs: the interpreter and PyTorch."""

LENGTH = 32
"""Tokens of a prompt, where the captions are not known."""

RAISED = frozenset(
    ["layer_norm", "group_norm", "softmax", "norm", "pow", "rsqrt", "sum", "prod", "cumsum", "exp", "log", "mse_loss"]
)
"""Operations of our networks that autocast computes in float32 on CUDA, but not on a CPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes that one process of a training holds at its peak."""

    frozen: int
    """Weights that are not trained."""
    trained: int
    """Trained weights, float32."""
    gradients: int
    optimizer: int
    """Moments of the optimizer."""
    ema: int
    """The EMA of the trained weights."""
    activations: int
    """Other bytes at the peak: mostly activations that the backward pass needs, or copies of a checkpoint."""
    workers: int = 0
    """Processes that make crops, on a CPU; on other devices they take the host's memory."""

    @property
    def total(self) -> int:
        """The sum of all parts."""
        return sum(self.parts().values())

    def parts(self) -> dict[str, int]:
        """Bytes by part."""
        return {
            "frozen": self.frozen, "trained": self.trained, "gradients": self.gradients, "optimizer": self.optimizer,
            "ema": self.ema, "activations": self.activations, "workers": self.workers,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """Settings of a training that affect memory."""

    device: torch.device = CPU
    processes: int = 1
    is_sharded: bool = False
    """Whether the transformer's weights are divided among the processes (FSDP2)."""
    length: int = LENGTH
    """Tokens of a prompt."""
    data_bytes: int = 0
    """Bytes of the decoded training images."""


def estimate_memory(
    recipe: TrainingRecipe, start: Start, setting: Setting | None = None, objective: Objective | None = None
) -> Memory:
    """Estimate the peak of each process of a training, from configurations alone where the base is a published one.

    `start.dtype` is the arithmetic of the networks; `objective` is that of `recipe` and `start`, if it exists already.
    """
    setting = setting or Setting()
    with torch.random.fork_rng(devices=[]):
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        made = (
            shaped_objective(recipe, start, mode, setting.length)
            if objective is None or is_by_shapes(start) else without_values(objective, mode, setting.length)
        )  # fmt: skip
        with mode:
            return _Step(made, recipe, start.dtype, setting).memory()


class _Step:
    """A training step of fake tensors."""

    def __init__(self, objective: Any, recipe: TrainingRecipe, dtype: torch.dtype, setting: Setting) -> None:
        if recipe.objective == "flow" and recipe.agreement_weight:
            # The times drawn decide which samples are computed twice; at most all are, as with twice the draws.
            objective.recipe = replace(recipe, agreement_weight=0.0, draws=2 * recipe.draws)
        self._objective, self._recipe, self._dtype, self._setting = objective, recipe, dtype, setting
        self._parameters = [each for each in objective.modules.parameters() if each.requires_grad]
        trained = {id(each) for each in objective.modules.parameters()}
        self._trained = held_by([*objective.modules.parameters(), *objective.modules.buffers()])
        held = [each for module in _modules(objective) for each in (*module.parameters(), *module.buffers())]
        self._frozen = held_by([*held, *objective.modules.buffers()]) - held_by(
            [*(each for each in held if id(each) in trained), *objective.modules.buffers()]
        )

    def memory(self) -> Memory:
        recipe, setting = self._recipe, self._setting
        live = LiveBytes()
        with live:
            forward, gradients = self._backward(live, keeps=not setting.is_sharded)
            if setting.is_sharded:  # the gradients are not there, but the optimizer needs their shapes
                for parameter in self._parameters:
                    parameter.grad = torch.empty_like(parameter)
                gradients = held_by(each.grad for each in self._parameters if each.grad is not None)
            made, before = optimizers(self._objective.modules, recipe, self._dtype), live.bytes
            live.forget_most()
            for optimizer in made:
                optimizer.step()
            moments = state_bytes(made)
            stepping = live.most - before - moments
        trained, ema = self._trained, held_by(self._objective.modules.parameters()) if recipe.ema else 0
        # Gradients stay until the next step begins.
        after = stepping
        if setting.processes > 1 and not setting.is_sharded:
            after = max(after, gradients)  # joined for one message to the other processes
        if setting.device.type == "cpu":
            after = max(after, trained, moments)  # a checkpoint copies one group of tensors after the other
        if not setting.is_sharded:
            peak = max(forward, gradients + after)
            return self._parts(trained, gradients, moments, ema, peak - gradients)
        return self._sharded(trained, gradients, moments, ema, max(forward, after))

    def _backward(self, live: LiveBytes, *, keeps: bool) -> tuple[int, int]:
        """Peak of forward and backward passes beyond the weights, and the bytes of the gradients left; 0 of them if the
        step `keeps` none."""
        recipe, count = self._recipe, self._setting.processes
        if not keeps:
            for parameter in self._parameters:
                parameter.register_post_accumulate_grad_hook(_drop_gradient)
        whole = _batch(recipe, recipe.batch // count)
        before = live.bytes - held_by((whole.degraded_BCHW, whole.target_BCHW))
        live.forget_most()
        # The second part begins with the gradients of the first; later ones are like it.
        for part in [*whole.parts(recipe.accumulate)][:2]:
            with self._arithmetic():
                self._loss(part)
        peak = live.most - before
        return peak, held_by(each.grad for each in self._parameters if each.grad is not None)

    def _loss(self, batch: Batch) -> None:
        if isinstance(self._objective, RouterObjective):
            self._objective.weigh(batch)  # what is learnt from it is small
        elif not isinstance(self._objective, WordingObjective):  # a small network, whose operations depend on values
            recipe, is_cast = self._recipe, self._dtype != torch.float32
            cached = not recipe.gradient_checkpointing
            with torch.autocast("cpu", torch.bfloat16, enabled=is_cast, cache_enabled=cached):
                loss = self._objective.loss(batch)
            # `loss.backward()` would suspend _CudaCasts, and blocks are computed again in the backward pass.
            _engine_run_backward((loss,), (torch.ones_like(loss),), False, False, (), True, accumulate_grad=True)

    @contextmanager
    def _arithmetic(self) -> Iterator[None]:
        """Choose the operations that the device would run."""
        from torch.nn.attention import SDPBackend, sdpa_kernel

        is_cpu = self._setting.device.type == "cpu"
        attention: AbstractContextManager[Any] = sdpa_kernel(SDPBackend.MATH) if is_cpu else nullcontext()
        with attention, nullcontext() if is_cpu else _CudaCasts():
            yield

    def _parts(self, trained: int, gradients: int, moments: int, ema: int, activations: int) -> Memory:
        setting, workers = self._setting, self._recipe.workers
        cached = min(setting.data_bytes, CACHE_BYTES)
        processes = workers * (WORKER_BYTES + cached) if workers else cached
        return Memory(
            frozen=self._frozen, trained=trained, gradients=gradients, optimizer=moments, ema=ema,
            activations=activations, workers=processes if setting.device.type == "cpu" else 0,
        )  # fmt: skip

    def _sharded(self, trained: int, gradients: int, moments: int, ema: int, activations: int) -> Memory:
        """Divide what belongs to the transformer, and add the weights that are gathered while they are used."""
        transformer = self._objective.parts.path.transformer.transformer
        blocks = [held_by(block.parameters()) for block in transformer.transformer_blocks]
        whole = held_by(transformer.parameters())
        share = whole / trained * (1 - 1 / self._setting.processes)
        # Two blocks at a time, what belongs to no block, and the gradients of one block before they are divided.
        gathered = 2 * max(blocks) + (whole - sum(blocks)) + max(blocks)
        trained, gradients, moments, ema = (round(size * (1 - share)) for size in (trained, gradients, moments, ema))
        return self._parts(trained, gradients, moments, ema, activations + gathered)


class _CudaCasts(TorchFunctionMode):
    """Raise to float32 what autocast raises on CUDA, for operations that are computed as if on a CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in RAISED and torch.is_autocast_enabled("cpu"):
            args = tuple(_raised(each) for each in args)
        return func(*args, **(kwargs or {}))


def _raised(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None


def _modules(objective: Any) -> Iterable[nn.Module]:
    return (held for held in vars(objective).values() if isinstance(held, nn.Module))


def _batch(recipe: TrainingRecipe, size: int) -> Batch:
    """A batch as the recipe makes them; every prompt asks for light and colour too, which costs most."""
    images = [
        torch.empty(size, 3, recipe.patch, recipe.patch).contiguous(memory_format=torch.channels_last) for _ in "12"
    ]
    return Batch(
        degraded_BCHW=images[0], target_BCHW=images[1], statistics_BK=torch.empty(size, COLOUR_STATISTICS),
        prompts=[""] * size, requests=(Request.of("noise", "lowlight", "colour"),) * size,
    )  # fmt: skip
