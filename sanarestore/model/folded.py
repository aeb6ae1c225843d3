"""A refiner for one prompt, as it runs: what the prompt decides is folded into its convolutions.

It computes what `Refiner.forward` computes up to rounding, in less time, and most of its body may run in 8 bits.

Shape suffixes as in `refiner.py`; I inputs and O outputs of a convolution, K kernel positions along a side.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sanarestore.kernels.int8_convolution import Int8Convolution, codes
from sanarestore.model.calibration import INSIDE_ZERO, STREAM_ZERO, Calibration, is_coded
from sanarestore.model.colour_correction import WholePhoto
from sanarestore.model.refiner import Refiner, resize, stem_input

Box = tuple[int, int, int, int]
"""Top, bottom, left and right of a part of a window in pixels, ends exclusive."""


class FoldedRefiner(nn.Module):
    """A refiner for one prompt; later changes of the refiner's weights are not seen."""

    @torch.no_grad()
    def __init__(
        self, refiner: Refiner, prompt_1D: Tensor, calibration: Calibration | None = None, *, in_int8: bool = False
    ) -> None:
        """Fold the prompt [1,D] into a refiner as it was cast and placed.

        Channels that are not needed are left out if a `calibration` says which. `in_int8`, most convolutions of the
        body run in 8 bits; this takes a calibration, and a CPU on which `int8_convolution` is available.
        """
        super().__init__()
        self._others = (refiner,)  # in a tuple it is no submodule: its body does not run
        self._prompt_1D = prompt_1D
        self._spatial_modulation, self._colour_correction = refiner.spatial_modulation, refiner.colour_correction
        fold = _Folding(refiner, prompt_1D, calibration, in_int8=in_int8)
        self._stem, self._stem_of_one = fold.stems()
        self._encoder = nn.ModuleList(fold.level("encoder", level) for level in range(len(refiner.encoder)))
        self._down = nn.ModuleList(fold.down(level) for level in range(len(refiner.down)))
        self._bottleneck = fold.block("bottleneck", len(refiner.down))
        self._up = nn.ModuleList(fold.up(level) for level in range(len(refiner.up)))
        self._decoder = nn.ModuleList(fold.level("decoder", level) for level in range(len(refiner.decoder)))
        self._head = fold.head()

    @property
    def refiner(self) -> Refiner:
        """The refiner that was folded."""
        return self._others[0]

    def forward(
        self, degraded_BCHW: Tensor, generated_BCHW: Tensor, whole: WholePhoto | None = None, core: Box | None = None
    ) -> Tensor:
        """`Refiner.forward`; faster if both images are the same object.

        With a `core`, top, bottom, left and right in pixels, only this part of the result is returned, and the decoder
        computes no more than that depends on. Top and left are multiples of the stride.
        """
        window = (0, degraded_BCHW.shape[2], 0, degraded_BCHW.shape[3])
        core = core or window
        config = self.refiner.config
        parts = [_around(core, radius, window, config.stride) for radius in config.decoder_radii]
        local_BKHW, modulation_BSHW, weight_B1HW = self.refiner.measure(degraded_BCHW, self._prompt_1D)
        # Nested, so that no name here keeps the stem's result while the body runs.
        features_BCHW = self._body(
            self._enter(degraded_BCHW, generated_BCHW, local_BKHW), modulation_BSHW, [*parts, window]
        )
        residual_BCHW = self._head(features_BCHW.float())
        del features_BCHW
        weight_B1HW, generated_BCHW = (_part(each, window, parts[0]) for each in (weight_B1HW, generated_BCHW))
        restored_BCHW = self.refiner.finish(residual_BCHW, weight_B1HW, generated_BCHW, self._prompt_1D, whole)
        return _part(restored_BCHW, parts[0], core)

    def _enter(self, degraded_BCHW: Tensor, generated_BCHW: Tensor, local_BKHW: Tensor) -> Tensor:
        """The stem's result [B,C,H/2,W/2]."""
        if generated_BCHW is degraded_BCHW:
            hidden: Tensor = self._stem_of_one(stem_input(degraded_BCHW, local_BKHW))
        else:
            hidden = self._stem(stem_input(torch.cat([degraded_BCHW, generated_BCHW], dim=1), local_BKHW))
        return hidden.to(self.refiner.dtype)

    def _body(self, hidden: Tensor, modulation_BSHW: Tensor, parts: Sequence[Box]) -> Tensor:
        """From the stem's result to the head's input, both [B,C,H/2,W/2].

        `parts` are the parts of the window that the decoder computes, finest level first, and the window itself.
        """
        *_, window = parts
        skips = []
        for level, down in zip(self._encoder, self._down, strict=True):
            for block in level.children():
                hidden = block(hidden, modulation_BSHW)
            skips.append(hidden)
            hidden = down(hidden)
        hidden = self._bottleneck(hidden, modulation_BSHW)
        coarser = window
        for level, up, part in zip(reversed(self._decoder), reversed(self._up), reversed(parts[:-1]), strict=True):
            fine = _dense(_part(skips.pop(), window, part))
            hidden = _added_finer(fine, up(_dense(_part(hidden, coarser, part))))
            del fine
            coarser, steering_BSHW = part, _dense(_part(modulation_BSHW, window, part))
            for block in level.children():
                hidden = block(hidden, steering_BSHW)
        return hidden


