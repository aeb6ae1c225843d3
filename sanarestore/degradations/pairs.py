"""pairs.csv: the clean target, the degraded input and the prompt of every pair.

`training.making` makes such pairs from clean photographs; lists made by other tools are read as well.
"""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sanarestore.degradations.faults import SHOWN, Fault, refusal
from sanarestore.degradations.list_columns import COLUMNS, HEADER, columns_of, is_header
from sanarestore.degradations.list_paths import Absent, FoundFile, Lookup
from sanarestore.degradations.list_text import ListRow, lines_of, looks_like_file, read_text, rows_of, separator_of
from sanarestore.errors import UsageError
from sanarestore.files import write_atomically

ORIGINS = ("label", "variant", "sha256")
"""Columns that `write_pairs` adds: the pair's own recipe, its variant number, and the hash of the clean file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One line of pairs.csv, paths made absolute."""

    target: Path
    degraded: Path
    prompt: str
    """The caption; it may hold several variants, separated by `|`."""
    line: int = field(default=0, compare=False)
    """Line of the list on which it stands; 0 if it comes from no list."""
    label: str = field(default="", compare=False)
    """The operations that made it, where the list names them."""
    source: str = field(default="", compare=False)
    """Hash of the clean photograph that it was made from, where the list names it."""

    @property
    def prompts(self) -> tuple[str, ...]:
        """The variants of the caption, at least one."""
        return tuple(each.strip() for each in self.prompt.split("|"))


@dataclass(frozen=True, kw_only=True, slots=True)
class PairList:
    """What a list holds: its pairs, and what is wrong with other lines."""

    pairs: tuple[Pair, ...]
    faults: tuple[Fault, ...]


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
    """Read pairs.csv; paths are relative to its folder. One UsageError names everything that is wrong, by line."""
    found = list_pairs(path)
    if found.faults:
        raise refusal(path, found.faults)
    return found.pairs


def list_pairs(path: Path) -> PairList:
    """Read pairs.csv as `read_pairs` does, and return the faults of its rows beside the pairs without faults.

    UsageError if the file cannot be read as a table with the right columns, or lists nothing.
    """
    text = read_text(path)
    rows: list[ListRow] = []
    faults: list[Fault] = []
    for each in rows_of(text):
        if isinstance(each, Fault):
            faults.append(each)
        elif not each.is_blank:
            rows.append(each)
    if not rows or (faults and faults[0].line < rows[0].line):
        raise refusal(path, faults)
    header, *rows = rows
    columns = columns_of(header, lines_of(text)[header.line - 1], path)
    if not rows and not faults:
        raise UsageError("lists no pairs", where=path, next_step="Add a line for each pair.")
    reader = _Reader(columns, header.cells, Lookup(path.parent.absolute()), faults)
    return PairList(pairs=tuple(filter(None, map(reader.pair, rows))), faults=tuple(faults))


class _Reader:
    """Reader that turns rows into pairs, and adds the faults of other rows to a list."""

    def __init__(
        self, columns: Mapping[str, int], header: Sequence[str], lookup: Lookup, faults: list[Fault]
    ) -> None:  # fmt: skip
        self._columns, self._header, self._lookup, self._faults = columns, header, lookup, faults
        self._lines: dict[tuple[object, object, str], int] = {}
        """Degraded file, target and caption -> the line that holds this pair."""
        self._targets: dict[tuple[object, str], tuple[object, int]] = {}
        """Degraded file and caption -> the target, and the line that names it."""

    def pair(self, row: ListRow) -> Pair | None:
        """Return the pair of a row; None if the row has a fault."""
        before = len(self._faults)
        self._check_width(row)
        if len(self._faults) > before:
            return None
        named, conditioned, caption = (row.cells[self._columns[column]] for column in COLUMNS)
        target, degraded = self._place(row, named), self._place(row, conditioned)
        if looks_like_file(caption) and " " not in caption.strip():
            self._add(row, f"the caption '{caption.strip()}' is a file name", "Check the order of the columns.")
        if target is None or degraded is None or len(self._faults) > before:
            return None
        self._check_repeated(row, target, degraded, conditioned, caption.strip())
        if len(self._faults) > before:
            return None
        label, source = (self._optional(row, column) for column in ("label", "sha256"))
        return Pair(
            target=target.path, degraded=degraded.path, prompt=caption, line=row.line, label=label, source=source
        )  # fmt: skip

    def _optional(self, row: ListRow, column: str) -> str:
        """Return the field of an optional column, which `degrade` writes; empty if the list lacks it."""
        names = [name.strip().lower() for name in self._header]
        place = names.index(column) if names.count(column) == 1 else len(row.cells)
        return row.cells[place].strip() if place < len(row.cells) else ""

    def _add(self, row: ListRow, fact: str, next_step: str = "") -> None:
        self._faults.append(Fault(row.line, fact, next_step))

    def _check_width(self, row: ListRow) -> None:
        """Add a fault if a row has too few fields for its pair, or more than the header, apart from empty ones."""
        cells, wanted = row.cells, len(self._header)
        if is_header(cells):
            self._add(row, "this line repeats the header", "Remove the line.")
        elif any(cell.strip() for cell in cells[wanted:]):
            step = 'Put quotes around a caption with commas: "remove noise, then sharpen".'
            if any(cell.startswith(' "') for cell in cells):
                step = "Remove the spaces in front of quotes."
            elif any(mark in cell for cell in cells for mark in "“”„"):
                step = 'Use straight quotes (") around captions, not curved ones.'
            self._add(row, f"there are {len(cells)} fields, and the header has {wanted}", step)
        elif missing := [column for column in COLUMNS if self._columns[column] >= len(cells)]:
            separator = separator_of(cells[0]) if len(cells) == 1 else None
            step = f"Write {HEADER} of every pair, separated by commas; a caption may be empty."
            if cells[0].startswith("#"):
                step = "Remove comments: every line is a pair."
            elif separator:
                step = f"Fields are separated by {separator} here: use commas."
            fact = f"there {'is only 1 field' if len(cells) == 1 else f'are only {len(cells)} fields'}"
            self._add(row, f"{fact}, so that it has no {' and no '.join(missing)}", step)

    def _place(self, row: ListRow, cell: str) -> FoundFile | None:
        # Further faults are not shown, and the search for causes takes time.
        found = self._lookup.find(cell, advise=len(self._faults) < SHOWN)
        if isinstance(found, Absent):
            self._add(row, found.fact, found.next_step)
            return None
        return found

    def _check_repeated(self, row: ListRow, target: FoundFile, degraded: FoundFile, name: str, caption: str) -> None:
        """Add a fault if both files of the pair are the same, or if the pair repeats or contradicts an earlier line."""
        first = self._lines.setdefault((degraded.identity, target.identity, caption), row.line)
        known, line = self._targets.setdefault((degraded.identity, caption), (target.identity, row.line))
        if target.identity == degraded.identity:
            step = "Name the degraded image and the clean one."
            self._add(row, f"target and degraded input are the same file, {name}", step)
        elif first != row.line:
            self._add(row, f"this pair is already in line {first} already", "Remove one of the two lines.")
        elif known != target.identity:
            step = "Correct the wrong line, or write captions that say what differs."
            self._add(row, f"{name} has another target in line {line}, with the same caption", step)


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
