"""pairs.csv: which degraded file belongs to which clean one, and what is to be asked."""

import csv
from dataclasses import dataclass
from pathlib import Path

from sanarestore.errors import NoImagesError, UsageError

COLUMNS = ("image_path", "condition_image_path", "caption")
"""Clean target, degraded input, prompt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One line of pairs.csv, paths made absolute."""

    target: Path
    degraded: Path
    prompt: str


def read_pairs(path: Path) -> tuple[Pair, ...]:
    """Read pairs.csv; relative paths are relative to the file. UsageError if a column or a file is missing."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot be read ({error})", where=path) from error
    if missing:
        raise UsageError(f"has no column {missing[0]}", where=path, next_step=f"Columns are {', '.join(COLUMNS)}.")
    if not rows:
        raise NoImagesError("lists no pairs", where=path)
    folder = path.parent.absolute()
    pairs = []
    for line, row in enumerate(rows, start=2):
        target, degraded = folder / row["image_path"], folder / row["condition_image_path"]
        for file in (target, degraded):
            if not file.is_file():
                raise UsageError(f"line {line} names a file that is not there: {file}", where=path)
        pairs.append(Pair(target=target, degraded=degraded, prompt=row["caption"]))
    return tuple(pairs)
