"""Camera raw files, only read, and developed by LibRaw through the optional library rawpy."""

import importlib.util
import io
import struct
from dataclasses import replace

import numpy as np

from sanarestore.errors import UnreadableImage
from sanarestore.images import colour, exif, ifd, jpeg
from sanarestore.images.boxes import is_cut
from sanarestore.images.codes import Stored
from sanarestore.images.damage import cut, hopeless
from sanarestore.images.fitting import upright_metadata
from sanarestore.images.foreign import Foreign, upright
from sanarestore.images.ifd import Source
from sanarestore.images.image import Image, Metadata, check_size, from_stored
from sanarestore.images.pages import directories_of
from sanarestore.images.tiff_header import integers

_XMP = 700
_FUJIFILM = b"FUJIFILMCCD-RAW"
_SRGB_CURVE = (2.4, 12.92)
_INSTALL = "Install it: pip install 'sanarestore[raw]'."
_DEVELOPED = (
    "the camera raw file is developed to 16-bit sRGB, with the camera's white balance and no automatic brightness"
)


def decode(data: bytes, *, accept_damaged: bool = False) -> Image:
    """Develop a camera raw file to 16-bit sRGB, upright, with an sRGB profile.

    UnreadableImage if rawpy is not installed or LibRaw does not know the camera; DamagedImage if a part is missing.
    """
    header_of(data)
    if _is_cut(data):
        raise hopeless("it is truncated: a part of its pixels is missing")
    import rawpy

    try:
        with rawpy.imread(io.BytesIO(data)) as file:
            check_size(file.sizes.height, file.sizes.width)
            stored: Stored = file.postprocess(
                use_camera_wb=True, no_auto_bright=True, output_bps=16, gamma=_SRGB_CURVE,
                output_color=rawpy.ColorSpace.sRGB,
            )  # fmt: skip
            # A sensor without colours gives one channel.
            stored = np.repeat(stored, 3, axis=2) if stored.shape[2] == 1 else stored.copy()
            metadata = upright_metadata(_metadata(data, file), stored.shape[1], stored.shape[0])
    except rawpy.LibRawError as error:
        raise _of(error) from error
    return from_stored(stored, format="raw", metadata=metadata, notes=(_DEVELOPED,))


def header_of(data: Source) -> Foreign:
    """Read the size; UnreadableImage if rawpy is not installed, or LibRaw does not know the camera."""
    if importlib.util.find_spec("rawpy") is None:
        raise UnreadableImage("it is a camera raw file, and developing it needs rawpy", next_step=_INSTALL)
    import rawpy

    name = getattr(data, "name", None)  # a file, of which LibRaw reads only the header
    try:
        with rawpy.imread(name or io.BytesIO(bytes(data[:]))) as file:
            sizes = file.sizes
            is_sideways = sizes.flip in (5, 6)
            width, height = sizes.iwidth, sizes.iheight
    except rawpy.LibRawError as error:
        raise _of(error) from error
    return Foreign(width=height if is_sideways else width, height=width if is_sideways else height, colours=3, bits=16)


def _is_cut(data: bytes) -> bool:
    """Return whether the file ends before its pixels do; LibRaw would fill up what is missing."""
    if data[4:8] == b"ftyp":
        return is_cut(data)
    if data.startswith(_FUJIFILM):
        parts = [struct.unpack_from(">LL", data, at) for at in (84, 100)] if len(data) >= 108 else [(1, len(data))]
        return any(offset + length > len(data) for offset, length in parts)
    found = ifd.read_header(data)
    if found is None:
        return False
    layout, offset = found
    for directory in directories_of(data, offset, layout):
        for starts, sizes in ((273, 279), (324, 325)):
            pairs = zip(integers(directory, starts, layout), integers(directory, sizes, layout), strict=False)
            if any(start + size > len(data) for start, size in pairs):
                return True
    return False


def _of(error: Exception) -> UnreadableImage:
    """LibRaw's error in words for users."""
    import rawpy

    if isinstance(error, rawpy.LibRawFileUnsupportedError):
        return UnreadableImage(
            "it is a camera raw file of a kind that LibRaw does not read",
            next_step="Develop it with the camera maker's program and restore the TIFF that it writes.",
        )
    fact = error.args[0].decode("ascii", "replace") if error.args and isinstance(error.args[0], bytes) else str(error)
    return hopeless(f"it is truncated or damaged ({cut(fact)})")


def _metadata(data: bytes, file: object) -> Metadata:
    """EXIF and XMP from a raw file that is a TIFF structure, or EXIF from the preview inside; with an sRGB profile."""
    metadata = Metadata(icc=colour.srgb_profile())
    start = ifd.read_header(data)
    if start is not None:
        layout, offset = start
        directory = ifd.read(data, offset, layout)
        xmp = directory[_XMP].data if _XMP in directory else None
        block = exif.from_tiff(directory, layout)
        return replace(metadata, exif=upright(block), xmp=xmp, dpi=exif.dpi_of(directory, layout))
    return replace(metadata, exif=upright(_preview_exif(file)))


def _preview_exif(file: object) -> bytes | None:
    import rawpy

    try:
        preview = file.extract_thumb()  # type: ignore[attr-defined]
    except rawpy.LibRawError:
        return None
    if preview.format != rawpy.ThumbFormat.JPEG or not preview.data.startswith(b"\xff\xd8"):
        return None
    blocks = (body[6:] for marker, body in jpeg.segments_of(preview.data) if marker == 0xE1 and body[:6] == b"Exif\0\0")
    return next((block for block in blocks if exif.is_block(block)), None)
