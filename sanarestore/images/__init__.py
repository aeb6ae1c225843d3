"""Image files, found, read and written without losing bit depth, colour meaning or metadata; pixels are resized and
rounded here too."""

from sanarestore.images.codes import Depth, Pixels, from_float, quantize, to_float
from sanarestore.images.find import Findings, Found, Rejected, find
from sanarestore.images.header import Header, measure, memory_to_read, memory_to_write, written_instead
from sanarestore.images.image import WRITTEN, Extra, Format, Image, Metadata
from sanarestore.images.read import decode, read
from sanarestore.images.resize import resize
from sanarestore.images.signature import NAMES
from sanarestore.images.write import check_header, check_writable, encode, write

__all__ = [
    "NAMES",
    "WRITTEN",
    "Depth",
    "Extra",
    "Findings",
    "Format",
    "Found",
    "Header",
    "Image",
    "Metadata",
    "Pixels",
    "Rejected",
    "check_header",
    "check_writable",
    "decode",
    "encode",
    "find",
    "from_float",
    "measure",
    "memory_to_read",
    "memory_to_write",
    "quantize",
    "read",
    "resize",
    "to_float",
    "write",
    "written_instead",
]
