"""The in-memory image: encoded values in float, and everything that must be written back unchanged."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from sanarestore.errors import UnreadableImage
from sanarestore.images.codes import Depth, Pixels, Stored, fill, from_float, to_float

Format = Literal["tiff", "png", "jpeg", "webp"]
AlphaKind = Literal["unassociated", "associated", "unspecified"]
Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]

MAXIMUM_PIXELS = 2**30
"""Larger images are refused before anything is allocated: they come from damaged headers, not from cameras."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metadata:
    """Metadata blocks that travel with the pixels, in the form that their standards define; None if absent."""

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
class JpegCoding:
    """How a JPEG file was compressed."""

    quality: int
    """Quality of libjpeg, from 1 to 100, whose tables are the nearest."""
    subsampling: Subsampling
    """Resolution of the chroma channels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """A photograph in memory: its own encoded values, no colour conversion.

    `pixels_HWC` is float32, C is 1 (gray) or 3 (RGB), nominally in [0, 1]; values of float files outside it are kept.
    The orientation is as stored (the EXIF tag says how to rotate the image, and is kept).
    """

    pixels_HWC: Pixels
    depth: Depth
    """How the file stores the values, and how they will be written."""
    format: Format
    alpha_HW: npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | npt.NDArray[np.float32] | None = None
    """The alpha channel as stored; only enlarging changes it."""
    alpha_kind: AlphaKind = "unassociated"
    """Whether the colours are premultiplied by alpha (associated) or not (unassociated); unspecified if not stated."""
    lossless: bool = False
    """For WebP: whether the file is lossless, and will be written so."""
    jpeg: JpegCoding | None = None
    """For JPEG: how the file was compressed."""
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
    """Check an image's size; UnreadableImage if it is empty or larger than `MAXIMUM_PIXELS`."""
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
    """An Image from codes [H, W] or [H, W, S], S = gray, gray + alpha, RGB, RGB + alpha; their dtype is the depth."""
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
    fill(stored_HWS[..., :channels], image.pixels_HWC, image.depth)
    stored_HWS[..., channels] = alpha
    return stored_HWS
