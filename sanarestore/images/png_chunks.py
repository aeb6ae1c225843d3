"""Metadata chunks of PNG files: read, and written before the pixels."""

import struct
import zlib
from dataclasses import dataclass
from typing import Any

from sanarestore.images import exif, resources
from sanarestore.images.image import Image, Metadata

_XMP_KEYWORD = b"XML:com.adobe.xmp"
_COLOUR_CHUNKS = (b"cICP", b"sRGB", b"gAMA", b"cHRM", b"mDCV", b"mDCv", b"cLLI", b"cLLi")
_RAW_PROFILES = {
    b"Raw profile type iptc": "iptc", b"Raw profile type exif": "exif", b"Raw profile type APP1": "exif",
    b"Raw profile type 8bim": "photoshop", b"Raw profile type xmp": "xmp", b"Raw profile type icc": "icc",
    b"Raw profile type icm": "icc",
}  # fmt: skip
_READ = frozenset((
    b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"iCCP", b"eXIf", b"pHYs", b"acTL", b"fcTL", b"fdAT", *_COLOUR_CHUNKS,
))  # fmt: skip
"""Chunks that are read, or noted otherwise."""
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_KEPT = frozenset((*TEXTS, b"tIME", b"sBIT", b"bKGD", b"oFFs", b"pCAL", b"sCAL", b"sTER"))
"""Chunks that stay true although the pixels change."""
_SINGLE = _KEPT - {*TEXTS}
"""Chunks of which a file has one."""
_STORAGE = frozenset((b"hIST", b"iDOT", b"CgBI"))
"""Chunks that tell how the old pixels were stored."""
_CREDENTIALS = b"caBX"
_METRE = 0.0254
"""Metres per inch."""
_MOST_METADATA = 2**26
"""Most bytes of decompressed metadata in all; more is an attack, not metadata."""
_MOST_TEXT = 2**20
"""Most bytes of a decompressed text that is converted for another format."""

Chunk = tuple[bytes, bytes]
"""Name and body of a chunk."""


def metadata_of(chunks: list[Chunk]) -> Metadata:
    """The metadata in these chunks, names and bodies."""
    found: dict[str, Any] = {}
    colour, kept = b"", []
    seen: set[bytes] = set()
    inflate = _Inflate()
    for name, body in chunks:
        keyword = body.partition(b"\0")[0]
        if name in _COLOUR_CHUNKS and body:
            colour += chunk(name, body)
        elif name == b"iCCP":
            found["icc"] = inflate(body.partition(b"\0")[2][1:])
        elif name == b"eXIf" and exif.is_block(body):
            found["exif"] = body
        elif name == b"pHYs" and len(body) == 9 and body[8] == 1:
            x, y = struct.unpack(">LL", body[:8])
            found["dpi"] = (round(x * _METRE, 2), round(y * _METRE, 2)) if x and y else None
        elif name == b"pHYs":
            kept += [(name, body)] if len(body) == 9 and body[:4] != body[4:8] else []  # an aspect ratio
        elif name == b"iTXt" and keyword == _XMP_KEYWORD:
            found["xmp"] = _international_text(body, inflate)
        elif name in (b"zTXt", b"tEXt") and (kind := _RAW_PROFILES.get(keyword)):
            profile = _raw_profile(name, body, kind, inflate)
            found.setdefault(kind, profile)
            if profile is None:
                kept.append((name, body))
        elif body and (name in _KEPT or _is_safe(name)) and not (name in _SINGLE and name in seen):
            kept.append((name, body))
            seen.add(name)
    if found.get("photoshop"):
        found["iptc"] = found.get("iptc") or resources.iptc_of(found["photoshop"])
        found["photoshop"] = resources.without(found["photoshop"], (resources.IPTC,))
    return Metadata(
        png_colour=colour or None,
        png_chunks=_converted(chunks, kept),
        **{kind: value for kind, value in found.items() if value},
    )


def notes_on(chunks: list[Chunk]) -> list[str]:
    """Notes on those of these chunks that are left out."""
    notes = []
    if any(name == _CREDENTIALS for name, _ in chunks):
        notes.append("content credentials (C2PA) are left out, because they hold for the original bytes only")
    others = [name for name, body in chunks if body and not (name in _KEPT | _READ | _STORAGE or _is_safe(name))]
    names = sorted({name.decode() for name in others if name != _CREDENTIALS})
    if names:
        notes.append(f"{' and '.join(names)} chunks are left out, because they may not fit the restored pixels")
    return notes


