"""LoRA for training a transformer or a refiner (Hu et al. 2022), kept separate from the module's own weights.

Shape suffixes: B batch, L tokens, D features, H W latent positions or pixels.
"""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sanarestore.errors import WeightsError
from sanarestore.weights import FETCH

BLOCKS = "transformer_blocks."
"""Name prefix of the adapted layers of SANA: attention, cross-attention, 1x1 convolutions of the feed-forward."""


class LowRank(nn.Module):
    """Product B A for one linear layer or convolution; initially zero because B is zero.

    For a convolution, A is a convolution of the same kernel size to `rank` channels, and B a 1x1 convolution.
    """

    def __init__(self, layer: Any, rank: int) -> None:
        super().__init__()
        rows, columns = layer.weight.flatten(1).shape
        # Both are stored as matrices, because the optimizers treat 4-D parameters as convolution kernels.
        # In float32 whatever the layer's type: a step is far smaller than the weights.
        device = layer.weight.device
        self.lora_A = nn.Parameter(torch.empty(rank, columns, device=device))
        self.lora_B = nn.Parameter(torch.zeros(rows, rank, device=device))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self._window = layer.weight.shape[1:]
        self._places: Any = {"stride": layer.stride, "padding": layer.padding} if isinstance(layer, nn.Conv2d) else {}

    def forward(self, given: Tensor) -> Tensor:
        """Apply B A to the layer's input, [B,L,D], [B,D] or [B,D,H,W]."""
        down, up = self.tensors()
        if down.dim() == 4:
            return F.conv2d(F.conv2d(given, down, **self._places), up)
        return F.linear(F.linear(given, down), up)

    def tensors(self) -> tuple[Tensor, Tensor]:
        """A and B in the shapes of weights of the layer's kind."""
        return self.lora_A.reshape(-1, *self._window), self.lora_B[(..., *(None,) * (len(self._window) - 1))]


class Lora(nn.Module):
    """A `LowRank` for each of the given layers, attached by forward hooks on construction."""

    def __init__(self, layers: dict[str, nn.Module], rank: int) -> None:
        super().__init__()
        self.changes = nn.ModuleDict({_key(name): LowRank(layer, rank) for name, layer in layers.items()})
        self._names = tuple(layers)
        for name, layer in layers.items():
            layer.register_forward_hook(partial(_added, self.changes[_key(name)]))

    @property
    def rank(self) -> int:
        """Rank of the changes."""
        return len(next(iter(self.changes.values())).lora_A)  # type: ignore[arg-type]

    @classmethod
    def of_transformer(cls, transformer: nn.Module, rank: int) -> Self:
        """Adapt every linear layer and ungrouped convolution in a SANA transformer's blocks."""
        return cls({name: layer for name, layer in _linear(transformer) if name.startswith(BLOCKS)}, rank)

    @classmethod
    def of_refiner(cls, refiner: nn.Module, rank: int) -> Self:
        """Adapt every linear layer and ungrouped convolution of a refiner."""
        return cls(dict(_linear(refiner)), rank)

    def tensors(self) -> dict[str, Tensor]:
        """LoRA tensors by the adapted module's layer names, as `write_adapter` takes them; scale 1."""
        found = {}
        for name in self._names:
            for side, tensor in zip("AB", self.changes[_key(name)].tensors(), strict=True):  # type: ignore[operator]
                found[f"{name}.lora_{side}.weight"] = tensor.detach().contiguous()
        return found

    def load(self, tensors: Mapping[str, Tensor], where: Path) -> None:
        """Load what `tensors` returned; WeightsError if names or shapes are not those of the adapted layers."""
        expected = self.tensors()
        odd = sorted(
            name for name in {*expected, *tensors}
            if name not in tensors or name not in expected or tensors[name].shape != expected[name].shape
        )  # fmt: skip
        if odd:
            raise WeightsError(
                f"the low-rank weights do not fit the base ({odd[0]}, {len(odd)} in all)", where=where, next_step=FETCH
            )
        with torch.no_grad():
            for name in self._names:
                change: Any = self.changes[_key(name)]
                change.lora_A.copy_(tensors[f"{name}.lora_A.weight"].flatten(1))
                change.lora_B.copy_(tensors[f"{name}.lora_B.weight"].flatten(1))


def _linear(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Linear layers and ungrouped convolutions of a module, with their names."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1):
            yield name, layer


def _key(name: str) -> str:
    """Replace dots, which keys of a `ModuleDict` may not contain."""
    return name.replace(".", "/")


def _added(change: nn.Module, _layer: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> Tensor:
    total: Tensor = result + change(given[0])
    return total
