"""Pixels of JPEG files, decoded through libjpeg-turbo, and the checks that they are complete.

libjpeg decodes anything, fills what is missing with gray, and reports the first damage that it meets. What it does not
report is looked for here: missing scans, and runs of zeros that no encoder writes. A change after which the codes fall
into step again cannot be noticed, because JPEG has no checksum.
"""

import io
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from sanarestore.errors import UnreadableImage
from sanarestore.images.codes import Stored, rescale
from sanarestore.images.damage import BACKUP, cut, damaged, hopeless, limited
from sanarestore.images.ifd import Source
from sanarestore.images.image import check_size

_APP0, _ADOBE, _SCAN, _END, _COMMENT, _HUFFMAN = 0xE0, 0xEE, 0xDA, 0xD9, 0xFE, 0xC4
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_USUAL = frozenset((0xC0, 0xC1, 0xC2))
_LOSSLESS = frozenset((0xC3, 0xC7, 0xCB, 0xCF))
_JFIF = b"JFIF\0"
_PLAIN_JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
_ROOM = 65535
_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
"""A marker between coded bytes, where 0xFF is followed by 0 if it is data; restart markers belong to the data."""
_DAMAGE = ("Corrupt JPEG data", "Premature end", "Inconsistent progression", "Invalid SOS", "Unsupported marker")
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_MOST_SCANS = 100
"""Hostile files repeat scans, each of which takes as long as decoding the whole image; encoders write ten or so."""
_MOST_MARKERS = 100_000
_MOST_PIXELS_PER_BYTE = 520
"""A Huffman code has a bit or more, and stands for 64 pixels or fewer: 512 pixels a byte, and some rounding."""
_MOST_STRAY = 64
_HOLE = bytes(64)

Segment = tuple[int, bytes]
"""A marker, and the body after its length field."""

Spans = list[tuple[int, int, int]]
"""Markers with the bounds of their segments."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Properties of the picture in the header of a JPEG file."""

    marker: int
    height: int
    width: int
    components: bytes
    """Their identifiers."""
    bits: int = 8
    """8 or 12 a sample."""

    @property
    def progressive(self) -> bool:
        """Whether the picture comes in several passes."""
        return self.marker in _PROGRESSIVE

    @property
    def arithmetic(self) -> bool:
        """Whether it is coded arithmetically, in which flat areas take hardly any space."""
        return self.marker >= 0xC9


@dataclass(slots=True)
class _Scans:
    """The coded part of a file."""

    end: int = 0
    """Its end, after the end marker."""
    count: int = 0
    is_ended: bool = False
    """Whether there is an end marker."""
    components: set[int] = field(default_factory=set)
    """Components that have a scan."""
    hole: bool = False
    """Whether there is a run of zeros that no encoder writes."""


def decode_picture(data: bytes, accept_damaged: bool) -> tuple[Stored, list[str]]:
    """Decode to codes [H, W] or [H, W, S], with notes; DamagedImage if a part is missing and that is not accepted.

    S is 3 for RGB, and 4 for CMYK as it is stored, which Adobe's programs invert. 12 bits are scaled to 16.
    """
    import simplejpeg

    layout = list(limited(spans(data)))
    frame = frame_of((marker, data[start + 4 : end]) for marker, start, end in layout)
    scans = _scans(data, layout, frame)
    if scans.count > _MOST_SCANS:
        raise UnreadableImage(f"it has more than {_MOST_SCANS} scans", next_step=BACKUP)
    if not scans.count:
        raise hopeless("it is truncated: its pixels are missing")
    notes = [damaged(fact, accepted=accept_damaged) for fact in _missing(frame, scans)]
    picture = _picture(data, layout, frame, scans)
    if frame.bits == 12:
        return _of_12_bits(picture), [*notes, "12-bit values are converted to 16 bits"]
    colours = {1: "GRAY", 4: "CMYK"}.get(len(frame.components), "RGB")
    try:
        stored: Stored = simplejpeg.decode_jpeg(picture, colours, strict=True)
    except ValueError as error:
        message = str(error)
        if "subsampling" in message:  # kinds that TurboJPEG's interface has no name for, and libjpeg decodes
            return _by_pillow(picture), notes
        if not message.startswith(_DAMAGE):
            if frame.marker in _USUAL:
                raise hopeless(f"its pixels are damaged ({cut(message)})") from error
            raise
        stray = _stray(message, picture)
        if stray:
            notes.append(f"{stray} stray bytes at the end of the JPEG data are ignored")
        else:
            notes.append(damaged(_fact(message), accepted=accept_damaged))
        return simplejpeg.decode_jpeg(picture, colours, strict=False), notes
    if not scans.is_ended and not notes:
        notes.append("the end marker of the JPEG file is missing")
    return stored, notes


def frame_of(segments: Iterable[Segment]) -> Frame:
    """Find the frame header and check that the picture is of a kind that is read; UnreadableImage if not."""
    for marker, body in segments:
        if marker in _FRAMES:
            if len(body) < 6:
                break
            bits, height, width, channels = struct.unpack(">BHHB", body[:6])
            _check(marker, bits, height, width, channels)
            return Frame(marker, height, width, bytes(body[6::3][:channels]), bits)
    raise hopeless("it is truncated: the JPEG frame header is missing")


