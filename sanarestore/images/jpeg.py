"""JPEG: pixels through libjpeg-turbo, whose strict mode tells of damage; metadata through our own code for segments.

Measured on 24 photographs, each with 40 holes at random places: see `tests/images/test_damage.py`.
"""

import io
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from sanarestore.errors import UnreadableImage, UnwritableImage
from sanarestore.images import exif, resources
from sanarestore.images.codes import Stored
from sanarestore.images.damage import BACKUP, cut, damaged, hopeless
from sanarestore.images.ifd import Source
from sanarestore.images.image import Image, Metadata, check_size, from_stored, to_stored

QUALITY = 95
"""JPEG quality, without chroma subsampling: the loss is smaller than what restoring gains."""

_EXIF, _XMP, _EXTENDED = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_ICC, _PHOTOSHOP, _JFIF, _PICTURES = b"ICC_PROFILE\0", b"Photoshop 3.0\0", b"JFIF\0", b"MPF\0"
_APP0, _APP1, _APP2, _APP13, _ADOBE, _SCAN = 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xDA
_END, _COMMENT = 0xD9, 0xFE
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ROOM = 65533
"""Most bytes that the body of one segment holds."""
_LARGEST = 65500
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
"""A marker between coded bytes, where 0xFF is followed by 0 if it is data; restart markers belong to the data."""
_DAMAGE = ("Corrupt JPEG data", "Premature end", "Inconsistent progression", "Invalid SOS", "Unsupported marker")
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_PLAIN_JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
_MOST_SCANS = 100
"""Hostile files repeat scans, each of which takes as long as decoding the whole image; encoders write ten or so."""
_MOST_MARKERS = 1_000_000
_MOST_PIXELS_PER_BYTE = 520
"""A Huffman code has a bit or more, and stands for 64 pixels or fewer: 512 pixels a byte, and some rounding."""
_MOST_STRAY = 64

Segment = tuple[int, bytes]
"""A marker, and the body after its length field."""


def decode(data: bytes, *, accept_damaged: bool = False) -> Image:
    """Decode a JPEG file of 8-bit gray or RGB; UnreadableImage for other kinds.

    DamagedImage if it is truncated or a part of it cannot be decoded, unless that is accepted: then a note says so.
    """
    layout = list(_spans(data))
    segments = [(marker, bytes(data[start + 4 : end])) for marker, start, end in layout]
    frame = frame_of(segments)
    scans = _scans(data, layout[-1][1], frame) if layout[-1][0] == _SCAN else _Scans(0, 0, False, frozenset())
    notes = _check_scans(frame, scans, accept_damaged)
    stored, more = _codes(_picture(data, layout, frame, scans), frame, accept_damaged)
    notes += more
    if any(body.startswith(_EXTENDED) for _, body in segments):
        notes.append("the extended part of the XMP packet is left out")
    if any(marker == _APP2 and body.startswith(_PICTURES) for marker, body in segments):
        notes.append("only the main picture is used; gain map or preview pictures are left out")
    return from_stored(stored, format="jpeg", metadata=_metadata(segments), notes=tuple(notes))


@dataclass(frozen=True, slots=True)
class Frame:
    """What the header of a JPEG file says of its picture."""

    marker: int
    height: int
    width: int
    components: bytes
    """Their identifiers."""

    @property
    def progressive(self) -> bool:
        """Whether the picture comes in several passes."""
        return self.marker in _PROGRESSIVE

    @property
    def arithmetic(self) -> bool:
        """Whether it is coded arithmetically, in which flat areas take hardly any space."""
        return self.marker >= 0xC9


@dataclass(frozen=True, slots=True)
class _Scans:
    """The coded part of a file."""

    end: int
    """Where it ends, after the end marker."""
    count: int
    is_ended: bool
    """Whether there is an end marker."""
    components: frozenset[int]
    """Components that have a scan."""


def frame_of(segments: Iterable[Segment]) -> Frame:
    """Find the frame header and check that the picture is of a kind that is read; UnreadableImage if not."""
    for marker, body in segments:
        if marker in _FRAMES:
            if len(body) < 6:
                break
            bits, height, width, channels = struct.unpack(">BHHB", body[:6])
            _check(bits, height, width, channels)
            return Frame(marker, height, width, bytes(body[6::3][:channels]))
    raise hopeless("it is truncated: the JPEG frame header is missing")


def segments_of(data: Source) -> Iterator[Segment]:
    """Markers and bodies up to and including the first scan, of which only the header is given."""
    for marker, start, end in _spans(data):
        yield marker, bytes(data[start + 4 : min(end, start + 2 + _ROOM)])


