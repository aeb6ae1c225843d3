"""Image headers, read without decoding, and estimates of the memory that reading and writing take."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from typing import BinaryIO

from sanarestore.errors import SanarestoreError, UnreadableImage
from sanarestore.images import avif, bmp, heif, jp2, jpeg, jxl, png, raw, tiff, webp
from sanarestore.images.codes import DEPTHS, Depth
from sanarestore.images.foreign import Foreign
from sanarestore.images.ifd import Source
from sanarestore.images.image import ALWAYS_KEPT, UNSPECIFIED, AlphaKind, Format, check_size, written_as
from sanarestore.images.messages import collected
from sanarestore.images.read import format_of, naming, opened, unknown
from sanarestore.images.signature import HEAD
from sanarestore.images.tiff_header import TiffHeader

_SIZES: dict[Depth, int] = {"uint8": 1, "uint16": 2, "float32": 4}
_BLOCK = 2**14
"""Bytes of a file that are read at a time."""
_MOST_AT_ONCE = 2**27
"""Most bytes of rows that are decoded together where a file is read in strips."""
_FIXED = 2 * 2**20
"""Bytes that do not depend on the size of the image, such as tables and buffers of the libraries."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """Properties of an image that its file's header gives."""

    width: int
    height: int
    channels: int
    """Samples per pixel after decoding: 1 or 3, and one more with alpha; extra channels are not counted."""
    depth: Depth
    format: Format
    file_size: int
    """Bytes of the file."""
    sample_bytes: int
    """Bytes of a sample as it is decoded, before conversion to the depth."""
    alpha_kind: AlphaKind = "unassociated"
    """Kind of alpha, as in `Image`."""
    extra: int = 0
    """Number of channels beyond colours and alpha."""
    more: tuple["Header", ...] = ()
    """Headers of the other full-size pages of a TIFF file."""
    has_cicp: bool = False
    """Whether only code points describe the colours, without a profile."""
    has_profile: bool = False
    """For JPEG XL: whether its colours are others than sRGB."""
    bits: int | None = None
    """Bits of a value, as in `Image`."""
    is_progressive: bool = False
    """For JPEG: whether all coefficients are held while it is decoded."""
    rows_at_once: int = 0
    """For TIFF and PNG: rows that are decoded together where the file is read in strips; 0 if it is only read
    whole."""
    is_rearranged: bool = False
    """For TIFF: whether codes are copied once more, as for separate planes and inverted values."""

    @property
    def written_as(self) -> Format:
        """The format in which the image is written if no other is chosen."""
        return written_as(
            self.format, self.depth, has_cicp=self.has_cicp, has_extra=self.extra > 0, has_profile=self.has_profile,
            bits=self.bits,
        )  # fmt: skip

    @property
    def pages(self) -> tuple["Header", ...]:
        """The headers of all pages, this one first."""
        return (self, *self.more)

    @property
    def pixels(self) -> int:
        """Height times width of all pages."""
        return sum(page.height * page.width for page in self.pages)

    @property
    def megapixels(self) -> float:
        """Height times width of all pages, in millions."""
        return self.pixels / 1e6

    @property
    def row_bytes(self) -> int:
        """Bytes of the codes of a row, in the depth."""
        return self.width * (self.channels + self.extra) * _SIZES[self.depth]

    @property
    def decoded_bytes(self) -> int:
        """Bytes that the decoded `Image` takes: four per colour value, and alpha and extra channels as stored."""
        return sum(_decoded(page) for page in self.pages)


def measure(path: str | PathLike[str]) -> Header:
    """Read the header of a file; UnreadableImage as from `read`, as far as the header shows what is wrong."""
    with opened(path) as file:
        source = FileBytes(file)
        format = format_of(source)  # noqa: A001
        if format is None:
            raise unknown(source[:HEAD], str(path))
        with naming(str(path), format), collected():
            return _READERS[format](source)


