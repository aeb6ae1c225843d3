"""Writing of an Image to bytes or, atomically, to a file."""

from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from sanarestore.errors import UnwritableImage
from sanarestore.files import write_atomically
from sanarestore.images import jpeg, png, tiff, webp
from sanarestore.images.carriage import carried
from sanarestore.images.header import Header
from sanarestore.images.image import Format, Image
from sanarestore.images.provenance import provenance_of, stripped, with_provenance
from sanarestore.options import WriteOptions

_ENCODERS: dict[Format, Callable[[Image, WriteOptions], bytes]] = {
    "tiff": tiff.encode,
    "png": png.encode,
    "jpeg": jpeg.encode,
    "webp": webp.encode,
}

_CHECKS: dict[Format, Callable[[Image], None]] = {
    "png": png.check_writable, "jpeg": jpeg.check_writable, "webp": webp.check_writable
}  # fmt: skip


def check_writable(
    image: Image,
    path: str | PathLike[str],
    *,
    format: Format | None = None,  # noqa: A002 - the word users say
    options: WriteOptions = WriteOptions(),  # noqa: B008 - frozen
) -> None:
    """Check before the work: UnwritableImage if PNG, JPEG or WebP is to be written and cannot hold the image.

    `format` and `options` are those of `encode`. TIFF is checked only when it is encoded.
    """
    check = _CHECKS.get(_format_of(image, format, options))
    if check is not None:
        _naming(Path(path), check, prepared(image, format, options))


def check_header(
    header: Header,
    path: str | PathLike[str],
    *,
    format: Format | None = None,  # noqa: A002 - the word users say
    options: WriteOptions = WriteOptions(),  # noqa: B008 - frozen
) -> None:
    """The same for an image that is not decoded yet, as far as its header tells."""
    side, has_alpha = (header.height, header.width), header.channels in (2, 4)
    # Arrays of one value take no memory.
    image = Image(
        pixels_HWC=np.broadcast_to(np.zeros((), "float32"), (*side, header.channels - has_alpha)),
        depth=header.depth, format=header.format,
        alpha_HW=np.broadcast_to(np.zeros((), header.depth), side) if has_alpha else None,
    )  # fmt: skip
    check_writable(image, path, format=format, options=options)


def encode(
    image: Image,
    format: Format | None = None,  # noqa: A002 - the word users say
    options: WriteOptions = WriteOptions(),  # noqa: B008 - frozen
) -> bytes:
    """Encode a file as `options` say; UnwritableImage if the format cannot hold the image.

    `format` decides if it is given, then the format of `options`, and the image's own if they preserve it. Metadata
    that the format cannot hold is left out; `prepared` gives notes on that.
    """
    return _ENCODERS[_format_of(image, format, options)](prepared(image, format, options), options)


def write(
    image: Image,
    path: str | PathLike[str],
    *,
    format: Format | None = None,  # noqa: A002 - the word users say
    options: WriteOptions = WriteOptions(),  # noqa: B008 - frozen
    overwrite: bool = True,
) -> None:
    """Write a file atomically, creating the folders above it; UnwritableImage if that cannot be done.

    `format` and `options` are those of `encode`: the format is never taken from the suffix. If anything fails, no
    partial file is left, and an older file stays.
    """
    target = Path(path)
    if not overwrite and target.exists():
        raise UnwritableImage("it exists already", where=target, next_step="Choose another name, or allow overwriting.")
    data = _naming(target, encode, image, format, options)
    try:
        with write_atomically(target) as file:
            file.write(data)
    except OSError as error:
        raise UnwritableImage(
            f"it cannot be written ({error.strerror or error})",
            where=target,
            next_step="Check the free space, the name and the permissions of its folder.",
        ) from error


def _format_of(image: Image, format: Format | None, options: WriteOptions) -> Format:  # noqa: A002 - as above
    if format is not None:
        return format
    return image.format if options.format == "preserve" else options.format


def prepared(
    image: Image,
    format: Format | None = None,  # noqa: A002 - the word users say
    options: WriteOptions = WriteOptions(),  # noqa: B008 - frozen
) -> Image:
    """The image in the form in which it is written, with notes on metadata that is left out.

    Values are rounded only later, as they are encoded.
    """
    if options.bit_depth is not None:
        image = replace(image, depth="uint8" if options.bit_depth == 8 else "uint16")
    if options.strip:
        told = provenance_of(image.metadata) if options.provenance else None
        bare = stripped(image.metadata)
        image = replace(image, metadata=with_provenance(bare, told) if told else bare)
    return carried(image, _format_of(image, format, options))


def _naming(target: Path, work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `work` returns; add the file's name to its UnwritableImage."""
    try:
        return work(*arguments)
    except UnwritableImage as error:
        raise UnwritableImage(error.fact, where=target, next_step=error.next_step) from error
