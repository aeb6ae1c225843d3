"""pairs.csv: the clean target, the degraded input and the prompt of every pair.

`training.making` makes such pairs from clean photographs; lists made by other tools are read as well.
"""

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sanarestore.errors import NoImagesError, UsageError
from sanarestore.files import write_atomically

COLUMNS = ("image_path", "condition_image_path", "caption")
"""Clean target, degraded input, prompt."""

ORIGINS = ("label", "variant", "sha256")
"""Columns that `write_pairs` adds: the pair's own recipe, its variant number, and the hash of the clean file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One line of pairs.csv, paths made absolute."""

    target: Path
    degraded: Path
    prompt: str
    """The caption; it may hold several variants, separated by `|`."""
    label: str = field(default="", compare=False)
    """The operations that made it, where the list names them."""
    source: str = field(default="", compare=False)
    """Hash of the clean photograph that it was made from, where the list names it."""

    @property
    def prompts(self) -> tuple[str, ...]:
        """The variants of the caption, at least one."""
        return tuple(each.strip() for each in self.prompt.split("|"))


@dataclass(frozen=True, kw_only=True, slots=True)
class PairRow:
    """A pair and its origin, as `write_pairs` records them."""

    pair: Pair
    label: str
    """The operations applied, as in `noise:25+jpeg:20`; an operation with `!` stays in the target."""
    variant: int
    sha256: str
    """Hash of the clean photograph's file."""


def read_pairs(path: Path) -> tuple[Pair, ...]:
    """Read pairs.csv; paths are relative to its folder. UsageError if a column or a file is missing."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            rows = list(reader)
    except FileNotFoundError as error:
        step = "Check its name, and put quotes around names with spaces."
        raise UsageError("there is no such file or folder", where=path, next_step=step) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        fact = f"it cannot be read ({getattr(error, 'strerror', None) or error})"
        raise UsageError(fact, where=path, next_step="Name a pairs.csv, saved as UTF-8 text.") from error
    if missing:
        raise UsageError(f"has no column {missing[0]}", where=path, next_step=f"Columns are {', '.join(COLUMNS)}.")
    if not rows:
        raise NoImagesError("lists no pairs", where=path, next_step="Add a line for each pair.")
    folder = path.parent.absolute()
    pairs = []
    for line, row in enumerate(rows, start=2):
        empty = [column for column in COLUMNS if row[column] is None]
        if empty:
            raise UsageError(
                f"line {line} has no {empty[0]}", where=path, next_step=f"Columns are {', '.join(COLUMNS)}."
            )
        target, degraded = folder / row["image_path"], folder / row["condition_image_path"]
        for named in (target, degraded):
            if not named.is_file():
                raise UsageError(f"line {line} names a file that is not there: {named}", where=path)
        origin = {"label": row.get("label") or "", "source": row.get("sha256") or ""}
        pairs.append(Pair(target=target, degraded=degraded, prompt=row["caption"], **origin))
    return tuple(pairs)


def write_pairs(path: Path, rows: Iterable[PairRow]) -> None:
    """Write pairs.csv atomically, rows in the order given; paths are relative to its folder where possible.

    OSError if the disk refuses.
    """
    # Links are resolved first: `..` behind a linked folder leads to the parent of the real one.
    folder = path.parent.resolve()
    with write_atomically(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS + ORIGINS)
        for row in rows:
            places = (_place(row.pair.target, folder), _place(row.pair.degraded, folder))
            writer.writerow((*places, row.pair.prompt, row.label, row.variant, row.sha256))
        text.detach()


def _place(file: Path, folder: Path) -> str:
    """Path of the file relative to the folder, with forward slashes; absolute if there is none (another drive)."""
    whole = file.parent.resolve() / file.name
    try:
        return Path(os.path.relpath(whole, folder)).as_posix()
    except ValueError:
        return whole.as_posix()
