"""Counts of operations and memory without running them: fake tensors have shapes but no values."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode


class Cost(NamedTuple):
    """The cost of a function."""

    flop: int
    """Operations of products and convolutions; a multiply-add counts as two."""
    bytes: int
    """Peak size of all tensors that the function made, without memory used within an operation."""


class Living(TorchDispatchMode):
    """Count the bytes of all results for as long as they live; a view keeps its base alive."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        taken = {id(storage) for storage in _storages((args, kwargs))}
        for storage in _storages(given):
            if id(storage) not in self._known and id(storage) not in taken:
                self._known.add(id(storage))
                self._change(storage.nbytes())
                weakref.finalize(storage, self._gone, id(storage), storage.nbytes())
        return given

    def _gone(self, name: int, size: int) -> None:
        self._known.discard(name)
        self._change(-size)

    def _change(self, size: int) -> None:
        self.bytes += size
        self.most = max(self.most, self.bytes)


def _storages(tree: Any) -> Iterator[torch.UntypedStorage]:
    for leaf in torch.utils._pytree.tree_leaves(tree):
        if isinstance(leaf, Tensor):
            yield leaf.untyped_storage()


@contextmanager
def fake() -> Iterator[None]:
    """Make new tensors fake, and existing ones where they are used."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def cost(work: Callable[[], object]) -> Cost:
    with FlopCounterMode(display=False) as flop, Living() as living:
        work()
    return Cost(flop.get_total_flops(), living.most)


def exponent(pixels: list[int], costs: list[float]) -> float:
    """Fit the exponent of the pixel count with which costs grow."""
    return float(np.polyfit(np.log(pixels), np.log(costs), 1)[0])
