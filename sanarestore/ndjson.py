"""Append-only NDJSON files that record finished work, so that it is not repeated, and the version of JSON output.

A line cut off by a crash does not affect the others. Imports nothing heavy.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sanarestore.errors import UsageError, disk_full
from sanarestore.files import is_full

SCHEMA_VERSION = 2
"""Version of every JSON object that commands print, and of the journal of `restore`; `docs/json.md` documents them."""


class Lines:
    """An append-only NDJSON file, which need not exist yet. UsageError if it cannot be read or written."""

    def __init__(self, path: Path, *, called: str = "journal") -> None:
        """`called` is what messages call the file."""
        self.path = path
        self._called = called

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Iterate over the objects of the file in order, skipping lines that are not JSON objects."""
        try:
            content = self.path.read_bytes() if self.path.is_file() else b""
        except OSError as error:
            raise self._refused("read", error) from error
        for text in content.splitlines():
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):  # the latter for brackets nested too deep
                continue
            if isinstance(line, dict):
                yield line

    def create(self) -> None:
        """Create an empty file, and its folder, if there is none. DiskFull if there is no space."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
        except OSError as error:
            if is_full(error):
                raise disk_full(self.path) from error
            raise self._refused("written", error) from error

    def add(self, lines: Iterable[Mapping[str, Any]], *, durable: bool = True) -> None:
        """Append objects, the folder is created if needed; `durable` lines survive a power cut from here on.

        DiskFull if there is no space.
        """
        # ASCII, because a file name may contain bytes that are not valid text.
        text = "".join(json.dumps(line) + "\n" for line in lines)
        if not text:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(size - 1, 0))
                torn = size > 0 and file.read(1) != b"\n"
                file.write(b"\n" * torn + text.encode())
                file.flush()
                if durable:
                    os.fsync(file.fileno())
        except OSError as error:
            if is_full(error):
                raise disk_full(self.path) from error
            raise self._refused("written", error) from error

    def _refused(self, verb: str, error: OSError) -> UsageError:
        return UsageError(
            f"the {self._called} cannot be {verb} ({error.strerror or error})", where=self.path,
            next_step="Check its permissions and the free space, or name another output.",
        )  # fmt: skip
