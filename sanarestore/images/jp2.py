"""JPEG 2000, only read: pixels through OpenJPEG, metadata from the boxes of a JP2 file (ISO/IEC 15444-1, annex I)."""

from dataclasses import dataclass, replace

from sanarestore.errors import UnreadableImage
from sanarestore.images import exif, resources
from sanarestore.images.boxes import boxes, find
from sanarestore.images.codes import Stored
from sanarestore.images.damage import cut, hopeless, limited
from sanarestore.images.foreign import Foreign, check_shape, scaled
from sanarestore.images.ifd import Source
from sanarestore.images.image import UNSPECIFIED, AlphaKind, Image, Metadata, check_size, from_stored

_CODESTREAM = b"\xff\x4f\xff\x51"
_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_EXIF = b"JpgTiffExif->JP2"
_IPTC = bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38")
_MOST_BOX = 2**26
_EXPORT = "Export it as TIFF or PNG."
_SRGB, _GRAY, _SYCC = 16, 17, 18
_KINDS: dict[int, AlphaKind] = {1: "unassociated", 2: "associated"}


@dataclass(frozen=True, slots=True)
class _Picture:
    """The codestream's header, and what the boxes around it say."""

    header: Foreign
    kinds: tuple[AlphaKind, ...]


def decode(data: bytes, *, accept_damaged: bool = False) -> Image:
    """Decode a JPEG 2000 file of gray or RGB of 1 to 16 bits; DamagedImage if a part of its pixels is missing."""
    import imagecodecs

    picture = _picture(data)
    header = picture.header
    check_size(header.height, header.width)
    try:
        stored: Stored = imagecodecs.jpeg2k_decode(data)
    except MemoryError:
        raise
    except Exception as error:  # the type depends on the library's version
        raise hopeless(f"it is truncated, or its pixels are damaged ({cut(error)})") from error
    check_shape(stored, header)
    if stored.dtype.kind != "u":
        raise UnreadableImage("its samples are signed", next_step=_EXPORT)
    stored, notes = scaled(stored, header.bits)
    return from_stored(
        stored, format="jp2", metadata=_metadata(data), colours=header.colours, kinds=picture.kinds,
        bits=header.between, notes=notes,
    )  # fmt: skip


def header_of(data: Source) -> Foreign:
    """Read the header of the codestream; UnreadableImage if it is of a kind that is not read."""
    return _picture(data).header


def _picture(data: Source) -> _Picture:
    codestream, colour, kinds = 0, 0, []
    if bytes(data[:4]) != _CODESTREAM:
        box, header = find(data, b"jp2c"), find(data, b"jp2h")
        if box is None or header is None:
            raise hopeless("it is truncated: its picture is missing")
        codestream = box.start
        for each in limited(boxes(data, header.start, header.end)):
            body = bytes(data[each.start : min(each.end, each.start + 4096)])
            if each.kind == b"colr" and body[:1] == b"\1" and len(body) >= 7:
                colour = int.from_bytes(body[3:7], "big")
            elif each.kind in (b"pclr", b"cmap"):
                raise UnreadableImage("its colours are a palette", next_step=_EXPORT)
            elif each.kind == b"cdef":
                found = [body[at : at + 6] for at in range(2, len(body) - 5, 6)]
                kinds = [int.from_bytes(one[2:4], "big") for one in sorted(found) if one[2:4] != b"\0\0"]
    if colour not in (0, _SRGB, _GRAY, 12):
        what = {_SYCC: "YCbCr"}.get(colour, f"of kind {colour}")
        raise UnreadableImage(f"its colours are {what}", next_step=_EXPORT)
    size = bytes(data[codestream : codestream + 42 + 3 * 70])
    if len(size) < 45 or size[:4] != _CODESTREAM:
        raise hopeless("its JPEG 2000 header is damaged")
    right, bottom, left, top = (int.from_bytes(size[at : at + 4], "big") for at in (8, 12, 16, 20))
    count = int.from_bytes(size[40:42], "big")
    return _Picture(_header(right - left, bottom - top, count, size[42 : 42 + 3 * count]), _kinds(count, kinds))


def _header(width: int, height: int, count: int, parts: bytes) -> Foreign:
    """The header of a picture of `count` channels, each described by three bytes: bits, and two steps."""
    if not 1 <= count <= 67 or len(parts) != 3 * count:
        raise UnreadableImage(f"it has {count} channels", next_step=_EXPORT)
    depths = set(parts[::3])
    if len(depths) > 1 or set(parts[1::3]) | set(parts[2::3]) != {1}:
        raise UnreadableImage("its channels differ in depth or size", next_step=_EXPORT)
    bits = 1 + (parts[0] & 0x7F)
    if parts[0] & 0x80 or bits > 16:
        kind = "signed" if parts[0] & 0x80 else "integer"
        raise UnreadableImage(f"its samples are {bits}-bit {kind}", next_step=_EXPORT)
    colours = 3 if count >= 3 else 1
    behind = count - colours
    return Foreign(
        width=width, height=height, colours=colours, has_alpha=behind > 0, bits=bits, extra=max(behind - 1, 0)
    )


def _kinds(count: int, found: list[int]) -> tuple[AlphaKind, ...]:
    """Return the kind of each channel after the colours; a single one without description counts as alpha."""
    behind = count - (3 if count >= 3 else 1)
    if behind == 1 and not found:
        return ("unassociated",)
    named = tuple(_KINDS.get(each, UNSPECIFIED) for each in found[:behind])
    return named + (UNSPECIFIED,) * (behind - len(named))


def _metadata(data: bytes) -> Metadata:
    metadata = Metadata()
    if data[:4] == _CODESTREAM:
        return metadata
    for box in limited(boxes(data)):
        body = data[box.start : box.end] if box.end - box.start < _MOST_BOX and box.kind != b"jp2c" else b""
        if box.kind == b"jp2h":
            colours = [data[each.start : each.end] for each in limited(boxes(data, box.start, box.end))
                       if each.kind == b"colr"]  # fmt: skip
            icc = next((each[3:] for each in colours if each[:1] in (b"\2", b"\3") and len(each) > 3), None)
            metadata = replace(metadata, icc=icc)
        elif box.kind == b"uuid" and body[:16] == _XMP:
            metadata = replace(metadata, xmp=body[16:] or None)
        elif box.kind == b"uuid" and body[:16] == _EXIF:
            block = body[16:].removeprefix(b"Exif\0\0")
            metadata = replace(metadata, exif=block if exif.is_block(block) else None)
        elif box.kind == b"uuid" and body[:16] == _IPTC:
            metadata = replace(metadata, iptc=resources.iptc_of(body[16:]) or body[16:] or None)
    return replace(metadata, dpi=exif.dpi_of_block(metadata.exif))
