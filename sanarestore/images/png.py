"""PNG: pixels through libpng (Pillow silently opens 16-bit colour as 8 bits), metadata through our own chunk code."""

import struct
import zlib
from collections.abc import Iterator
from typing import Any

from sanarestore.errors import UnreadableImage, UnwritableImage
from sanarestore.images import exif, resources
from sanarestore.images.codes import Stored
from sanarestore.images.image import Image, Metadata, check_size, from_stored, to_stored

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_COLOUR_CHUNKS = (b"cICP", b"sRGB", b"gAMA", b"cHRM")
_RAW_PROFILES = {b"Raw profile type iptc": "iptc", b"Raw profile type exif": "exif", b"Raw profile type APP1": "exif"}
_METRE = 0.0254
"""Metres per inch."""
_MAXIMUM_BLOCK = 2**27
"""Most bytes of a decompressed metadata block; a larger one is an attack, not metadata."""
_LEVEL = 4
"""zlib level: twice as fast as the usual 6, for files one percent larger."""
_BACKUP = "Restore the file from a backup or copy it again."


def decode(data: bytes) -> Image:
    """Decode a PNG file, or the still image of an animated one; UnreadableImage if it is damaged or truncated."""
    import imagecodecs

    chunks = list(_chunks(data))
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise UnreadableImage("its PNG header is damaged", next_step=_BACKUP)
    width, height, bits, colour = struct.unpack(">LLBB", chunks[0][1][:10])
    check_size(height, width)
    if chunks[-1][0] != b"IEND":
        raise UnreadableImage("it is truncated: the end of the PNG file is missing", next_step=_BACKUP)
    stored: Stored = imagecodecs.png_decode(_picture(data))
    names = {name for name, _ in chunks}
    notes = []
    if colour == 3:
        notes.append("the palette is converted to RGB")
    elif bits < 8:
        notes.append(f"{bits}-bit gray is converted to 8 bit")
    if b"tRNS" in names and stored.ndim == 3 and stored.shape[2] in (2, 4):
        notes.append("the transparent colour is converted to an alpha channel")
    if b"acTL" in names:
        notes.append("the still image of an animation is used")
    return from_stored(stored, format="png", metadata=_metadata(chunks), notes=tuple(notes))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and bodies of chunks in order; the bodies of pixel data and of chunks with a wrong checksum are empty."""
    at = len(_SIGNATURE)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">L", data, at)
        name = data[at + 4 : at + 8]
        if at + 12 + length > len(data):
            return
        body = b"" if name == b"IDAT" else data[at + 8 : at + 8 + length]
        if name != b"IDAT" and zlib.crc32(name + body) != struct.unpack_from(">L", data, at + 8 + length)[0]:
            body = b""
        yield name, body
        if name == b"IEND":
            return
        at += 12 + length


def _picture(data: bytes) -> bytes:
    """The file without its metadata, about which libpng prints warnings, and without animation frames."""
    # Views, because every slice of bytes is a copy, and pixel data is nearly all of the file.
    view, at = memoryview(data), len(_SIGNATURE)
    needed: list[bytes | memoryview] = [_SIGNATURE]
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">L", data, at)
        if data[at + 4 : at + 8] in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            needed.append(view[at : at + 12 + length])
        at += 12 + length
    return b"".join(needed)


def _metadata(chunks: list[tuple[bytes, bytes]]) -> Metadata:
    found: dict[str, Any] = {}
    colour = b""
    for name, body in chunks:
        if name in _COLOUR_CHUNKS and body:
            colour += _chunk(name, body)
        elif name == b"iCCP":
            found["icc"] = _inflate(body.partition(b"\0")[2][1:])
        elif name == b"eXIf" and exif.is_block(body):
            found["exif"] = body
        elif name == b"pHYs" and len(body) == 9 and body[8] == 1:
            x, y = struct.unpack(">LL", body[:8])
            found["dpi"] = (round(x * _METRE, 2), round(y * _METRE, 2)) if x and y else None
        elif name == b"iTXt" and body.startswith(_XMP_KEYWORD + b"\0"):
            found["xmp"] = _international_text(body)
        elif name in (b"zTXt", b"tEXt") and (kind := _RAW_PROFILES.get(body.partition(b"\0")[0])):
            found.setdefault(kind, _raw_profile(name, body, kind))
    return Metadata(png_colour=colour or None, **{kind: value for kind, value in found.items() if value})


def _inflate(data: bytes) -> bytes | None:
    """Decompressed data; None if it is damaged or unreasonably large."""
    inflater = zlib.decompressobj()
    try:
        result = bytes(inflater.decompress(data, _MAXIMUM_BLOCK))
    except zlib.error:
        return None
    return result if inflater.eof else None


def _international_text(body: bytes) -> bytes | None:
    _, _, rest = body.partition(b"\0")
    compressed, rest = rest[:1] == b"\1", rest[2:]
    text = rest.split(b"\0", 2)[2] if rest.count(b"\0") >= 2 else b""
    return _inflate(text) if compressed else text


def _raw_profile(name: bytes, body: bytes, kind: str) -> bytes | None:
    """Read a profile in ImageMagick's hexadecimal form, a de facto standard; None if it is damaged."""
    text = body.partition(b"\0")[2]
    plain = _inflate(text[1:]) if name == b"zTXt" else text
    try:
        profile = bytes.fromhex("".join((plain or b"").decode("ascii").split()[2:]))
    except ValueError:
        return None
    if kind == "iptc":
        return resources.iptc_of(profile)
    profile = profile.removeprefix(b"Exif\0\0")
    return profile if exif.is_block(profile) else None


def encode(image: Image) -> bytes:
    """Encode a PNG file of 8 or 16 bits; UnwritableImage if PNG cannot hold the image."""
    import imagecodecs

    if image.depth == "float32":
        raise UnwritableImage("PNG cannot hold float values", next_step="Write TIFF, or choose 16 bit.")
    if image.alpha_HW is not None and image.alpha_kind != "unassociated":
        raise UnwritableImage(
            f"PNG cannot hold an alpha channel that is {image.alpha_kind} in TIFF", next_step="Write TIFF."
        )
    stored_HWS = to_stored(image)
    plain = memoryview(
        imagecodecs.png_encode(stored_HWS if stored_HWS.shape[2] > 1 else stored_HWS[..., 0], level=_LEVEL)
    )
    first = len(_SIGNATURE) + 25  # after IHDR, where all chunks that must precede the pixels may be
    del stored_HWS
    return b"".join((plain[:first], _metadata_chunks(image.metadata), plain[first:]))


def _metadata_chunks(metadata: Metadata) -> bytes:
    chunks = metadata.png_colour or b""
    if metadata.icc:
        chunks += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc, 9))
    if metadata.dpi:
        chunks += _chunk(b"pHYs", struct.pack(">LLB", *(round(value / _METRE) for value in metadata.dpi), 1))
    if metadata.exif:
        chunks += _chunk(b"eXIf", metadata.exif)
    if metadata.xmp:
        chunks += _chunk(b"iTXt", _XMP_KEYWORD + b"\0\0\0\0\0" + metadata.xmp)
    if metadata.iptc:
        profile = resources.with_iptc(metadata.iptc)
        text = f"\niptc\n{len(profile):8d}\n{profile.hex()}\n".encode()
        chunks += _chunk(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(text, 9))
    return chunks


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">L", len(body)) + name + body + struct.pack(">L", zlib.crc32(name + body))
