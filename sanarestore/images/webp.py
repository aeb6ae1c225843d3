"""WebP: 8 bits, RGB with or without alpha; pixels through libwebp, metadata in RIFF chunks."""

import io
import struct
from collections.abc import Iterator

import numpy as np

from sanarestore.errors import UnreadableImage, UnwritableImage
from sanarestore.images import exif
from sanarestore.images.codes import Stored, spoken
from sanarestore.images.damage import damaged, hopeless, limited
from sanarestore.images.ifd import Source
from sanarestore.images.image import Image, Metadata, check_size, from_stored, to_stored
from sanarestore.options import WriteOptions

QUALITY = 90
"""Quality of lossy files: a lower one would put back the artefacts that were just removed."""
_LARGEST = 16383
_PIXELS = (b"VP8 ", b"VP8L", b"ANMF", b"ALPH")
_KNOWN = frozenset(("VP8", "VP8L", "VP8X", "ALPH", "ANIM", "ANMF", "ICCP", "EXIF", "XMP"))
_HOLE = bytes(256)
"""Compressed pixels have no such run of zeros: the longest of flat images that we made had 34."""


def decode(data: bytes, *, accept_damaged: bool = False) -> Image:
    """Decode a WebP file; UnreadableImage for an animation, with the number of its frames.

    DamagedImage if it is truncated, its chunks do not fit or a hole of zeros is in its pixels, unless that is
    accepted. libwebp decodes nothing of a truncated file, and notices no other damage: WebP has no checksums.
    """
    import imagecodecs

    spans = list(limited(_spans(data)))
    chunks = {name: _body(data, name, start, end) for name, start, end in reversed(spans)}
    header_of(data)
    notes = [damaged(fact, accepted=accept_damaged) for fact in _damage(data, spans)]
    try:
        stored: Stored = imagecodecs.webp_decode(_completed(data, spans))
    except MemoryError:
        raise
    except Exception as error:  # the type depends on the library's version
        raise hopeless("nothing of its pixels can be decoded") from error
    names = [name for name, _, _ in spans]
    plain = {name.decode().strip() for name in names if name.isascii() and name.strip().isalnum()}
    if others := sorted(plain - _KNOWN):
        notes.append(f"{' and '.join(others[:8])} chunks are left out, because their meaning is not known")
    return from_stored(stored, format="webp", metadata=_metadata(chunks), lossless=b"VP8L" in names, notes=tuple(notes))


def header_of(data: Source) -> tuple[int, int, bool]:
    """Width, height, and whether there may be alpha; UnreadableImage if no header says that, or for an animation."""
    frames = sum(name == b"ANMF" for name, _, _ in limited(_spans(data)))
    if frames > 1:
        raise UnreadableImage(
            f"it is an animation of {frames} frames", next_step="Export the frame that you want to restore."
        )
    for name, start, _ in limited(_spans(data)):
        head = bytes(data[start : start + 10])
        size = None
        if name == b"VP8X" and len(head) == 10:
            size = 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little"), head[0] & 16 > 0
        elif name == b"VP8L" and len(head) >= 5 and head[0] == 0x2F:
            bits = int.from_bytes(head[1:5], "little")
            size = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bits >> 28 & 1 > 0
        elif name == b"VP8 " and head[3:6] == b"\x9d\x01\x2a" and len(head) == 10:
            width, height = struct.unpack("<HH", head[6:10])
            size = width & 0x3FFF, height & 0x3FFF, False
        if size:
            check_size(size[1], size[0])
            return size
    raise hopeless("its WebP header is damaged or missing")


def _spans(data: Source) -> Iterator[tuple[bytes, int, int]]:
    """Names of chunks with the bounds of their bodies; the last one may extend beyond the end."""
    at = 12
    while at + 8 <= len(data):
        head = bytes(data[at : at + 8])
        length = int.from_bytes(head[4:], "little")
        yield head[:4], at + 8, at + 8 + length
        at += 8 + length + length % 2


