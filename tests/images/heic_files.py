"""Small HEIC files, made without an encoder: every block of the HEVC picture is stored as it is (I_PCM).

Section numbers are those of ITU-T H.265. The picture is 4:4:4 with the identity matrix, so that RGB is stored exactly.
"""

import struct
from typing import Any

import numpy as np

from tests.images.foreign_files import box

_BLOCK = 16
_LPS = (240, 227, 216, 205, 195, 185, 175, 166, 158, 150, 142, 135, 128, 122, 116, 110, 104, 99, 94, 89, 85, 80, 76, 72)
"""Column 3 of table 9-52, for the first states: the only ones that are met, once in a block."""


class Bits:
    """Bits written one after the other."""

    def __init__(self) -> None:
        self.text: list[str] = []

    def put(self, value: int, count: int) -> None:
        self.text.append(f"{value:0{count}b}" if count else "")

    def ue(self, *values: int) -> None:
        """Exp-Golomb codes (section 9.2)."""
        for value in values:
            size = (value + 1).bit_length()
            self.put(0, size - 1)
            self.put(value + 1, size)

    def align(self) -> None:
        self.put(0, -sum(map(len, self.text)) % 8)

    def nal(self, kind: int) -> bytes:
        """A NAL unit of these bits, which end with a stop bit; with bytes that prevent start codes (section 7.4.2)."""
        self.align()
        text = "".join(self.text)
        found, zeros = bytearray(), 0
        for byte in int(text, 2).to_bytes(len(text) // 8, "big"):
            if zeros == 2 and byte <= 3:
                found.append(3)
                zeros = 0
            found.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return bytes((kind << 1, 1)) + bytes(found)


class Arithmetic:
    """The arithmetic encoder (section 9.3.5), for bins of the more probable kind and for those that terminate."""

    def __init__(self, bits: Bits) -> None:
        self.bits, self.low, self.range, self.first, self.outstanding = bits, 0, 510, True, 0

    def probable(self, state: int) -> None:
        self.range -= _LPS[state]
        self._renormalise()

    def terminate(self, value: int) -> None:
        self.range -= 2
        if value:
            self.low += self.range
            self.range = 2
            self._renormalise()
            self._put(self.low >> 9 & 1)
            self.bits.put(self.low >> 7 & 3 | 1, 2)
        else:
            self._renormalise()

    def _renormalise(self) -> None:
        while self.range < 256:
            if self.low < 256:
                self._put(0)
            elif self.low >= 512:
                self.low -= 512
                self._put(1)
            else:
                self.low -= 256
                self.outstanding += 1
            self.range <<= 1
            self.low <<= 1

    def _put(self, bit: int) -> None:
        if self.first:
            self.first = False
        else:
            self.bits.put(bit, 1)
        for _ in range(self.outstanding):
            self.bits.put(1 - bit, 1)
        self.outstanding = 0


def _profile(bits: Bits) -> None:
    """Range extensions, level 3.1 (section 7.3.3)."""
    bits.put(4, 8)
    bits.put(1 << 27, 32)
    bits.put(0b1001, 4)
    bits.put(0, 44)
    bits.put(93, 8)


def _parameters(width: int, height: int, depth: int) -> list[tuple[int, bytes]]:
    """The parameter sets of video, sequence and picture, with their types (sections 7.3.2.1 to 7.3.2.3)."""
    video = Bits()
    for value, count in ((0, 4), (3, 2), (0, 6), (0, 3), (1, 1), (0xFFFF, 16)):
        video.put(value, count)
    _profile(video)
    video.put(1, 1)
    video.ue(0, 0, 0)
    video.put(0, 6)
    video.ue(0)
    video.put(0b001, 3)

    sequence = Bits()
    sequence.put(0b00000001, 8)
    _profile(sequence)
    sequence.ue(0, 3)
    sequence.put(0, 1)
    sequence.ue(width, height)
    sequence.put(0, 1)
    sequence.ue(depth - 8, depth - 8, 0)
    sequence.put(1, 1)
    sequence.ue(0, 0, 0, 1, 0, 0, 2, 0, 0)
    sequence.put(0b0001, 4)
    sequence.put(depth - 1, 4)
    sequence.put(depth - 1, 4)
    sequence.ue(1, 0)
    sequence.put(1, 1)
    sequence.ue(0)
    sequence.put(0b000001, 6)

    picture = Bits()
    picture.ue(0, 0)
    picture.put(0, 7)
    picture.ue(0, 0, 0)
    picture.put(0, 3)
    picture.ue(0, 0)
    picture.put(0b0000000, 7)
    picture.put(0b101, 3)
    picture.put(0b00, 2)
    picture.ue(0)
    picture.put(0b001, 3)
    return [(32, video.nal(32)), (33, sequence.nal(33)), (34, picture.nal(34))]


def _slice(planes: np.ndarray[Any, Any], depth: int) -> bytes:
    """The only slice, of a picture [3, H, W] (sections 7.3.6 and 7.3.8)."""
    bits = Bits()
    bits.put(0b10, 2)
    bits.ue(0, 2)
    bits.ue(0)
    bits.put(1, 1)
    bits.align()
    _, height, width = planes.shape
    places = [(top, left) for top in range(0, height, _BLOCK) for left in range(0, width, _BLOCK)]
    coder = Arithmetic(bits)
    for state, (top, left) in enumerate(places):
        coder.probable(state)  # the block is not parted
        coder.terminate(1)  # it is stored
        bits.align()
        block = planes[:, top : top + _BLOCK, left : left + _BLOCK]
        bits.text.append("".join(f"{value:0{depth}b}" for value in block.ravel().tolist()))
        coder = Arithmetic(bits)
        coder.terminate(int((top, left) == places[-1]))  # the slice ends
    return bits.nal(19)


def heic(
    stored: np.ndarray[Any, Any], depth: int = 8, *, turn: int | None = None, exif: bytes = b"", xmp: bytes = b"",
    icc: bytes = b"", points: tuple[int, int] = (1, 13),
) -> bytes:  # fmt: skip
    """Make a file of RGB codes [H, W, 3] whose sides are multiples of 16, at most 24 blocks in all."""
    height, width, _ = stored.shape
    planes = np.moveaxis(stored[..., [1, 2, 0]], 2, 0)
    sets = _parameters(width, height, depth)
    head = bytes((1, 4)) + struct.pack(">LHL", 1 << 27, 0x9000, 0) + bytes((93,))
    head += bytes((0xF0, 0, 0xFC, 0xFF, 0xF8 | depth - 8, 0xF8 | depth - 8, 0, 0, 0x0F, len(sets)))
    head += b"".join(bytes((0x80 | kind,)) + struct.pack(">HH", 1, len(nal)) + nal for kind, nal in sets)
    properties = [
        box(b"ispe", struct.pack(">LLL", 0, width, height)), box(b"hvcC", head),
        box(b"pixi", bytes((0, 0, 0, 0, 3, depth, depth, depth))),
        box(b"colr", b"nclx" + struct.pack(">HHHB", *points, 0, 0x80)),
    ]  # fmt: skip
    if icc:
        properties.append(box(b"colr", b"prof" + icc))
    if turn is not None:
        properties.append(box(b"irot", bytes((turn,))))
    nal = _slice(planes, depth)
    items = [(b"hvc1", b"", struct.pack(">L", len(nal)) + nal)]
    if exif:
        items.append((b"Exif", b"", struct.pack(">L", 6) + b"Exif\0\0" + exif))
    if xmp:
        items.append((b"mime", b"application/rdf+xml\0", xmp))
    infos = b"".join(
        box(b"infe", struct.pack(">LHH4s", 2 << 24, number, 0, kind) + b"\0" + more)
        for number, (kind, more, _) in enumerate(items, start=1)
    )
    references = b"".join(box(b"cdsc", struct.pack(">HHH", number, 1, 1)) for number in range(2, len(items) + 1))
    associations = bytes(0x80 | number if number in (2, 6) else number for number in range(1, len(properties) + 1))
    start = 0
    for _ in range(2):  # once to learn the length
        places, at = b"", start
        for number, (_, _, content) in enumerate(items, start=1):
            places += struct.pack(">HHHLL", number, 0, 1, at, len(content))
            at += len(content)
        meta = box(b"hdlr", bytes(8) + b"pict" + bytes(13)) + box(b"pitm", struct.pack(">LH", 0, 1))
        meta += box(b"iloc", struct.pack(">LHH", 0, 0x4400, len(items)) + places)
        meta += box(b"iinf", struct.pack(">LH", 0, len(items)) + infos)
        meta += box(b"iref", bytes(4) + references) if references else b""
        owned = struct.pack(">LLHB", 0, 1, 1, len(associations)) + associations
        meta += box(b"iprp", box(b"ipco", b"".join(properties)) + box(b"ipma", owned))
        head = box(b"ftyp", b"heic" + bytes(4) + b"mif1heicheix") + box(b"meta", bytes(4) + meta)
        start = len(head) + 8
    return head + box(b"mdat", b"".join(content for _, _, content in items))