def _spans(data: Source) -> Iterator[tuple[int, int, int]]:
    """Markers with the bounds of their segments, up to and including the first scan, which ends with the file.

    Bytes between segments, which some programs leave there, are passed over as libjpeg does.
    """
    at = 2
    while at + 4 <= len(data):
        head = bytes(data[at : at + 4])
        marker = head[1]
        if head[0] != 0xFF or marker in (0x00, 0xFF) or 0xD0 <= marker <= 0xD8 or marker == 0x01:
            skipped = bytes(data[at + 1 : at + 1 + _ROOM]).find(b"\xff")
            at += _ROOM if skipped < 0 else 1 + skipped
            continue
        if marker == _END:
            return
        if marker == _SCAN:
            yield marker, at, len(data)
            return
        end = at + 2 + max(struct.unpack_from(">H", head, 2)[0], 2)
        yield marker, at, end
        at = end


def _scans(data: bytes, start: int, frame: Frame) -> _Scans:
    """Walk through the scans from the first one on, to the end marker."""
    at, count, components = start, 0, set[int]()
    for _ in range(_MOST_MARKERS):
        found = _MARKER.search(data, at)
        if found is None:
            break
        marker, at = data[found.end() - 1], found.end()
        if marker == _END:
            return _Scans(at, count, True, frozenset(components))
        if marker == _SCAN and at + 3 <= len(data):
            count += 1
            number = data[at + 2]
            components.update(data[at + 3 : at + 3 + 2 * number : 2])
        if marker in (_SCAN, 0xC4, 0xDB, 0xDD, _COMMENT) or _APP0 <= marker <= 0xEF:
            at += struct.unpack_from(">H", data, at)[0] if at + 2 <= len(data) else 0
    return _Scans(len(data), count, False, frozenset(components))


def _check_scans(frame: Frame, scans: _Scans, accept_damaged: bool) -> list[str]:
    """Notes on what is missing; DamagedImage for what libjpeg would fill with gray without a word."""
    coded = scans.end
    if scans.count > _MOST_SCANS:
        raise UnreadableImage(f"it has {scans.count} scans, and {_MOST_SCANS} are read", next_step=BACKUP)
    if not scans.count:
        raise hopeless("it is truncated: its pixels are missing")
    if not frame.arithmetic and frame.height * frame.width > _MOST_PIXELS_PER_BYTE * coded:
        fact = f"it is truncated: {coded} bytes cannot hold {frame.width} x {frame.height} pixels"
        return [damaged(fact, accepted=accept_damaged)]
    if not scans.is_ended and (frame.progressive or scans.count > 1):
        return [damaged("it is truncated: its later scans are missing", accepted=accept_damaged)]
    if not set(frame.components) <= scans.components:
        return [damaged("the pixels of a colour channel are missing", accepted=accept_damaged)]
    return [] if scans.is_ended else ["the end marker of the JPEG file is missing"]


def _codes(picture: bytes, frame: Frame, accept_damaged: bool) -> tuple[Stored, list[str]]:
    """Codes [H, W] or [H, W, 3], and notes on damage. libjpeg reports the first damage that it meets."""
    import simplejpeg

    colours = "GRAY" if len(frame.components) == 1 else "RGB"
    try:
        stored: Stored = simplejpeg.decode_jpeg(picture, colours, strict=True)
        return stored, []
    except ValueError as error:
        message = str(error)
    if "subsampling" in message:  # kinds that TurboJPEG's interface has no name for, and libjpeg decodes
        return _by_pillow(picture, accept_damaged), []
    if not message.startswith(_DAMAGE):
        raise ValueError(message)
    stray = _stray(message, picture)
    if stray:
        notes = [f"{stray} stray bytes at the end of the JPEG data are passed over"]
    elif "remature end" in message:
        notes = [damaged("it is truncated: a part of its pixels is missing", accepted=accept_damaged)]
    else:
        notes = [damaged(f"a part of its pixels is damaged ({cut(message)})", accepted=accept_damaged)]
    return simplejpeg.decode_jpeg(picture, colours, strict=False), notes


def _stray(message: str, picture: bytes) -> int:
    """Number of harmless bytes between the pixels and the end marker; 0 if the message is about something else.

    Some programs fill up a file with equal bytes there. A hole in the pixels also leaves bytes over, but then the
    equal bytes, if there are any, are more than those left over.
    """
    found = _EXTRANEOUS.search(message)
    if not found:
        return 0
    count, body = int(found[1]), picture[:-2]
    fill = len(body) - len(body.rstrip(body[-1:]))
    is_fill = body[-1:] in (b"\0", b"\xff") and count <= fill <= count + 8 and fill <= _MOST_STRAY
    return fill if is_fill else 0


def _by_pillow(picture: bytes, accept_damaged: bool) -> Stored:
    """Codes as Pillow decodes them, without word of damage other than a missing end."""
    from PIL import JpegImagePlugin

    # Not Image.open: it warns at 89 megapixels and refuses at twice that; `check_size` is our guard.
    try:
        with JpegImagePlugin.JpegImageFile(io.BytesIO(picture)) as file:
            file.load()
            return np.asarray(file if file.mode in ("L", "RGB") else file.convert("RGB"))
    except OSError as error:
        raise hopeless(f"its pixels cannot be decoded ({cut(error)})") from error


