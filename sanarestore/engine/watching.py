"""A folder that is watched: files are restored as they arrive, once they are whole. Imports no torch."""

import os
import time
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

from sanarestore.engine.jobs import Stamp
from sanarestore.errors import UsageError

STILL = 2.0
"""Seconds for which size and time of a file must not change before it counts as complete."""

_TICK = 500
"""Milliseconds between looks at files that are being written."""


def arrivals(folder: Path, changes: Iterable[Iterable[Path]]) -> Generator[frozenset[str], None, None]:
    """Yield sets of real paths of files that have come to stand still, those first that are there already.

    `changes` yields the paths that have changed, and nothing from time to time.
    """
    waiting: dict[str, tuple[Stamp | None, float]] = {}
    is_first = True
    for changed in changes:
        for path in [*changed, folder] if is_first else changed:
            waiting.update(dict.fromkeys(_files(path), (None, 0.0)))
        is_first = False
        ready = frozenset(path for path in list(waiting) if _is_still(path, waiting))
        if ready:
            for whole in ready:
                del waiting[whole]
            yield ready


def changes_in(folder: Path) -> Iterator[Iterable[Path]]:
    """Yield the paths that change in a folder, for ever, and nothing at least twice a second.

    UsageError if the package that watches folders is missing. Ctrl-C raises KeyboardInterrupt.
    """
    try:
        import watchfiles
    except ImportError as error:
        raise UsageError(
            "it needs the package watchfiles",
            where="--watch",
            next_step="Install it: pip install 'sanarestore[watch]'.",
        ) from error
    # Without a filter, since hidden files are left out by the search for photographs.
    changes = watchfiles.watch(folder, watch_filter=None, yield_on_timeout=True, rust_timeout=_TICK, step=50)
    for changed in changes:
        yield [Path(path) for _, path in changed]


def _files(path: Path) -> Iterator[str]:
    """Real paths of a file, or of all files in a folder, which may have been moved here as a whole."""
    if path.is_dir():
        yield from (os.path.realpath(each) for each in path.rglob("*") if each.is_file())
    elif path.is_file():
        yield os.path.realpath(path)


def _is_still(path: str, waiting: dict[str, tuple[Stamp | None, float]]) -> bool:
    """Return whether a file has stood still long enough; what is seen of it is noted, and a file that is gone is
    forgotten."""
    try:
        stamp = Stamp.of(Path(path))
    except OSError:
        del waiting[path]
        return False
    before, since = waiting[path]
    if (stamp.size, stamp.modified) != (None if before is None else (before.size, before.modified)):
        waiting[path] = stamp, time.monotonic()
        return False
    return time.monotonic() - since >= STILL
