"""The processes of one training: each computes a part of every batch, and together they take the same step.

`torchrun`, `accelerate launch` and SLURM scripts set RANK, WORLD_SIZE, LOCAL_RANK and MASTER_ADDR. Without them a
training is one process. Small weights are held by every process, which averages gradients; the weights of a
transformer that is trained whole are sharded (FSDP2), so that each process holds a part of weights, gradients and
optimizer state.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from sanarestore.errors import UsageError

PATIENCE = timedelta(minutes=30)
"""How long processes wait for one another: the first one validates and writes checkpoints alone."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those of a training."""

    rank: int = 0
    """Number of this process, from 0."""
    count: int = 1
    """Number of processes."""

    @classmethod
    def joined(cls, device: torch.device) -> "Ranks":
        """Join the other processes that the environment names; UsageError if it cannot be understood."""
        rank, count = _from_environment()
        if count > 1 and not dist.is_initialized():
            if device.type == "cuda":
                torch.cuda.set_device(device)
            backend = "nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, rank=rank, world_size=count, timeout=PATIENCE)
        return cls(rank, count)

    @property
    def is_first(self) -> bool:
        """Whether this process validates, saves and reports for all."""
        return self.rank == 0

    def leave(self) -> None:
        """End the connection to the other processes."""
        if self.count > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.count > 1:
            dist.barrier()

    def average(self, gradients: Sequence[Tensor]) -> None:
        """Replace gradients by their mean over all processes, in place; sharded ones are averaged already."""
        whole = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
        if self.count == 1 or not whole:
            return
        # One message for all: a LoRA has hundreds of small tensors.
        flat = torch.cat([gradient.flatten() for gradient in whole])
        dist.all_reduce(flat)
        flat /= self.count
        for gradient, part in zip(whole, flat.split([each.numel() for each in whole]), strict=True):  # type: ignore[no-untyped-call]
            gradient.copy_(part.view_as(gradient))

    def fill(self, parameters: Sequence[nn.Parameter]) -> None:
        """Give parameters a gradient of zero if only other processes have one for them."""
        if self.count == 1:
            return
        has = torch.tensor([float(each.grad is not None) for each in parameters], device=_own_device())
        dist.all_reduce(has)
        for parameter, count in zip(parameters, has.tolist(), strict=True):
            if count and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def mean(self, value: float) -> float:
        """Mean of a number over all processes."""
        if self.count == 1:
            return value
        both = torch.tensor([value], dtype=torch.float64, device=_own_device())
        dist.all_reduce(both)
        return float(both) / self.count

    def agreed(self, value: float) -> float:
        """The first process's number, so that all of them decide alike."""
        if self.count == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=_own_device())
        dist.broadcast(shared, src=0)
        return float(shared)

    def any(self, is_so: bool) -> bool:
        """Return whether something is so in at least one process."""
        return self.mean(float(is_so)) > 0

    def shard(self, transformer: nn.Module) -> None:
        """Shard a transformer's weights over the processes, block by block (FSDP2)."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(_own_device().type, (self.count,))
        for block in transformer.transformer_blocks:  # type: ignore[union-attr]
            fully_shard(block, mesh=mesh)
        fully_shard(transformer, mesh=mesh)


def partitioned(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Whole and sharded parameters apart, which no single operation takes together."""
    groups: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for parameter in parameters:
        groups[isinstance(parameter, DTensor)].append(parameter)
    return [group for group in groups if group]


def norm_of(gradients: Iterable[Tensor]) -> Tensor:
    """Norm of all gradients together, sharded ones included."""
    norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
    plain = [norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms]
    return torch.linalg.vector_norm(torch.stack(plain)) if plain else torch.zeros(())


def full(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor; every process must ask for it. Other tensors as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(whole: Tensor, place: Tensor) -> Tensor:
    """Shard a whole tensor, the same in every process, as `place` is sharded."""
    if not isinstance(place, DTensor) or isinstance(whole, DTensor):
        return whole
    from torch.distributed.tensor import Replicate, distribute_tensor

    if whole.ndim == 0:
        return distribute_tensor(whole.to(place.device), place.device_mesh, [Replicate()] * place.device_mesh.ndim)
    return distribute_tensor(whole.to(place.device), place.device_mesh, place.placements)


@contextmanager
def unsharded(module: nn.Module) -> Iterator[None]:
    """Let sharded transformers return whole weights as their `state_dict` within the block, to save them.

    FSDP's own `unshard` is for computing: a state dict is of sharded tensors even then.
    """
    from torch.distributed.fsdp import FSDPModule

    # The outermost ones only: their state holds that of the blocks within.
    sharded: list[Any] = [each for each in module.modules() if isinstance(each, FSDPModule)]
    inner = {id(part) for each in sharded for part in each.modules() if part is not each}
    outer = [each for each in sharded if id(each) not in inner]
    for each in outer:
        whole = {name: full(tensor) for name, tensor in each.state_dict().items()}
        each.state_dict = partial(dict, whole)
    try:
        yield
    finally:
        for each in outer:
            del each.state_dict


def _from_environment() -> tuple[int, int]:
    """Rank and number of processes, as launchers set them."""
    variables = {name: os.environ.get(name) for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")}
    if variables["WORLD_SIZE"] is None:
        return 0, 1
    step = "Start with torchrun or accelerate launch, which set all of them, or unset WORLD_SIZE."
    count, rank = variables["WORLD_SIZE"], variables["RANK"]
    if not count.isdigit() or int(count) < 1:
        raise UsageError(f"'{count}' is not a number of processes", where="WORLD_SIZE", next_step=step)
    if int(count) == 1:
        return 0, 1
    missing = [name for name, value in variables.items() if not value]
    if missing:
        raise UsageError(
            f"{count} processes are announced, but {missing[0]} is not set", where="WORLD_SIZE", next_step=step
        )
    if rank is None or not rank.isdigit() or int(rank) >= int(count):
        raise UsageError(f"'{rank}' is not the number of one of {count} processes", where="RANK", next_step=step)
    return int(rank), int(count)


def _own_device() -> torch.device:
    """The device on which processes exchange tensors."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
