"""Journal of finished files, `sanarestore.jsonl` in the output folder, so that a restarted batch does only the rest.

A line says "started" before a file is written, "done" after it is complete and renamed into place, and "released" if it
was not written after all. The journal therefore never claims more than exists. After a crash, the files we wrote are
still known as ours; after any other ending, files of others are never taken for ours. Imports no torch.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sanarestore.engine.jobs import Job, Outcome
from sanarestore.files import hash_file
from sanarestore.ndjson import SCHEMA_VERSION, Lines

NAME = "sanarestore.jsonl"


class Journal:
    """Journal of an output folder; records nothing without a folder. UsageError if it cannot be read or written."""

    def __init__(self, folder: Path | None, *, settings: str) -> None:
        """`settings` is the fingerprint of options and weights; files made with others do not count as finished."""
        self._lines = None if folder is None else Lines(folder / NAME)
        self._settings = settings
        self._finished: dict[str, dict[str, Any]] = {}
        self._started: set[str] = set()
        for line in filter(_is_ours, self._lines or ()):
            self._take(line)

    def is_finished(self, job: Job) -> bool:
        """Whether the current output file was made from the current input file with these settings."""
        line = self._finished.get(self._name(job.target))
        return (
            line is not None
            and line["settings"] == self._settings
            and line["sha256"] == _hash(job.source)
            and line["output_sha256"] == _hash(job.target)
        )

    def wrote(self, job: Job) -> bool:
        """Whether the output file is as an earlier batch left it, and so may be replaced."""
        name = self._name(job.target)
        line = self._finished.get(name)
        return name in self._started or (line is not None and line["output_sha256"] == _hash(job.target))

    def begin(self, jobs: Iterable[Job]) -> None:
        """Record which files are about to be written, so that a file written just before a crash is known as ours."""
        names = [name for job in jobs if (name := self._name(job.target)) not in self._started]
        self._append([{"schema_version": SCHEMA_VERSION, "status": "started", "output": name} for name in names])

    def release(self, jobs: Iterable[Job]) -> None:
        """Record that these files were not written (writing is atomic): a file at such an output, now or later, is not
        ours."""
        names = [name for job in jobs if (name := self._name(job.target)) in self._started]
        self._append([{"schema_version": SCHEMA_VERSION, "status": "released", "output": name} for name in names])

    def add(self, outcome: Outcome) -> None:
        """Record a finished file; other outcomes are not recorded, so that they are tried again."""
        if self._lines is None or outcome.status != "done" or outcome.output is None:
            return
        line = {
            "schema_version": SCHEMA_VERSION,
            **outcome.to_json(),
            "output": self._name(outcome.output),
            "output_sha256": _hash(outcome.output),
            "settings": self._settings,
        }
        self._append([line])

    def _take(self, line: dict[str, Any]) -> None:
        if line["status"] == "started":
            self._started.add(line["output"])
            return
        self._started.discard(line["output"])
        if line["status"] != "released":
            self._finished[line["output"]] = line

    def _append(self, lines: list[dict[str, Any]]) -> None:
        if self._lines is not None:
            self._lines.add(lines)
            for line in lines:
                self._take(line)

    def _name(self, target: Path) -> str:
        if self._lines is None:
            return str(target)
        return Path(os.path.relpath(target, self._lines.path.parent)).as_posix()


def _is_ours(line: dict[str, Any]) -> bool:
    if not isinstance(line.get("output"), str):
        return False
    return (
        line.get("status") in ("started", "released")
        or {"status", "settings", "sha256", "output_sha256"} <= line.keys()
    )


def _hash(path: Path) -> str | None:
    """Hash of a file; None if it is missing or unreadable, and so not what was written."""
    try:
        return hash_file(path)
    except OSError:
        return None
