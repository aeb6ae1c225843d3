"""BMP, only read: pixels through Pillow, which also reads run-length encoding; the profile from the header."""

import io
import struct

import numpy as np

from sanarestore.errors import UnreadableImage
from sanarestore.images.codes import Stored
from sanarestore.images.damage import cut, damaged, hopeless
from sanarestore.images.foreign import Foreign, check_shape
from sanarestore.images.ifd import Source
from sanarestore.images.image import Image, Metadata, check_size, from_stored

_EMBEDDED = b"DEBM"
_METRE = 0.0254
_V5 = 124
_UNCOMPRESSED = (0, 3, 6)


def decode(data: bytes, *, accept_damaged: bool = False) -> Image:
    """Decode a BMP file; palettes become RGB, or gray if they hold only gray.

    DamagedImage if rows are missing, unless that is accepted: then they are black. Other damage cannot be noticed.
    """
    from PIL import BmpImagePlugin

    header, notes = header_of(data), []
    width, height, bits, compression = _head(data)
    start = int.from_bytes(data[10:14], "little")
    missing = start + (width * bits + 31) // 32 * 4 * height - len(data) if compression in _UNCOMPRESSED else 0
    if missing > 0:
        if start >= len(data):
            raise hopeless("it is truncated: its pixels are missing")
        notes.append(damaged("it is truncated: a part of its pixels is missing", accepted=accept_damaged))
    profile = _profile(data)
    if profile and profile[1] > len(data):
        notes.append(damaged("it is truncated: its colour profile is missing", accepted=accept_damaged))
    try:
        with BmpImagePlugin.BmpImageFile(io.BytesIO(data + bytes(max(missing, 0)))) as file:
            file.load()
            if file.mode not in ("L", "RGB", "RGBA"):
                if file.mode == "P":
                    notes.append("the palette is converted to RGB")
                stored: Stored = np.asarray(file.convert("L" if file.mode == "1" else "RGB"))
            else:
                stored = np.asarray(file)
    except OSError as error:
        if str(error).startswith("Unsupported"):
            raise UnreadableImage(
                f"it is of a kind of BMP that is not read ({cut(error)})", next_step="Export it as PNG or TIFF."
            ) from error
        raise hopeless(f"its pixels cannot be decoded ({cut(error)})") from error
    check_shape(stored, header)
    return from_stored(stored, format="bmp", metadata=_metadata(data), notes=tuple(notes))


def header_of(data: Source) -> Foreign:
    """Read the header; UnreadableImage if it is damaged or of a kind that is not read."""
    width, height, bits, compression = _head(data)
    check_size(height, width)
    if compression in (4, 5):
        raise UnreadableImage("it is a JPEG or PNG file inside a BMP file", next_step="Export it as PNG or TIFF.")
    return Foreign(
        width=width, height=height, colours=1 if bits <= 8 and _is_gray(data, bits) else 3, has_alpha=_has_alpha(data)
    )


def _head(data: Source) -> tuple[int, int, int, int]:
    """Width, height, bits of a pixel, and the kind of compression."""
    head = bytes(data[:34])
    size = int.from_bytes(head[14:18], "little")
    if size == 12 and len(head) >= 26:
        width, height, _, bits = struct.unpack("<4H", head[18:26])
        return width, height, bits, 0
    if len(head) < 34:
        raise hopeless("it is truncated: its header is missing")
    width, height, _, bits, compression = struct.unpack("<llHHL", head[18:34])
    return width, abs(height), bits, compression


def _is_gray(data: Source, bits: int) -> bool:
    """Return whether Pillow takes the palette for gray: all of its colours in the order of their codes, or black and
    white."""
    size = int.from_bytes(data[14:18], "little")
    used = int.from_bytes(data[46:50], "little") if size >= 40 else 0
    count, padding = (used or 2**bits), (3 if size == 12 else 4)
    if count > 2**bits or bits not in (1, 2, 4, 8):
        return False
    palette = np.frombuffer(bytes(data[14 + size : 14 + size + count * padding]), np.uint8)
    if len(palette) != count * padding:
        return False
    expected = np.array([0, 255]) if count == 2 else np.arange(count)
    return bool((palette.reshape(-1, padding)[:, :3] == expected[:, None]).all())


def _has_alpha(data: Source) -> bool:
    """Return whether a mask names an alpha channel of 32-bit pixels."""
    _, _, bits, compression = _head(data)
    size = int.from_bytes(data[14:18], "little")
    return bits == 32 and compression == 3 and size >= 56 and bytes(data[66:70]) not in (b"", bytes(4))


def _profile(data: bytes) -> tuple[int, int] | None:
    """Bounds of the profile in the file; None if there is none."""
    if int.from_bytes(data[14:18], "little") != _V5 or data[70:74] != _EMBEDDED or len(data) < 14 + _V5:
        return None
    offset, length = struct.unpack_from("<LL", data, 126)
    return 14 + offset, 14 + offset + length


def _metadata(data: bytes) -> Metadata:
    size = int.from_bytes(data[14:18], "little")
    x, y = struct.unpack_from("<ll", data, 38) if size >= 40 and len(data) >= 46 else (0, 0)
    start, end = _profile(data) or (0, 0)
    icc = data[start:end] or None if end <= len(data) else None
    return Metadata(icc=icc, dpi=(round(x * _METRE, 2), round(y * _METRE, 2)) if x > 0 and y > 0 else None)
