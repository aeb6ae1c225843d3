"""Speed and time of a command over many files: measured while it runs, or estimated before."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sanarestore.engine.rehearsal import Speed


class Paced(Protocol):
    """The properties of a file that its pace counts."""

    @property
    def path(self) -> Path: ...
    @property
    def status(self) -> str: ...
    @property
    def megapixels(self) -> float: ...
    @property
    def size(self) -> int: ...


class Pace:
    """Speed and time left, from the first tile on: loading the model and skipping finished files do not count."""

    def __init__(self, files: int = 0, size: int = 0) -> None:
        """`files` of `size` bytes together are to be done."""
        self._files, self._size = files, size
        self._first: tuple[float, float, float] | None = None
        self._megapixels = 0.0
        self._weight = 0.0
        self._parts: dict[Path, tuple[float, float]] = {}

    def part(self, path: Path, share: float, megapixels: float, size: int) -> None:
        """Note that a share of a file is done."""
        self._parts[path] = share * megapixels, share * self._weight_of(size)
        if self._first is None:
            self._first = time.perf_counter(), *self._done()

    def add(self, outcome: Paced) -> None:
        """Note that a file is done, or failed."""
        self._parts.pop(outcome.path, None)
        if outcome.status != "skipped":
            self._megapixels += outcome.megapixels * (outcome.status == "done")
            self._weight += self._weight_of(outcome.size)
            if self._first is None:  # files without parts
                self._first = time.perf_counter(), *self._done()

    @property
    def megapixels_per_second(self) -> float | None:
        """Megapixels per second; None before the second tile."""
        if self._first is None:
            return None
        begun, before, _ = self._first
        passed = time.perf_counter() - begun
        done = self._done()[0] - before
        return done / passed if passed > 0.05 and done > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds left, by the bytes of the files; None as long as nothing is known."""
        if self._first is None:
            return None
        begun, _, before = self._first
        done = self._done()[1] - before
        total = self._size or self._files
        if done <= 0 or total <= 0:
            return None
        return max(total - self._done()[1], 0) / done * (time.perf_counter() - begun)

    def spoken(self) -> str:
        """Speed and time left for a progress line; empty as long as nothing is known."""
        speed, left = self.megapixels_per_second, self.seconds_left
        parts = [] if speed is None else [f"{figure(speed, 2)} MP/s"]
        return " ".join(parts if left is None else [*parts, f"{spoken_duration(left)} left"])

    def _done(self) -> tuple[float, float]:
        """Megapixels and weight that are done."""
        parts = self._parts.values()
        return self._megapixels + sum(each[0] for each in parts), self._weight + sum(each[1] for each in parts)

    def _weight_of(self, size: int) -> float:
        """Weight of a file: its bytes, or 1 where sizes are not known."""
        return size if self._size else 1


def estimate(
    figures: Mapping[str, Any], speeds: "Sequence[Speed]", skipped: int, failed: int, allowed: int
) -> list[str]:
    """Lines about what a batch would do; `figures` are those of `rehearsal.total`, `allowed` bytes may be taken."""
    counts = [f"{figures['files']} to restore"]
    counts += [f"{skipped} finished before"] if skipped else []
    counts += [f"{failed} would fail"] if failed else []
    lines = [", ".join(counts)]
    if figures["files"]:
        lines[0] += f", {figure(figures['megapixels'], 1)} MP"
        most = figures["memory"]
        fits = "" if most <= allowed else ": it would be refused"
        lines.append(f"most memory: about {_size(most)} of {_size(allowed)}, for {figures['largest']}{fits}")
    if figures["seconds"] is not None:
        names = ", ".join(sorted({speed.device for speed in speeds}))
        lines.append(f"time: about {spoken_duration(figures['seconds'])} on {names}, as measured on a small image")
    return lines


def _size(count: int) -> str:
    """A number of bytes for people: 12 MB, 3.4 GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def figure(value: float, decimals: int) -> str:
    """A positive number with some decimals, and with as many more as two digits that mean something need."""
    needed = 1 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:.{max(decimals, needed)}f}"


def spoken_duration(seconds: float) -> str:
    """A duration for people: 45 s, 12 min, 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
