"""What work costs and holds, counted without doing it: fake tensors have a shape and no values."""

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
    """What a function costs."""

    flop: int
    """Operations of products and convolutions; a multiplication and an addition count as two."""
    bytes: int
    """Peak of all tensors that it made; memory used within an operation is not seen."""


class Living(TorchDispatchMode):
    """Counts the bytes of what operations give for as long as it is held; views hold what they are views of."""

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
    """Tensors made in here are fake, and those from outside become so where they are used."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def cost(work: Callable[[], object]) -> Cost:
    with FlopCounterMode(display=False) as flop, Living() as living:
        work()
    return Cost(flop.get_total_flops(), living.most)


def exponent(pixels: list[int], costs: list[float]) -> float:
    """The power of the pixel count that costs grow with."""
    return float(np.polyfit(np.log(pixels), np.log(costs), 1)[0])
