"""Metadata segments of JPEG files: read, and written after JFIF's."""

import struct
from collections.abc import Iterator

from sanarestore.errors import UnwritableImage
from sanarestore.images import exif, resources, xmp
from sanarestore.images.image import Metadata
from sanarestore.images.scans import Segment
from sanarestore.images.xml_tree import Name

_EXIF, _XMP, _EXTENDED = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_ICC, _PHOTOSHOP, _JFIF, _PICTURES = b"ICC_PROFILE\0", b"Photoshop 3.0\0", b"JFIF\0", b"MPF\0"
_MORE_JFIF = b"JFXX\0"
_APP0, _APP1, _APP2, _APP11, _APP13, _APP14, _APP15, _COMMENT = 0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xEE, 0xEF, 0xFE
_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
"""The identifier of gain maps (ISO 21496-1), as the main picture has it too."""
_OWN = {_APP0: (_JFIF,), _APP1: (_EXIF, _XMP, _EXTENDED), _APP2: (_ICC, _PICTURES, _GAIN_MAP), _APP13: (_PHOTOSHOP,)}
"""Segments that are read, or noted otherwise."""
_CREDENTIALS = b"JP"
"""How segments of JUMBF boxes begin, in which content credentials (C2PA) are."""
_STORAGE = ((0xEC, b"Ducky"), (_APP14, b"Adobe"))
"""Segments that tell how the pixels were stored."""
EXTENSION = Name("http://ns.adobe.com/xmp/note/", "HasExtendedXMP")
"""The property that holds the MD5 hash of the extended packet."""
ROOM = 65533
"""Most bytes that the body of one segment holds."""
MOST_XMP = ROOM - len(_XMP)
"""Most bytes of an XMP packet in one segment."""
_MOST_EXTENSION = 2**26
"""Most bytes of an extended packet that are put together."""


