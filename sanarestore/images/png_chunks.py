"""Metadata chunks of PNG files: read, and written before the pixels."""

import struct
import zlib
from dataclasses import dataclass
from typing import Any

from sanarestore.images import exif, resources
from sanarestore.images.image import Metadata

_XMP_KEYWORD = b"XML:com.adobe.xmp"
_COLOUR_CHUNKS = (b"cICP", b"sRGB", b"gAMA", b"cHRM")
_RAW_PROFILES = {b"Raw profile type iptc": "iptc", b"Raw profile type exif": "exif", b"Raw profile type APP1": "exif"}
_METRE = 0.0254
"""Metres per inch."""
_MOST_METADATA = 2**26
"""Most bytes of decompressed metadata in all; more is an attack, not metadata."""


def metadata_of(chunks: list[tuple[bytes, bytes]]) -> Metadata:
    """The metadata in these chunks, names and bodies."""
    found: dict[str, Any] = {}
    colour = b""
    inflate = _Inflate()
    for name, body in chunks:
        if name in _COLOUR_CHUNKS and body:
            colour += chunk(name, body)
        elif name == b"iCCP":
            found["icc"] = inflate(body.partition(b"\0")[2][1:])
        elif name == b"eXIf" and exif.is_block(body):
            found["exif"] = body
        elif name == b"pHYs" and len(body) == 9 and body[8] == 1:
            x, y = struct.unpack(">LL", body[:8])
            found["dpi"] = (round(x * _METRE, 2), round(y * _METRE, 2)) if x and y else None
        elif name == b"iTXt" and body.startswith(_XMP_KEYWORD + b"\0"):
            found["xmp"] = _international_text(body, inflate)
        elif name in (b"zTXt", b"tEXt") and (kind := _RAW_PROFILES.get(body.partition(b"\0")[0])):
            found.setdefault(kind, _raw_profile(name, body, kind, inflate))
    return Metadata(png_colour=colour or None, **{kind: value for kind, value in found.items() if value})


@dataclass(slots=True)
class _Inflate:
    """Decompresses metadata, which may not have more bytes in all than it can use."""

    left: int = _MOST_METADATA

    def __call__(self, data: bytes) -> bytes | None:
        """Decompressed data; None if it is damaged or unreasonably large."""
        inflater = zlib.decompressobj()
        try:
            result = bytes(inflater.decompress(data, max(self.left, 1)))
        except zlib.error:
            return None
        self.left -= len(result)
        return result if inflater.eof else None


def _international_text(body: bytes, inflate: _Inflate) -> bytes | None:
    _, _, rest = body.partition(b"\0")
    compressed, rest = rest[:1] == b"\1", rest[2:]
    parts = rest.split(b"\0", 2)
    text = parts[2] if len(parts) == 3 else b""
    return inflate(text) if compressed else text


def _raw_profile(name: bytes, body: bytes, kind: str, inflate: _Inflate) -> bytes | None:
    """Read a profile in ImageMagick's hexadecimal form, a de facto standard; None if it is damaged."""
    text = body.partition(b"\0")[2]
    plain = inflate(text[1:]) if name == b"zTXt" else text
    parts = (plain or b"").split(None, 2)  # the kind, the length, and the rest, which has line breaks
    try:
        profile = bytes.fromhex(parts[2].decode("ascii")) if len(parts) == 3 else b""
    except ValueError:
        return None
    if kind == "iptc":
        return resources.iptc_of(profile)
    profile = profile.removeprefix(b"Exif\0\0")
    return profile if exif.is_block(profile) else None


def chunks_of(metadata: Metadata) -> bytes:
    """The chunks that hold the metadata, one after the other."""
    chunks = metadata.png_colour or b""
    if metadata.icc:
        chunks += chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc, 9))
    if metadata.dpi:
        chunks += chunk(b"pHYs", struct.pack(">LLB", *(round(value / _METRE) for value in metadata.dpi), 1))
    if metadata.exif:
        chunks += chunk(b"eXIf", metadata.exif)
    if metadata.xmp:
        chunks += chunk(b"iTXt", _XMP_KEYWORD + b"\0\0\0\0\0" + metadata.xmp)
    if metadata.iptc:
        profile = resources.with_iptc(metadata.iptc)
        text = f"\niptc\n{len(profile):8d}\n{profile.hex()}\n".encode()
        chunks += chunk(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(text, 9))
    return chunks


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">L", len(body)) + name + body + struct.pack(">L", zlib.crc32(name + body))
