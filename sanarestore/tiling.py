"""Tile geometry, and tiled processing that equals processing the whole image.

Shape suffixes: C channels, H W pixels of the image, h w pixels of a window. All coordinates are pixels.

A tile owns its core and reads a window: the core and a halo around it. If each output pixel of a function depends only
on input pixels at most `halo` away, and the function's strides divide the window's origin, then cropping the core from
the window's output gives exactly the result of processing the whole image.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Box = tuple[int, int, int, int]
"""(top, bottom, left, right) of a part of an image or of a window, ends exclusive."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """A tile; boxes are (top, bottom, left, right) in image pixels, ends exclusive."""

    core: Box
    """The pixels that this tile owns; the cores cover every pixel of the image exactly once."""
    window: Box
    """The pixels that this tile reads. The window may extend beyond the image, by a margin on every side and up to a
    multiple of the stride. All windows of an image have the same size."""

    def core_in_window(self, downsample: int = 1) -> Box:
        """The core's place in the window, in cells of `downsample` pixels."""
        (top, bottom, left, right), (above, _, before, _) = (
            _in_cells(box, downsample) for box in (self.core, self.window)
        )
        return top - above, bottom - above, left - before, right - before


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """One of the overlapping windows of an image, whose results are blended."""

    box: Box
    """(top, bottom, left, right), ends exclusive."""
    owned: Box
    """The part of `box` that no earlier window in raster order covers, in the same coordinates."""
    row_weight_h: Tensor
    column_weight_w: Tensor

    @property
    def weight_hw(self) -> Tensor:
        """Blending weight, float32: falls linearly towards neighbours; the weights of all windows sum to 1 everywhere.

        Computed on demand, because the weights of all windows together are larger than the image.
        """
        return self.row_weight_h[:, None] * self.column_weight_w[None]


