"""AVIF files: pixels through libavif, with 8, 10 or 12 bits; profile, code points, EXIF and XMP in boxes around them.

libavif's encoder, as it is at hand, takes no metadata: its file is taken apart, and its items are put into a new one
(ISO/IEC 23008-12, and the AV1 image file format).
"""

import io
import struct
from collections.abc import Mapping, Sequence

import numpy as np

from sanarestore.errors import UnwritableImage
from sanarestore.images.avif import XMP
from sanarestore.images.boxes import Items, boxed, find, items_of
from sanarestore.images.codes import Stored, reduce, spoken
from sanarestore.images.foreign import code_points_of
from sanarestore.images.image import Image, Metadata, to_stored
from sanarestore.options import WriteOptions

QUALITY = 90
"""Quality of files if none is asked for; 100 is lossless."""

_SPEED = 8
"""A quarter of the time that libavif's default takes, for files 8 percent larger."""
_SUBSAMPLED = 90
"""Quality below which colours are written at half the resolution."""
_LOSSLESS = 100
_LARGEST = 65536
_SRGB, _SAID_BY_PROFILE = (1, 13), (2, 2)
_ESSENTIAL = 0x80


def bits_of(image: Image) -> int:
    """Bits of a value with which an image of 8 or 16 bits is written: as many as its file has, 12 at most."""
    if image.depth == "uint8":
        return 8
    return 10 if image.bits in (9, 10) else 12


def check_writable(image: Image) -> None:
    """Raise UnwritableImage if AVIF cannot hold the image, or this installation has no encoder."""
    import imagecodecs

    if not imagecodecs.AVIF.available:
        raise UnwritableImage(
            "this installation of imagecodecs writes no AVIF", next_step="Install imagecodecs from PyPI."
        )
    if image.depth == "float32":
        raise UnwritableImage(
            f"AVIF holds 12 bits at most, and this image has {spoken(image.depth)}",
            next_step="Use --bit-depth 8, or --format tiff.",
        )
    if max(image.height, image.width) > _LARGEST:
        raise UnwritableImage(f"AVIF ends at {_LARGEST} pixels a side", next_step="Use --format tiff or png.")


def encode(image: Image, options: WriteOptions = WriteOptions()) -> bytes:  # noqa: B008 - frozen
    """Encode an AVIF file; UnwritableImage if AVIF cannot hold the image.

    Alpha is kept exactly, in the bits that are written. Gray of more than 8 bits is lossless at every quality.
    """
    check_writable(image)
    bits, quality = bits_of(image), options.quality or QUALITY
    stored_HWS = to_stored(image) if bits == 8 else reduce(to_stored(image), bits)
    if _is_left_to_pillow(image, quality):
        return _with_metadata(_gray(stored_HWS, quality), image.metadata)
    return _with_metadata(_encoded(stored_HWS, bits, quality), image.metadata)


def _is_left_to_pillow(image: Image, quality: int) -> bool:
    """Whether imagecodecs would write a gray image without loss, and Pillow's encoder takes its depth."""
    from PIL import features

    is_gray = image.pixels_HWC.shape[2] == 1
    return is_gray and image.depth == "uint8" and quality < _LOSSLESS and bool(features.check("avif"))


def _encoded(stored_HWS: Stored, bits: int, quality: int) -> bytes:
    import imagecodecs

    channels = stored_HWS.shape[2]
    subsampling = "400" if channels < 3 else "444" if quality >= _SUBSAMPLED else "420"
    data = imagecodecs.avif_encode(
        stored_HWS if channels > 1 else stored_HWS[..., 0], level=quality, speed=_SPEED, bitspersample=bits,
        codec="aom", pixelformat=subsampling, numthreads=1,  # another number would change the bytes
    )  # fmt: skip
    return bytes(data)


def _gray(stored_HWS: Stored, quality: int) -> bytes:
    from PIL import Image as PillowImage

    if stored_HWS.shape[2] == 2:  # Pillow has no gray with alpha here; equal channels are read as gray again
        stored_HWS = np.concatenate([stored_HWS[..., :1]] * 3 + [stored_HWS[..., 1:]], axis=2)
    buffer = io.BytesIO()
    PillowImage.fromarray(stored_HWS if stored_HWS.shape[2] > 1 else stored_HWS[..., 0]).save(
        buffer, "AVIF", quality=quality, subsampling="4:0:0", speed=_SPEED, codec="aom",
        advanced={"a:lossless": "1"},  # alpha is kept exactly
        max_threads=1, autotiling=False,  # as above
    )  # fmt: skip
    return buffer.getvalue()


