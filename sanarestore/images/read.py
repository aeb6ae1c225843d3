"""Reading of files and bytes into an Image, for all formats, with one kind of error for bad files."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path

from sanarestore.errors import OutOfMemory, SanarestoreError, UnreadableImage
from sanarestore.images import jpeg, png, tiff, webp
from sanarestore.images.image import Format, Image
from sanarestore.images.signature import HEAD, name_foreign, sniff

_DECODERS: dict[Format, Callable[[bytes], Image]] = {
    "tiff": tiff.decode,
    "png": png.decode,
    "jpeg": jpeg.decode,
    "webp": webp.decode,
}
_FORMATS = "TIFF, PNG, JPEG and WebP"


def read(path: str | PathLike[str]) -> Image:
    """Read the image in a file; UnreadableImage if it is missing, damaged, or not in a supported format."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        fact = (
            "there is no such file" if isinstance(error, FileNotFoundError) else f"it cannot be read ({error.strerror})"
        )
        raise UnreadableImage(fact, where=path, next_step="Check its name and permissions.") from error
    return decode(data, str(path))


def decode(data: bytes, name: str = "the image") -> Image:
    """Decode the image in these bytes; `name` is used in error messages."""
    format = sniff(data[:HEAD])  # noqa: A001
    if format is None:
        raise _unknown(data, name)
    try:
        return _DECODERS[format](data)
    except UnreadableImage as error:
        raise UnreadableImage(error.fact, where=name, next_step=error.next_step) from error
    except MemoryError as error:
        raise OutOfMemory(
            "the image does not fit into memory", where=name, next_step="Close other programs."
        ) from error
    except SanarestoreError:
        raise
    except Exception as error:  # decoders raise anything, and one bad file must not stop a batch
        raise UnreadableImage(
            f"this {format.upper()} file is damaged, or of a kind that is not read ({error})",
            where=name,
            next_step="Open it in a photo editor: if it opens, export it again; if not, restore it from a backup.",
        ) from error


def _unknown(data: bytes, name: str) -> UnreadableImage:
    if not data:
        return UnreadableImage("it is empty", where=name, next_step="Restore it from a backup or copy it again.")
    foreign = name_foreign(data[:HEAD])
    if foreign:
        return UnreadableImage(
            f"it is a {foreign} file, and {_FORMATS} are read", where=name, next_step="Export it as TIFF or PNG first."
        )
    return UnreadableImage("it is not an image", where=name, next_step=f"Give a file in one of {_FORMATS}.")
