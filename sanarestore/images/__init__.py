"""Image files, found, read and written without losing bit depth, colour meaning or metadata; pixels are resized and
rounded here too."""

from sanarestore.images.arrays import from_array, to_array
from sanarestore.images.codes import Depth, Pixels, Stored, fill, from_float, quantize, to_float
from sanarestore.images.find import Findings, Found, Rejected, find
from sanarestore.images.fitting import fitted
from sanarestore.images.header import (
    Header,
    format_of_file,
    measure,
    memory_to_read,
    memory_to_write,
    written_instead,
)
from sanarestore.images.image import FORMAT_NAMES, UNSPECIFIED, WRITTEN, Extra, Format, Image, Metadata
from sanarestore.images.orientation import UPRIGHT, turned_upright
from sanarestore.images.provenance import Provenance, provenance_of, stripped, with_provenance, without_provenance
from sanarestore.images.read import decode, read
from sanarestore.images.resize import resize
from sanarestore.images.signature import is_image_suffix
from sanarestore.images.strips.opening import (
    WRITTEN_IN_STRIPS,
    StripImage,
    StripWriter,
    opened_in_strips,
    strip_writer,
)
from sanarestore.images.write import (
    SUFFIXES,
    check_header,
    check_writable,
    encode,
    format_written,
    prepared,
    result_header,
    write,
)

__all__ = [
    "FORMAT_NAMES",
    "SUFFIXES",
    "UNSPECIFIED",
    "UPRIGHT",
    "WRITTEN",
    "WRITTEN_IN_STRIPS",
    "Depth",
    "Extra",
    "Findings",
    "Format",
    "Found",
    "Header",
    "Image",
    "Metadata",
    "Pixels",
    "Provenance",
    "Rejected",
    "Stored",
    "StripImage",
    "StripWriter",
    "check_header",
    "check_writable",
    "decode",
    "encode",
    "fill",
    "find",
    "fitted",
    "format_of_file",
    "format_written",
    "from_array",
    "from_float",
    "is_image_suffix",
    "measure",
    "memory_to_read",
    "memory_to_write",
    "opened_in_strips",
    "prepared",
    "provenance_of",
    "quantize",
    "read",
    "resize",
    "result_header",
    "strip_writer",
    "stripped",
    "to_array",
    "to_float",
    "turned_upright",
    "with_provenance",
    "without_provenance",
    "write",
    "written_instead",
]
