"""What `degrade` has made, so that a run started again makes only the rest: a line of JSON for every pair.

A line is added when its files are whole; of several about one file the last counts. A line torn by a crash is ignored.
"""

from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sanarestore.ndjson import Lines

VERSION = 1
"""Of the lines, and of the draws: raised when the same recipe and seed would give other pairs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A pair that was made, and all that it is a function of."""

    recipe: str
    seed: int
    sha256: str
    """Hash of the clean photo's file."""
    variant: int
    label: str
    prompt: str
    files: dict[str, int]
    """The degraded file and perhaps the target's, below the output folder, with their sizes in bytes."""
    version: int = VERSION

    @property
    def stem(self) -> str:
        """The degraded file without its suffix."""
        return str(PurePosixPath(next(iter(self.files))).with_suffix(""))

    def describes(self, recipe: str, seed: int, sha256: str, output: Path) -> bool:
        """Whether it is this very pair, and its files are in the output folder, as large as they were."""
        same = (self.recipe, self.seed, self.sha256) == (recipe, seed, sha256)
        return same and all(_size(output / file) == size for file, size in self.files.items())


class Journal:
    """The file of records. UsageError where the disk refuses it."""

    def __init__(self, path: Path) -> None:
        self._lines = Lines(path)

    def read(self) -> dict[str, Record]:
        """The last record about each degraded file, by its stem."""
        return {record.stem: record for record in filter(None, map(_parse, self._lines))}

    def add(self, record: Record) -> None:
        """Append a record."""
        self._lines.add([asdict(record)])


def _parse(line: dict[str, Any]) -> Record | None:
    try:
        record = Record(**line)
        return record if record.version == VERSION and record.files else None
    except TypeError:
        return None


def _size(file: Path) -> int | None:
    return file.stat().st_size if file.is_file() else None
