"""Training photographs: cached once decoded, searched for detail, cropped, and some held back for validation."""

import shutil
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sanarestore import images
from sanarestore.degradations.pairs import Pair
from sanarestore.degradations.recipes import stream
from sanarestore.errors import ImageError, NoImagesError, UsageError
from sanarestore.files import hash_text, write_atomically
from sanarestore.images import Pixels, resize
from sanarestore.model.colour_correction import overview
from sanarestore.tiling import mirror

CACHE_BYTES = 700 * 2**20
"""Bytes of decoded photos that each worker keeps in memory; the rest are read again."""

DECODED_BYTES = 8 * 2**30
"""Bytes of decoded photos that each worker writes to disk for all workers; the rest are decoded again."""

LEFT_FREE = 4 * 2**30
"""Bytes of free disk space that decoded photos must leave: checkpoints need room too."""

NARROWEST_FRAMING = 0.35
"""Smallest share of each side of a photo's overview that a sample takes for the whole photograph."""

MAPPED_FROM = 32 * 2**20
"""Bytes above which a decoded photo is memory-mapped instead of read."""


SUPPORT = 3
"""Pixels on each side that a bicubically enlarged pixel depends on, plus one."""

SMALL_SIDE = 384
"""Longest side in pixels of the copy of a photo that is degraded as a whole."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class CropWindow:
    """A square of a photo."""

    top: int
    left: int
    span: int
    """Its side, in pixels."""


class Photo:
    """One photo of a cache, from which samples are cut; its size and overview are kept when its pixels are not."""

    def __init__(self, path: Path, cache: "PhotoCache") -> None:
        self.path = path
        self._cache = cache

    @property
    def codes(self) -> npt.NDArray[np.generic]:
        """The codes [H, W, C] as the file stores them."""
        return self._cache.read(self.path)

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width; ImageError if the photo cannot be read."""
        height, width = self.codes.shape[:2]
        return height, width

    @cached_property
    def overview(self) -> Pixels:
        """The whole photo's `overview`, [h, w, 9]."""
        return overview(to_tensor(_as_colour(self.codes))).numpy().transpose(1, 2, 0)

    @cached_property
    def small(self) -> npt.NDArray[np.uint8]:
        """The whole photo, reduced to at most `SMALL_SIDE` pixels a side, in 8 bits, [h, w, 3]."""
        height, width = self.size
        factor = max(height, width, SMALL_SIDE) / SMALL_SIDE
        whole = _as_colour(self.codes)
        if factor > 1:
            whole = resize(whole, max(1, round(width / factor)), max(1, round(height / factor)))
        return images.from_float(whole, "uint8").astype(np.uint8, copy=False)

    def framing(self, window: CropWindow, rng: np.random.Generator) -> Pixels:
        """Cut a random part of the overview, around the middle of a window, to stand for the whole photo.

        A network would memorise the colour statistics of a few dozen whole photos; random parts vary enough.
        """
        return self.overview[self._framed(self.overview.shape, window, rng)]

    def small_framing(self, window: CropWindow, rng: np.random.Generator) -> Pixels:
        """Cut a random part, as `framing` does, of the `small` photo, [h, w, 3]."""
        return images.to_float(self.small[self._framed(self.small.shape, window, rng)], "uint8")

    def _framed(self, whole: tuple[int, ...], window: CropWindow, rng: np.random.Generator) -> tuple[slice, slice]:
        """Choose rows and columns of an overview or a copy whose height and width come first in its shape `whole`."""
        share = float(rng.uniform(NARROWEST_FRAMING, 1))
        ranges = []
        for first, side, size in zip((window.top, window.left), self.size, whole[:2], strict=True):
            middle, length = int((first + window.span / 2) / side * size), max(1, round(share * size))
            latest = min(middle, size - length)
            start = int(rng.integers(max(0, min(middle - length + 1, latest)), latest + 1))
            ranges.append(slice(start, start + length))
        return ranges[0], ranges[1]

    def crop(self, top: int, left: int, height: int, width: int) -> Pixels:
        """Cut a part [height, width, 3] in float, mirrored beyond the photo's border; gray is repeated to RGB."""
        codes = self.codes
        if top >= 0 and left >= 0 and top + height <= codes.shape[0] and left + width <= codes.shape[1]:
            return _as_colour(codes[top : top + height, left : left + width])
        rows = mirror(np.arange(top, top + height), codes.shape[0])
        columns = mirror(np.arange(left, left + width), codes.shape[1])
        return _as_colour(codes[np.ix_(rows, columns)])

    def square(self, window: CropWindow, side: int) -> Pixels:
        """Cut a window and shrink it to [side, side, 3]."""
        cut = self.crop(window.top, window.left, window.span, window.span)
        return cut if window.span == side else np.clip(resize(cut, side, side), 0, 1)

    def detail(self, window: CropWindow, *, every: int) -> float:
        """Mean absolute difference of pixels `every` apart in a window: detail at about the scale it is shrunk to."""
        rows, columns = (slice(first, first + window.span, every) for first in (window.top, window.left))
        codes = self.codes[rows, columns].astype(np.float32)
        return float(sum(np.abs(np.diff(codes, axis=axis)).mean() for axis in (0, 1) if codes.shape[axis] > 1))


