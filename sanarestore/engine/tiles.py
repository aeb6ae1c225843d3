"""Tiles on a device: how large they are, smaller once memory runs out, and the count of what is done."""

import ctypes
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
from torch import Tensor

from sanarestore import tiling
from sanarestore.errors import OutOfMemory
from sanarestore.options import SMALLEST_TILE

DEFAULT_TILE = {"cpu": 1536, "cuda": 4096}
"""Where memory and the cost of the halo balance; 1024 for other devices."""

RELEASED_EVERY = 2
"""Tiles on a CPU, and after the last; more often, more pages must be got anew, less often, the heap grows more."""

HEAP_BLOCK = 128 << 20
"""Bytes: about the largest tensor of a tile on a CPU. Larger ones among smaller ones leave gaps: with twice as much the
heap grows by a quarter, for a tenth of the time at most."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's mallopt."""

Steps = Generator[tuple[int, int], None, None]
"""(steps done, steps in all), as they are done; it begins anew when memory runs out and smaller tiles are tried."""


class Tiles:
    """The largest tile that the device is trusted with, shared by all stages."""

    def __init__(self, device: torch.device, size: int | None = None, *, whole: bool = False, shift: int = 0) -> None:
        """`size` in pixels is the user's, None chooses by device; `whole` never cuts; `shift` moves the grid."""
        self.device = device
        self.size = size or DEFAULT_TILE.get(device.type, 1024)
        self.whole = whole
        self.shift = shift

    @contextmanager
    def kept_on_failure(self) -> Iterator[None]:
        """Where the work inside fails, the size is what it was: it may have failed for want of something else."""
        size = self.size
        try:
            yield
        except BaseException:
            self.size = size
            raise

    def count(self, height: int, width: int, *, stride: int) -> int:
        """How many tiles an image of this size takes, as things stand."""
        rows, columns = (len(cuts) - 1 for cuts in self.cuts(height, width, stride=stride))
        return rows * columns

    def cuts(self, height: int, width: int, *, stride: int) -> tuple[list[int], list[int]]:
        """Where an image of this size is cut, as things stand, its sides included: rows and columns in pixels."""
        tile = self._largest(height, width, stride)
        rows, columns = (tiling.balanced_cuts(side, tile, stride, self.shift) for side in (height, width))
        return rows, columns

    def map(
        self,
        function: Callable[..., Tensor],
        inputs: Sequence[Tensor],
        output_CHW: Tensor,
        *,
        halo: int,
        stride: int,
        input_cell: int = 1,
        output_cell: int = 1,
        margin: int = 0,
    ) -> Steps:
        """`tiling.map_with_halo`, retrying with smaller tiles when memory runs out."""
        height, width = (side * output_cell for side in output_CHW.shape[1:])

        def steps() -> Iterator[tuple[int, int]]:
            tile = self._largest(height, width, stride)
            return tiling.map_with_halo(
                function, inputs, output_CHW, tile=tile, halo=halo, stride=stride, input_cell=input_cell,
                output_cell=output_cell, shift=self.shift, margin=margin,
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
        cell: int,
    ) -> Steps:
        """`tiling.sum_with_halo`, as `again` has it; `keep` is given the sum."""
        height, width = (side * cell for side in image_CHW.shape[1:])

        def steps() -> Steps:
            tile = self._largest(height, width, stride)
            total = yield from tiling.sum_with_halo(
                function, image_CHW, tile=tile, halo=halo, stride=stride, cell=cell, shift=self.shift
            )
            keep(total)

        yield from self.again(steps, max(height, width))

    def again(
        self, steps: Callable[[], Iterator[tuple[int, int]]], longest: int, *, shrink: Callable[[], None] | None = None
    ) -> Steps:
        """Steps that go by `size`, and from the first on with half of it where memory runs out; OutOfMemory at the end.

        `longest` is the image's longer side in pixels. Steps that go by something else bring what makes that smaller,
        or raises OutOfMemory where nothing does.
        """
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
            # Out here the error is gone, and with it the tensors that its traceback held.
            if shrink:
                shrink()
            else:
                self._halve(longest)

    def _largest(self, height: int, width: int, stride: int) -> int:
        # Tiles are cut at multiples of the stride, so one that holds all is a stride larger.
        return max(height, width) + stride if self.whole else self.size

    def _halve(self, longest: int) -> None:
        if self.whole:
            raise OutOfMemory(
                f"out of memory on {self.device} with the image in one piece", next_step="Leave out --tiling off."
            )
        # A tile larger than the image is the image: halving it would change nothing.
        half = min(self.size, longest) // 2
        if half < SMALLEST_TILE:
            raise OutOfMemory(
                f"out of memory on {self.device} even with tiles of {self.size} px",
                next_step="Free memory there, or use --devices cpu.",
            )
        self.size = half
        release(self.device)


def in_turn(stages: Iterable[tuple[Steps, int]]) -> Steps:
    """Stages one after another under one count; each says how many steps it will probably take."""
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

    On a CPU, the pages of glibc's heap that nothing lies in: tiles of many sizes leave gaps between what is held, which
    would add up to more than the image.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "cpu":
        with suppress(OSError, AttributeError):  # another system, another allocator
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def keep_pages(device: torch.device) -> None:
    """On a CPU, let glibc's heap serve what tiles need again and again, rather than the system, page by page.

    Getting fresh pages takes a quarter of a refiner's time; larger blocks, the image's own, still come and go at once.
    """
    if device.type == "cpu":
        with suppress(OSError, AttributeError):  # another system, another allocator
            for parameter in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
                ctypes.CDLL("libc.so.6").mallopt(parameter, HEAP_BLOCK)


def is_out_of_memory(error: BaseException) -> bool:
    """Some allocators have a class for it; the others raise a RuntimeError that says so."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # The last as libraries of CUDA say it.
    known = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
    return any(words in str(error) for words in known)
