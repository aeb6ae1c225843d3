"""Memory that files may take: estimated from their headers before they are decoded, and shared by a worker's files.

Imports no torch.
"""

import re
import threading
from contextlib import suppress
from pathlib import Path

import psutil

from sanarestore.errors import OutOfMemory
from sanarestore.images import Header, memory_to_read, memory_to_write
from sanarestore.sizes import spoken_size

KEPT = 0.1
"""Fraction of the free memory that is left to other programs."""

TILE_BYTES = 212
"""Bytes per pixel of a tile that the refiner holds at most, float32 on a CPU; `docs/tiling.md` says how measured."""

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""Limit and use of memory of a container, of versions 2 and 1."""


def free_memory() -> int:
    """Bytes that may still be used on this machine, or in this container where that is less."""
    free: int = psutil.virtual_memory().available
    for limit, use in _CGROUPS:
        with suppress(OSError, ValueError):  # no such version, or "max"
            free = min(free, int(Path(limit).read_text()) - int(Path(use).read_text()) + _cached(Path(use).parent))
    return max(free, 0)


def _cached(group: Path) -> int:
    """Bytes of files that a container has read and the system drops when memory is short; they count as used."""
    with suppress(OSError):
        found = re.search(r"^(?:total_)?inactive_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
        return int(found[1]) if found else 0
    return 0


def memory_to_restore(
    header: Header, result: Header, *, tile: int | None, is_generated: bool = False, is_judged: bool = False
) -> int:
    """Estimate the peak bytes that reading, restoring and writing an image take in the host's memory.

    `result` is the header of the result. `tile` is the tile side in pixels where the host computes, None where another
    device does. The latent path (`is_generated`) holds one more image. Candidates (`is_judged`) hold two more: the best
    one so far, and the current one, which the judge degrades again.
    """
    # Pages are restored one after the other, each at the larger of both sizes.
    pixels = max(header.pixels, result.pixels)
    restored = max(header.decoded_bytes, result.decoded_bytes)
    given = header.decoded_bytes if restored > header.decoded_bytes else 0
    working = TILE_BYTES * min(pixels, tile**2) if tile else 0
    return max(
        memory_to_read(header),
        given + restored + 12 * pixels * (1 + is_generated + 2 * is_judged) + working,
        restored + result.decoded_bytes + memory_to_write(result),
    )


class Budget:
    """Bytes that the files of a worker take together; a file waits until the others leave enough for it."""

    def __init__(self, size: int, *, is_chosen: bool) -> None:
        """`is_chosen` says that the user set the size, and not the memory that is free."""
        self._size, self._is_chosen = size, is_chosen
        self._taken: dict[object, int] = {}
        self._changed = threading.Condition()

    def take(self, key: object, size: int) -> None:
        """Take bytes for a file, waiting for other files; OutOfMemory if it would not fit alone."""
        if size > self._size:
            allowed = f"{spoken_size(self._size)} are " + ("allowed" if self._is_chosen else "free for it")
            raise OutOfMemory(
                f"it needs about {spoken_size(size)} of memory, and {allowed}",
                next_step="Raise --memory-per-file, if the machine has more, or cut the image into parts."
                if self._is_chosen else "Close other programs, use fewer --devices, or cut the image into parts.",
            )  # fmt: skip
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or sum(self._taken.values()) + size <= self._size)
            self._taken[key] = size

    def give_back(self, key: object) -> None:
        """Give a file's bytes back; nothing happens if it has taken none."""
        with self._changed:
            self._taken.pop(key, None)
            self._changed.notify_all()
