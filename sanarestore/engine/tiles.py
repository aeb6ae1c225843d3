"""Tiles on a device: their size, halved when memory runs out, and progress counts."""

import ctypes
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
from torch import Tensor

from sanarestore import tiling
from sanarestore.errors import OutOfMemory
from sanarestore.options import SMALLEST_TILE

DEFAULT_TILE = {"cpu": 1536, "cuda": 4096}
"""Tile side in pixels that balances memory and the cost of the halo; 1024 for other devices."""

RELEASED_EVERY = 2
"""Tiles on a CPU after which free heap memory is released, as it is after the last one. Lower values cost page faults;
higher values let the heap grow."""

HEAP_BLOCK = 128 << 20
"""Largest block in bytes that comes from the heap: about the largest tensor of a tile on a CPU. Larger blocks among
smaller ones leave gaps: doubling this value grows the heap by a quarter and saves a tenth of the time at most."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt."""

Steps = Generator[tuple[int, int], None, None]
"""Yields (steps done, total steps); the count restarts when memory runs out and smaller tiles are tried."""


class Tiles:
    """The tile size in use on a device, shared by all stages."""

    def __init__(self, device: torch.device, size: int | None = None, *, whole: bool = False) -> None:
        """`size` in pixels is the user's, None chooses by device; `whole` turns tiling off."""
        self.device = device
        self.size = size or DEFAULT_TILE.get(device.type, 1024)
        self.whole = whole
        self.relieve: Callable[[], bool] = _unrelieved
        """Callback that frees memory once tiles cannot be smaller; returns False if nothing is left to free."""

    @contextmanager
    def halved_for(self, longest: int, halvings: int) -> Iterator[None]:
        """Halve the tile size `halvings` times for the work inside, on an image whose longer side is `longest` pixels.

        It is reset afterwards, and also if the work inside fails, since tiles may not have been what took the memory.
        """
        size = self.size
        if halvings:
            self.size = max(SMALLEST_TILE, min(size, longest) >> halvings)
        try:
            yield
        except BaseException:
            self.size = size
            raise
        if halvings:
            self.size = size

    def count(self, height: int, width: int, *, stride: int) -> int:
        """Number of tiles for an image of this size at the current tile size."""
        rows, columns = (len(cuts) - 1 for cuts in self.cuts(height, width, stride=stride))
        return rows * columns

    def cuts(self, height: int, width: int, *, stride: int) -> tuple[list[int], list[int]]:
        """Cuts of an image of this size at the current tile size, including its borders: rows and columns in pixels."""
        tile = self._largest(height, width, stride)
        rows, columns = (tiling.balanced_cuts(side, tile, stride) for side in (height, width))
        return rows, columns

    def map(
        self,
        function: Callable[..., Tensor],
        inputs: Sequence[Tensor],
        output_CHW: Tensor,
        *,
        halo: int,
        stride: int,
        input_downsample: int = 1,
        output_downsample: int = 1,
        margin: int = 0,
        by_core: bool = False,
    ) -> Steps:
        """`tiling.map_with_halo`, retrying with smaller tiles when memory runs out."""
        height, width = (side * output_downsample for side in output_CHW.shape[1:])

        def steps() -> Iterator[tuple[int, int]]:
            tile = self._largest(height, width, stride)
            return tiling.map_with_halo(
                function, inputs, output_CHW, tile=tile, halo=halo, stride=stride, input_downsample=input_downsample,
                output_downsample=output_downsample, margin=margin, by_core=by_core,
            )  # fmt: skip

        yield from self.again(steps, max(height, width))

    def sum(
        self,
        function: Callable[[Tensor, tuple[slice, slice]], Tensor],
        image_CHW: Tensor,
        keep: Callable[[Tensor], None],
        *,
        halo: int,
        stride: int,
        downsample: int,
    ) -> Steps:
        """`tiling.sum_with_halo`, retrying with smaller tiles when memory runs out; `keep` is called with the sum."""
        height, width = (side * downsample for side in image_CHW.shape[1:])

        def steps() -> Steps:
            tile = self._largest(height, width, stride)
            total = yield from tiling.sum_with_halo(
                function, image_CHW, tile=tile, halo=halo, stride=stride, downsample=downsample
            )
            keep(total)

        yield from self.again(steps, max(height, width))

    def again(
        self, steps: Callable[[], Iterator[tuple[int, int]]], longest: int, *, shrink: Callable[[], None] | None = None
    ) -> Steps:
        """Run `steps`, retrying from the first with half the tile size when memory runs out; OutOfMemory in the end.

        `longest` is the image's longer side in pixels. Steps whose memory does not depend on the tile pass `shrink`,
        which reduces it, or raises OutOfMemory. After `relieve` has freed memory, tiles start again at their first
        size.
        """
        size = self.size
        while True:
            try:
                for done, total in steps():
                    if self.device.type == "cpu" and (done % RELEASED_EVERY == 0 or done == total):
                        release(self.device)
                    yield done, total
                return
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of the except block the error is freed, and with it the tensors that its traceback held.
            try:
                if shrink:
                    shrink()
                else:
                    self._halve(longest)
            except OutOfMemory:
                if not self.relieve():
                    raise
                self.size = size

    def _largest(self, height: int, width: int, stride: int) -> int:
        # Tiles are cut at multiples of the stride, so a tile that holds the image can be up to a stride larger.
        return max(height, width) + stride if self.whole else self.size

    def _halve(self, longest: int) -> None:
        if self.whole:
            raise OutOfMemory(
                f"out of memory on {self.device} with the whole image untiled", next_step="Leave out --tiling off."
            )
        # A tile larger than the image holds all of it, so halving starts from the image's longer side.
        half = min(self.size, longest) // 2
        if half < SMALLEST_TILE:
            raise OutOfMemory(
                f"out of memory on {self.device} even with tiles of {self.size} px",
                next_step="Free memory there, or use --devices cpu.",
            )
        self.size = half
        release(self.device)


def _unrelieved() -> bool:
    """Free nothing: the default of `Tiles.relieve`."""
    return False


def run_stages(stages: Iterable[tuple[Steps, int]]) -> Steps:
    """Run stages one after another under one progress count; each comes with its expected number of steps."""
    waiting = list(stages)
    before = 0
    while waiting:
        (steps, expected), *waiting = waiting
        after = sum(count for _, count in waiting)
        for done, total in steps:
            expected = total
            yield before + done, before + total + after
        before += expected


def release(device: torch.device) -> None:
    """Give cached memory back to the device, for allocations of another size.

    On a CPU, release the unused pages of glibc's heap: tiles of many sizes leave gaps between live blocks, which would
    add up to more than the image.
    """
    if device.type in ("cuda", "mps", "xpu"):
        getattr(torch, device.type).empty_cache()
    elif device.type == "cpu":
        with suppress(OSError, AttributeError):  # no glibc
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def keep_pages(device: torch.device) -> None:
    """On a CPU, keep the memory of tiles in glibc's heap for reuse, instead of getting new pages from the system.

    Page faults take a quarter of a refiner's time. Larger blocks, such as the image's own, still return to the system
    at once.
    """
    if device.type == "cpu":
        with suppress(OSError, AttributeError):  # no glibc
            for parameter in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
                ctypes.CDLL("libc.so.6").mallopt(parameter, HEAP_BLOCK)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means out of memory; some allocators have a class for it, others raise a RuntimeError."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # ALLOC_FAILED is how CUDA's libraries say it.
    known = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
    return any(words in str(error) for words in known)
