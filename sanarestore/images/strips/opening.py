"""TIFF and PNG files opened to be read in bands of rows, and written so."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import BinaryIO, Protocol

from sanarestore.images.codes import Stored
from sanarestore.images.header import FileBytes
from sanarestore.images.ifd import Source
from sanarestore.images.image import Format, Image
from sanarestore.images.messages import collected
from sanarestore.images.read import format_of, naming, opened
from sanarestore.images.strips import png, tiff
from sanarestore.images.truth import still_true

Bands = Iterator[Stored]
"""Codes [h,W,S] of a few rows each, from the top down: colours, alpha and extra channels in the order of the file."""


class StripWriter(Protocol):
    """A file that is written from the top down."""

    def write(self, codes_hWS: Stored) -> None:
        """Write the next rows, any number of them; OSError if the disk refuses."""

    def finish(self) -> None:
        """Write what follows the last row."""


@dataclass(frozen=True, slots=True)
class StripImage:
    """An open file whose pixels are decoded in bands."""

    frame: Image
    """The image with everything but its pixels: its arrays are zero, and take no memory."""
    bands: Callable[[], Bands]
    """Decodes the pixels in the depth of the image, anew with every call; UnreadableImage as from `read`."""


_OPENERS: dict[Format, Callable[[Source], tuple[Image, Callable[[], Bands]]]] = {"tiff": tiff.opened, "png": png.opened}
_WRITERS: dict[Format, Callable[[BinaryIO, Image], StripWriter]] = {"tiff": tiff.TiffWriter, "png": png.PngWriter}
WRITTEN_IN_STRIPS: tuple[Format, ...] = tuple(_WRITERS)
"""Formats that are written in strips."""


@contextmanager
def opened_in_strips(path: str | PathLike[str], name: str) -> Iterator[StripImage]:
    """Open a file whose header says that it is read in strips; `name` is used in error messages.

    UnreadableImage as from `read`; DamagedImage also where damage would be accepted.
    """
    with opened(path) as file:
        data = FileBytes(file)
        format = format_of(data)  # noqa: A001 - the word users say
        assert format in _OPENERS, f"{format} is not read in strips"
        with naming(name, format), collected():
            frame, bands = _OPENERS[format](data)
            frame = still_true(frame)
        yield StripImage(frame, lambda: _named(bands(), name, format))


def _named(bands: Bands, name: str, format: Format) -> Bands:  # noqa: A002 - the word users say
    """Pass on bands; errors name the file."""
    while True:
        with naming(name, format), collected():
            band = next(bands, None)
        if band is None:
            return
        yield band


def strip_writer(file: BinaryIO, frame: Image, format: Format) -> StripWriter:  # noqa: A002 - the word users say
    """Begin a file of one of `WRITTEN_IN_STRIPS`, open for writing and empty; `frame` is prepared for the format.

    Pixels, depth, compression and metadata are those of `encode`.
    """
    return _WRITERS[format](file, frame)