def balanced_cuts(size: int, largest: int, stride: int) -> list[int]:
    """Cut [0, size) into the fewest nearly equal spans of at most `largest`, at multiples of `stride`.

    Returns the borders, including 0 and `size`. An even grid leaves no sliver at the end that would cost a whole halo.
    `largest` is rounded down to a multiple of the stride, but not below the stride.
    """
    units = -(-size // stride)
    count = -(-units // max(largest // stride, 1))
    return [index * units // count * stride for index in range(count)] + [size]


def grid(height: int, width: int, *, tile: int, halo: int, stride: int, margin: int = 0) -> list[Tile]:
    """All tiles of an image in raster order; `halo` and `margin` must be multiples of `stride`.

    `margin` is how far windows extend beyond the image, at most `halo`.
    """
    if halo % stride or margin % stride:
        raise ValueError(f"a halo of {halo} or a margin of {margin} is not a multiple of the stride {stride}")
    if margin > halo:
        raise ValueError(f"a margin of {margin} is larger than the halo of {halo}")
    rows, columns = (list(_spans(size, tile, halo, stride, margin)) for size in (height, width))
    return [Tile(core=(*row[:2], *column[:2]), window=(*row[2:], *column[2:])) for row in rows for column in columns]


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """A row of tiles across an image that is read and written from the top down; row numbers, ends exclusive."""

    core: tuple[int, int]
    """The rows that its tiles own."""
    needed: tuple[int, int]
    """The rows that its tiles read. Those of later strips do not begin before them."""
    tiles: tuple[Tile, ...]


def strips(height: int, width: int, *, tile: int, halo: int, stride: int, margin: int = 0) -> list[Strip]:
    """Return the tiles of `grid` row by row, from the top down; arguments as there."""
    tiles = grid(height, width, tile=tile, halo=halo, stride=stride, margin=margin)
    found: list[Strip] = []
    first = height
    for core, row in reversed([(core, tuple(row)) for core, row in groupby(tiles, lambda each: each.core[:2])]):
        top, bottom, *_ = part_of(row[0].window, height, width)
        first = min(first, top)
        found.insert(0, Strip(core=core, needed=(first, bottom), tiles=row))
    return found


def overlapping(height: int, width: int, *, tile: int, overlap: int, stride: int = 1) -> list[Window]:
    """The fewest windows of at most `tile` per side that overlap by `overlap` or more, in raster order.

    Windows begin at multiples of `stride` and have one size, the smallest that their number allows. They stay inside
    the image: where its side is not a multiple of the stride, the last windows are cut off. ValueError unless
    0 <= overlap < tile, both rounded up to a multiple of the stride.
    """
    units, shared = -(-tile // stride), -(-overlap // stride)
    if not 0 <= shared < units:
        raise ValueError(f"windows of {tile} cannot overlap by {overlap}")
    rows, columns = (_overlapping_spans(size, units, shared, stride) for size in (height, width))
    return [
        Window(
            box=(*row.span, *column.span), owned=(*row.owned, *column.owned), row_weight_h=row.weight,
            column_weight_w=column.weight,
        )
        for row in rows for column in columns
    ]  # fmt: skip


def whole_strides(tile: int, overlap: int, stride: int) -> tuple[int, int]:
    """Round a tile down (one stride at least) and an overlap up (below the tile) to multiples of `stride`."""
    tile = max(tile // stride, 1) * stride
    return tile, min(-(-overlap // stride) * stride, tile - stride)


def mirror(index: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """Mirror indices outside [0, size) back into it, repeatedly if needed; the border pixel is repeated.

    The mirror axis is the edge of the border pixel, not its centre. The mirrored part of a JPEG photograph therefore
    continues in whole blocks of 8, and a gradient at the border has no crease that a sharpener would amplify.
    """
    folded = index % (2 * size)
    mirrored: npt.NDArray[np.int64] = np.minimum(folded, 2 * size - 1 - folded)
    return mirrored


def cut(image_CHW: Tensor, window: Box) -> Tensor:
    """Cut a window [C,h,w] from an image, mirrored beyond the border; a view if the window lies inside the image."""
    _, height, width = image_CHW.shape
    # A view of the needed part first, because selecting rows of the image copies their whole width.
    top, bottom, left, right = part = part_of(window, height, width)
    return mirrored(image_CHW[:, top:bottom, left:right], part, window, height, width)


def part_of(window: Box, height: int, width: int) -> Box:
    """The box of the pixels of an image that a window shows, directly or mirrored."""
    top, bottom, left, right = window
    if top >= 0 and left >= 0 and bottom <= height and right <= width:
        return window
    rows, columns = mirror(np.arange(top, bottom), height), mirror(np.arange(left, right), width)
    return int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1


def mirrored(part_CHW: Tensor, part: Box, window: Box, height: int, width: int) -> Tensor:
    """Make a window [C,h,w] from its `part_of` an image of this size; the part itself if both have the same box."""
    if part == window:
        return part_CHW
    rows, columns = mirror(np.arange(*window[:2]), height), mirror(np.arange(*window[2:]), width)
    rows_CHW = part_CHW.index_select(1, torch.from_numpy(rows - part[0]))
    return rows_CHW.index_select(2, torch.from_numpy(columns - part[2]))


def map_with_halo(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    output_CHW: Tensor,
    *,
    tile: int,
    halo: int,
    stride: int,
    input_downsample: int = 1,
    output_downsample: int = 1,
    margin: int = 0,
    by_core: bool = False,
) -> Iterator[tuple[int, int]]:
    """Fill `output_CHW` with `function` of the inputs, tile by tile; yields (tiles done, total tiles) after each.

    `inputs` are host images [C,H,W] of one size. `function` takes their windows [C,h,w] (h and w multiples of `stride`)
    and returns [C',h,w] on any device. It gets one window at a time, so its memory does not grow with the image.
    `input_downsample` and `output_downsample` are the downsampling factors of maps coarser than the image; they divide
    `stride`, and `tile` and `halo` stay in pixels. `margin` is the number of mirrored pixels that `function` gets
    beyond the image border, for functions that would pad differently (with zeros, say). `by_core`, `function` takes the
    place of the core in its window as a last argument, (top, bottom, left, right), and returns the core alone.
    """
    if stride % input_downsample or stride % output_downsample:
        raise ValueError(
            f"positions of {input_downsample} and {output_downsample} pixels do not divide a stride of {stride}"
        )
    _, height, width = output_CHW.shape
    tiles = grid(
        height * output_downsample,
        width * output_downsample,
        tile=tile,
        halo=halo,
        stride=stride,
        margin=margin,
    )
    for done, part in enumerate(tiles, start=1):
        top, bottom, left, right = _in_cells(part.core, output_downsample)
        windows = [cut(image, _in_cells(part.window, input_downsample)) for image in inputs]
        core = part.core_in_window(output_downsample)
        result = function(*windows, core) if by_core else function(*windows)[:, core[0] : core[1], core[2] : core[3]]
        output_CHW[:, top:bottom, left:right].copy_(result)
        yield done, len(tiles)


def sum_with_halo(
    function: Callable[[Tensor, tuple[slice, slice]], Tensor],
    image_CHW: Tensor,
    *,
    tile: int,
    halo: int,
    stride: int,
    downsample: int = 1,
) -> Generator[tuple[int, int], None, Tensor]:
    """Sum `function` over the cores of all tiles; the generator returns the sum and yields as `map_with_halo` does.

    `function` takes a window [C,h,w] and the core's slices in it. `downsample` is `image_CHW`'s downsampling factor.
    """
    _, height, width = image_CHW.shape
    tiles = grid(height * downsample, width * downsample, tile=tile, halo=halo, stride=stride)
    total: Tensor | None = None
    for done, part in enumerate(tiles, start=1):
        top, bottom, left, right = part.core_in_window(downsample)
        core = slice(top, bottom), slice(left, right)
        found = function(cut(image_CHW, _in_cells(part.window, downsample)), core)
        total = found if total is None else total + found
        yield done, len(tiles)
    assert total is not None, "an image has a tile"
    return total


def _in_cells(box: Box, downsample: int) -> Box:
    top, bottom, left, right = box
    return top // downsample, bottom // downsample, left // downsample, right // downsample


@dataclass(frozen=True, slots=True)
class _Span:
    """A window along one axis."""

    span: tuple[int, int]
    owned: tuple[int, int]
    weight: Tensor


def _overlapping_spans(size: int, tile: int, overlap: int, stride: int) -> list[_Span]:
    """Windows along one axis; `tile` and `overlap` are in units of `stride`."""
    units = -(-size // stride)
    spans = [(begin * stride, min(end * stride, size)) for begin, end in _even(units, tile, overlap)]
    ramps = torch.zeros(len(spans), size)
    for index, (start, end) in enumerate(spans):
        # The weight stays at 1 towards the image border, where there is no neighbour.
        before = spans[index - 1][1] - start if index else 0
        after = end - spans[index + 1][0] if index + 1 < len(spans) else 0
        ramp = ramps[index, start:end].fill_(1)
        ramp[:before] *= torch.arange(1, before + 1) / (before + 1)
        ramp[end - start - after :] *= torch.arange(after, 0, -1) / (after + 1)
    ramps /= ramps.sum(dim=0)
    return [
        _Span(span, (spans[index - 1][1] if index else 0, span[1]), ramps[index, slice(*span)])
        for index, span in enumerate(spans)
    ]


def _even(units: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    count = 1 if units <= tile else -(-(units - overlap) // (tile - overlap))
    length = -(-(units + (count - 1) * overlap) // count)
    starts = [index * (units - length) // max(count - 1, 1) for index in range(count)]
    return [(start, start + length) for start in starts]


def _spans(size: int, tile: int, halo: int, stride: int, margin: int) -> Iterator[Box]:
    """Yield (core start, core end, window start, window end) along one axis.

    Windows at the image border extend further inwards than needed, so that all have one length: with equal shapes, the
    memory that allocators keep from one tile fits the next.
    """
    last = -(-size // stride) * stride + margin
    cores = list(pairwise(balanced_cuts(size, tile, stride)))
    windows = [(max(start - halo, -margin), min(-(-end // stride) * stride + halo, last)) for start, end in cores]
    longest = max(end - start for start, end in windows)
    for core, (start, _) in zip(cores, windows, strict=True):
        start = min(start, last - longest)
        yield *core, start, start + longest