def _is_safe(name: bytes) -> bool:
    """Return whether the author of an unknown chunk says that it stays true when pixels change (PNG 3, section 5.4)."""
    return name not in _READ | _STORAGE and name.isalpha() and bool(name[3] & 32) and bool(name[0] & 32)


def _converted(chunks: list[Chunk], kept: list[Chunk]) -> tuple[Chunk, ...]:
    """The chunks, with a background that fits if the pixels were converted: palettes to RGB, few bits to eight."""
    bodies = dict(reversed(chunks))
    header, palette = bodies.get(b"IHDR", b""), bodies.get(b"PLTE", b"")
    if len(header) != 13 or (header[9] != 3 and header[8] >= 8):
        return tuple(kept)
    if header[9] == 3:
        number = next((body[0] for name, body in kept if name == b"bKGD"), 0)
        colour = palette[3 * number : 3 * number + 3]
        background = b"".join(bytes((0, value)) for value in colour) if len(colour) == 3 else b""
    else:
        level = next((int.from_bytes(body[:2], "big") for name, body in kept if name == b"bKGD"), 0)
        background = bytes((0, min(level * 255 // (2 ** header[8] - 1), 255))) if header[8] else b""
    return tuple(
        (name, background if name == b"bKGD" else body) for name, body in kept if name != b"bKGD" or background
    )


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


def text_of(name: bytes, body: bytes) -> tuple[str, str] | None:
    """Keyword and text of a tEXt, zTXt or iTXt chunk; None if it is damaged."""
    keyword, _, rest = body.partition(b"\0")
    if name == b"tEXt":
        return keyword.decode("latin-1"), rest.decode("latin-1")
    inflate = _Inflate(_MOST_TEXT)
    text = inflate(rest[1:]) if name == b"zTXt" else _international_text(body, inflate)
    if text is None:
        return None
    return keyword.decode("latin-1"), text.decode("latin-1" if name == b"zTXt" else "utf-8", errors="replace")


def text_chunk(keyword: str, text: str) -> Chunk:
    """A chunk that holds a text: tEXt if that can hold it, otherwise iTXt."""
    plain = text.replace("\0", "\ufffd")
    head = keyword.encode("latin-1") + b"\0"
    try:
        return b"tEXt", head + plain.encode("latin-1")
    except UnicodeEncodeError:
        return b"iTXt", head + b"\0\0\0\0" + plain.encode()


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
    if kind in ("photoshop", "xmp", "icc"):
        return profile or None
    profile = profile.removeprefix(b"Exif\0\0")
    return profile if exif.is_block(profile) else None


def unfit(image: Image) -> tuple[Chunk, ...]:
    """Chunks about samples that do not fit the image as it will be written: its depth or its channels changed."""
    return tuple(each for each in image.metadata.png_chunks if _fitted(each, image) is None)


def _fitted(given: Chunk, image: Image) -> Chunk | None:
    """The chunk as it fits the samples of the image; None if it does not."""
    name, body = given
    bits, colours = {"uint8": 8, "uint16": 16}.get(image.depth, 0), image.pixels_HWC.shape[2]
    if name == b"bKGD":
        fits = len(body) == 2 * colours and (bits == 16 or not any(body[::2]))
        return given if fits else None
    if name != b"sBIT":
        return given
    if image.alpha_HW is not None and len(body) == colours:
        body += bytes((bits,))  # alpha was a transparent colour
    fits = len(body) == colours + (image.alpha_HW is not None) and all(0 < each <= bits for each in body)
    return (name, body) if fits else None


def chunks_of(image: Image) -> bytes:
    """The chunks that hold the metadata of an image, one after the other."""
    metadata = image.metadata
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
        chunks += _raw_chunk("iptc", resources.with_iptc(metadata.iptc))
    if metadata.photoshop:
        chunks += _raw_chunk("8bim", metadata.photoshop)
    fitting = (_fitted(each, image) for each in metadata.png_chunks)
    return chunks + b"".join(chunk(*each) for each in fitting if each is not None)


def _raw_chunk(kind: str, profile: bytes) -> bytes:
    text = f"\n{kind}\n{len(profile):8d}\n{profile.hex()}\n".encode()
    return chunk(b"zTXt", f"Raw profile type {kind}\0\0".encode() + zlib.compress(text, 9))


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">L", len(body)) + name + body + struct.pack(">L", zlib.crc32(name + body))
