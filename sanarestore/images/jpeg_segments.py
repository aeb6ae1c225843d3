"""Metadata segments of JPEG files: read, and written after JFIF's."""

import struct

from sanarestore.errors import UnwritableImage
from sanarestore.images import exif, resources
from sanarestore.images.image import Metadata
from sanarestore.images.scans import Segment

_EXIF, _XMP, _EXTENDED = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_ICC, _PHOTOSHOP, _JFIF, _PICTURES = b"ICC_PROFILE\0", b"Photoshop 3.0\0", b"JFIF\0", b"MPF\0"
_APP0, _APP1, _APP2, _APP13 = 0xE0, 0xE1, 0xE2, 0xED
ROOM = 65533
"""Most bytes that the body of one segment holds."""


def metadata_of(segments: list[Segment]) -> Metadata:
    """The metadata in these segments."""

    def bodies(marker: int, mark: bytes) -> list[bytes]:
        return [body[len(mark) :] for number, body in segments if number == marker and body.startswith(mark)]

    block = next((body for body in bodies(_APP1, _EXIF) if exif.is_block(body)), None)
    profile = b"".join(part[2:] for part in sorted(bodies(_APP2, _ICC)))
    density = next((_density(body) for body in bodies(_APP0, _JFIF)), None)
    return Metadata(
        icc=profile or None,
        exif=block,
        xmp=next(iter(bodies(_APP1, _XMP)), None),
        iptc=resources.iptc_of(b"".join(bodies(_APP13, _PHOTOSHOP))),
        dpi=density or exif.dpi_of_block(block),
    )


def _density(jfif: bytes) -> tuple[float, float] | None:
    """Pixels per inch from the body of a JFIF segment, after its identifier; None if it gives only an aspect ratio."""
    if len(jfif) < 7:
        return None
    unit, x, y = struct.unpack(">BHH", jfif[2:7])
    if unit not in (1, 2) or not x or not y:
        return None
    scale = 2.54 if unit == 2 else 1.0
    return round(x * scale, 2), round(y * scale, 2)


def notes_on(segments: list[Segment]) -> list[str]:
    """What of these segments is left out."""
    notes = []
    if any(body.startswith(_EXTENDED) for _, body in segments):
        notes.append("the extended part of the XMP packet is left out")
    if any(marker == _APP2 and body.startswith(_PICTURES) for marker, body in segments):
        notes.append("only the main picture is used; gain map or preview pictures are left out")
    return notes


def segments_with(metadata: Metadata) -> bytes:
    """The segments that hold the metadata; UnwritableImage if a block is too large for them."""
    segments = b""
    if metadata.exif:
        segments += _segment(_APP1, _EXIF + metadata.exif, "EXIF block")
    if metadata.xmp:
        segments += _segment(_APP1, _XMP + metadata.xmp, "XMP packet")
    if metadata.icc:
        size = ROOM - len(_ICC) - 2
        parts = [metadata.icc[start : start + size] for start in range(0, len(metadata.icc), size)]
        if len(parts) > 255:
            raise UnwritableImage("the ICC profile is too large for JPEG", next_step="Write TIFF or PNG.")
        for number, part in enumerate(parts, start=1):
            segments += _segment(_APP2, _ICC + bytes((number, len(parts))) + part, "ICC profile")
    if metadata.iptc:
        segments += _segment(_APP13, _PHOTOSHOP + resources.with_iptc(metadata.iptc), "IPTC block")
    return segments


def _segment(marker: int, body: bytes, what: str) -> bytes:
    if len(body) > ROOM:
        raise UnwritableImage(
            f"the {what} of {len(body)} bytes is larger than the {ROOM} that JPEG holds",
            next_step="Write TIFF or PNG.",
        )
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
