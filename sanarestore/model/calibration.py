"""Calibration of a refiner: which channels it needs, and the codes by which its body runs in 8 bits.

Many channels inside of blocks are 0 for all photographs that were tried, because no input reaches beyond their bias.
They are left out, which saves up to a third of the arithmetic. A photograph that would reach one comes out a little
different at that place.

A residual stream runs through each level of the U-Net. It stays in floats, in units of its own for every channel. In 8
bits each convolution takes its input as codes: of a stream around 128, of the inside of a block, which is positive,
from 0. So every channel uses all codes; one unit for all channels of a tensor makes the error several times larger.

    stream.LEVEL           [C]  unit of each channel of a level's stream
    BLOCK.inside           [C]  unit of each channel between the two convolutions of a block; 0 for those left out
    CONVOLUTION.input      []   size of an input code, in units of the stream
    CONVOLUTION.step       [O]  size of a weight code, for each output that is kept
    CONVOLUTION.rounding   [N]  by how many codes a weight is rounded away from the nearest one, plus 1: four in a byte

`training/calibrating.py` makes the tables. Weights are rounded such that the error of the sums is small and not that of
each weight (`training/rounding.py`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from sanarestore.errors import WeightsError
from sanarestore.model.refiner_config import RefinerConfig
from sanarestore.model.tensors import read_tensors, write_tensors
from sanarestore.weights import FETCH

STREAM_ZERO, INSIDE_ZERO = 128, 0
"""Codes that stand for 0 in a residual stream, and inside a block."""

GENERAL = "general"
"""Name of the general refiner's calibration in files."""

IN_FLOATS = "decoder.0."
"""Beginning of the names of what stays in floats: the decoder's blocks at the finest level, the last ones before the
result. Rounding them too costs clean photographs 0.2 to 0.7 dB."""

PER_BYTE = 4
"""Roundings in a byte."""


class Calibration:
    """The tables of one refiner."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = dict(tensors)

    @classmethod
    def reading(cls, tensors: Mapping[str, Tensor], config: RefinerConfig, where: Path) -> "Calibration":
        """Take tables from a file; WeightsError if they do not fit the configuration."""
        found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        kept = {
            block: int(tensors[f"{block}.inside"].count_nonzero())
            for block in blocks(config)
            if f"{block}.inside" in found
        }
        expected = shapes(config, kept)
        different = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
        if different:
            raise WeightsError(
                f"the calibration does not fit the refiner ({different[0]}, {len(different)} in all)",
                where=where, next_step=FETCH,
            )  # fmt: skip
        return cls(tensors)

    def stream(self, level: int) -> Tensor:
        """Unit of each channel of a level's stream, [C]."""
        return self.tensors[f"stream.{level}"]

    def kept(self, block: str) -> Tensor:
        """Indices of the channels inside a block that are needed."""
        return self.tensors[f"{block}.inside"].nonzero()[:, 0]

    def inside(self, block: str) -> Tensor:
        """Unit of each channel inside a block that is needed."""
        return self.tensors[f"{block}.inside"][self.kept(block)]

    def input(self, convolution: str) -> float:
        """Size of a convolution's input codes."""
        return float(self.tensors[f"{convolution}.input"])

    def step(self, convolution: str) -> Tensor:
        """Size of a convolution's weight codes, [O]."""
        return self.tensors[f"{convolution}.step"]

    def weight_codes(self, convolution: str, weight_OIKK: Tensor) -> Tensor:
        """Round the weights of a convolution, in units of its input, to int8 codes."""
        nearest = nearest_codes(weight_OIKK, self.step(convolution))
        away = unpacked(self.tensors[f"{convolution}.rounding"], weight_OIKK.numel()).view_as(nearest)
        return (nearest + away).to(torch.int8)


def read_calibrations(path: Path, config: RefinerConfig, experts: Sequence[str]) -> dict[str | None, Calibration]:
    """Read the calibrations of a refiner and its experts; WeightsError if they are damaged or do not fit."""
    tensors = read_tensors(path)
    found: dict[str | None, Calibration] = {}
    for name in (None, *experts):
        prefix = f"{name or GENERAL}/"
        own = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
        found[name] = Calibration.reading(own, config, path)
    return found


def write_calibrations(path: Path, calibrations: Mapping[str | None, Calibration]) -> None:
    """Write what `read_calibrations` reads."""
    tensors = {
        f"{name or GENERAL}/{key}": tensor
        for name, calibration in calibrations.items() for key, tensor in calibration.tensors.items()
    }  # fmt: skip
    write_tensors(path, tensors)


def nearest_codes(weight_OIKK: Tensor, step_O: Tensor) -> Tensor:
    """The nearest codes of weights, as floats."""
    return (weight_OIKK / step_O[:, None, None, None]).round()


def packed(away: Tensor) -> Tensor:
    """Pack roundings of -1, 0 or 1, four in a byte; the last byte is filled with zeros."""
    flat = torch.nn.functional.pad(away.flatten().to(torch.uint8) + 1, (0, -away.numel() % PER_BYTE))
    quarters = flat.view(-1, PER_BYTE) << torch.arange(0, 8, 2, dtype=torch.uint8)
    return quarters.sum(dim=1).to(torch.uint8)


def unpacked(rounding: Tensor, count: int) -> Tensor:
    """The roundings that `packed` packed, as floats [count]."""
    quarters = (rounding[:, None] >> torch.arange(0, 8, 2, dtype=torch.uint8)) & 3
    return quarters.flatten()[:count].float() - 1


def shapes(config: RefinerConfig, kept: Mapping[str, int] = MappingProxyType({})) -> dict[str, tuple[int, ...]]:
    """Shapes of all tables of a refiner, with the number of channels inside each block that are needed."""
    found: dict[str, tuple[int, ...]] = {f"stream.{level}": (width,) for level, width in enumerate(config.widths)}
    for block, width in blocks(config).items():
        found[f"{block}.inside"] = (width,)
    for name, (outputs, inputs, kernel) in convolutions(config, kept).items():
        found[f"{name}.input"] = ()
        found[f"{name}.step"] = (outputs,)
        found[f"{name}.rounding"] = (-(-outputs * inputs * kernel**2 // PER_BYTE),)
    return found


def blocks(config: RefinerConfig) -> dict[str, int]:
    """Names of all blocks, with their widths."""
    *widths, bottleneck = config.widths
    found = {"bottleneck": bottleneck}
    for part, counts in (("encoder", config.encoder_blocks), ("decoder", config.decoder_blocks)):
        for level, (count, width) in enumerate(zip(counts, widths, strict=True)):
            found |= {f"{part}.{level}.{number}": width for number in range(count)}
    return found


def convolutions(
    config: RefinerConfig, kept: Mapping[str, int] = MappingProxyType({})
) -> dict[str, tuple[int, int, int]]:
    """Names of the convolutions that run in 8 bits, with outputs, inputs and kernel size; blocks have `kept` channels
    inside."""
    found = {}
    for block, width in blocks(config).items():
        inside = kept.get(block, width)
        found[f"{block}.conv_in"] = (inside, width, 3)
        found[f"{block}.conv_out"] = (width, inside, 1 if block == "bottleneck" else 3)
    for level, (fine, coarse) in enumerate(zip(config.widths, config.widths[1:], strict=False)):
        found[f"down.{level}"] = (coarse, fine, 2)
        found[f"up.{level}"] = (4 * fine, coarse, 1)
    return {name: sizes for name, sizes in found.items() if is_coded(name)}


def is_coded(name: str) -> bool:
    """Whether a block or convolution runs in 8 bits where its refiner does."""
    return not name.startswith(IN_FLOATS)
