"""Low-rank changes of a transformer in training (Hu et al. 2022), beside its weights and not in them.

Shape suffixes: B batch, L tokens, D features, H W latent positions.
"""

import math
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS = "transformer_blocks."
"""Where linear layers are adapted: attention, cross-attention, and the 1x1 convolutions of the feed-forward."""


class LowRank(nn.Module):
    """B A for one linear layer or 1x1 convolution: zero at first, since B is."""

    def __init__(self, layer: Any, rank: int) -> None:
        super().__init__()
        rows, columns = layer.weight.flatten(1).shape
        self.lora_A = nn.Parameter(layer.weight.new_empty(rank, columns))
        self.lora_B = nn.Parameter(layer.weight.new_zeros(rows, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, given: Tensor) -> Tensor:
        """[B,L,D] or [B,D,H,W], as the layer is given."""
        if given.dim() == 4:
            return F.conv2d(F.conv2d(given, self.lora_A[..., None, None]), self.lora_B[..., None, None])
        return F.linear(F.linear(given, self.lora_A), self.lora_B)


class Lora(nn.Module):
    """A `LowRank` for every layer of a SANA transformer's blocks; attached to it on construction."""

    def __init__(self, transformer: nn.Module, rank: int) -> None:
        super().__init__()
        self._shapes = {}
        self.changes = nn.ModuleDict()
        for name, layer in transformer.named_modules():
            if name.startswith(BLOCKS) and _is_linear(layer):
                change = LowRank(layer, rank)
                self.changes[_key(name)] = change
                self._shapes[name] = layer.weight.dim()
                layer.register_forward_hook(partial(_added, change))

    def tensors(self) -> dict[str, Tensor]:
        """By the transformer's own names, as `write_adapter` takes them; scale 1."""
        found = {}
        for name, dimensions in self._shapes.items():
            change = self.changes[_key(name)]
            for side in ("lora_A", "lora_B"):
                tensor = getattr(change, side).detach()
                found[f"{name}.{side}.weight"] = tensor.reshape(*tensor.shape, *(1,) * (dimensions - 2))
        return found


def _is_linear(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.kernel_size == (1, 1) and layer.groups == 1
    return isinstance(layer, nn.Linear)


def _key(name: str) -> str:
    """Names of modules in a dictionary may hold no dots."""
    return name.replace(".", "/")


def _added(change: LowRank, _layer: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> Tensor:
    total: Tensor = result + change(given[0])
    return total
