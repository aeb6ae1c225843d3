"""What the formats that are only read have in common: a header, codes scaled to 8 or 16 bits, pixels turned upright."""

import zlib
from dataclasses import dataclass, replace

import numpy as np

from sanarestore.images import colour, exif, ifd
from sanarestore.images.codes import Depth, Stored, rescale
from sanarestore.images.damage import hopeless
from sanarestore.images.image import Metadata

_ORIENTATION = 274
_SRGB = (1, 13)
_UNSPECIFIED = 2
"""The code point for colours that are not described."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Foreign:
    """Properties that the header of such a file gives, of the image as it is decoded."""

    width: int
    height: int
    colours: int
    """1 or 3."""
    has_alpha: bool = False
    bits: int = 8
    """Bits of a sample as the file says."""
    extra: int = 0
    """Channels beyond colours and alpha."""
    is_float: bool = False
    has_cicp: bool = False
    """Whether only code points describe the colours, and they differ from sRGB's."""
    has_profile: bool = False
    """For JPEG XL: whether its colours are not sRGB."""

    @property
    def channels(self) -> int:
        """Number of channels of all kinds."""
        return self.colours + self.has_alpha + self.extra

    @property
    def between(self) -> int | None:
        """Bits of a sample where these are more than 8 and fewer than 16; None otherwise."""
        return self.bits if 8 < self.bits < 16 and not self.is_float else None

    @property
    def depth(self) -> Depth:
        """The depth in which the image is held."""
        if self.is_float:
            return "float32"
        return "uint8" if self.bits <= 8 else "uint16"


def scaled(stored: Stored, bits: int) -> tuple[Stored, tuple[str, ...]]:
    """Codes of 1 to 16 bits scaled to 8 or 16 bits and rounded to nearest, with a note if that changes them."""
    wanted = 8 if bits <= 8 else 16
    notes = () if bits == wanted else (f"{bits}-bit values are converted to {wanted} bits",)
    return rescale(stored, bits), notes


def check_shape(stored: Stored, header: Foreign) -> None:
    """Raise DamagedImage if decoded codes are others than the header says."""
    channels = stored.shape[2] if stored.ndim == 3 else 1
    if (*stored.shape[:2], channels) != (header.height, header.width, header.channels):
        raise hopeless("its pixels are others than its header says")


def turned(stored: Stored, quarters: int, mirror: int | None) -> Stored:
    """Codes turned anticlockwise by quarter turns, and then mirrored: 0 swaps top and bottom, 1 left and right."""
    result: Stored = np.rot90(stored, quarters)
    if mirror is not None:
        result = result[::-1] if mirror == 0 else result[:, ::-1]
    return np.ascontiguousarray(result)


def upright(block: bytes | None) -> bytes | None:
    """An EXIF block that says that the pixels are upright; only its orientation is changed, in place."""
    if block is None:
        return None
    layout, directory = exif.parse(block)
    if _ORIENTATION not in directory or ifd.read_header(block) is None:
        return block
    _, offset = ifd.read_header(block) or (layout, 0)
    number = layout.count.unpack_from(block, offset)[0]
    for index in range(number):
        at = offset + layout.count.size + index * layout.entry.size
        if at + layout.entry.size > len(block):
            break
        tag, kind, count, _ = layout.entry.unpack_from(block, at)
        if (tag, kind, count) == (_ORIENTATION, ifd.SHORT, 1):
            value = at + layout.entry.size - layout.offset.size
            one = (1).to_bytes(2, "little" if layout.order == "<" else "big")
            return block[:value] + one + block[value + 2 :]
    return block


def exif_of(block: bytes) -> bytes | None:
    """The EXIF block in a body that begins with its offset, as boxes have it; None if it is none."""
    if len(block) < 8:
        return None
    start = 4 + int.from_bytes(block[:4], "big")
    for each in (block[start:], block[4:].removeprefix(b"Exif\0\0")):
        if exif.is_block(each):
            return each
    return None


def needs_code_points(points: tuple[int, int], *, is_gray: bool) -> bool:
    """Return whether code points (ITU-T H.273) describe colours that differ from sRGB and are not converted to a
    profile."""
    is_described = points != _SRGB and _UNSPECIFIED not in points
    return is_described and (is_gray or not colour.has_profile(*points))


def code_points_of(metadata: Metadata) -> tuple[int, int] | None:
    """The code points that `with_colours` has put into metadata, or a PNG file has; None if a profile says more."""
    chunks = metadata.png_colour or b""
    at = chunks.find(b"cICP")
    if metadata.icc is not None or at < 4 or chunks[at + 6 : at + 8] != b"\0\1":
        return None
    return chunks[at + 4], chunks[at + 5]


def with_colours(metadata: Metadata, points: tuple[int, int], *, is_gray: bool) -> Metadata:
    """Metadata with a profile made of code points, or with these as PNG's cICP chunk (for RGB of full range).

    The file's own profile is kept; sRGB and colours that are not described get nothing.
    """
    if metadata.icc or points == _SRGB or _UNSPECIFIED in points:
        return metadata
    if not needs_code_points(points, is_gray=is_gray):
        return replace(metadata, icc=colour.rgb_profile(*points))
    body = b"cICP" + bytes((*points, 0, 1))
    return replace(metadata, png_colour=b"\0\0\0\4" + body + zlib.crc32(body).to_bytes(4, "big"))
