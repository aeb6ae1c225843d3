"""Calibration of a refiner for 8 bits: photographs say how large its streams become, and how to round its weights.

Shape suffixes: B batch, C channels, H W positions, K kernel positions along a side, N = C K K.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sanarestore.kernels.reference import codes
from sanarestore.model.calibration import (
    INSIDE_ZERO,
    STREAM_ZERO,
    Calibration,
    blocks,
    convolutions,
    is_coded,
    nearest_codes,
    packed,
)
from sanarestore.model.refiner import Refiner
from sanarestore.training.rounding import rounded, steps

PATCHES = 256
"""Positions of each photograph at which the inputs of a convolution are multiplied with each other."""

TOGETHER = 8
"""Channels that processors compute together: fewer take as long."""

SMALLEST = 1e-3
"""Least unit of a channel, as a share of the largest of its stream: a channel without values keeps a finite one."""


@dataclass(frozen=True, slots=True)
class Calibrating:
    """A degraded photograph for calibration."""

    degraded_BCHW: Tensor
    prompt_BD: Tensor


def calibrate(
    refiner: Refiner, photographs: Iterable[Calibrating], *, rounding: int, unusual: Iterable[Calibrating] = ()
) -> Calibration:
    """Calibrate a refiner in float32 on a CPU by photographs, degraded as it meets them, under many prompts.

    All say how large values become, and the first `rounding` of them how to round weights. A channel is left out if it
    is silent for all of them, and for the `unusual` ones too: strongly degraded, under prompts that need not fit.
    """
    largest: dict[str, Tensor] = {}
    unusually: dict[str, Tensor] = {}
    with _watching(refiner, partial(_keep_largest, largest)):
        kept = _run(refiner, photographs, rounding)
    with _watching(refiner, partial(_keep_largest, unusually)):
        _run(refiner, unusual, 0)
    tensors = _units(refiner, largest, unusually)
    products: dict[str, Tensor] = {}
    with _watching(refiner, partial(_add_products, refiner, tensors, products)):
        _run(refiner, kept, 0)
    for name in convolutions(refiner.config):
        weight = _kept_weight(refiner, tensors, name)
        step_O = steps(weight)
        code = rounded(weight, step_O, products[name]) if weight.numel() else weight
        tensors[f"{name}.step"] = step_O
        tensors[f"{name}.rounding"] = packed(code - nearest_codes(weight, step_O))
    return Calibration(tensors)


@torch.no_grad()
def _run(refiner: Refiner, photographs: Iterable[Calibrating], count: int) -> list[Calibrating]:
    """Restore photographs; returns the first `count`."""
    kept: list[Calibrating] = []
    for each in photographs:
        refiner(each.degraded_BCHW, each.degraded_BCHW, each.prompt_BD)
        if len(kept) < count:
            kept.append(each)
    return kept


@contextmanager
def _watching(refiner: Refiner, see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Call `see` with name and input of each convolution that runs in 8 bits, and of each that ends a block."""

    def hook(name: str, _layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        see(name, given[0])

    handles = [
        refiner.get_submodule(name).register_forward_pre_hook(partial(hook, name))
        for name in (*convolutions(refiner.config), *(f"{block}.conv_out" for block in _in_floats(refiner)))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _in_floats(refiner: Refiner) -> list[str]:
    """Names of the blocks that stay in floats."""
    return [block for block in blocks(refiner.config) if not is_coded(block)]


def _keep_largest(largest: dict[str, Tensor], name: str, given_BCHW: Tensor) -> None:
    found_C = given_BCHW.abs().amax(dim=(0, 2, 3))
    largest[name] = torch.maximum(largest[name], found_C) if name in largest else found_C


def _units(refiner: Refiner, largest: dict[str, Tensor], unusually: dict[str, Tensor]) -> dict[str, Tensor]:
    """Units of streams and insides, and sizes of the inputs' codes."""
    tensors: dict[str, Tensor] = {}
    coded = [name for name in largest if is_coded(name)]
    for level in range(len(refiner.config.widths)):
        on_level = [largest[name] for name in coded if _stream_of(name, refiner) == level]
        tensors[f"stream.{level}"] = _unit_of(torch.stack(on_level).amax(dim=0), STREAM_ZERO - 1)
    for block in blocks(refiner.config):
        inside_C = largest[f"{block}.conv_out"]
        inside_C = torch.where(inside_C > 0, inside_C, unusually.get(f"{block}.conv_out", inside_C))
        tensors[f"{block}.inside"] = _unit_of(inside_C, 255 - INSIDE_ZERO) * _is_kept(inside_C)
    for name in convolutions(refiner.config):
        taken = _stream_of(name, refiner)
        tensors[f"{name}.input"] = torch.ones(())
        if taken is not None:
            tensors[f"{name}.input"] = (largest[name] / tensors[f"stream.{taken}"]).amax() / (STREAM_ZERO - 1)
    return tensors


def _unit_of(largest_C: Tensor, codes_above: int) -> Tensor:
    return largest_C.clamp(min=max(float(largest_C.max()), SMALLEST) * SMALLEST) / codes_above


def _stream_of(name: str, refiner: Refiner) -> int | None:
    """The level of the stream that a convolution takes; None for one that takes the inside of a block."""
    if name.endswith("conv_out"):
        return None
    part, *rest = name.split(".")
    if part == "bottleneck":
        return len(refiner.config.widths) - 1
    return int(rest[0]) + (part == "up")


def _is_kept(largest_C: Tensor) -> Tensor:
    """Whether each channel inside a block is needed: all that are ever positive, and some more up to a multiple of
    `TOGETHER`."""
    needed = largest_C > 0
    missing = -int(needed.sum()) % TOGETHER
    needed[(~needed).nonzero()[:missing, 0]] = True
    return needed


def _unit_of_input(refiner: Refiner, tensors: dict[str, Tensor], name: str) -> Tensor:
    """Units of the channels of a convolution's input that are needed."""
    level = _stream_of(name, refiner)
    if level is not None:
        return tensors[f"stream.{level}"]
    unit_C = tensors[f"{name.removesuffix('.conv_out')}.inside"]
    return unit_C[unit_C > 0]


def _kept_inputs(tensors: dict[str, Tensor], name: str) -> Tensor | slice:
    """Indices of a convolution's inputs that are needed."""
    return (
        tensors[f"{name.removesuffix('.conv_out')}.inside"].nonzero()[:, 0]
        if name.endswith(".conv_out")
        else slice(None)
    )


def _kept_weight(refiner: Refiner, tensors: dict[str, Tensor], name: str) -> Tensor:
    """The weights of a convolution that are needed, in units of its input."""
    layer: Any = refiner.get_submodule(name)
    weight: Tensor = layer.weight.detach().float()
    if name.endswith(".conv_in"):
        weight = weight[tensors[f"{name.removesuffix('.conv_in')}.inside"] > 0]
    return weight[:, _kept_inputs(tensors, name)] * _unit_of_input(refiner, tensors, name)[:, None, None]


def _add_products(
    refiner: Refiner, tensors: dict[str, Tensor], products: dict[str, Tensor], name: str, given_BCHW: Tensor
) -> None:
    """Add the products of a convolution's inputs, as codes, with each other, [N,N], at some positions."""
    unit_C = _unit_of_input(refiner, tensors, name)
    if not len(unit_C) or not is_coded(name):
        return
    given_BCHW = given_BCHW[:, _kept_inputs(tensors, name)]
    zero = INSIDE_ZERO if _stream_of(name, refiner) is None else STREAM_ZERO
    code_BCHW = codes(given_BCHW / unit_C[:, None, None], float(tensors[f"{name}.input"]), zero).float() - zero
    layer: Any = refiner.get_submodule(name)
    patch_BNP = F.unfold(code_BCHW, layer.kernel_size, padding=layer.padding, stride=layer.stride)
    every = max(1, patch_BNP.shape[2] // PATCHES)
    patch_NP = patch_BNP[:, :, ::every].transpose(0, 1).flatten(1)
    products[name] = products.get(name, torch.zeros(len(patch_NP), len(patch_NP))).addmm_(patch_NP, patch_NP.T)
