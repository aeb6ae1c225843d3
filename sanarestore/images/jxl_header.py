"""The header of a JPEG XL codestream, read bit by bit (ISO/IEC 18181-1:2024, annexes B.2 and D)."""

from dataclasses import dataclass

from sanarestore.errors import UnreadableImage
from sanarestore.images.damage import hopeless

_RATIOS = ((1, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_EXPORT = "Export it as TIFF or PNG."
_RGB, _GRAY = 0, 1
_D65, _SRGB_PRIMARIES, _P3 = 1, 1, 11
_SRGB_CURVE, _LINEAR, _UNKNOWN = 13, 8, 2
_HEAD = 64
"""Number of bytes that hold the header of a picture without preview, animation and profile."""
_MOST_NAME = 1071 + 1024


@dataclass(frozen=True, slots=True)
class JxlHeader:
    """Properties of the picture in the codestream's header."""

    width: int
    """Before it is turned upright."""
    height: int
    orientation: int = 1
    bits: int = 8
    is_float: bool = False
    is_gray: bool = False
    alphas: int = 0
    """Number of alpha channels."""
    is_associated: bool = False
    others: int = 0
    """Number of extra channels that are not alpha."""
    is_animated: bool = False
    primaries: int = _SRGB_PRIMARIES
    """Code point of the colour primaries (ITU-T H.273)."""
    transfer: int = _SRGB_CURVE
    """Code point of the transfer characteristics."""
    transfer_at: int | None = None
    """Index of the first bit of the transfer characteristics' code point; None if sRGB is the default.
    """
    is_lossy: bool = False
    """Whether colours are coded as XYB, as in lossy files."""


def parse(codestream: bytes) -> JxlHeader:
    """Read the header; DamagedImage if it ends early, UnreadableImage for colours that cannot be passed on."""
    read = _Bits(codestream)
    if read(16) != 0x0AFF:
        raise hopeless("its JPEG XL header is damaged")
    width, height = _size(read)
    if read.flag():
        return JxlHeader(width, height, is_lossy=True)
    orientation, is_animated = 1, False
    if read.flag():
        orientation = 1 + read(3)
        if read.flag():
            _size(read)
        if read.flag():
            raise UnreadableImage("it has a preview picture inside", next_step=_EXPORT)
        if read.flag():
            is_animated = True
            for choices in ((0, 0, 10, 30), (0, 0, 8, 10), (0, 3, 16, 32)):
                read.one_of(*choices)
            read.flag()
    bits, is_float = _depth(read)
    read.flag()
    count = read.one_of((0, 0), (1, 0), (2, 4), (1, 12))
    alphas, others, is_associated = 0, 0, False
    for _ in range(count):
        kind, premultiplied = _extra(read)
        alphas += kind == 0
        others += kind != 0
        is_associated |= premultiplied
    is_lossy = read.flag()
    is_gray, primaries, transfer, transfer_at = _colours(read)
    if read.is_over:
        raise hopeless("it is truncated: its JPEG XL header is missing")
    return JxlHeader(
        width, height, orientation, bits, is_float, is_gray, alphas, is_associated, others, is_animated, primaries,
        transfer, transfer_at, is_lossy,
    )  # fmt: skip


def with_srgb_curve(codestream: bytes) -> bytes:
    """Return the codestream of a picture in linear light with sRGB primaries, its header changed to sRGB's curve.

    The pixels of a lossless picture stay as they are; those of a lossy one get the curve as they are decoded.
    """
    found = parse(codestream[:_HEAD])
    if found.transfer == _SRGB_CURVE:
        return codestream
    assert (found.primaries, found.transfer) == (_SRGB_PRIMARIES, _LINEAR)
    assert found.transfer_at is not None
    # Both are coded the same way: 2 plus the value of four bits.
    value = int.from_bytes(codestream[:_HEAD], "little") & ~(15 << found.transfer_at)
    value |= (_SRGB_CURVE - 2) << found.transfer_at
    return value.to_bytes(len(codestream[:_HEAD]), "little") + codestream[_HEAD:]


class _Bits:
    """Bits of a codestream, the least significant ones of a byte first; 0 beyond its end."""

    def __init__(self, data: bytes) -> None:
        self._value, self._size, self.at = int.from_bytes(data, "little"), 8 * len(data), 0

    def __call__(self, count: int) -> int:
        value = self._value >> self.at & (1 << count) - 1
        self.at += count
        return value

    def flag(self) -> bool:
        return self(1) == 1

    def one_of(self, *choices: "int | tuple[int, int]") -> int:
        """A number of one of four lengths: each choice is a number of bits, or what is added and a number of bits."""
        choice = choices[self(2)]
        offset, bits = choice if isinstance(choice, tuple) else (0, choice)
        return offset + self(bits)

    def symbol(self) -> int:
        """A value of an enumeration."""
        return self.one_of((0, 0), (1, 0), (2, 4), (18, 6))

    @property
    def is_over(self) -> bool:
        return self.at > self._size


def _size(read: _Bits) -> tuple[int, int]:
    small = read.flag()

    def side() -> int:
        return 8 * (1 + read(5)) if small else 1 + read.one_of(9, 13, 18, 30)

    height = side()
    ratio = read(3)
    if ratio == 0:
        return side(), height
    across, down = _RATIOS[ratio]
    return height * across // down, height


def _depth(read: _Bits) -> tuple[int, bool]:
    if read.flag():
        bits = read.one_of((32, 0), (16, 0), (24, 0), (1, 6))
        read(4)
        return bits, True
    return read.one_of((8, 0), (10, 0), (12, 0), (1, 6)), False


def _extra(read: _Bits) -> tuple[int, bool]:
    """The kind of an extra channel, 0 for alpha, and whether colours are premultiplied by it."""
    if read.flag():
        return 0, False
    kind = read.symbol()
    _depth(read)
    read.one_of((0, 0), (3, 0), (4, 0), (1, 3))
    for _ in range(min(read.one_of((0, 0), (0, 4), (16, 5), (48, 10)), _MOST_NAME)):
        read(8)
    is_associated = kind == 0 and read.flag()
    if kind == 2:  # a spot colour
        read(64)
    elif kind == 5:  # a colour filter
        read.one_of((1, 0), (0, 2), (3, 4), (19, 8))
    return kind, is_associated


def _colours(read: _Bits) -> tuple[bool, int, int, int | None]:
    """Return whether the picture is gray, the code points of primaries and transfer characteristics, and the latter's
    place."""
    if read.flag():
        return False, _SRGB_PRIMARIES, _SRGB_CURVE, None
    has_profile, space = read.flag(), read.symbol()
    if has_profile or space not in (_RGB, _GRAY):
        raise UnreadableImage("its colour profile is stored in a form that is not read", next_step=_EXPORT)
    primaries = _SRGB_PRIMARIES
    is_known = read.symbol() == _D65
    if is_known and space == _RGB:
        primaries = read.symbol()
        is_known = primaries in (_SRGB_PRIMARIES, 9, _P3)
        primaries = 12 if primaries == _P3 else primaries  # H.273 gives P3 with D65 the number 12
    has_gamma = read.flag() if is_known else True
    place = read.at + 2  # the first two bits say how long the code point is
    transfer = _UNKNOWN if has_gamma else read.symbol()
    if not is_known or has_gamma or transfer not in (1, 8, 13, 16, 18):
        raise UnreadableImage("its colour description cannot be converted to a profile", next_step=_EXPORT)
    return space == _GRAY, primaries, transfer, place
