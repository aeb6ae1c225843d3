"""Journal of an output folder, `sanarestore.jsonl`, so that a restarted batch does only the rest. Imports no torch.

A line says "started", with the temporary name, when a file is handed to a worker. A line "done" is added when the
result is complete under that name, and only then the result gets its own name. A line is therefore a claim that is
checked, by the hash of the output, and never a promise: after a crash at any moment a file that is there counts as
ours exactly if its content is what a line says, and files of others are never taken for ours.

Runs of several machines that share a folder (`--shard`) write a journal each, and read those of all.
"""

import os
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from sanarestore.engine.jobs import Job, Outcome, Stamp
from sanarestore.files import hash_file
from sanarestore.ndjson import SCHEMA_VERSION, Lines
from sanarestore.options import Shard

NAME = "sanarestore.jsonl"

Line = dict[str, Any]

_SETTLED = 2_000_000_000
"""Nanoseconds after a change from which on a stamp is trusted: file systems count time in steps of up to two seconds,
so a file that was changed just now can change once more and keep its stamp."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Earlier:
    """Relation of an earlier run's result to a job with the same output."""

    source: str
    """Path of the input that the result was made from."""
    is_same_path: bool
    is_same_content: bool
    is_same_settings: bool


class Journal:
    """Journal of an output folder; records nothing without a folder. UsageError if it cannot be read or written."""

    def __init__(self, folder: Path | None, *, settings: str, shard: Shard | None = None) -> None:
        """`settings` is the fingerprint of options and weights; files made with others do not count as finished."""
        self.folder = folder
        self._settings = settings
        self._lines = None if folder is None else Lines(folder / name_of(shard))
        self._done: defaultdict[str, list[Line]] = defaultdict(list)
        self._temporary: defaultdict[str, set[str]] = defaultdict(set)
        self._hashes: dict[Path, tuple[Stamp, str]] = {}
        for line in _read(folder, own=self._lines, alone=shard is None and os.name != "nt"):
            self._take(line)

    def made(self, path: Path) -> bool:
        """Return whether a file is as a run left it, whatever the settings."""
        return self._line_of(path) is not None

    def find(self, job: Job) -> Earlier | None:
        """Return the journal's entry for the file at the job's output; None if no run left the file in this state."""
        line = self._line_of(job.target)
        if line is None:
            return None
        # A file that was renamed or that lies on a disk mounted elsewhere is still the same photograph.
        same_path = _same_path(line.get("input"), job.source)
        same_content = same_path and _is_unchanged(job.source, line.get("input_stamp"))
        return Earlier(
            is_same_path=same_path,
            is_same_content=same_content or line["sha256"] == self._hash(job.source),
            is_same_settings=line["settings"] == self._settings,
            source=str(line.get("input")),
        )

    def begin(self, job: Job) -> None:
        """Record that a file is begun, and the temporary name of its result."""
        if self._lines is None or job.temporary is None:
            return
        line = {
            "schema_version": SCHEMA_VERSION, "status": "started", "input": _absolute(job.source),
            "output": self._name(job.target), "temporary": job.temporary.name,
        }  # fmt: skip
        # Not durable: after a power cut, left-over temporary files are recognised by their age.
        self._lines.add([line], durable=False)

    def add(self, job: Job, outcome: Outcome) -> None:
        """Record a result that is complete under its temporary name; its hash is in the outcome."""
        if self._lines is None or job.temporary is None:
            return
        line = {
            "schema_version": SCHEMA_VERSION,
            **outcome.to_json(),
            "input": _absolute(job.source),
            "input_stamp": _settled(outcome.stamp),
            "output": self._name(job.target),
            "output_sha256": outcome.output_sha256,
            "output_stamp": _stamp(job.temporary),
            "settings": self._settings,
            "time": time.time_ns(),
        }
        self._lines.add([line])
        self._take(line)

    def leftovers(self) -> Iterator[Path]:
        """Temporary files that dead runs left behind; none that another run may be writing while this one is locked."""
        for output, temporary in ((output, each) for output, several in self._temporary.items() for each in several):
            if self.folder is not None and temporary and Path(temporary).name == temporary:
                yield (self.folder / output).parent / temporary

    def _line_of(self, path: Path) -> Line | None:
        """The last line that describes the file as it is."""
        for line in reversed(self._done.get(self._name(path), [])):
            if _is_as_placed(path, line) or line["output_sha256"] == self._hash(path):
                return line
        return None

    def _hash(self, path: Path) -> str | None:
        """Hash of a file, computed once while it stays; None if it is unreadable, and so not what was written."""
        try:
            stamp = Stamp.of(path)
            if self._hashes.get(path, (None, ""))[0] != stamp:
                self._hashes[path] = stamp, hash_file(path)
        except OSError:
            return None
        return self._hashes[path][1]

    def _take(self, line: Line) -> None:
        if line["status"] == "started":
            if isinstance(line.get("temporary"), str):
                self._temporary[line["output"]].add(line["temporary"])
        elif line["status"] == "done":
            self._done[line["output"]].append(line)

    def _name(self, target: Path) -> str:
        if self.folder is None:
            return str(target)
        return Path(os.path.relpath(target, self.folder)).as_posix()


