"""Reading of files and bytes into an Image, for all formats, with one kind of error for bad files."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import BinaryIO, Protocol

from sanarestore.errors import MissingImage, OutOfMemory, SanarestoreError, UnreadableImage
from sanarestore.images import avif, bmp, heif, jp2, jpeg, jxl, png, raw, tiff, webp
from sanarestore.images.damage import cut
from sanarestore.images.ifd import Source
from sanarestore.images.image import FORMAT_NAMES, Format, Image
from sanarestore.images.messages import collected
from sanarestore.images.pages import is_camera_raw
from sanarestore.images.signature import HEAD, READ, name_foreign, sniff, with_article
from sanarestore.images.truth import still_true


class _Decoder(Protocol):
    def __call__(self, data: bytes, *, accept_damaged: bool) -> Image: ...


_DECODERS: dict[Format, _Decoder] = {
    "tiff": tiff.decode,
    "png": png.decode,
    "jpeg": jpeg.decode,
    "webp": webp.decode,
    "bmp": bmp.decode,
    "jp2": jp2.decode,
    "avif": avif.decode,
    "jxl": jxl.decode,
    "heif": heif.decode,
    "raw": raw.decode,
}


def read(path: str | PathLike[str], *, accept_damaged: bool = False) -> Image:
    """Read the image in a file; UnreadableImage if it is missing or not in a supported format.

    DamagedImage if only a part of it can be decoded. With `accept_damaged`, that part is returned with a note; what is
    missing is gray or black.
    """
    with opened(path) as file:
        data = file.read()
    return decode(data, str(path), accept_damaged=accept_damaged)


def decode(data: bytes, name: str = "the image", *, accept_damaged: bool = False) -> Image:
    """Decode the image in these bytes as `read` does; `name` is used in error messages."""
    format = format_of(data)  # noqa: A001
    if format is None:
        raise unknown(data[:HEAD], name)
    with naming(name, format), collected():
        return still_true(_DECODERS[format](data, accept_damaged=accept_damaged))


def format_of(data: Source) -> Format | None:
    """The format of a file, from its first bytes and, for TIFF, its tags; None if it is not supported."""
    format = sniff(bytes(data[:HEAD]))  # noqa: A001
    return "raw" if format == "tiff" and is_camera_raw(data) else format


@contextmanager
def naming(name: str, format: Format) -> Iterator[None]:  # noqa: A002 - the word users say
    """Turn whatever decoding raises into an error that names the file."""
    try:
        yield
    except UnreadableImage as error:
        raise type(error)(error.fact, where=name, next_step=error.next_step) from error
    except MemoryError as error:
        raise OutOfMemory(
            "the image does not fit into memory", where=name, next_step="Close other programs."
        ) from error
    except SanarestoreError:
        raise
    except Exception as error:  # decoders raise anything, and one bad file must not stop a batch
        raise UnreadableImage(
            f"this {FORMAT_NAMES[format]} file is damaged, or of a kind that is not read ({cut(error)})",
            where=name,
            next_step="Open it in a photo editor: if it opens, export it again; if not, restore it from a backup.",
        ) from error


@contextmanager
def opened(path: str | PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file; UnreadableImage if that fails or reading does, or if it is a pipe or a device, which may not end."""
    try:
        mode = Path(path).stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            fact = "it is a pipe, a socket or a device, not a file"
            raise UnreadableImage(fact, where=path, next_step="Name a file.")
        with Path(path).open("rb") as file:
            yield file
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError)
        fact = "there is no such file" if is_missing else f"it cannot be read ({error.strerror or error})"
        kind = MissingImage if is_missing else UnreadableImage
        raise kind(fact, where=path, next_step="Check its name and permissions.") from error


def unknown(head: bytes, name: str) -> UnreadableImage:
    """The error of a file that does not begin as a supported format does."""
    if not head:
        return UnreadableImage("it is empty", where=name, next_step="Restore it from a backup or copy it again.")
    foreign = name_foreign(head)
    if foreign:
        return UnreadableImage(
            f"it is {with_article(foreign)}, and {READ} are read",
            where=name,
            next_step="Export it as TIFF or PNG first.",
        )
    return UnreadableImage("it is not an image", where=name, next_step=f"Give a file in one of {READ}.")
