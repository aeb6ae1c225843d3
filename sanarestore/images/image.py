"""The in-memory image: encoded values in float, and everything that must be written back unchanged."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from sanarestore.errors import UnreadableImage
from sanarestore.images.codes import Depth, Pixels, Stored, fill, from_float, to_float

Format = Literal["tiff", "png", "jpeg", "webp", "bmp", "jp2", "avif", "jxl", "heif", "raw"]
FORMAT_NAMES: dict[Format, str] = {
    "tiff": "TIFF", "png": "PNG", "jpeg": "JPEG", "webp": "WebP", "bmp": "BMP", "jp2": "JPEG 2000", "avif": "AVIF",
    "jxl": "JPEG XL", "heif": "HEIF", "raw": "camera raw",
}  # fmt: skip
"""Names of the formats in sentences."""
WRITTEN: tuple[Format, ...] = ("tiff", "png", "jpeg", "webp", "avif", "jxl")
"""Formats that are written; the others are only read."""
ALWAYS_KEPT: tuple[Format, ...] = ("tiff", "png", "jpeg", "webp")
"""Formats that can hold everything that was read from them."""
AlphaKind = Literal["unassociated", "associated", "unspecified"]
Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]
UNSPECIFIED: AlphaKind = "unspecified"

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
    xmp_extension: bytes | None = None
    """The extended packet, to which `xmp` points by its MD5 hash, verbatim; only JPEG files divide XMP so."""
    iptc: bytes | None = None
    """IPTC-IIM records, verbatim."""
    photoshop: bytes | None = None
    """Photoshop's image resources without IPTC records: clipping paths and more, verbatim, one after the other."""
    dpi: tuple[float, float] | None = None
    """Pixels per inch, horizontal and vertical."""
    comments: tuple[bytes, ...] = ()
    """Comments of a JPEG file, in whatever encoding they have."""
    png_colour: bytes | None = None
    """PNG's cICP, sRGB, gAMA, cHRM, mDCV and cLLI chunks, verbatim and complete; no other format has a place for
    them."""
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()
    """Names and bodies of PNG's chunks for text, time, significant bits, background and more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Extra:
    """Channels beyond colours and alpha, such as masks and spot colours; they are carried and not restored."""

    codes_HWS: Stored
    """The codes as stored, [H, W, S] with S of 1 or more; only enlarging changes them."""
    kinds: tuple[AlphaKind, ...]
    """Code of each of them in TIFF."""
    before: int = 0
    """Number of them that the file stores before alpha; the others follow it."""

    @property
    def count(self) -> int:
        """Number of channels."""
        return len(self.kinds)


@dataclass(frozen=True, kw_only=True, slots=True)
class JpegCoding:
    """Compression of a JPEG file."""

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
    """Depth of the values in the file and in the result."""
    format: Format
    alpha_HW: npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | npt.NDArray[np.float32] | None = None
    """The alpha channel as stored; only enlarging changes it."""
    alpha_kind: AlphaKind = "unassociated"
    """Whether the colours are premultiplied by alpha (associated) or not (unassociated); unspecified if not stated."""
    extra: Extra | None = None
    """Channels beyond colours and alpha; None if there are none."""
    lossless: bool = False
    """For WebP and JPEG XL: whether the file is lossless, and will be written so."""
    bits: int | None = None
    """Bits of a value as the file has them, 9 to 15, where AVIF is to be written with as many; None otherwise."""
    jpeg: JpegCoding | None = None
    """For JPEG: how the file was compressed."""
    metadata: Metadata = field(default_factory=Metadata)
    thumbnail: int | None = None
    """Longest side in pixels of the thumbnail in EXIF; a thumbnail of the result replaces it in the file written."""
    notes: tuple[str, ...] = ()
    """Changes that reading had to make, in words for the user ("palette converted to RGB")."""
    more_pages: tuple["Image", ...] = ()
    """The other full-size pages of a TIFF file, each with metadata of its own; they have no further pages."""

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels_HWC.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels_HWC.shape[1])

    @property
    def written_as(self) -> Format:
        """The format in which the image is written if no other is chosen."""
        return written_as(
            self.format, self.depth, has_cicp=self.metadata.png_colour is not None, has_extra=self.extra is not None,
            has_profile=self.metadata.icc is not None, bits=self.bits,
        )  # fmt: skip

    @property
    def megapixels(self) -> float:
        """Height times width of all pages, in millions."""
        return sum(page.height * page.width for page in (self, *self.more_pages)) / 1e6


def written_as(
    format: Format,  # noqa: A002 - the field's name
    depth: Depth,
    *,
    has_cicp: bool,
    has_extra: bool,
    has_profile: bool,
    bits: int | None = None,
) -> Format:
    """The image's own format if it is written; otherwise PNG for 8 bits, and TIFF for more and for extra channels.

    AVIF is written with 8 bits, or as many `bits` as its file has, and JPEG XL with 8 and 16 bits in sRGB; others of
    their files are as if only read. Codes whose colours code points describe (`has_cicp`), and no profile, are written
    as AVIF or PNG, which have a place for these.
    """
    if format == "avif" and (depth == "uint8" or (depth == "uint16" and bits is not None)):
        return format
    if format == "jxl" and depth != "float32" and not (has_cicp or has_profile):
        return format
    if format in ALWAYS_KEPT:
        return format
    if depth == "float32" or has_extra:
        return "tiff"
    return "png" if depth == "uint8" or has_cicp else "tiff"


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
    colours: int | None = None,
    pixels_HWC: Pixels | None = None,
    kinds: tuple[AlphaKind, ...] = ("unassociated",),
    bits: int | None = None,
    lossless: bool = False,
    notes: tuple[str, ...] = (),
) -> Image:
    """An Image from codes [H, W] or [H, W, S], S = gray, gray + alpha, RGB, RGB + alpha; their dtype is the depth.

    `colours` is the number of colour channels where more channels follow, and `kinds` says what each of these is. Alpha
    is the first one that is associated or unassociated, and otherwise the first one; the others are extra channels.
    `pixels_HWC` are the colours where they were converted to RGB.
    """
    stored_HWS = stored[..., None] if stored.ndim == 2 else stored
    channels = colours or (3 if stored_HWS.shape[2] >= 3 else 1)
    depth: Depth = stored.dtype.name  # type: ignore[assignment]
    alpha, place = None, 0
    if stored_HWS.shape[2] > channels:
        place = next((index for index, kind in enumerate(kinds) if kind != "unspecified"), 0)
        alpha = np.ascontiguousarray(stored_HWS[..., channels + place])
    extra = None
    if stored_HWS.shape[2] > channels + 1:
        rest_HWS = np.delete(stored_HWS[..., channels:], place, axis=2)
        extra = Extra(codes_HWS=rest_HWS, kinds=(*kinds[:place], *kinds[place + 1 :]), before=place)
    return Image(
        pixels_HWC=to_float(np.ascontiguousarray(stored_HWS[..., :channels]), depth)
        if pixels_HWC is None
        else pixels_HWC,
        depth=depth,
        format=format,
        alpha_HW=alpha,
        alpha_kind=kinds[place] if alpha is not None else "unassociated",
        extra=extra,
        bits=bits,
        lossless=lossless,
        metadata=metadata,
        notes=notes,
    )


def to_stored(image: Image) -> Stored:
    """Codes [H, W, S] in the image's depth: colours, then alpha and extra channels in the order of `kinds_of`.

    Alpha and extra channels of another depth are scaled to it.
    """
    behind = _behind(image)
    if not behind:
        return from_float(image.pixels_HWC, image.depth)
    channels = image.pixels_HWC.shape[2]
    stored_HWS = np.empty((image.height, image.width, channels + len(behind)), dtype=image.depth)
    fill(stored_HWS[..., :channels], image.pixels_HWC, image.depth)
    for place, (codes_HW, _) in enumerate(behind, start=channels):
        if codes_HW.dtype.name != image.depth:
            fill(stored_HWS[..., place], to_float(codes_HW, codes_HW.dtype.name), image.depth)  # type: ignore[arg-type]
        else:
            stored_HWS[..., place] = codes_HW
    return stored_HWS


def kinds_of(image: Image) -> tuple[AlphaKind, ...]:
    """Return the kinds of the channels after the colours, in the order in which files store them."""
    return tuple(kind for _, kind in _behind(image))


def count_extra(kinds: Sequence[AlphaKind]) -> int:
    """Number of channels after the colours that are not alpha; a channel counts as alpha only if a tag says so."""
    return len(kinds) - any(kind != UNSPECIFIED for kind in kinds)


def _behind(image: Image) -> list[tuple[Stored, AlphaKind]]:
    """The channels behind the colours, each with its kind."""
    extra = image.extra
    found = [] if extra is None else [(extra.codes_HWS[..., at], kind) for at, kind in enumerate(extra.kinds)]
    if image.alpha_HW is not None:
        found.insert(extra.before if extra else 0, (image.alpha_HW, image.alpha_kind))
    return found
