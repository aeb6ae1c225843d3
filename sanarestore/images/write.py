"""Writing of an Image to bytes or, atomically, to a file."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sanarestore.errors import UnwritableImage
from sanarestore.files import write_atomically
from sanarestore.images import avif_write, jpeg, jxl_write, png, tiff, webp
from sanarestore.images.carriage import carried
from sanarestore.images.codes import DEPTHS, spoken, to_float
from sanarestore.images.header import Header
from sanarestore.images.image import FORMAT_NAMES, UNSPECIFIED, Extra, Format, Image, count_extra, kinds_of
from sanarestore.images.orientation import UPRIGHT, turned_upright
from sanarestore.images.provenance import provenance_of, stripped, with_provenance
from sanarestore.options import WriteOptions

Held = TypeVar("Held", bound=Image | Header)


@dataclass(frozen=True, slots=True)
class _Writer:
    """The functions and suffixes of a format."""

    encode: Callable[[Image, WriteOptions], bytes]
    check: Callable[[Image], None] | None
    """Raises UnwritableImage if the format cannot hold an image."""
    suffixes: tuple[str, ...]
    """Suffixes of its files; the first is the usual one."""


_WRITERS: dict[Format, _Writer] = {
    "tiff": _Writer(tiff.encode, None, (".tif", ".tiff")),
    "png": _Writer(png.encode, png.check_writable, (".png",)),
    "jpeg": _Writer(jpeg.encode, jpeg.check_writable, (".jpg", ".jpeg", ".jpe", ".jfif")),
    "webp": _Writer(webp.encode, webp.check_writable, (".webp",)),
    "avif": _Writer(avif_write.encode, avif_write.check_writable, (".avif",)),
    "jxl": _Writer(jxl_write.encode, jxl_write.check_writable, (".jxl",)),
}

_READ_AS = re.compile(r"^((?:\d+-bit \w+|float\d+) (?:is|are) converted to )(?:(?:8|16) bits?|float32)$")
"""Notes of readers on depths that this program does not keep."""

SUFFIXES: dict[str, Format] = {
    suffix: format_ for format_, writer in _WRITERS.items() for suffix in writer.suffixes
}  # fmt: skip
"""Suffixes of the formats that are written, in lower case; the usual suffix of a format comes first."""


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
    target = format_written(image, format, options)
    image = replace(image, thumbnail=None)  # it takes time to make one
    if image.alpha_kind == "associated" and target != "tiff":  # `prepared` would divide all pixels
        image = replace(image, alpha_kind="unassociated")
    _naming(Path(path), _check, prepared(image, format, options), target)


def _check(image: Image, format: Format) -> None:  # noqa: A002
    if format == "tiff":
        return
    if image.more_pages:
        raise UnwritableImage(
            f"{FORMAT_NAMES[format]} holds one page, and this file has {1 + len(image.more_pages)}",
            next_step="Use --format tiff.",
        )
    if count := count_extra(kinds_of(image)):
        what = f"{count} extra channels" if count > 1 else "extra channel, which is not marked as alpha"
        raise UnwritableImage(f"{FORMAT_NAMES[format]} cannot hold this image's {what}", next_step="Use --format tiff.")
    check = _WRITERS[format].check
    if check is not None:
        check(image)


def check_header(header: Header, path: str | PathLike[str]) -> None:
    """Check by the header of a result, which `result_header` gives, as far as it tells; errors as above."""
    check_writable(_like(header), path)


def _like(header: Header) -> Image:
    """An image as the header says, of one value."""
    side, has_alpha = (header.height, header.width), header.channels in (2, 4)
    # Arrays of one value take no memory.
    return Image(
        pixels_HWC=np.broadcast_to(np.zeros((), "float32"), (*side, header.channels - has_alpha)),
        depth=header.depth, format=header.written_as,
        alpha_HW=np.broadcast_to(np.zeros((), header.depth), side) if has_alpha else None, alpha_kind=header.alpha_kind,
        extra=_extra_like(header) if header.extra else None, more_pages=tuple(map(_like, header.more)),
    )  # fmt: skip


def _extra_like(header: Header) -> Extra:
    """Extra channels as the header says, of one value, which take no memory."""
    codes_HWS = np.broadcast_to(np.zeros((), header.depth), (header.height, header.width, header.extra))
    return Extra(codes_HWS=codes_HWS, kinds=(UNSPECIFIED,) * header.extra)


def result_header(
    header: Header,
    size: Callable[[int, int], tuple[int, int]],
    *,
    format: Format | None = None,  # noqa: A002 - the word users say
    options: WriteOptions = WriteOptions(),  # noqa: B008 - frozen
) -> Header:
    """The header of a result made from the image with a header; other arguments as for `encode`.

    `size` gives the width and height of a result from those of a page.
    """
    header, written = _in_depth(header, options), format_written(header, format, options)
    width, height = size(header.width, header.height)
    more = tuple(result_header(page, size, format=written, options=options) for page in header.more)
    return replace(header, width=width, height=height, format=written, more=more)


def encode(
    image: Image,
    format: Format | None = None,  # noqa: A002 - the word users say
    options: WriteOptions = WriteOptions(),  # noqa: B008 - frozen
) -> bytes:
    """Encode a file as `options` say; UnwritableImage if the format cannot hold the image.

    `format` decides if it is given, then the format of `options`, and the image's own if they preserve it. Metadata
    that the format cannot hold is left out; `prepared` gives notes on that.
    """
    target, ready = format_written(image, format, options), prepared(image, format, options)
    _check(ready, target)
    return _WRITERS[target].encode(ready, options)


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


def format_written(
    image: Image | Header,
    format: Format | None,  # noqa: A002 - the word users say
    options: WriteOptions,
) -> Format:
    """The format in which an image, or one with a header, is written; arguments as for `encode`."""
    if format is not None:
        return format
    if options.format != "preserve":
        return options.format
    return _in_depth(image, options).written_as


def _in_depth(image: Held, options: WriteOptions) -> Held:
    """The image, or header, with the depth that is asked for."""
    return image if options.bit_depth is None else replace(image, depth=DEPTHS[options.bit_depth], bits=None)


def prepared(
    image: Image,
    format: Format | None = None,  # noqa: A002 - the word users say
    options: WriteOptions = WriteOptions(),  # noqa: B008 - frozen
) -> Image:
    """The image in the form in which it is written, with notes on metadata that is left out.

    Values are rounded only later, as they are encoded. Notes of other pages are left out.
    """
    if image.more_pages:
        image = replace(image, more_pages=tuple(prepared(page, format, options) for page in image.more_pages))
    depth = DEPTHS.get(options.bit_depth, image.depth)
    if depth != image.depth:
        image = replace(image, notes=(*_told(image.notes, spoken(depth)), *_clipped(image)))
    image = _in_depth(image, options)
    target = format_written(image, format, options)
    if image.alpha_kind == "associated" and target != "tiff":
        image = _divided(image, FORMAT_NAMES[target])
    if options.strip:
        record = provenance_of(image.metadata) if options.provenance else None
        bare = stripped(image.metadata)
        image = replace(image, metadata=with_provenance(bare, record) if record else bare, thumbnail=None)
    if target == "avif" and image.depth == "uint16":
        image = _told_of_avif(image)
    return carried(turned_upright(image) if target in UPRIGHT else image, target)


def _told(notes: tuple[str, ...], depth: str) -> tuple[str, ...]:
    """Notes of readers with the depth that is written in place of the one that was read."""
    return tuple(_READ_AS.sub(rf"\g<1>{depth}", note) for note in notes)


def _told_of_avif(image: Image) -> Image:
    """The image with notes on the bits that AVIF is written with."""
    bits = avif_write.bits_of(image)
    if image.bits == bits:
        kept = tuple(note for note in image.notes if not _READ_AS.match(note))
        return replace(image, notes=kept)
    if image.bits is not None:
        return replace(image, notes=_told(image.notes, f"{bits} bits"))
    return replace(image, notes=(*image.notes, f"values are rounded to {bits} bits, the most that AVIF holds"))


def _divided(image: Image, name: str) -> Image:
    """Divide colours by alpha; those of fully transparent pixels become 0."""
    if image.alpha_HW is None:
        return image
    alpha_HW1 = to_float(image.alpha_HW[..., None], image.alpha_HW.dtype.name)  # type: ignore[arg-type]
    pixels_HWC = np.zeros_like(image.pixels_HWC)
    np.divide(image.pixels_HWC, alpha_HW1, out=pixels_HWC, where=alpha_HW1 > 0)
    note = f"colours were divided by alpha, because {name} does not hold them premultiplied"
    return replace(image, pixels_HWC=pixels_HWC, alpha_kind="unassociated", notes=(*image.notes, note))


def _clipped(image: Image) -> list[str]:
    """Note on values of a float image that codes cannot hold."""
    if image.depth != "float32":
        return []
    channels = [image.pixels_HWC] + ([] if image.extra is None else [image.extra.codes_HWS])
    is_beyond = any(each.size and not (each.min() >= 0 and each.max() <= 1) for each in channels)
    return ["values below 0 or above 1 are clipped to these by --bit-depth"] if is_beyond else []


def _naming(target: Path, work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `work` returns; add the file's name to its UnwritableImage."""
    try:
        return work(*arguments)
    except UnwritableImage as error:
        raise UnwritableImage(error.fact, where=target, next_step=error.next_step) from error