def _with_metadata(data: bytes, metadata: Metadata) -> bytes:
    """The file with a profile or code points, and with items for EXIF and XMP."""
    items = items_of(data)
    contents = {item: b"".join(data[start:end] for start, end in parts) for item, parts in items.places.items()}
    points = code_points_of(metadata) or (_SAID_BY_PROFILE if metadata.icc else _SRGB)
    items.properties = [_said(kind, body, points) for kind, body in items.properties]
    if metadata.icc:
        items.properties.append((b"colr", b"prof" + metadata.icc))
        items.of_item[items.primary].append(len(items.properties))
    for kind, content in ((b"Exif", metadata.exif and bytes(4) + metadata.exif), (XMP, metadata.xmp)):
        if content:
            item = max(contents) + 1
            items.kinds[item], contents[item] = kind, content
            items.references.append((b"cdsc", item, items.primary))
    return _file(data, items, contents)


def _said(kind: bytes, body: bytes, points: tuple[int, int]) -> tuple[bytes, bytes]:
    """A property; that of the code points with other primaries and transfer characteristics."""
    if kind != b"colr" or body[:4] != b"nclx":
        return kind, body
    return kind, body[:4] + struct.pack(">HH", *points) + body[8:]


def _file(data: bytes, items: Items, contents: Mapping[int, bytes]) -> bytes:
    """A file with items and their contents; what it is, and the handler, are those of another file."""
    head = _copied(data, b"ftyp")
    sizes = [len(each) for each in contents.values()]
    start = len(head) + len(_meta(data, items, contents, [0] * len(sizes))) + 8
    places = [start + sum(sizes[:index]) for index in range(len(sizes))]
    return head + _meta(data, items, contents, places) + boxed(b"mdat", b"".join(contents.values()))


def _copied(data: bytes, kind: bytes, start: int = 0, end: int | None = None) -> bytes:
    box = find(data, kind, start, end)
    assert box is not None
    return boxed(kind, data[box.start : box.end])


def _meta(data: bytes, items: Items, contents: Mapping[int, bytes], places: Sequence[int]) -> bytes:
    old = find(data, b"meta")
    assert old is not None
    location = struct.pack(">BBH", 0x44, 0, len(contents)) + b"".join(
        struct.pack(">HHHII", item, 0, 1, place, len(content))
        for (item, content), place in zip(contents.items(), places, strict=True)
    )
    entries = b"".join(_entry(item, kind) for item, kind in items.kinds.items())
    references = b"".join(boxed(kind, struct.pack(">HHH", one, 1, other)) for kind, one, other in items.references)
    return boxed(b"meta", bytes(4) + b"".join((
        _copied(data, b"hdlr", old.start + 4, old.end),
        boxed(b"pitm", bytes(4) + struct.pack(">H", items.primary)),
        boxed(b"iloc", bytes(4) + location),
        boxed(b"iinf", bytes(4) + struct.pack(">H", len(items.kinds)) + entries),
        boxed(b"iref", bytes(4) + references) if references else b"",
        boxed(b"iprp", _properties(items)),
    )))  # fmt: skip


def _entry(item: int, kind: bytes) -> bytes:
    """What an item is; a MIME item has a content type and no name, as the others."""
    told = b"mime\0" + kind + b"\0" if kind == XMP else kind + b"\0"
    return boxed(b"infe", b"\2\0\0\0" + struct.pack(">HH", item, 0) + told)


def _properties(items: Items) -> bytes:
    kinds = [kind for kind, _ in items.properties]
    belongs = b"".join(
        struct.pack(">HB", item, len(numbers))
        + bytes(number | (_ESSENTIAL if kinds[number - 1] == b"av1C" else 0) for number in numbers)
        for item, numbers in sorted(items.of_item.items())
    )
    return boxed(b"ipco", b"".join(boxed(kind, body) for kind, body in items.properties)) + boxed(
        b"ipma", bytes(4) + struct.pack(">I", len(items.of_item)) + belongs
    )
