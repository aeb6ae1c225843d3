"""Condition a text-to-image transformer on the degraded latent, without any effect before training.

Shape suffixes: B batch, C latent channels, H W latent positions.

Both kinds are linear in the condition, with weights of zero before training, so that step 0 is the pretrained model bit
for bit. `projection` mixes latent and condition into the original number of channels; `patch-embed` adds columns to the
patch embedding for the condition, and contains the projection as a special case.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

ConditionKind = Literal["projection", "patch-embed"]

KINDS: tuple[ConditionKind, ...] = ("projection", "patch-embed")


def kind_of(value: object) -> ConditionKind:
    """Check a condition kind from a configuration; ValueError if it is unknown."""
    for kind in KINDS:
        if value == kind:
            return kind
    raise ValueError(f"'{value}' is not a kind of condition; they are {', '.join(KINDS)}")


class ProjectionCondition(nn.Module):
    """Conv2d(2C, C, 1) over latent and condition, initialised to the identity and to zero."""

    kind: ConditionKind = "projection"

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(2 * channels, channels, 1, bias=False)
        with torch.no_grad():
            self.project.weight.zero_()
            self.project.weight[:, :channels, 0, 0] = torch.eye(channels)

    def forward(self, latent_BCHW: Tensor, condition_BCHW: Tensor) -> Tensor:
        mixed: Tensor = self.project(torch.cat([latent_BCHW, condition_BCHW], dim=1))
        return mixed


class PatchEmbedCondition(nn.Module):
    """New zero-initialised columns of the transformer's patch embedding; changes the transformer in place."""

    kind: ConditionKind = "patch-embed"

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        base = transformer.patch_embed.proj  # type: ignore[union-attr]
        if not isinstance(base, nn.Conv2d) or isinstance(base, WidenedConv2d):
            raise ValueError("the transformer's patch embedding is not one that can be widened")
        self.columns = _like(base)
        self.columns.to(device=base.weight.device, dtype=base.weight.dtype)
        nn.init.zeros_(self.columns.weight)
        transformer.patch_embed.proj = WidenedConv2d(base, self.columns)  # type: ignore[union-attr]

    def forward(self, latent_BCHW: Tensor, condition_BCHW: Tensor) -> Tensor:
        return torch.cat([latent_BCHW, condition_BCHW], dim=1)


class WidenedConv2d(nn.Conv2d):
    """Sum of a convolution over C channels and its new columns over C more.

    Two convolutions instead of one over 2C channels: a library may split a sum by its length, and zero columns must not
    change a bit of the result.
    """

    def __init__(self, base: nn.Conv2d, columns: nn.Conv2d) -> None:
        like: Any = base
        super().__init__(like.in_channels, like.out_channels, like.kernel_size, stride=like.stride, device="meta")
        self.weight, self.bias = base.weight, base.bias
        # Not registered: the columns belong to the condition, and the transformer's own state dict stays as published.
        self.__dict__["columns"] = columns

    def forward(self, both_BCHW: Tensor) -> Tensor:
        latent_BCHW, condition_BCHW = both_BCHW.chunk(2, dim=1)
        columns: nn.Conv2d = self.__dict__["columns"]
        embedded: Tensor = super().forward(latent_BCHW) + columns(condition_BCHW)
        return embedded


def _like(base: Any) -> nn.Conv2d:
    return nn.Conv2d(base.in_channels, base.out_channels, base.kernel_size, stride=base.stride, bias=False)


def new_condition(kind: ConditionKind, transformer: nn.Module) -> ProjectionCondition | PatchEmbedCondition:
    """Create an untrained condition, without effect, for this transformer; ValueError for an unknown kind."""
    if kind_of(kind) == "projection":
        weight = transformer.patch_embed.proj.weight  # type: ignore[union-attr]
        return ProjectionCondition(weight.shape[1]).to(device=weight.device, dtype=weight.dtype)  # type: ignore[arg-type, index]
    return PatchEmbedCondition(transformer)