def format_of_file(path: str | PathLike[str]) -> Format | None:
    """The format of a file by its content; None if it is not supported, or cannot be read."""
    try:
        with opened(path) as file:
            return format_of(FileBytes(file))
    except UnreadableImage:
        return None


def written_instead(path: str | PathLike[str], bit_depth: int | None = None) -> Format | None:
    """Return the format that replaces a photograph's own, if that is only read; None for other photographs.

    `bit_depth` is the depth that is asked for; None keeps the photograph's. If the header cannot be read, this is TIFF,
    which holds most; reading the file will name the fault.
    """
    format = format_of_file(path)  # noqa: A001
    if format is None or format in ALWAYS_KEPT:
        return None
    try:
        header = measure(path)
        written = (header if bit_depth is None else replace(header, depth=DEPTHS[bit_depth], bits=None)).written_as
    except SanarestoreError:
        return "tiff"
    return None if written == format else written


def memory_to_read(header: Header) -> int:
    """Estimate the peak bytes that reading the image takes, the bytes of its file and the result included."""
    kept, peak = 0, 0
    for page in header.pages:
        peak = max(peak, kept + _while_decoded(page))
        kept += _decoded(page)
    return header.file_size + peak + _FIXED


def _decoded(header: Header) -> int:
    """Bytes of one page after decoding."""
    has_alpha = header.channels in (2, 4)
    behind = (has_alpha + header.extra) * _SIZES[header.depth]
    return header.height * header.width * (4 * (header.channels - has_alpha) + behind)


def _while_decoded(header: Header) -> int:
    """Peak bytes while one page is decoded, the result included."""
    samples = header.height * header.width * (header.channels + header.extra)
    codes = samples * header.sample_bytes
    has_alpha = header.channels in (2, 4)
    split = codes if header.is_rearranged else 0
    if has_alpha and (header.depth != "float32" or header.extra):
        split += codes * (header.channels - 1) // (header.channels + header.extra)  # colours are separated
    # float32 is kept as it is decoded; everything else is converted.
    converted = 0 if header.depth == "float32" and header.sample_bytes == 4 and not has_alpha else _decoded(header)
    # JPEG and PNG files are decoded from a copy without metadata; progressive JPEG holds all coefficients too.
    decoding = header.file_size if header.format in ("png", "jpeg") else 0
    decoding += round(_DECODERS.get(header.format, 0) * samples * header.sample_bytes)
    decoding += 2 * samples if header.is_progressive else 0
    return codes + max(decoding, split + converted)


def memory_to_write(header: Header) -> int:
    """Estimate the peak bytes that writing such an image takes beside the image, if it does not compress."""
    return sum(_while_written(page) for page in header.pages) + _FIXED


def _while_written(header: Header) -> int:
    pixels = header.height * header.width
    format = header.written_as  # noqa: A001
    if format in _PER_PIXEL:
        fixed, per_channel = _PER_PIXEL[format]
        return pixels * (fixed + per_channel * min(header.channels, 4))
    codes = pixels * (header.channels + header.extra) * _SIZES[header.depth]
    if header.depth == "float32" and header.channels in (1, 3):
        return codes
    return round(codes * _WRITTEN[format])


_WRITTEN: Mapping[Format, float] = {"tiff": 3, "png": 3.2, "jpeg": 5}
"""Memory in units of the codes: these, copies of the file, and for JPEG those of Pillow."""
_DECODERS: Mapping[Format, float] = {"avif": 2, "heif": 4, "jxl": 8, "jp2": 8, "bmp": 2, "raw": 8}
"""Memory of the library that decodes, in units of the codes."""
_PER_PIXEL: Mapping[Format, tuple[int, int]] = {"webp": (46, 0), "avif": (17, 12), "jxl": (36, 14)}
"""Bytes per pixel that the encoder and Pillow take, and more for each channel, whatever the depth."""


