"""The journal of pairs that `degrade` has made, a JSON object per line, so that a repeated run makes only the rest.

A line is added once its files are complete. The last line about a file counts; a line torn by a crash is ignored.
"""

from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sanarestore.ndjson import Lines

NAME = "pairs.jsonl"

VERSION = 1
"""Version of the lines and of the random draws; raised when the same recipe and seed would give other pairs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairRecord:
    """A finished pair and the inputs that determine it."""

    recipe: str
    seed: int
    sha256: str
    """Hash of the clean photo's file."""
    variant: int
    label: str
    prompt: str
    files: dict[str, int]
    """Path below the output folder -> size in bytes: the degraded file, then the target if it has a file of its own."""
    version: int = VERSION

    @property
    def stem(self) -> str:
        """Path of the degraded file without its suffix."""
        return str(PurePosixPath(next(iter(self.files))).with_suffix(""))

    def describes(self, recipe: str, seed: int, sha256: str, output: Path) -> bool:
        """Return whether the pair has these inputs, and its files are in the output folder with their recorded
        sizes."""
        same = (self.recipe, self.seed, self.sha256) == (recipe, seed, sha256)
        return same and all(_size(output / file) == size for file, size in self.files.items())


class PairJournal:
    """The file of records; UsageError if it cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self._lines = Lines(path)

    def create(self) -> None:
        """Create the file if there is none."""
        self._lines.create()

    def read(self) -> dict[str, PairRecord]:
        """Read the last record of each degraded file, by its stem."""
        return {record.stem: record for record in filter(None, map(_parse, self._lines))}

    def add(self, record: PairRecord) -> None:
        """Append a record."""
        self._lines.add([asdict(record)])


def _parse(line: dict[str, Any]) -> PairRecord | None:
    """The record of a line; None for a line of another program or version."""
    try:
        record = PairRecord(**line)
        if record.version != VERSION or not all(isinstance(size, int) for size in record.files.values()):
            return None
        _ = record.stem
        return record if isinstance(record.variant, int) else None
    except (TypeError, ValueError, AttributeError, StopIteration):
        return None


def _size(file: Path) -> int | None:
    return file.stat().st_size if file.is_file() else None