def _picture(data: bytes, layout: list[tuple[int, int, int]], frame: Frame, scans: _Scans) -> bytes:
    """The file without what is not needed for the pixels and would cause warnings, and with an end marker.

    Kept are tables, the frame, all scans, and what decides the colours: Adobe's segment and JFIF's, put in order.
    """
    view = memoryview(data)
    parts: list[bytes | memoryview] = [b"\xff\xd8"]
    for marker, start, end in layout:
        if marker == _SCAN:
            parts += [_scan_header(data[start : start + 4 + data[start + 4] * 2 + 4], frame)]
            parts += [view[start + 4 + data[start + 4] * 2 + 4 : scans.end]]
        elif marker == _APP0 and data[start + 4 : start + 9] == _JFIF and end - start >= 16:
            parts += [_PLAIN_JFIF]
        elif marker == _ADOBE and data[start + 4 : start + 9] == b"Adobe" and end - start >= 16:
            parts += [view[start : start + 15], bytes((min(data[start + 15], 1),)), view[start + 16 : end]]
        elif not _APP0 <= marker <= 0xEF and marker != _COMMENT:
            parts += [view[start:end]]
    return b"".join(parts if scans.is_ended else [*parts, b"\xff\xd9"])


def _scan_header(header: bytes, frame: Frame) -> bytes:
    """The header of the first scan; in sequential files its spectral range is fixed, and some programs get it wrong."""
    return header if frame.progressive or frame.marker == 0xC3 else header[:-3] + b"\0\x3f\0"


def _check(bits: int, height: int, width: int, channels: int) -> None:
    check_size(height, width)
    if bits != 8:
        raise UnreadableImage(f"it is a {bits}-bit JPEG", next_step="Convert it to 16-bit TIFF or PNG first.")
    if channels == 4:
        raise UnreadableImage(
            "its colours are CMYK", next_step="Convert it to RGB first; sanarestore does not convert it yet."
        )
    if channels not in (1, 3):
        raise UnreadableImage(f"it has {channels} channels", next_step="Export it as RGB or gray.")


def _metadata(segments: list[Segment]) -> Metadata:
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


def encode(image: Image) -> bytes:
    """Encode a JPEG file of quality 95 without chroma subsampling; UnwritableImage if JPEG cannot hold the image."""
    from PIL import Image as PillowImage

    check_writable(image)
    stored_HWS = to_stored(image)
    buffer = io.BytesIO()
    picture = PillowImage.fromarray(stored_HWS if stored_HWS.shape[2] == 3 else stored_HWS[..., 0])
    dpi = tuple(min(65535, max(1, round(value))) for value in image.metadata.dpi) if image.metadata.dpi else (0, 0)
    picture.save(buffer, "JPEG", quality=QUALITY, subsampling=0, dpi=dpi)
    plain = buffer.getvalue()
    first = 4 + struct.unpack_from(">H", plain, 4)[0]  # after SOI and JFIF
    return plain[:first] + _metadata_segments(image.metadata) + plain[first:]


def check_writable(image: Image) -> None:
    """Raise UnwritableImage if JPEG cannot hold the image's pixels."""
    if image.depth != "uint8":
        raise UnwritableImage(
            f"JPEG holds 8 bits, and this image has {image.depth} values", next_step="Write TIFF, or choose 8 bit."
        )
    if image.alpha_HW is not None:
        raise UnwritableImage("JPEG cannot hold an alpha channel", next_step="Write PNG, TIFF or WebP.")
    if max(image.height, image.width) > _LARGEST:
        raise UnwritableImage(f"JPEG ends at {_LARGEST} pixels a side", next_step="Write TIFF or PNG.")


def _metadata_segments(metadata: Metadata) -> bytes:
    segments = b""
    if metadata.exif:
        segments += _segment(_APP1, _EXIF + metadata.exif, "EXIF block")
    if metadata.xmp:
        segments += _segment(_APP1, _XMP + metadata.xmp, "XMP packet")
    if metadata.icc:
        size = _ROOM - len(_ICC) - 2
        parts = [metadata.icc[start : start + size] for start in range(0, len(metadata.icc), size)]
        if len(parts) > 255:
            raise UnwritableImage("the ICC profile is too large for JPEG", next_step="Write TIFF or PNG.")
        for number, part in enumerate(parts, start=1):
            segments += _segment(_APP2, _ICC + bytes((number, len(parts))) + part, "ICC profile")
    if metadata.iptc:
        segments += _segment(_APP13, _PHOTOSHOP + resources.with_iptc(metadata.iptc), "IPTC block")
    return segments


def _segment(marker: int, body: bytes, what: str) -> bytes:
    if len(body) > _ROOM:
        raise UnwritableImage(
            f"the {what} of {len(body)} bytes is larger than the {_ROOM} that JPEG holds",
            next_step="Write TIFF or PNG.",
        )
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
