"""What an image is, once read: encoded values in float, and everything that must come back out unchanged."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sanarestore.errors import UnreadableImage

Depth = Literal["uint8", "uint16", "float32"]
Format = Literal["tiff", "png", "jpeg", "webp"]
AlphaKind = Literal["unassociated", "associated", "unspecified"]
Stored = npt.NDArray[Any]
"""Codes as a file holds them: uint8, uint16 or float32."""

MAXIMUM: dict[Depth, float] = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
"""The stored value that means 1.0."""

MAXIMUM_PIXELS = 2**30
"""Larger images are refused before anything is allocated: no camera makes them, and damaged headers do."""

_AT_ONCE = 2**18  # values converted at a time, so that temporaries do not grow with the image


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
    png_colour: bytes | None = None
    """PNG's cICP, sRGB, gAMA and cHRM chunks, verbatim and complete; no other format has a place for them."""


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
    alpha_kind: AlphaKind = "unassociated"
    """Whether the colours were multiplied by alpha (associated), or the extra channel's meaning is not said."""
    lossless: bool = False
    """For WebP: stored without loss, and will be again."""
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


def check_size(height: int, width: int) -> None:
    """UnreadableImage if an image of this size cannot be real."""
    if height < 1 or width < 1:
        raise UnreadableImage(f"its header says {width} x {height} pixels", next_step="Restore the file from a backup.")
    if height * width > MAXIMUM_PIXELS:
        raise UnreadableImage(
            f"{width} x {height} pixels are more than the {MAXIMUM_PIXELS / 1e6:.0f} megapixels that are read",
            next_step="Cut it into parts, or check that its header is not damaged.",
        )


def from_stored(
    stored: Stored,
    *,
    format: Format,  # noqa: A002 - the field's name
    metadata: Metadata,
    alpha_kind: AlphaKind = "unassociated",
    lossless: bool = False,
    notes: tuple[str, ...] = (),
) -> Image:
    """An Image of codes [H, W] or [H, W, S], S = gray, gray + alpha, RGB, RGB + alpha; their dtype is the depth."""
    stored_HWS = stored[..., None] if stored.ndim == 2 else stored
    channels = 3 if stored_HWS.shape[2] >= 3 else 1
    depth: Depth = stored.dtype.name  # type: ignore[assignment]
    alpha = np.ascontiguousarray(stored_HWS[..., channels]) if stored_HWS.shape[2] > channels else None
    return Image(
        pixels_HWC=to_float(np.ascontiguousarray(stored_HWS[..., :channels]), depth),
        depth=depth,
        format=format,
        alpha_HW=alpha,
        alpha_kind=alpha_kind,
        lossless=lossless,
        metadata=metadata,
        notes=notes,
    )


def to_stored(image: Image) -> Stored:
    """Codes [H, W, S] in the image's depth, alpha last; an alpha of another depth is scaled to it."""
    if image.alpha_HW is None:
        return from_float(image.pixels_HWC, image.depth)
    alpha = image.alpha_HW
    if alpha.dtype.name != image.depth:
        alpha = from_float(to_float(alpha, alpha.dtype.name), image.depth)  # type: ignore[arg-type]
    channels = image.pixels_HWC.shape[2]
    stored_HWS = np.empty((image.height, image.width, channels + 1), dtype=image.depth)
    _fill(stored_HWS[..., :channels], image.pixels_HWC, image.depth)
    stored_HWS[..., channels] = alpha
    return stored_HWS


def to_float(stored: npt.NDArray[np.generic], depth: Depth) -> npt.NDArray[np.float32]:
    """Stored codes to float32 with 1.0 for the largest code; exact inverse of `from_float` for every code.

    float32 passes through, without a copy.
    """
    if depth == "float32":
        return stored.astype(np.float32, copy=False)
    values: npt.NDArray[np.float32] = np.divide(stored, np.float32(MAXIMUM[depth]), dtype=np.float32)
    return values


def from_float(values: npt.NDArray[np.float32], depth: Depth) -> npt.NDArray[Any]:
    """Float values to stored codes: scaled, rounded to nearest, clipped to the codes there are (NaN becomes 0).

    float32 passes through unclipped, without a copy.
    """
    if depth == "float32":
        return values
    stored = np.empty(values.shape, dtype=depth)
    _fill(stored, values, depth)
    return stored


def _fill(stored: npt.NDArray[Any], values: npt.NDArray[np.float32], depth: Depth) -> None:
    """`from_float` into an array that is there."""
    if depth == "float32":
        stored[...] = values
        return
    count = max(_AT_ONCE // max(values[:1].size, 1), 1)
    for top in range(0, len(values), count):
        rows = slice(top, top + count)
        unit = np.nan_to_num(values[rows], nan=0.0)
        np.clip(unit, 0, 1, out=unit)
        unit *= np.float32(MAXIMUM[depth])
        stored[rows] = np.rint(unit, out=unit)