def _around(core: Box, radius: int, window: Box, stride: int) -> Box:
    """The part of a window within a radius of a core, whose ends are rounded up to the stride."""
    top, bottom, left, right = core
    bottom, right = (-(-end // stride) * stride + radius for end in (bottom, right))
    return max(top - radius, 0), min(bottom, window[1]), max(left - radius, 0), min(right, window[3])


def _part(map_BCHW: Tensor, held: Box, part: Box) -> Tensor:
    """A view of a part of a map at any resolution, which shows `held`; boxes in pixels."""
    if part == held:
        return map_BCHW
    pixel = (held[1] - held[0]) // map_BCHW.shape[2]
    rows = slice((part[0] - held[0]) // pixel, (part[1] - held[0]) // pixel)
    columns = slice((part[2] - held[2]) // pixel, (part[3] - held[2]) // pixel)
    return map_BCHW[:, :, rows, columns]


def _dense(map_BCHW: Tensor) -> Tensor:
    """The map as convolutions take it without copying it again."""
    return map_BCHW.contiguous(memory_format=torch.channels_last)


class FloatConvolution(nn.Conv2d):
    """A convolution in the floats of its weights; the inside of a block is floats without what is negative."""

    def __init__(self, weight_OIKK: Tensor, bias_O: Tensor, *, stride: int = 1, padding: int = 0) -> None:
        outputs, inputs, kernel, _ = weight_OIKK.shape
        super().__init__(inputs, outputs, kernel, stride, padding, device="meta")
        weight_OIKK = weight_OIKK.contiguous(memory_format=torch.channels_last)
        self.weight, self.bias = (nn.Parameter(each, requires_grad=False) for each in (weight_OIKK, bias_O))

    def inside(self, stream_BIHW: Tensor) -> Tensor:
        """The convolution of a stream, as the inside of a block."""
        return self.positive(self(stream_BIHW))

    def positive(self, hidden_BOHW: Tensor) -> Tensor:
        """Floats, which are changed, as the inside of a block."""
        return hidden_BOHW.relu_()

    def add(self, stream_BOHW: Tensor, inside_BIHW: Tensor) -> Tensor:
        """A stream plus the convolution of the inside of a block."""
        branch_BOHW: Tensor = self(inside_BIHW)
        return branch_BOHW.add_(stream_BOHW)


class CodedConvolution(nn.Module):
    """A convolution of 8-bit codes. Streams are floats, and the inside of a block is codes."""

    def __init__(self, convolution: Int8Convolution, size: float) -> None:
        """`size` is that of a code of the stream."""
        super().__init__()
        self._convolution, self._size = convolution, size

    def forward(self, stream_BIHW: Tensor) -> Tensor:
        """The convolution of a stream."""
        return self._convolution(codes(stream_BIHW, self._size, STREAM_ZERO))

    def inside(self, stream_BIHW: Tensor) -> Tensor:
        """The convolution of a stream, as the inside of a block."""
        return self._convolution.positive_codes(codes(stream_BIHW, self._size, STREAM_ZERO))

    def positive(self, hidden_BOHW: Tensor) -> Tensor:
        """Floats as the inside of a block."""
        return codes(hidden_BOHW, 1.0, INSIDE_ZERO)

    def add(self, stream_BOHW: Tensor, inside_BIHW: Tensor) -> Tensor:
        """A stream, which is changed, plus the convolution of the inside of a block."""
        return self._convolution.added_to(stream_BOHW, inside_BIHW)


Convolution = FloatConvolution | CodedConvolution


class FoldedBlock(nn.Module):
    """`ResidualBlock` for one prompt; its modulation is in the first convolution."""

    def __init__(self, first: Convolution, last: Convolution) -> None:
        super().__init__()
        self._first, self._last = first, last

    def forward(self, hidden_BCHW: Tensor, _modulation_BSHW: Tensor) -> Tensor:
        """[B,C,h,w], which may be changed -> [B,C,h,w]."""
        return self._last.add(hidden_BCHW, self._first.inside(hidden_BCHW))


class EmptyBlock(nn.Module):
    """A block of which no channel inside is needed."""

    def __init__(self, bias_O: Tensor) -> None:
        super().__init__()
        self._bias_1C11 = bias_O[None, :, None, None]

    def forward(self, hidden_BCHW: Tensor, _modulation_BSHW: Tensor) -> Tensor:
        """[B,C,h,w], which is changed -> [B,C,h,w]."""
        return hidden_BCHW.add_(self._bias_1C11)


class FoldedModulatedBlock(nn.Module):
    """`ModulatedBlock` for one prompt; the gate's result is the whole scale."""

    def __init__(self, first: Convolution, last: Convolution, gate: FloatConvolution, shift_1C11: Tensor) -> None:
        super().__init__()
        self._first, self._last, self._gate, self._shift_1C11 = first, last, gate, shift_1C11

    def forward(self, hidden_BCHW: Tensor, modulation_BSHW: Tensor) -> Tensor:
        """[B,C,h,w], which may be changed, and [B,S,H/8,W/8] -> [B,C,h,w]."""
        scale_BCHW = resize(self._gate(modulation_BSHW), hidden_BCHW.shape[2:])
        inner_BCHW = self._first(hidden_BCHW)
        inner_BCHW = torch.addcmul(self._shift_1C11, inner_BCHW, scale_BCHW, out=inner_BCHW)
        del scale_BCHW  # one of the largest tensors at the finest level
        return self._last.add(hidden_BCHW, self._last.positive(inner_BCHW))


class _Folding:
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
        """From the stream of the next coarser level to this one, as `_added_finer` takes it."""
        layer: Any = self._refiner.up[level]
        rows_O = (1 / self._stream(level)).repeat_interleave(4)
        weight = layer.weight * self._stream(level + 1)[:, None, None]
        return self._convolution(f"up.{level}", weight, rows_O, _bias(layer) * rows_O, reorder=_places_first)

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


def _places_first(each_O: Tensor) -> Tensor:
    """Outputs of `up` with the four places outside of the channels, so that channels are neighbours in memory."""
    return each_O.view(-1, 4, *each_O.shape[1:]).transpose(0, 1).flatten(0, 1)


def _added_finer(fine_BCHW: Tensor, coarse_BFHW: Tensor) -> Tensor:
    """Add four places of every coarser position to a finer stream, [B,C,2h,2w] and [B,4C,h,w] (`_places_first`).

    What `pixel_shuffle` and a sum do, in one pass and in place.
    """
    channels, (height, width) = fine_BCHW.shape[1], coarse_BFHW.shape[2:]
    split: Any = torch.unflatten  # torch has no type of it
    fine = split(split(fine_BCHW, 3, (width, 2)), 2, (height, 2))
    fine.add_(split(coarse_BFHW, 1, (2, 2, channels)).permute(0, 3, 4, 1, 5, 2))
    return fine_BCHW
