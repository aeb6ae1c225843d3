"""What an image is, once read: encoded values in float, and everything that must come back out unchanged."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Depth = Literal["uint8", "uint16", "float32"]
Format = Literal["tiff", "png", "jpeg", "webp"]

MAXIMUM: dict[Depth, float] = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
"""The stored value that means 1.0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metadata:
    """Blocks of bytes that travel with the pixels, as their standards define them; None where there is none."""

    icc: bytes | None = None
    """ICC profile, verbatim."""
    exif: bytes | None = None
    """A TIFF structure (``II*\\0`` or ``MM\\0*``), without the ``Exif\\0\\0`` that JPEG puts before it."""
    xmp: bytes | None = None
    """XMP packet, verbatim."""
    iptc: bytes | None = None
    """IPTC-IIM records, verbatim."""
    dpi: tuple[float, float] | None = None
    """Pixels per inch, horizontal and vertical."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """A photograph in memory: its own encoded values, no colour conversion.

    `pixels_HWC` is float32, C is 1 (gray) or 3 (RGB), nominally in [0, 1]; values of float files outside it are kept.
    The orientation is the stored one (the EXIF tag says how to turn it, and stays).
    """

    pixels_HWC: npt.NDArray[np.float32]
    depth: Depth
    """How the file stored the values, and how they will be stored again."""
    format: Format
    alpha_HW: npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | npt.NDArray[np.float32] | None = None
    """The alpha channel as stored, never touched."""
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()
    """What reading had to change, in words for the user ("palette converted to RGB")."""

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels_HWC.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels_HWC.shape[1])

    @property
    def megapixels(self) -> float:
        """Height times width, in millions."""
        return self.height * self.width / 1e6


def to_float(stored: npt.NDArray[np.generic], depth: Depth) -> npt.NDArray[np.float32]:
    """Stored codes to float32 with 1.0 for the largest code; exact inverse of `from_float` for every code."""
    if depth == "float32":
        return stored.astype(np.float32)
    return np.divide(stored, np.float32(MAXIMUM[depth]), dtype=np.float32)


def from_float(values: npt.NDArray[np.float32], depth: Depth) -> npt.NDArray[np.generic]:
    """Float values to stored codes: scaled, rounded to nearest, clipped to the codes there are (NaN becomes 0).

    float32 passes through unclipped. Works row block by row block, so that the temporary is small beside the image.
    """
    if depth == "float32":
        return values
    stored = np.empty(values.shape, dtype=depth)
    for top in range(0, len(values), 256):
        block = np.nan_to_num(values[top : top + 256] * np.float32(MAXIMUM[depth]), nan=0.0)
        stored[top : top + 256] = np.clip(np.rint(block), 0, MAXIMUM[depth])
    return stored