def _tiff(source: Source) -> Header:
    first, *more = (_tiff_page(header, len(source)) for header in tiff.headers_of(source))
    return replace(first, more=tuple(more))


def _tiff_page(header: TiffHeader, size: int) -> Header:
    behind = len(header.kinds)
    sample_bytes = -(-header.bits[0] // 8)
    at_once = (
        header.rows_at_once
        if header.rows_at_once * header.width * header.samples * sample_bytes <= _MOST_AT_ONCE
        else 0
    )
    return Header(
        width=header.width, height=header.height, channels=header.colours + min(behind, 1), depth=header.stored,
        alpha_kind=next((kind for kind in header.kinds if kind != UNSPECIFIED), UNSPECIFIED),
        format="tiff", file_size=size, sample_bytes=sample_bytes, rows_at_once=at_once, extra=max(behind - 1, 0),
        is_rearranged=header.planar or header.photometric in (0, 5, 8, 9) or header.bits[0] not in (8, 16, 32),
    )  # fmt: skip


def _png(source: Source) -> Header:
    header = png.header_of(source)
    colours = 3 if header.colour in (2, 3, 6) else 1
    is_made = png.has_transparent_colour(source, header.colour)
    alpha = header.colour in (4, 6) or is_made
    is_streamed = not header.is_interlaced and header.bits >= 8 and header.colour != 3 and not is_made
    return Header(
        width=header.width, height=header.height, channels=colours + alpha,
        depth="uint16" if header.bits == 16 else "uint8", format="png", file_size=len(source),
        sample_bytes=max(header.bits // 8, 1), rows_at_once=int(is_streamed),
    )  # fmt: skip


def _jpeg(source: Source) -> Header:
    frame = jpeg.header_of(source)
    return Header(
        width=frame.width, height=frame.height, channels=min(len(frame.components), 3),
        depth="uint8" if frame.bits == 8 else "uint16", format="jpeg", file_size=len(source),
        sample_bytes=1 if frame.bits == 8 else 2, is_progressive=frame.progressive,
        is_rearranged=len(frame.components) == 4 or frame.bits > 8,
    )  # fmt: skip


def _webp(source: Source) -> Header:
    width, height, alpha = webp.header_of(source)
    return Header(
        width=width, height=height, channels=3 + alpha, depth="uint8", format="webp", file_size=len(source),
        sample_bytes=1,
    )  # fmt: skip


def _foreign(format: Format, read: Callable[[Source], Foreign]) -> Callable[[Source], Header]:  # noqa: A002
    """The reader of a format that is only read."""

    def header(source: Source) -> Header:
        found = read(source)
        check_size(found.height, found.width)
        return Header(
            width=found.width, height=found.height, channels=found.colours + found.has_alpha, depth=found.depth,
            format=format, file_size=len(source), sample_bytes=_SIZES[found.depth], extra=found.extra,
            has_cicp=found.has_cicp, has_profile=found.has_profile, bits=found.between,
            is_rearranged=True,
        )  # fmt: skip

    return header


_READERS: dict[Format, Callable[[Source], Header]] = {
    "tiff": _tiff, "png": _png, "jpeg": _jpeg, "webp": _webp, "bmp": _foreign("bmp", bmp.header_of),
    "jp2": _foreign("jp2", jp2.header_of), "avif": _foreign("avif", avif.header_of),
    "jxl": _foreign("jxl", jxl.header_of), "heif": _foreign("heif", heif.header_of),
    "raw": _foreign("raw", raw.header_of),
}  # fmt: skip


class FileBytes:
    """The bytes of a file, read as slices of them are taken."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.name = str(file.name)
        self._size = os.fstat(file.fileno()).st_size
        self._start, self._block = 0, b""

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(self._size)
        if not self._start <= start <= stop <= self._start + len(self._block):
            self._start = start
            self._file.seek(start)
            self._block = self._file.read(max(stop - start, _BLOCK)) or b""
        return self._block[start - self._start : stop - self._start]
