"""Writing of an Image to bytes or, atomically, to a file."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from sanarestore.errors import UnwritableImage
from sanarestore.files import write_atomically
from sanarestore.images import jpeg, png, tiff, webp
from sanarestore.images.header import Header
from sanarestore.images.image import UNSPECIFIED, Extra, Format, Image
from sanarestore.images.signature import NAMES

_ENCODERS: dict[Format, Callable[[Image], bytes]] = {
    "tiff": tiff.encode,
    "png": png.encode,
    "jpeg": jpeg.encode,
    "webp": webp.encode,
}


_CHECKS: dict[Format, Callable[[Image], None]] = {
    "png": png.check_writable, "jpeg": jpeg.check_writable, "webp": webp.check_writable
}  # fmt: skip


def check_writable(image: Image, path: str | PathLike[str], *, format: Format | None = None) -> None:  # noqa: A002
    """Check before the work: UnwritableImage if PNG, JPEG or WebP is to be written and cannot hold the image.

    `format` None is the image's own, if it is written (`Image.written_as`). TIFF is checked only when it is encoded.
    """
    _naming(Path(path), _check, image, format or image.written_as)


def _check(image: Image, format: Format) -> None:  # noqa: A002
    if format == "tiff":
        return
    if image.more_pages:
        raise UnwritableImage(
            f"{NAMES[format]} holds one page, and this file has {1 + len(image.more_pages)}", next_step="Write TIFF."
        )
    if image.extra is not None:
        count = image.extra.count
        raise UnwritableImage(
            f"{NAMES[format]} cannot hold the {count} extra channel{'s' if count > 1 else ''} of this image",
            next_step="Write TIFF.",
        )
    _CHECKS[format](image)


def check_header(header: Header, path: str | PathLike[str], *, format: Format | None = None) -> None:  # noqa: A002
    """The same for an image that is not decoded yet, as far as its header tells."""
    check_writable(_like(header), path, format=format)


def _like(header: Header) -> Image:
    """An image as the header says, of one value."""
    side, has_alpha = (header.height, header.width), header.channels in (2, 4)
    # Arrays of one value take no memory.
    return Image(
        pixels_HWC=np.broadcast_to(np.zeros((), "float32"), (*side, header.channels - has_alpha)),
        depth=header.depth, format=header.written_as,
        alpha_HW=np.broadcast_to(np.zeros((), header.depth), side) if has_alpha else None,
        extra=_extra_like(header) if header.extra else None, more_pages=tuple(map(_like, header.more)),
    )  # fmt: skip


def _extra_like(header: Header) -> Extra:
    """Extra channels as the header says, of one value, which take no memory."""
    codes_HWS = np.broadcast_to(np.zeros((), header.depth), (header.height, header.width, header.extra))
    return Extra(codes_HWS=codes_HWS, kinds=(UNSPECIFIED,) * header.extra)


def encode(image: Image, format: Format | None = None) -> bytes:  # noqa: A002 - the word users say
    """Encode a file in `format`, if None in that of `Image.written_as`; UnwritableImage if it cannot hold the image."""
    chosen = format or image.written_as
    _check(image, chosen)
    return _ENCODERS[chosen](image)


def write(
    image: Image,
    path: str | PathLike[str],
    *,
    format: Format | None = None,  # noqa: A002 - the word users say
    overwrite: bool = True,
) -> None:
    """Write a file atomically, creating the folders above it; UnwritableImage if that cannot be done.

    The format is never taken from the suffix. If anything fails, no partial file is left, and an older file stays.
    """
    target = Path(path)
    if not overwrite and target.exists():
        raise UnwritableImage("it exists already", where=target, next_step="Choose another name, or allow overwriting.")
    data = _naming(target, encode, image, format)
    try:
        with write_atomically(target) as file:
            file.write(data)
    except OSError as error:
        raise UnwritableImage(
            f"it cannot be written ({error.strerror or error})",
            where=target,
            next_step="Check the free space, the name and the permissions of its folder.",
        ) from error


def _naming(target: Path, work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `work` returns; add the file's name to its UnwritableImage."""
    try:
        return work(*arguments)
    except UnwritableImage as error:
        raise UnwritableImage(error.fact, where=target, next_step=error.next_step) from error