class EnlargedPhoto(Photo):
    """A photo enlarged by an integer factor, as by `restore --scale`; only the parts that are cut are computed."""

    def __init__(self, path: Path, cache: "PhotoCache", scale: int) -> None:
        super().__init__(path, cache)
        self._scale = scale

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width after enlarging; ImageError if the photo cannot be read."""
        height, width = self.codes.shape[:2]
        return height * self._scale, width * self._scale

    @cached_property
    def overview(self) -> Pixels:
        """The whole enlarged photo's `overview`, [h, w, 9]."""
        return overview(to_tensor(self._enlarged(*self.codes.shape[:2]))).numpy().transpose(1, 2, 0)

    def crop(self, top: int, left: int, height: int, width: int) -> Pixels:
        """Cut a part [height, width, 3] of the enlarged photo in float, mirrored beyond its border."""
        sides = zip((top, left), (height, width), self.size, strict=True)
        rows, columns = (mirror(np.arange(first, first + length), size) for first, length, size in sides)
        # A window with the resampling filter's support around it gives the same pixels as the whole photo.
        (low, high), (near, far) = (self._window(places) for places in (rows, columns))
        window = self._enlarged(high - low, far - near, low, near)
        return window[np.ix_(rows - low * self._scale, columns - near * self._scale)]

    def _window(self, places: npt.NDArray[np.integer]) -> tuple[int, int]:
        """First and last row or column of the stored photo, exclusive, that these of the enlarged one depend on."""
        first, last = int(places.min()) // self._scale, int(places.max()) // self._scale
        return max(first - SUPPORT, 0), last + 1 + SUPPORT

    def _enlarged(self, height: int, width: int, top: int = 0, left: int = 0) -> Pixels:
        """Enlarge a part of the stored photo, cut at its borders."""
        stored = _as_colour(self.codes[top : top + height, left : left + width])
        return resize(stored, stored.shape[1] * self._scale, stored.shape[0] * self._scale)


class PhotoCache:
    """Photos by path. The last used ones stay decoded, within `CACHE_BYTES`.

    With a folder, every photo is decoded once for all processes, into a file there, as long as `DECODED_BYTES` and the
    free space of the disk allow.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._written = 0
        self._kept: OrderedDict[Path, npt.NDArray[np.generic]] = OrderedDict()
        self._bytes = 0
        self._photos: dict[tuple[Path, int], Photo] = {}

    def photo(self, path: Path, scale: int = 1) -> Photo:
        """Return the photo at a path, enlarged `scale` times: always the same object, whose file is not read yet."""
        if (path, scale) not in self._photos:
            made = EnlargedPhoto(path, self, scale) if scale > 1 else Photo(path, self)
            self._photos[path, scale] = made
        return self._photos[path, scale]

    def pair(self, pair: Pair, scale: int = 1) -> tuple[Photo, Photo]:
        """The degraded image of a pair, enlarged `scale` times, and its target."""
        return self.photo(pair.degraded, scale), self.photo(pair.target)

    def read(self, path: Path) -> npt.NDArray[np.generic]:
        """Return the codes [H, W, C] as the file stores them."""
        if path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path]
        codes = self._decoded(path)
        self._kept[path] = codes
        self._bytes += codes.nbytes
        while self._bytes > CACHE_BYTES and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return codes

    def _decoded(self, path: Path) -> npt.NDArray[np.generic]:
        """Load the codes from the folder, or decode the photo and save them there."""
        if self._folder is None:
            return _decode(path)
        file = self._folder / f"{_name_of(path)}.npy"
        if (known := _kept(file)) is not None:
            return known
        codes = _decode(path)
        if self._written + codes.nbytes > DECODED_BYTES or not _keep(codes, file):
            # There is no room: do not try again.
            self._written = DECODED_BYTES
            return codes
        self._written += codes.nbytes
        return codes


def _decode(path: Path) -> npt.NDArray[np.generic]:
    image = images.read(path)
    return images.from_float(image.pixels_HWC, image.depth)


def _name_of(path: Path) -> str:
    """Name a decoded file by the photo's path, size and time of change, or by its path alone if the photo is gone."""
    with suppress(OSError):
        facts = path.stat()
        return hash_text(f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns}")[:32]
    return hash_text(str(path))[:32]