def name_of(shard: Shard | None) -> str:
    """Name of the journal that a run writes."""
    return NAME if shard is None else NAME.replace(".", f".{shard.index}-of-{shard.count}.")


def is_journal(path: Path) -> bool:
    """Return whether a file has the name of a journal."""
    stem, suffix = NAME.split(".")
    return re.fullmatch(rf"{stem}(\.\d+-of-\d+)?\.{suffix}", path.name) is not None


def _read(folder: Path | None, *, own: Lines | None, alone: bool) -> Iterator[Line]:
    """Lines of all journals of a folder.

    "started" lines of others are left out, since those runs may be alive, unless this run is `alone`: the lock of a run
    without a part keeps all parts out, except on Windows.
    """
    if folder is None or own is None:
        return
    stem, suffix = NAME.split(".")
    paths = sorted({own.path, *folder.glob(f"{stem}*.{suffix}")} if folder.is_dir() else {own.path})
    for path in paths:
        for line in filter(_is_ours, Lines(path)):
            if alone or line["status"] == "done" or path == own.path:
                yield line


def _is_ours(line: Line) -> bool:
    if not isinstance(line.get("output"), str):
        return False
    return line.get("status") == "started" or (
        line.get("status") == "done" and {"settings", "sha256", "output_sha256"} <= line.keys()
    )


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - Path.absolute keeps ".."


def _same_path(recorded: object, source: Path) -> bool:
    if not isinstance(recorded, str):
        return False
    return os.path.normcase(_absolute(Path(recorded))) == os.path.normcase(_absolute(source))


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        return astuple(Stamp.of(path))
    except OSError:
        return None


def _settled(stamp: Stamp | None) -> tuple[int, ...] | None:
    """A stamp that can be trusted; None for a file that was changed just now."""
    if stamp is None or time.time_ns() - max(stamp.modified, stamp.changed) < _SETTLED:
        return None
    return astuple(stamp)


def _is_unchanged(path: Path, recorded: object) -> bool:
    known = _known(recorded)
    try:
        return known is not None and known == Stamp.of(path)
    except OSError:
        return False


def _is_as_placed(path: Path, line: Line) -> bool:
    """Return whether an output has the recorded size and time, and was not touched after it got its name."""
    known, recorded = _known(line.get("output_stamp")), line.get("time")
    if known is None or not isinstance(recorded, int):
        return False
    try:
        now = Stamp.of(path)
    except OSError:
        return False
    # Its name came right after the line was written; on Windows the time of creation says nothing, and is older.
    return (known.size, known.modified) == (now.size, now.modified) and now.changed <= recorded + _SETTLED


def _known(recorded: object) -> Stamp | None:
    if isinstance(recorded, list | tuple) and len(recorded) == 3 and all(isinstance(each, int) for each in recorded):
        return Stamp(*recorded)
    return None
