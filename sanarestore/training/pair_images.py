"""Check the images of pairs before training: headers of all files, and the pixels of an even sample of pairs."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from sanarestore import images
from sanarestore.degradations.faults import Fault, joined
from sanarestore.degradations.pairs import Pair
from sanarestore.errors import DamagedImage, ImageError, OutOfMemory
from sanarestore.images import Image, Pixels, resize
from sanarestore.images.exif import orientation_of
from sanarestore.training.direction import Side, degraded_side

THREADS = min(4, os.cpu_count() or 1)

MOST_PAIRS = 1000
"""Most pairs whose images are decoded, 2000 files in all; of more pairs, an even sample."""

LARGE = 25.0
"""Megapixels above which one pair at a time is decoded: a pair of this size takes 600 MB in each thread."""

SQUARE = 512
"""Side of the part in the middle of a pair whose noise and sharpness are compared, in pixels."""

SMALL = 64
"""Side of the reduced images by which scenes are compared, in pixels."""

FLAT = 2 / 255
"""Standard deviation of a reduced image below which it shows no scene to compare."""

SAME_SCENE = 0.2
"""Correlation of reduced images below which two images show different scenes."""

TURNED = 0.02
"""Gain in correlation above which an orientation tag counts as applied to one image only, if it also halves the
distance to 1."""

BACKUP = "Restore the file from a backup, or remove the line."

Headers = Mapping[Path, images.Header | ImageError]
Progress = Callable[[int, int], None]
Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True, slots=True)
class PairFindings:
    """Findings about the pixels of a pair."""

    line: int
    error: ImageError | OutOfMemory | None = None
    """The error of an image that cannot be decoded."""
    path: Path | None = None
    """The image that cannot be decoded."""
    side: Side | None = None
    """The image that looks degraded: first is the target, second the degraded input; None if neither does."""
    is_equal: bool = False
    is_turned: bool = False
    """Whether an orientation tag was applied to one image only."""
    is_other_scene: bool = False


def headers_of(paths: Iterable[Path]) -> Headers:
    """Return the headers of distinct files, or the errors of those that cannot be read."""
    distinct = list(dict.fromkeys(paths))
    return dict(zip(distinct, _in_threads(_header, distinct), strict=True))


def look(pairs: Sequence[Pair], headers: Headers, progress: Progress, scale: int = 1) -> list[PairFindings]:
    """Decode and compare the images of an even sample of at most `MOST_PAIRS` pairs.

    Degraded images are enlarged `scale` times first. `progress` is called with the numbers of decoded and of all pairs.
    """
    step = max(1.0, len(pairs) / MOST_PAIRS)
    sample = [pairs[int(index * step)] for index in range(min(len(pairs), MOST_PAIRS))]
    by_target: dict[Path, list[Pair]] = {}
    for pair in sample:
        by_target.setdefault(pair.target, []).append(pair)
    alone = threading.Lock()

    def of_target(target: Path) -> list[PairFindings]:
        header = headers[target]
        is_large = isinstance(header, images.Header) and header.megapixels > LARGE
        with alone if is_large else nullcontext():
            return list(_seen(target, by_target[target], scale))

    seen: list[PairFindings] = []
    for found in _in_threads(of_target, list(by_target)):
        seen += found
        progress(len(seen), len(sample))
    return seen


def unreadable(
    pairs: Sequence[Pair], headers: Headers, seen: Sequence[PairFindings], name: Callable[[Path], str]
) -> list[Fault]:
    """Return a fault for every file that cannot be read, in the first line that names it."""
    errors: dict[Path, ImageError | OutOfMemory] = {
        path: found for path, found in headers.items() if isinstance(found, ImageError)
    }
    errors |= {each.path: each.error for each in seen if each.path and each.error}
    faults = []
    for path, error in errors.items():
        first, *more = sorted({pair.line for pair in pairs if path in (pair.target, pair.degraded)})
        also = f" (also in {_lines(more)})" if more else ""
        # Training accepts no damage, so the advice of the error, which is for `restore`, is replaced.
        step = BACKUP if isinstance(error, DamagedImage) else error.next_step
        faults.append(Fault(first, f"{name(path)}: {error.fact}{also}", step))
    return faults


def wrong_size(pair: Pair, headers: Headers, name: Callable[[Path], str], scale: int = 1) -> Fault | None:
    """Return the fault of a pair whose target is not `scale` times as large as its degraded image; None if it is, or if
    a header is missing."""
    wanted, own = _size(headers[pair.target]), _size(headers[pair.degraded])
    if wanted is None or own is None or wanted == (own[0] * scale, own[1] * scale):
        return None
    (width, height), (own_width, own_height) = wanted, own
    ratio = width / own_width
    step = "Both must show the same scene pixel for pixel: crop or scale one of them."
    fact = (
        f"{name(pair.degraded)} has {own_width} x {own_height} pixels, and its target {name(pair.target)} has "
        f"{width} x {height}"
    )
    if scale > 1:
        step = f"With scale = {scale} in the recipe, targets must have exactly {scale} times the width and height."
    elif (width, height) == (own_height, own_width):
        step = "The orientation was applied to one of them only: save both upright."
    elif abs(width * own_height - height * own_width) <= max(width, height, own_width, own_height):
        larger, times = ("target", ratio) if ratio > 1 else ("degraded image", 1 / ratio)
        fact += f": the {larger} is {times:.2f} times as large"
        step = "Shrink degraded images to the size of their targets first, or check if the columns are swapped."
        if ratio > 1:
            step = (
                "In pairs of low and high resolution, enlarge the degraded image to the size of its target first, for "
                "example with ImageMagick: magick small.png -resize 'WIDTHxHEIGHT!' enlarged.png."
            )
            if wanted == (own_width * round(ratio), own_height * round(ratio)):
                step = f"If all pairs are of low and high resolution, set scale = {round(ratio)} in the recipe."
    return Fault(pair.line, fact, step)


def named_lines(seen: Iterable[PairFindings], most: int = 5) -> str:
    """Name the lines of pairs: "lines 3, 4 and 9", with the number of further ones."""
    return _lines(sorted(each.line for each in seen), most)


def _size(header: images.Header | ImageError) -> tuple[int, int] | None:
    """Width and height; None for a header that cannot be read."""
    return (header.width, header.height) if isinstance(header, images.Header) else None


def _lines(numbers: Sequence[int], most: int = 5) -> str:
    words = [str(number) for number in numbers[:most]]
    if len(numbers) > most:
        words.append(f"{len(numbers) - most} more")
    return f"{'line' if len(numbers) == 1 else 'lines'} {joined(words)}"


def _in_threads(work: Callable[[Path], Value], paths: Sequence[Path]) -> Iterator[Value]:
    """Yield the results in the order of the paths; Ctrl-C cancels the work that has not begun."""
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            yield from pool.map(work, paths)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _header(path: Path) -> images.Header | ImageError:
    try:
        return images.measure(path)
    except ImageError as error:
        return error


def _seen(path: Path, pairs: Sequence[Pair], scale: int) -> Iterable[PairFindings]:
    """Decode a target once, and then the degraded images of its pairs one by one."""
    target = _read(path)
    if not isinstance(target, Image):
        yield PairFindings(line=pairs[0].line, error=target, path=path)
    for pair in pairs:
        degraded = _read(pair.degraded)
        if not isinstance(degraded, Image):
            yield PairFindings(line=pair.line, error=degraded, path=pair.degraded)
        elif isinstance(target, Image):
            yield _compare(pair.line, target, degraded, scale)


def _read(path: Path) -> Image | ImageError | OutOfMemory:
    try:
        return images.read(path)
    except (ImageError, OutOfMemory) as error:
        return error


def _compare(line: int, target: Image, degraded: Image, scale: int) -> PairFindings:
    """Compare the images of a pair; without findings if their sizes differ after enlarging."""
    first, second = target.pixels_HWC, degraded.pixels_HWC
    second = resize(second, second.shape[1] * scale, second.shape[0] * scale) if scale > 1 else second
    if first.shape[:2] != second.shape[:2]:
        return PairFindings(line=line)
    if first.shape == second.shape and np.array_equal(first, second):
        return PairFindings(line=line, is_equal=True)
    turns = [orientation_of(image.metadata.exif) for image in (target, degraded)]
    stored = _likeness(first, second, [1, 1])
    upright = _likeness(first, second, turns) if turns[0] != turns[1] else stored
    is_turned = upright > stored + TURNED and 1 - stored > 2 * (1 - upright)
    top, left = (max(0, (size - SQUARE) // 2) for size in first.shape[:2])
    middle = [image[top : top + SQUARE, left : left + SQUARE] for image in (first, second)]
    return PairFindings(
        line=line, side=degraded_side(middle[0], middle[1]), is_turned=is_turned,
        is_other_scene=not is_turned and stored < SAME_SCENE,
    )  # fmt: skip


def _likeness(first_HWC: Pixels, second_HWC: Pixels, turns: Sequence[int]) -> float:
    """Correlation of two images, reduced and turned upright; 1 if one of them is flat, as plain fields are."""
    small = []
    for image, orientation in zip((first_HWC, second_HWC), turns, strict=True):
        # For a large image, a grid of pixels is enough, and much faster.
        every = max(1, min(image.shape[:2]) // (8 * SMALL))
        gray = resize(image[::every, ::every].mean(axis=2, keepdims=True, dtype=np.float32), SMALL, SMALL)[..., 0]
        gray = gray.T if orientation >= 5 else gray
        # Among transposed or untransposed orientations, tags differ only by mirroring the axes.
        rows, columns = _MIRRORED[orientation]
        small.append(gray[::rows, ::columns])
    if min(float(each.std()) for each in small) < FLAT:
        return 1.0
    return float(np.corrcoef(small[0].ravel(), small[1].ravel())[0, 1])


_MIRRORED = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
"""EXIF's orientation -> steps through rows and columns, after transposing for 5 to 8."""
