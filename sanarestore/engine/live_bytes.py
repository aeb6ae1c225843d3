"""Bytes of the tensors that are alive, counted operation by operation: of real tensors, and of fake ones that have
shapes but no values."""

import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count the bytes of all results for as long as they live; a view keeps its base alive."""

    def __init__(self, device: str | None = None) -> None:
        """Count tensors on devices of one type, or on all devices."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.most = 0
        self._device = device
        self._known: set[int] = set()

    def forget_most(self) -> None:
        """Begin a new peak at what is alive now."""
        self.most = self.bytes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        taken = {id(storage) for storage in _storages((args, kwargs))}
        for storage in _storages(given, self._device):
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


def held_by(tensors: Iterable[Tensor]) -> int:
    """Bytes of the storages of some tensors, each storage counted once."""
    return sum({id(storage): storage.nbytes() for storage in map(Tensor.untyped_storage, tensors)}.values())


def _storages(tree: Any, device: str | None = None) -> Iterator[torch.UntypedStorage]:
    for leaf in torch.utils._pytree.tree_leaves(tree):
        # A fake tensor's storage does not know the device that the tensor stands for.
        if isinstance(leaf, Tensor) and device in (None, leaf.device.type):
            yield leaf.untyped_storage()
