"""Stored codes and float values: converted, and values rounded to those that a file can hold."""

from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]
"""Encoded values [H, W, C], C is 1 (gray) or 3 (RGB), nominally in [0, 1]."""

Depth = Literal["uint8", "uint16", "float32"]

Stored = npt.NDArray[Any]
"""Codes as a file holds them: uint8, uint16 or float32."""

Float = TypeVar("Float", bound=np.floating[Any])

MAXIMUM: dict[Depth, float] = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
"""The stored value that means 1.0."""

DEPTHS: dict[int | None, Literal["uint8", "uint16"]] = {8: "uint8", 16: "uint16"}
"""Depths of the values of `--bit-depth`."""

_SPOKEN: dict[Depth, str] = {"uint8": "8 bits", "uint16": "16 bits", "float32": "float values"}

_AT_ONCE = 2**18  # values converted at a time, so that temporaries do not grow with the image


def spoken(depth: Depth) -> str:
    """Name the values of a depth for messages."""
    return _SPOKEN[depth]


def to_float(stored: npt.NDArray[np.generic], depth: Depth) -> Pixels:
    """Convert stored codes to float32 with 1.0 for the largest code; `from_float` restores every code exactly.

    float32 passes through, without a copy.
    """
    if depth == "float32":
        return stored.astype(np.float32, copy=False)
    values: Pixels = np.divide(stored, np.float32(MAXIMUM[depth]), dtype=np.float32)
    return values


def from_float(values: npt.NDArray[np.floating[Any]], depth: Depth) -> Stored:
    """Convert float values to stored codes: clipped to [0, 1] (NaN becomes 0), scaled and rounded to nearest.

    float32 passes through unclipped, without a copy.
    """
    if depth == "float32":
        return values
    stored = np.empty(values.shape, dtype=depth)
    fill(stored, values, depth)
    return stored


def fill(stored: Stored, values: npt.NDArray[np.floating[Any]], depth: Depth) -> None:
    """Convert as `from_float` does, into an existing array."""
    if depth == "float32":
        stored[...] = values
        return
    count = max(_AT_ONCE // max(values[:1].size, 1), 1)
    for top in range(0, len(values), count):
        rows = slice(top, top + count)
        unit = np.clip(values[rows], 0, 1)
        # NaN is rare, and a sum finds it sooner than a mask.
        if np.isnan(unit.sum()):
            unit[np.isnan(unit)] = 0
        unit *= np.float32(MAXIMUM[depth])
        stored[rows] = np.rint(unit, out=unit)


def rescale(stored: npt.NDArray[np.generic], bits: int) -> Stored:
    """Scale codes of 1 to 16 bits to uint8 (up to 8 bits) or uint16, rounded to nearest; black and white stay so."""
    depth: Literal["uint8", "uint16"] = "uint8" if bits <= 8 else "uint16"
    most, full = 2**bits - 1, int(MAXIMUM[depth])
    if most == full:
        return stored.astype(depth, copy=False)
    table = ((np.arange(full + 1) * full + most // 2) // most).clip(0, full).astype(depth)
    rescaled: Stored = table[stored.astype(depth, copy=False)]
    return rescaled


def reduce(stored: npt.NDArray[np.uint16], bits: int) -> Stored:
    """Scale codes of 16 bits to 9 to 15 bits, rounded to nearest; undoes `rescale`."""
    most = 2**bits - 1
    table = ((np.arange(2**16) * most + 32767) // 65535).astype(np.uint16)
    reduced: Stored = table[stored]
    return reduced


def quantize(values: npt.NDArray[Float], depth: Literal["uint8", "uint16"] = "uint8") -> npt.NDArray[Float]:
    """Clip values to [0, 1] and round them to those that codes stand for, in the precision of the values.

    NaN stays NaN. float32 and float64 may round a value that is close to the middle of two codes differently.
    """
    most = values.dtype.type(MAXIMUM[depth])
    rounded: npt.NDArray[Float] = np.rint(np.clip(values, 0, 1) * most) / most
    return rounded
