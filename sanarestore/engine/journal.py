"""What is finished, so that a batch started again does only the rest: `sanarestore.jsonl` in the output folder.

A line says "started" before a file is made and "done" after it is complete and renamed into place, so the journal never
promises more than there is, and no file of ours is taken for another's; a line torn by a crash is ignored. Imports no
torch.
"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from sanarestore import weights
from sanarestore.engine.jobs import Job, Outcome
from sanarestore.errors import UsageError

NAME = "sanarestore.jsonl"


class Journal:
    """The files of an output folder; without a folder nothing is remembered. UsageError where the disk refuses it."""

    def __init__(self, folder: Path | None, *, settings: str) -> None:
        """`settings` is the fingerprint of options and weights together: other settings, other results."""
        self._path = None if folder is None else folder / NAME
        self._settings = settings
        self._finished: dict[str, dict[str, Any]] = {}
        self._started: set[str] = set()
        for line in self._lines():
            self._take(line)

    def is_finished(self, job: Job) -> bool:
        """Whether this very input, with these settings, made the file that is at the output now."""
        line = self._finished.get(self._name(job.target))
        return (
            line is not None
            and line["settings"] == self._settings
            and line["sha256"] == _hash(job.source)
            and line["output_sha256"] == _hash(job.target)
        )

    def wrote(self, job: Job) -> bool:
        """Whether the file at the output is as an earlier batch left it, and so may be replaced."""
        name = self._name(job.target)
        line = self._finished.get(name)
        return name in self._started or (line is not None and line["output_sha256"] == _hash(job.target))

    def begin(self, jobs: Iterable[Job]) -> None:
        """Note what is about to be written: should all end between a file and its line, the file is known as ours."""
        names = [name for job in jobs if (name := self._name(job.target)) not in self._started]
        self._append([{"schema_version": 1, "status": "started", "output": name} for name in names])

    def add(self, outcome: Outcome) -> None:
        """Record a finished file; other outcomes are not recorded, so that they are tried again."""
        if self._path is None or outcome.status != "done" or outcome.output is None:
            return
        line = {
            **outcome.to_json(),
            "output": self._name(outcome.output),
            "output_sha256": _hash(outcome.output),
            "settings": self._settings,
        }
        self._append([line])

    def _take(self, line: dict[str, Any]) -> None:
        if line["status"] == "started":
            self._started.add(line["output"])
        else:
            self._finished[line["output"]] = line
            self._started.discard(line["output"])

    def _append(self, lines: list[dict[str, Any]]) -> None:
        if self._path is None or not lines:
            return
        # ASCII, because a name may hold bytes that are no text in any encoding.
        text = "".join(json.dumps(line) + "\n" for line in lines)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a+b") as file:
                # After a torn line, begin a new one.
                file.write((b"\n" if _is_torn(file) else b"") + text.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._refused("written", error) from error
        for line in lines:
            self._take(line)

    def _name(self, target: Path) -> str:
        if self._path is None:
            return str(target)
        return Path(os.path.relpath(target, self._path.parent)).as_posix()

    def _lines(self) -> Iterator[dict[str, Any]]:
        """Lines that we wrote, whole."""
        if self._path is None or not self._path.is_file():
            return
        try:
            content = self._path.read_bytes()
        except OSError as error:
            raise self._refused("read", error) from error
        for text in content.splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if _is_ours(line):
                yield line

    def _refused(self, verb: str, error: OSError) -> UsageError:
        fact = f"the journal cannot be {verb} ({error.strerror or error})"
        return UsageError(
            fact, where=self._path, next_step="Check its permissions and the free space, or use another -o."
        )


def _is_ours(line: Any) -> bool:
    if not isinstance(line, dict) or not isinstance(line.get("output"), str):
        return False
    return line.get("status") == "started" or {"status", "settings", "sha256", "output_sha256"} <= line.keys()


def _is_torn(file: BinaryIO) -> bool:
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def _hash(path: Path) -> str | None:
    """None for a file that is not there or cannot be read: then it is not what was written."""
    try:
        return weights.hash_file(path)
    except OSError:
        return None