def _body(data: bytes, name: bytes, start: int, end: int) -> bytes:
    return b"" if name in _PIXELS or end > len(data) else data[start:end]


def _damage(data: bytes, spans: list[tuple[bytes, int, int]]) -> Iterator[str]:
    """Yield the visible faults of the file."""
    if int.from_bytes(data[4:8], "little") + 8 > len(data) or spans[-1][2] > len(data):
        yield "it is truncated: the end of the WebP file is missing"
    for name, start, end in spans:
        if name in _PIXELS and data.find(_HOLE, start, end) >= 0:
            yield "there is a hole of zeros in its pixels"
            return
        if name == b"VP8 " and (fact := _parts_damage(data[start : start + 10], end - start)):
            yield fact


def _completed(data: bytes, spans: list[tuple[bytes, int, int]]) -> bytes:
    """The file with zeros for what is missing at its end, because libwebp decodes nothing of a file that ends early."""
    missing = max(int.from_bytes(data[4:8], "little") + 8, spans[-1][2]) - len(data)
    if missing <= 0:
        return data
    width, height, _ = header_of(data)
    if missing > 8 * width * height + 2**16:  # more than its pixels take without compression
        raise hopeless("nothing of its pixels can be decoded")
    return data + bytes(missing)


def _parts_damage(head: bytes, size: int) -> str | None:
    """Return the contradiction in the header of a lossy frame; None if there is none."""
    tag = int.from_bytes(head[:3], "little")
    if (tag >> 5) + 10 > size:
        return "its pixels are longer than the part of the file that holds them"
    return None


def _metadata(chunks: dict[bytes, bytes]) -> Metadata:
    block = chunks.get(b"EXIF", b"").removeprefix(b"Exif\0\0")
    kept = block if exif.is_block(block) else None
    return Metadata(
        icc=chunks.get(b"ICCP") or None,
        exif=kept,
        xmp=chunks.get(b"XMP ") or None,
        dpi=exif.dpi_of_block(kept),
    )


def encode(image: Image, options: WriteOptions = WriteOptions()) -> bytes:  # noqa: B008 - frozen
    """Encode a WebP file; UnwritableImage if WebP cannot hold the image.

    It is lossless if the image was and no quality is asked for.
    """
    from PIL import Image as PillowImage

    check_writable(image)
    stored_HWS = to_stored(image)
    if stored_HWS.shape[2] < 3:  # WebP has no gray
        stored_HWS = np.concatenate([stored_HWS[..., :1]] * 3 + [stored_HWS[..., 1:]], axis=2)
    metadata, buffer = image.metadata, io.BytesIO()
    PillowImage.fromarray(stored_HWS).save(
        buffer,
        "WEBP",
        quality=options.quality or QUALITY,
        lossless=image.lossless and options.quality is None,
        exact=True,
        icc_profile=metadata.icc or b"",
        exif=metadata.exif or b"",
        xmp=metadata.xmp or b"",
    )
    return buffer.getvalue()


def check_writable(image: Image) -> None:
    """Raise UnwritableImage if WebP cannot hold the image."""
    metadata = image.metadata
    if image.depth != "uint8":
        raise UnwritableImage(
            f"WebP holds 8 bits, and this image has {spoken(image.depth)}",
            next_step=f"Use --bit-depth 8, or --format {'tiff' if image.depth == 'float32' else 'tiff or png'}.",
        )
    if max(image.height, image.width) > _LARGEST:
        raise UnwritableImage(f"WebP ends at {_LARGEST} pixels a side", next_step="Use --format tiff, png or jpeg.")
    if image.pixels_HWC.shape[2] == 1 and metadata.icc and metadata.icc[16:20] == b"GRAY":
        raise UnwritableImage(
            "WebP has no gray, so the gray profile would not fit", next_step="Use --format tiff, png or jpeg."
        )