def spans(data: Source) -> Iterator[tuple[int, int, int]]:
    """Markers with the bounds of their segments, up to and including the first scan, which ends with the file.

    Bytes between segments, which some programs leave there, are ignored, as by libjpeg.
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


def _scans(data: bytes, layout: Spans, frame: Frame) -> _Scans:
    """Walk through the scans from the first one on, to the end marker."""
    scans, zeros = _Scans(len(data)), dict[int, int]()
    for marker, start, end in layout:
        if marker == _HUFFMAN:
            zeros.update(_zero_codes(data[start + 4 : end]))
    if layout[-1][0] != _SCAN:
        return scans
    at = layout[-1][1]
    for _ in range(_MOST_MARKERS):
        found = _MARKER.search(data, at)
        if found is None:
            break
        marker, at = data[found.end() - 1], found.end()
        if marker == _END:
            scans.end, scans.is_ended = at, True
            break
        body = data[at + 2 : at + struct.unpack_from(">H", data, at)[0]] if at + 2 <= len(data) else b""
        if marker == _SCAN and body:
            scans.count += 1
            scans.components.update(body[1 : 1 + 2 * body[0] : 2])
        elif marker == _HUFFMAN:
            zeros.update(_zero_codes(body))
        if marker in (_SCAN, _HUFFMAN, 0xDB, 0xDD, _COMMENT) or _APP0 <= marker <= 0xEF:
            at += len(body) + 2
        if marker == _SCAN and not _zeros_are_flat(body, zeros, frame):
            next_one = _MARKER.search(data, at)
            scans.hole |= data.find(_HOLE, at, next_one.start() if next_one else len(data)) >= 0
        if scans.count > _MOST_SCANS:
            break
    return scans


def _zero_codes(tables: bytes) -> Iterator[tuple[int, int]]:
    """For every Huffman table its class and number, and the symbol whose code has only zeros: the first one."""
    at = 0
    while at + 18 <= len(tables):
        yield tables[at], tables[at + 17]
        at += 17 + sum(tables[at + 1 : at + 17])


def _zeros_are_flat(header: bytes, zeros: dict[int, int], frame: Frame) -> bool:
    """Return whether a long run of zero bits may be a flat area, in a scan with this header.

    In many files it cannot: with the usual tables zeros stand for coefficients that all are -1. Then the run is a hole.
    """
    if frame.arithmetic or frame.marker in _LOSSLESS or len(header) < 4:
        return True
    tables = header[2 : 2 + 2 * header[0] : 2]
    first, refined = header[-3] if len(header) >= 3 else 0, header[-1] >> 4
    if frame.progressive and first == 0:
        return refined > 0 or all(zeros.get(each >> 4, 0) == 0 for each in tables)
    ac = [zeros.get(0x10 | each & 15, 0) for each in tables]
    if frame.progressive:
        return all(symbol & 15 == 0 and symbol != 0xF0 for symbol in ac)
    return all(symbol == 0 for symbol in ac) and all(zeros.get(each >> 4, 0) == 0 for each in tables)


def _missing(frame: Frame, scans: _Scans) -> Iterator[str]:
    """Yield what is wrong with the scans and causes no warning of libjpeg."""
    if not frame.arithmetic and frame.height * frame.width > _MOST_PIXELS_PER_BYTE * scans.end:
        yield f"it is truncated: {scans.end} bytes cannot hold {frame.width} x {frame.height} pixels"
    elif not scans.is_ended and frame.bits > 8:  # its decoder reports nothing
        yield "it is truncated: the end of the JPEG file is missing"
    elif not scans.is_ended and (frame.progressive or scans.count > 1):
        yield "it is truncated: its later scans are missing"
    elif not set(frame.components) <= scans.components:
        yield "the pixels of a colour channel are missing"
    elif scans.hole:
        yield "there is a hole of zeros in its pixels"


def _fact(message: str) -> str:
    """Put libjpeg's message into words for users."""
    if "remature end" in message:
        return "it is truncated, or a part of its pixels is damaged"
    return f"a part of its pixels is damaged ({cut(message)})"


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


def _of_12_bits(picture: bytes) -> Stored:
    """Decode 12 bits, scaled to 16."""
    import imagecodecs

    return rescale(imagecodecs.jpeg8_decode(picture), 12)


def _by_pillow(picture: bytes) -> Stored:
    """Decode with Pillow, which reports no damage except a missing end."""
    from PIL import JpegImagePlugin

    # Not Image.open: it warns at 89 megapixels and refuses at twice that; `check_size` is our guard.
    try:
        with JpegImagePlugin.JpegImageFile(io.BytesIO(picture)) as file:
            file.load()
            if file.mode == "CMYK":  # which Pillow inverts
                return 255 - np.asarray(file)
            return np.asarray(file if file.mode in ("L", "RGB") else file.convert("RGB"))
    except OSError as error:
        raise hopeless(f"its pixels cannot be decoded ({cut(error)})") from error


def _picture(data: bytes, layout: Spans, frame: Frame, scans: _Scans) -> bytes:
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
            transform = min(data[start + 15], 1) * (2 if len(frame.components) == 4 else 1)
            parts += [view[start : start + 15], bytes((transform,)), view[start + 16 : end]]
        elif not _APP0 <= marker <= 0xEF and marker != _COMMENT:
            parts += [view[start:end]]
    return b"".join(parts if scans.is_ended else [*parts, b"\xff\xd9"])


def _scan_header(header: bytes, frame: Frame) -> bytes:
    """The header of the first scan; in sequential files its spectral range is fixed, and some programs get it wrong."""
    return header if frame.progressive or frame.marker in _LOSSLESS else header[:-3] + b"\0\x3f\0"


def _check(marker: int, bits: int, height: int, width: int, channels: int) -> None:
    check_size(height, width)
    if bits != 8 and (bits != 12 or channels not in (1, 3) or marker not in _USUAL):
        raise UnreadableImage(f"it is a {bits}-bit JPEG", next_step="Convert it to 16-bit TIFF or PNG first.")
    if channels not in (1, 3, 4):
        raise UnreadableImage(f"it has {channels} channels", next_step="Export it as RGB or gray.")
