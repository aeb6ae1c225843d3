"""The layers of a refiner that is folded for one prompt: in floats, or most of them in 8 bits.

Shape suffixes as in `refiner.py`; I inputs and O outputs of a convolution, K kernel positions along a side.
"""

from typing import Any

import torch
from torch import Tensor, nn

from sanarestore.kernels.int8_convolution import Int8Convolution, codes
from sanarestore.model.calibration import INSIDE_ZERO, STREAM_ZERO
from sanarestore.model.refiner import resize


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


def places_first(each_O: Tensor) -> Tensor:
    """Outputs of `up` with the four places outside of the channels, so that channels are neighbours in memory."""
    return each_O.view(-1, 4, *each_O.shape[1:]).transpose(0, 1).flatten(0, 1)


def added_finer(fine_BCHW: Tensor, coarse_BFHW: Tensor) -> Tensor:
    """Add four places of every coarser position to a finer stream, [B,C,2h,2w] and [B,4C,h,w] (`places_first`).

    What `pixel_shuffle` and a sum do, in one pass and in place.
    """
    channels, (height, width) = fine_BCHW.shape[1], coarse_BFHW.shape[2:]
    split: Any = torch.unflatten  # torch has no type of it
    fine = split(split(fine_BCHW, 3, (width, 2)), 2, (height, 2))
    fine.add_(split(coarse_BFHW, 1, (2, 2, channels)).permute(0, 3, 4, 1, 5, 2))
    return fine_BCHW