def metadata_of(segments: list[Segment]) -> Metadata:
    """The metadata in these segments."""

    def bodies(marker: int, mark: bytes) -> list[bytes]:
        return [body[len(mark) :] for number, body in segments if number == marker and body.startswith(mark)]

    block = next((body for body in bodies(_APP1, _EXIF) if exif.is_block(body)), None)
    profile = b"".join(part[2:] for part in sorted(bodies(_APP2, _ICC)))
    density = next((_density(body) for body in bodies(_APP0, _JFIF)), None)
    photoshop = b"".join(bodies(_APP13, _PHOTOSHOP))
    packet = next(iter(bodies(_APP1, _XMP)), None)
    return Metadata(
        icc=profile or None,
        exif=block,
        xmp=packet,
        xmp_extension=_extension(packet, bodies(_APP1, _EXTENDED)),
        iptc=resources.iptc_of(photoshop),
        photoshop=resources.without(photoshop, (resources.IPTC,)),
        comments=tuple(body for marker, body in segments if marker == _COMMENT and body),
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


def _extension(packet: bytes | None, parts: list[bytes]) -> bytes | None:
    """The extended packet put together; None if the packet does not point to it, or a part of it is missing.

    Each part begins with the MD5 hash of the whole, the size of the whole, and the offset of the part.
    """
    if not parts:
        return None
    hash_ = (xmp.value_of(packet, EXTENSION) or "").encode()
    pieces: dict[int, bytes] = {}
    total = 0
    for part in parts:
        if len(part) > 40 and part[:32] == hash_:
            total, at = struct.unpack_from(">LL", part, 32)
            pieces[at] = part[40:]
    whole = bytearray()
    while len(whole) < min(total, _MOST_EXTENSION) and len(whole) in pieces:
        whole += pieces[len(whole)]
    return bytes(whole) if len(whole) == total > 0 else None


def notes_on(segments: list[Segment]) -> list[str]:
    """Notes on those of these segments that are left out."""
    notes = []
    if any(marker == _APP2 and body.startswith((_PICTURES, _GAIN_MAP)) for marker, body in segments):
        notes.append("only the main picture is used; gain map or preview pictures are left out")
    jfif = next((body for marker, body in segments if marker == _APP0 and body.startswith(_JFIF)), b"")
    if any(jfif[12:14]) or any(marker == _APP0 and body.startswith(_MORE_JFIF) for marker, body in segments):
        notes.append("the JFIF thumbnail is left out, because it shows the photograph before restoring")
    if jfif[7:8] == b"\0" and jfif[8:10] != jfif[10:12]:
        notes.append("the aspect ratio of the pixels is left out")
    if any(marker == _APP11 and body.startswith(_CREDENTIALS) for marker, body in segments):
        notes.append("content credentials (C2PA) are left out, because they hold for the original bytes only")
    others = sorted({f"APP{marker - _APP0}" for marker, body in segments if _is_unknown(marker, body)})
    if others:
        notes.append(f"{' and '.join(others)} segments are left out, because their meaning is not known")
    return notes


def _is_unknown(marker: int, body: bytes) -> bool:
    if not _APP0 <= marker <= _APP15 or any(marker == each and body.startswith(mark) for each, mark in _STORAGE):
        return False
    if marker == _APP0 and body.startswith(_MORE_JFIF):
        return False
    if marker == _APP11 and body.startswith(_CREDENTIALS):
        return False
    return bool(body) and not body.startswith(_OWN.get(marker, ()))


def segments_with(metadata: Metadata) -> bytes:
    """The segments that hold the metadata; UnwritableImage if a block is too large for them."""
    segments = b""
    if metadata.exif:
        segments += _segment(_APP1, _EXIF + metadata.exif, "EXIF block")
    if metadata.xmp:
        segments += _segment(_APP1, _XMP + metadata.xmp, "XMP packet")
    if metadata.xmp and metadata.xmp_extension:
        segments += b"".join(_extended_segments(metadata.xmp, metadata.xmp_extension))
    if metadata.icc:
        size = ROOM - len(_ICC) - 2
        parts = [metadata.icc[start : start + size] for start in range(0, len(metadata.icc), size)]
        if len(parts) > 255:
            raise UnwritableImage("the ICC profile is too large for JPEG", next_step="Write TIFF or PNG.")
        for number, part in enumerate(parts, start=1):
            segments += _segment(_APP2, _ICC + bytes((number, len(parts))) + part, "ICC profile")
    if metadata.iptc:
        segments += b"".join(_photoshop_segments(resources.with_iptc(metadata.iptc, metadata.photoshop)))
    elif metadata.photoshop:
        segments += b"".join(_photoshop_segments(metadata.photoshop))
    for comment in metadata.comments:
        segments += _segment(_COMMENT, comment, "comment")
    return segments


def _extended_segments(packet: bytes, extension: bytes) -> Iterator[bytes]:
    hash_ = (xmp.value_of(packet, EXTENSION) or "").encode()
    head = _EXTENDED + hash_ + struct.pack(">L", len(extension))
    size = ROOM - len(head) - 4
    for at in range(0, len(extension), size):
        yield _segment(_APP1, head + struct.pack(">L", at) + extension[at : at + size], "extended XMP packet")


def _photoshop_segments(whole: bytes) -> Iterator[bytes]:
    """Segments of whole resources, as long as they fit; a larger one is continued in the next segment."""
    room = ROOM - len(_PHOTOSHOP)
    parts = [b""]
    for each in resources.split(whole):
        if parts[-1] and len(parts[-1]) + len(each.whole) > room:
            parts.append(b"")
        parts[-1] += each.whole
    for part in parts:
        for at in range(0, len(part), room):
            yield _segment(_APP13, _PHOTOSHOP + part[at : at + room], "Photoshop block")


def _segment(marker: int, body: bytes, what: str) -> bytes:
    if len(body) > ROOM:
        raise UnwritableImage(
            f"the {what} of {len(body)} bytes is larger than the {ROOM} that JPEG holds",
            next_step="Write TIFF or PNG.",
        )
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
