"""HEIF (HEIC), only read, through the optional library pi-heif; its header is read without it."""

import importlib.util

import numpy as np

from sanarestore.errors import UnreadableImage
from sanarestore.images.avif import metadata_of
from sanarestore.images.boxes import Items, check_still, find, is_cut, items_of
from sanarestore.images.codes import Stored
from sanarestore.images.damage import cut, hopeless
from sanarestore.images.fitting import upright_metadata
from sanarestore.images.foreign import Foreign, check_shape, needs_code_points, scaled
from sanarestore.images.ifd import Source
from sanarestore.images.image import Image, check_size, from_stored

_INSTALL = "Install it: pip install 'sanarestore[heif]'."


def decode(data: bytes, *, accept_damaged: bool = False) -> Image:
    """Decode the main picture of a HEIF file of 8, 10 or 12 bits, turned upright.

    UnreadableImage for a sequence, or if pi-heif is not installed; DamagedImage if it is truncated or cannot be
    decoded.
    """
    header, items = header_of(data), items_of(data)
    check_size(*reversed(items.size))
    if is_cut(data):
        raise hopeless("it is truncated: the end of the HEIF file is missing")
    import pi_heif

    try:
        file = pi_heif.open_heif(_without_metadata(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)
        if file.premultiplied_alpha:
            raise UnreadableImage("its colours are premultiplied by alpha", next_step="Export it as TIFF or PNG.")
        stored: Stored = np.asarray(file)
    except (MemoryError, UnreadableImage):
        raise
    except Exception as error:  # the type depends on the library's version
        raise hopeless(f"its pixels cannot be decoded ({cut(error)})") from error
    stored = stored[:, : file.size[0]]
    if header.channels == 2 and stored.shape[2:] == (4,):  # libheif has no gray with alpha: its colours are equal
        stored = stored[..., ::3]
    stored, notes = scaled(np.array(stored), header.bits)
    check_shape(stored, header)
    # libheif has applied the turns.
    more: tuple[str, ...] = ("the picture is turned upright",) if items.turns else ()
    if items.has_others:
        more = (*more, "only the main picture is used; gain map and depth map are left out")
    metadata = metadata_of(data, items, is_gray=header.colours == 1)
    metadata = upright_metadata(metadata, header.width, header.height)
    return from_stored(
        stored, format="heif", metadata=metadata, colours=header.colours, bits=header.between, notes=(*notes, *more)
    )


def _without_metadata(data: bytes) -> bytes:
    """The file with nothing that describes its pictures: pi-heif crashes on metadata of a kind that it does not know.

    References to metadata get a type that has no meaning, so that all places stay as they are.
    """
    meta = find(data, b"meta")
    box = find(data, b"iref", meta.start + 4, meta.end) if meta else None
    if box is None:
        return data
    return data[: box.start] + data[box.start : box.end].replace(b"cdsc", b"skip") + data[box.end :]


def header_of(data: Source) -> Foreign:
    """Read the properties of the main picture; UnreadableImage if there is none, or pi-heif is not installed."""
    if importlib.util.find_spec("pi_heif") is None:
        raise UnreadableImage("it is a HEIF file, and reading it needs pi-heif", next_step=_INSTALL)
    check_still(data)
    items = items_of(data)
    width, height = _cropped(items)
    if items.is_sideways:
        width, height = height, width
    coded, planes = items.first(b"hvcC", 19), items.first(b"pixi", 6)
    if coded is not None:
        bits, is_gray = 8 + (coded[17] & 7), coded[16] & 3 == 0
    elif planes is not None:
        bits, is_gray = planes[5], planes[4] == 1
    else:
        bits, is_gray = 8, False
    return Foreign(
        width=width, height=height, colours=1 if is_gray else 3, has_alpha=items.has_alpha, bits=bits,
        has_cicp=items.profile is None and needs_code_points(items.code_points, is_gray=is_gray),
    )  # fmt: skip


def _cropped(items: Items) -> tuple[int, int]:
    """Width and height after the crop that the file asks for, as libheif rounds it."""
    width, height = items.size
    body = items.first(b"clap", 32)
    if body is None:
        return width, height
    numbers = [int.from_bytes(body[at : at + 4], "big", signed=True) for at in range(0, 32, 4)]
    if any(each <= 0 for each in (*numbers[:4], numbers[5], numbers[7])):
        return width, height
    sides = []
    for side, top, bottom, shift, under in (
        (width, *numbers[:2], *numbers[4:6]),
        (height, *numbers[2:4], *numbers[6:]),
    ):
        middle = shift / under + (side - 1) / 2
        first, last = (middle - (top / bottom - 1) / 2), (middle + (top / bottom - 1) / 2)
        sides.append(max(min(round(last), side - 1) - max(round(first), 0) + 1, 1))
    return sides[0], sides[1]
