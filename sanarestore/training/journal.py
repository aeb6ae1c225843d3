"""What `degrade` has made, so that a run started again makes only the rest: a line of JSON for every pair.

A line is added when its files are whole; of several about one file the last counts. A line torn by a crash is ignored.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from sanarestore.errors import UsageError

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
    """The file of records, open for more. UsageError where the disk refuses it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        try:
            self._file = self._path.open("a+b")
        except OSError as error:
            raise self._refused(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self) -> dict[str, Record]:
        """The last record about each degraded file, by its stem; and a torn last line is closed off."""
        self._file.seek(0)
        records = {}
        line = b"\n"
        for line in self._file:
            record = _parse(line)
            if record is not None:
                records[record.stem] = record
        if not line.endswith(b"\n"):
            self._file.write(b"\n")
        return records

    def add(self, record: Record) -> None:
        """Append a record, and hand it to the system at once."""
        try:
            self._file.write(json.dumps(asdict(record)).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> UsageError:
        return UsageError(f"cannot be written ({error.strerror})", where=self._path, next_step="Name another output.")


def _parse(line: bytes) -> Record | None:
    try:
        record = Record(**json.loads(line))
        return record if record.version == VERSION and record.files else None
    except (ValueError, TypeError):
        return None


def _size(file: Path) -> int | None:
    return file.stat().st_size if file.is_file() else None
