"""Pages of TIFF files: those of full size, and reduced ones and masks that only accompany them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sanarestore.errors import UnreadableImage
from sanarestore.images import ifd
from sanarestore.images.damage import damaged, hopeless
from sanarestore.images.ifd import ByteLayout, Source
from sanarestore.images.image import MAXIMUM_PIXELS
from sanarestore.images.tiff_header import TiffHeader, integers

_SUBFILE, _OLD_SUBFILE, _SUB_IFDS = 254, 255, 330
_REDUCED, _MASK, _OLD_REDUCED = 1, 4, 2
_RAW_PHOTOMETRICS = (32803, 34892)
_DNG = 50706
_MOST_PAGES = 1000
_MOST_RAW_PAGES = 8
_MOST_SUB_IFDS = 16


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages of a file that are photographs."""

    layout: ByteLayout
    first: ifd.Directory
    """The first directory; it may hold metadata even if it is a thumbnail."""
    full: tuple[ifd.Directory, ...]
    """Directories of the full-size pages, one or more; the largest one if all are reduced."""
    notes: tuple[str, ...] = ()

    @property
    def headers(self) -> tuple[TiffHeader, ...]:
        """Headers of the full-size pages, checked; UnreadableImage if one is not read."""
        found = []
        for number, directory in enumerate(self.full, start=1):
            header = TiffHeader.of(directory, self.layout)
            with numbered(number, len(self.full)):
                header.check()
            found.append(header)
        total = sum(header.width * header.height for header in found)
        if total > MAXIMUM_PIXELS:
            raise UnreadableImage(
                f"its {len(found)} pages have more than the {MAXIMUM_PIXELS / 1e6:.0f} megapixels that are read",
                next_step="Split it into several files.",
            )
        return tuple(found)


def read_pages(data: Source, *, accept_damaged: bool) -> Pages:
    """Read the directories of a TIFF file, and tell full-size pages from others; DamagedImage if tags are missing."""
    start = ifd.read_header(data)
    if start is None:
        raise hopeless("it is truncated: its tags are missing")
    layout, offset = start
    offsets, is_whole = ifd.offsets(data, offset, layout, _MOST_PAGES + 1)
    if len(offsets) > _MOST_PAGES:
        raise UnreadableImage(f"it has more than {_MOST_PAGES} pages", next_step="Split it into several files.")
    directories, notes = [], []
    for each in offsets or [offset]:
        try:
            directories.append(ifd.read(data, each, layout, strict=True))
        except ifd.EndsEarlyError:
            is_whole = False
            directories.append(ifd.read(data, each, layout))
    if not is_whole:
        notes.append(damaged("it is truncated: a part of its tags is missing", accepted=accept_damaged))
        directories = [each for each in directories if _area(each, layout)] or directories[:1]
    full = [each for each in directories if not _is_reduced(each, layout)]
    full = full or [max(directories, key=lambda each: _area(each, layout))]
    left = len(directories) - len(full)
    if left or any(_SUB_IFDS in each for each in full):
        notes.append("reduced pages and masks are left out" if left else "reduced images inside a page are left out")
    if len(full) > 1:
        notes.append(f"each of its {len(full)} pages is restored")
    return Pages(layout, directories[0], tuple(full), tuple(notes))


def is_camera_raw(data: Source) -> bool:
    """Return whether a TIFF structure is that of a camera raw file: a DNG, a CR2, or one with a page of sensor data."""
    start = ifd.read_header(data)
    if start is None:
        return False
    layout, offset = start
    if bytes(data[8:10]) == b"CR":
        return True
    return any(
        _DNG in each or (integers(each, 262, layout) or (1,))[0] in _RAW_PHOTOMETRICS
        for each in directories_of(data, offset, layout)
    )


def directories_of(data: Source, offset: int, layout: ByteLayout) -> Iterator[ifd.Directory]:
    """The first directories of a file, each followed by those inside it."""
    for each in ifd.offsets(data, offset, layout, _MOST_RAW_PAGES)[0]:
        directory = ifd.read(data, each, layout)
        yield directory
        for inner in integers(directory, _SUB_IFDS, layout)[:_MOST_SUB_IFDS]:
            yield ifd.read(data, inner, layout)


@contextmanager
def numbered(number: int, count: int) -> Iterator[None]:
    """Say in an UnreadableImage of the block which of several pages it is about."""
    try:
        yield
    except UnreadableImage as error:
        if count == 1:
            raise
        raise type(error)(f"page {number}: {error.fact}", next_step=error.next_step) from error


def _is_reduced(directory: ifd.Directory, layout: ByteLayout) -> bool:
    new = (integers(directory, _SUBFILE, layout) or (0,))[0]
    old = (integers(directory, _OLD_SUBFILE, layout) or (1,))[0]
    return bool(new & (_REDUCED | _MASK)) or old == _OLD_REDUCED


def _area(directory: ifd.Directory, layout: ByteLayout) -> int:
    header = TiffHeader.of(directory, layout)
    return header.width * header.height
