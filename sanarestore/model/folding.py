"""Folding of a prompt, and of a calibration's units, into the convolutions of a refiner.

Shape suffixes as in `refiner.py`; I inputs and O outputs of a convolution, K kernel positions along a side.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sanarestore.kernels.int8_convolution import Int8Convolution
from sanarestore.model.calibration import INSIDE_ZERO, STREAM_ZERO, Calibration, is_coded
from sanarestore.model.folded_blocks import (
    CodedConvolution,
    Convolution,
    EmptyBlock,
    FloatConvolution,
    FoldedBlock,
    FoldedModulatedBlock,
    places_first,
)
from sanarestore.model.refiner import Refiner


class Folding:
    """Makes the convolutions of a folded refiner.

    In 8 bits, streams and insides of blocks are in units of their own for each channel, which are 1 in floats. A unit
    is folded into the weights on both sides.
    """

    def __init__(self, refiner: Refiner, prompt_1D: Tensor, calibration: Calibration | None, *, in_int8: bool) -> None:
        if in_int8 and calibration is None:
            raise ValueError("without a calibration, a refiner does not run in 8 bits")
        self._refiner, self._calibration = refiner, calibration
        self._codes = calibration if in_int8 else None
        self._prompt_1D = prompt_1D.to(refiner.dtype)

    def stems(self) -> tuple[FloatConvolution, FloatConvolution]:
        """The stem for two images, and for one that stands for both."""
        stem, unit_C = self._refiner.stem, self._stream(0)
        weight = stem.weight / unit_C[:, None, None, None]
        half = 3 * 4
        of_one = torch.cat([weight[:, :half] + weight[:, half : 2 * half], weight[:, 2 * half :]], dim=1)
        bias_C = _bias(stem) / unit_C
        return FloatConvolution(weight, bias_C, padding=1), FloatConvolution(of_one, bias_C, padding=1)

    def head(self) -> FloatConvolution:
        """The last layer."""
        head = self._refiner.head
        return FloatConvolution(head.weight * self._stream(0)[:, None, None], _bias(head))

    def level(self, part: str, level: int) -> nn.ModuleList:
        """The blocks of a level of the encoder or decoder."""
        count = len(getattr(self._refiner, part)[level])
        return nn.ModuleList(self.block(f"{part}.{level}.{number}", level) for number in range(count))

    def block(self, name: str, level: int) -> nn.Module:
        """A block on the stream of a level."""
        block: Any = self._refiner.get_submodule(name)
        kept, stream_C = self._kept(name, level), self._stream(level)
        bias_C = _bias(block.conv_out) / stream_C
        if not len(kept):
            return EmptyBlock(bias_C.to(self._refiner.dtype))
        inside_C = self._codes.inside(name) if self._codes and is_coded(name) else torch.ones_like(stream_C)[kept]
        gain_C, shift_C = (each[0][kept] for each in block.modulation.project(self._prompt_1D).chunk(2, dim=1))
        last = self._convolution(
            f"{name}.conv_out", block.conv_out.weight[:, kept] * inside_C[:, None, None], 1 / stream_C, bias_C,
            size=1.0, zero=INSIDE_ZERO,
        )  # fmt: skip
        weight, bias_C = block.conv_in.weight[kept] * stream_C[:, None, None], _bias(block.conv_in)[kept]
        name = f"{name}.conv_in"
        if not hasattr(block, "gate"):
            rows_C = (1 + gain_C) / inside_C
            return FoldedBlock(self._convolution(name, weight, rows_C, bias_C * rows_C + shift_C / inside_C), last)
        gate = self._in_floats(
            block.gate.weight[kept] / inside_C[:, None, None, None], (_bias(block.gate)[kept] + 1 + gain_C) / inside_C
        )
        first = self._convolution(name, weight, torch.ones_like(bias_C), bias_C)
        shift_1C11 = (shift_C / inside_C)[None, :, None, None].to(self._refiner.dtype)
        return FoldedModulatedBlock(first, last, gate, shift_1C11)

    def down(self, level: int) -> Convolution:
        """From the stream of a level to that of the next coarser one."""
        layer: Any = self._refiner.down[level]
        rows_O = 1 / self._stream(level + 1)
        weight = layer.weight * self._stream(level)[:, None, None]
        return self._convolution(f"down.{level}", weight, rows_O, _bias(layer) * rows_O, stride=2)

    def up(self, level: int) -> Convolution:
        """From the stream of the next coarser level to this one, as `added_finer` takes it."""
        layer: Any = self._refiner.up[level]
        rows_O = (1 / self._stream(level)).repeat_interleave(4)
        weight = layer.weight * self._stream(level + 1)[:, None, None]
        return self._convolution(f"up.{level}", weight, rows_O, _bias(layer) * rows_O, reorder=places_first)

    def _convolution(
        self, name: str, weight_OIKK: Tensor, rows_O: Tensor, bias_O: Tensor, *, stride: int = 1,
        size: float | None = None, zero: int = STREAM_ZERO, reorder: Callable[[Tensor], Tensor] | None = None,
    ) -> Convolution:  # fmt: skip
        """A convolution with its weights in units of the input, factors of its outputs, and bias.

        `size` is that of an input code; None takes it from the calibration. `reorder` changes the order of the outputs.
        """
        reorder = reorder or (lambda each: each)
        # Even kernels are those that halve the resolution, which need no padding.
        padding = weight_OIKK.shape[-1] // 2 if weight_OIKK.shape[-1] % 2 else 0
        if self._codes is None or not is_coded(name):
            weight = reorder(weight_OIKK * rows_O[:, None, None, None])
            return self._in_floats(weight, reorder(bias_O), stride=stride, padding=padding)
        size = self._codes.input(name) if size is None else size
        code = self._codes.weight_codes(name, weight_OIKK)
        code = torch.where(rows_O[:, None, None, None] < 0, -code, code)
        scale_O = self._codes.step(name) * rows_O.abs() * size
        packed = Int8Convolution.packing(
            reorder(code), reorder(scale_O), reorder(bias_O), zero=zero, stride=stride, padding=padding
        )
        return CodedConvolution(packed, size)

    def _in_floats(self, weight_OIKK: Tensor, bias_O: Tensor, **places: int) -> FloatConvolution:
        dtype = self._refiner.dtype
        return FloatConvolution(weight_OIKK.to(dtype), bias_O.to(dtype), **places)

    def _stream(self, level: int) -> Tensor:
        """Units of the stream of a level, [C]."""
        if self._codes is not None:
            return self._codes.stream(level)
        return torch.ones(self._refiner.config.widths[level], device=self._prompt_1D.device)

    def _kept(self, block: str, level: int) -> Tensor:
        """Indices of the channels inside a block that are needed."""
        if self._calibration is None:
            return torch.arange(self._refiner.config.widths[level], device=self._prompt_1D.device)
        return self._calibration.kept(block).to(self._prompt_1D.device)


def _bias(layer: Any) -> Tensor:
    bias: Tensor = layer.bias
    return bias
