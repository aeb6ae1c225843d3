"""Low-rank changes of a transformer or a refiner in training (Hu et al. 2022), beside its weights and not in them.

Shape suffixes: B batch, L tokens, D features, H W latent positions or pixels.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, Self

import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS = "transformer_blocks."
"""Where a SANA transformer is adapted: attention, cross-attention, and the 1x1 convolutions of the feed-forward."""


class LowRank(nn.Module):
    """B A for one linear layer or convolution: zero at first, since B is.

    A convolution's A is one of the same window to `rank` channels, and B goes on from each of its positions.
    """

    def __init__(self, layer: Any, rank: int) -> None:
        super().__init__()
        rows, columns = layer.weight.flatten(1).shape
        # Matrices both, or the optimizers would take A for a kernel.
        self.lora_A = nn.Parameter(layer.weight.new_empty(rank, columns))
        self.lora_B = nn.Parameter(layer.weight.new_zeros(rows, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self._window = layer.weight.shape[1:]
        self._places: Any = {"stride": layer.stride, "padding": layer.padding} if isinstance(layer, nn.Conv2d) else {}

    def forward(self, given: Tensor) -> Tensor:
        """[B,L,D], [B,D] or [B,D,H,W], as the layer is given."""
        down, up = self.tensors()
        if down.dim() == 4:
            return F.conv2d(F.conv2d(given, down, **self._places), up)
        return F.linear(F.linear(given, down), up)

    def tensors(self) -> tuple[Tensor, Tensor]:
        """A and B in the shapes of weights of such layers."""
        return self.lora_A.reshape(-1, *self._window), self.lora_B[(..., *(None,) * (len(self._window) - 1))]


class Lora(nn.Module):
    """A `LowRank` for each of some layers of a module; attached to it on construction."""

    def __init__(self, layers: dict[str, nn.Module], rank: int) -> None:
        super().__init__()
        self.changes = nn.ModuleDict({_key(name): LowRank(layer, rank) for name, layer in layers.items()})
        self._names = tuple(layers)
        for name, layer in layers.items():
            layer.register_forward_hook(partial(_added, self.changes[_key(name)]))

    @classmethod
    def of_transformer(cls, transformer: nn.Module, rank: int) -> Self:
        """For what is linear in a SANA transformer's blocks."""
        return cls({name: layer for name, layer in _linear(transformer) if name.startswith(BLOCKS)}, rank)

    @classmethod
    def of_refiner(cls, refiner: nn.Module, rank: int) -> Self:
        """For every convolution and linear layer."""
        return cls(dict(_linear(refiner)), rank)

    def tensors(self) -> dict[str, Tensor]:
        """By the module's own names, as `write_adapter` takes them; scale 1."""
        found = {}
        for name in self._names:
            for side, tensor in zip("AB", self.changes[_key(name)].tensors(), strict=True):  # type: ignore[operator]
                found[f"{name}.lora_{side}.weight"] = tensor.detach().contiguous()
        return found


def _linear(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Layers that multiply by one matrix at every position, by name."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1):
            yield name, layer


def _key(name: str) -> str:
    """Names of modules in a dictionary may hold no dots."""
    return name.replace(".", "/")


def _added(change: nn.Module, _layer: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> Tensor:
    total: Tensor = result + change(given[0])
    return total
