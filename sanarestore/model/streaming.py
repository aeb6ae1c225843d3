"""Weights that stay in the host's memory, and are copied to the device only while they are used."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class HostWeights:
    """Weights of modules, kept in the host's memory and copied to the device for each use.

    In between, the modules hold the host's tensors.
    """

    def __init__(self, weights: Iterable[Tensor], device: torch.device) -> None:
        """Move the weights to the host, pinned if the device is CUDA, so that copies run beside the computation."""
        self._device = device
        self._weights = [*{id(each): each for each in weights}.values()]
        is_pinned = device.type == "cuda"
        self._host = [each.data.cpu().pin_memory() if is_pinned else each.data for each in self._weights]
        self.restore()

    def copies(self) -> list[Tensor]:
        """Copy the weights to the device, without waiting for it where they are pinned."""
        with torch.inference_mode(False):  # an inference tensor cannot be the data of a parameter
            return [each.to(self._device, non_blocking=True, copy=True) for each in self._host]

    def place(self, copies: Sequence[Tensor]) -> None:
        """Let the modules use these copies."""
        for weight, copied in zip(self._weights, copies, strict=True):
            weight.data = copied

    def restore(self) -> None:
        """Let the modules use the host's tensors again; the copies are freed."""
        self.place(self._host)


class Streamed:
    """Modules that run one after another, each with its weights on the device only while it runs.

    Iterating yields the modules. On CUDA, a separate stream copies the weights of the next module while one runs; at
    most two modules are on the device at once.
    """

    def __init__(self, modules: Iterable[nn.Module], device: torch.device) -> None:
        self._modules = list(modules)
        self._weights = [HostWeights(weights_of(each), device) for each in self._modules]
        self._device = device
        self._stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def __iter__(self) -> Iterator[nn.Module]:
        following = self._copied(0)
        for index, (module, held) in enumerate(zip(self._modules, self._weights, strict=True)):
            held.place(self._ready(following))
            following = self._copied(index + 1)
            try:
                yield module
            finally:
                held.restore()

    def _copied(self, index: int) -> list[Tensor]:
        """Start to copy the weights of a module; after the last module, there are none."""
        if index == len(self._modules):
            return []
        if self._stream is None:
            return self._weights[index].copies()
        with torch.cuda.stream(self._stream):
            return self._weights[index].copies()

    def _ready(self, copies: list[Tensor]) -> list[Tensor]:
        """Wait until copies are complete, and keep their memory until this stream has finished with it."""
        if self._stream is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            for each in copies:
                each.record_stream(current)
        return copies


def weights_of(*modules: nn.Module) -> list[Tensor]:
    """Parameters and buffers of modules."""
    return [each for module in modules for each in (*module.parameters(), *module.buffers())]
