"""Photoshop image resources ("8BIM"), the container of IPTC records, clipping paths and more."""

import struct
from collections.abc import Collection
from typing import NamedTuple

IPTC, ICC, EXIF, EXIF_3, XMP = 0x0404, 0x040F, 0x0422, 0x0423, 0x0424
THUMBNAILS = (0x0409, 0x040C)
"""Small pictures of the file, as Photoshop 4 and later versions store them."""
IN_PIXELS = (0x0408, 0x041A, 0x0432, 0x043C)
"""Guides, slices, measurement scale and counts, in pixels of the file."""
_MARKS = (b"8BIM", b"MeSa", b"AgHg", b"PHUT", b"DCSR")


class Resource(NamedTuple):
    """An image resource."""

    number: int
    body: bytes
    whole: bytes
    """With its header and padding, as stored."""


def split(resources: bytes) -> list[Resource]:
    """The resources one by one, up to the first that is cut off."""
    found, at = [], 0
    while resources[at : at + 4] in _MARKS and at + 12 <= len(resources):
        (number,) = struct.unpack_from(">H", resources, at + 4)
        size = at + 6 + _even(1 + resources[at + 6])
        if size + 4 > len(resources):
            break
        (length,) = struct.unpack_from(">L", resources, size)
        body, end = size + 4, size + 4 + _even(length)
        if body + length > len(resources):
            break
        whole = resources[at:end]
        found.append(Resource(number, resources[body : body + length], whole.ljust(end - at, b"\0")))
        at = end
    return found


def iptc_of(resources: bytes) -> bytes | None:
    """The IPTC records among the resources; None if there are none."""
    return body_of(resources, IPTC)


def body_of(resources: bytes, number: int) -> bytes | None:
    """The body of the first resource with a number; None if there is none, or it is empty."""
    return next((each.body or None for each in split(resources) if each.number == number), None)


def without(resources: bytes | None, numbers: Collection[int]) -> bytes | None:
    """The other resources, unchanged; None if none is left."""
    return b"".join(each.whole for each in split(resources or b"") if each.number not in numbers) or None


def with_iptc(records: bytes, others: bytes | None = None) -> bytes:
    """Wrap IPTC records as a resource before others."""
    padded = records.ljust(_even(len(records)), b"\0")
    return b"8BIM" + struct.pack(">HHL", IPTC, 0, len(records)) + padded + (others or b"")


def _even(length: int) -> int:
    return length + length % 2
