"""Image files, found, read and written without losing bit depth, colour meaning or metadata."""

from sanarestore.images.find import Findings, Found, find
from sanarestore.images.image import Depth, Format, Image, Metadata, from_float, to_float
from sanarestore.images.read import decode, read
from sanarestore.images.write import check_writable, encode, write

__all__ = [
    "Depth",
    "Findings",
    "Format",
    "Found",
    "Image",
    "Metadata",
    "check_writable",
    "decode",
    "encode",
    "find",
    "from_float",
    "read",
    "to_float",
    "write",
]