def _kept(file: Path) -> npt.NDArray[np.generic] | None:
    """Load what `_keep` wrote; None if the file is missing or invalid.

    Large photos are memory-mapped, small ones read: each map uses one of the few files that a process may have open.
    """
    try:
        large = file.stat().st_size > MAPPED_FROM
        found: npt.NDArray[np.generic] = np.load(file, mmap_mode="r" if large else None)
    except (OSError, ValueError, EOFError):
        return None
    return found


def _keep(codes_HWC: npt.NDArray[np.generic], file: Path) -> bool:
    """Write a decoded photo as a whole or not at all; False if there is no room or the disk refuses it."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if codes_HWC.nbytes + LEFT_FREE > shutil.disk_usage(file.parent).free:
            return False
        # The folder lasts as long as the run.
        with write_atomically(file, durable=False) as opened:
            np.save(opened, codes_HWC)
    except OSError:
        # The disk is full, or another process has the file open: decoding again is slower but gives the same.
        return False
    return True


def readable(items: Sequence[Item], seed: int, index: int, look: Callable[[Item], object]) -> tuple[Item, str]:
    """Choose the item of sample `index`, every item once per epoch in a new random order, and a note, usually empty.

    If `look` raises ImageError for an item, the next one takes its place and the note says so; the samples are thus a
    function of the items alone. NoImagesError if no item can be read.
    """
    epoch, place = divmod(index, len(items))
    order = stream(seed, "epoch", epoch).permutation(len(items))
    note = ""
    for number in (*order[place:], *order[:place]):
        item = items[int(number)]
        try:
            look(item)
        except ImageError as error:
            note = note or f"{error} It is left out."
        else:
            return item, note
    raise NoImagesError("not one of them can be read", where=str(items[0]), next_step=note)


def common_size(pair: Pair, cache: PhotoCache, scale: int = 1) -> tuple[int, int]:
    """Height and width of both images of a pair, the degraded one enlarged `scale` times; UsageError if they differ."""
    degraded, target = (photo.size for photo in cache.pair(pair, scale))
    if degraded != target:
        sizes = " and ".join(f"{width} x {height}" for height, width in (degraded, target))
        raise UsageError(
            f"its size is not that of {pair.target}: {sizes}", where=pair.degraded,
            next_step="Enlarge the smaller one first: pixels are compared one by one.",
        )  # fmt: skip
    return target


def to_tensor(image_HWC: Pixels) -> Tensor:
    """Convert an image [H, W, 1 or 3] to a tensor [3, H, W]."""
    colour = np.repeat(image_HWC, 3, axis=2) if image_HWC.shape[2] == 1 else image_HWC
    return torch.from_numpy(np.ascontiguousarray(colour.transpose(2, 0, 1)))


def _as_colour(codes_HWC: npt.NDArray[np.generic]) -> Pixels:
    """Convert codes of any depth, gray or colour, to [H, W, 3] in float."""
    depth: images.Depth = codes_HWC.dtype.name  # type: ignore[assignment]
    pixels = images.to_float(codes_HWC, depth)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
