"""WebP: 8 bits, RGB with or without alpha; pixels through libwebp, metadata in RIFF chunks."""

import io
import struct
from collections.abc import Iterator

import numpy as np

from sanarestore.errors import UnreadableImage, UnwritableImage
from sanarestore.images import exif
from sanarestore.images.codes import Stored
from sanarestore.images.ifd import ByteLayout
from sanarestore.images.image import Image, Metadata, check_size, from_stored, to_stored

QUALITY = 95
_LARGEST = 16383
_BACKUP = "Restore the file from a backup or copy it again."


def decode(data: bytes) -> Image:
    """Decode a WebP file, or the first frame of an animated one; UnreadableImage if it is truncated."""
    import imagecodecs

    if len(data) < 12 or struct.unpack_from("<L", data, 4)[0] + 8 > len(data):
        raise UnreadableImage("it is truncated: the end of the WebP file is missing", next_step=_BACKUP)
    chunks = list(_chunks(data))
    names = [name for name, _ in chunks]
    extended = dict(chunks).get(b"VP8X", b"")
    if len(extended) >= 10:
        check_size(1 + int.from_bytes(extended[7:10], "little"), 1 + int.from_bytes(extended[4:7], "little"))
    stored: Stored = imagecodecs.webp_decode(data)
    frames = names.count(b"ANMF")
    return from_stored(
        stored,
        format="webp",
        metadata=_metadata(dict(chunks)),
        lossless=b"VP8L" in names,
        notes=(f"the first of {frames} frames is used",) if frames > 1 else (),
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<L", data, at + 4)
        name = data[at : at + 4]
        yield name, b"" if name in (b"VP8 ", b"VP8L", b"ANMF", b"ALPH") else data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _metadata(chunks: dict[bytes, bytes]) -> Metadata:
    block = chunks.get(b"EXIF", b"").removeprefix(b"Exif\0\0")
    kept = block if exif.is_block(block) else None
    return Metadata(
        icc=chunks.get(b"ICCP") or None,
        exif=kept,
        xmp=chunks.get(b"XMP ") or None,
        dpi=exif.dpi_of_block(kept),
    )


def encode(image: Image) -> bytes:
    """Encode a WebP file, lossless if the image was, otherwise quality 95; UnwritableImage if WebP cannot hold it."""
    from PIL import Image as PillowImage

    check_writable(image)
    stored_HWS = to_stored(image)
    if stored_HWS.shape[2] < 3:  # WebP has no gray
        stored_HWS = np.concatenate([stored_HWS[..., :1]] * 3 + [stored_HWS[..., 1:]], axis=2)
    metadata, buffer = image.metadata, io.BytesIO()
    PillowImage.fromarray(stored_HWS).save(
        buffer,
        "WEBP",
        quality=QUALITY,
        lossless=image.lossless,
        exact=True,
        icc_profile=metadata.icc or b"",
        exif=_block(metadata),
        xmp=metadata.xmp or b"",
    )
    return buffer.getvalue()


def _block(metadata: Metadata) -> bytes:
    """The EXIF block; if there is none, one with only the resolution, since WebP has no other place for that."""
    if metadata.exif or metadata.dpi is None:
        return metadata.exif or b""
    layout = ByteLayout("<")
    return exif.build(exif.resolution_entries(metadata.dpi, layout), layout)


def check_writable(image: Image) -> None:
    """Raise UnwritableImage if WebP cannot hold the image."""
    metadata = image.metadata
    if image.depth != "uint8":
        raise UnwritableImage(
            f"WebP holds 8 bits, and this image has {image.depth} values", next_step="Write TIFF, or choose 8 bit."
        )
    if image.alpha_HW is not None and image.alpha_kind != "unassociated":
        raise UnwritableImage(
            f"WebP cannot hold an alpha channel that is {image.alpha_kind} in TIFF", next_step="Write TIFF."
        )
    if max(image.height, image.width) > _LARGEST:
        raise UnwritableImage(f"WebP ends at {_LARGEST} pixels a side", next_step="Write TIFF, PNG or JPEG.")
    if metadata.iptc:
        raise UnwritableImage("WebP has no place for IPTC records", next_step="Write TIFF, PNG or JPEG.")
    if image.pixels_HWC.shape[2] == 1 and metadata.icc and metadata.icc[16:20] == b"GRAY":
        raise UnwritableImage(
            "WebP has no gray, so the gray profile would not fit", next_step="Write TIFF, PNG or JPEG."
        )
