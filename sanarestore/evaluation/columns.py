"""Columns: the fields of a record say once how they are shown, and every table, file and page follows.

A field's name is its key in JSON and in CSV. The columns in its type show it to readers:

    psnr: Annotated[float, Column("PSNR", "{:.2f}")]
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from enum import Flag, auto
from typing import Any, get_args


class Place(Flag):
    """Places where a column is shown."""

    TERMINAL = auto()
    PERCEPTUAL = auto()
    """The terminal's second table, of metrics that networks compute."""
    PAGE = auto()
    ALL = TERMINAL | PERCEPTUAL | PAGE


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    form: str | Callable[[Any], str] = "{}"
    """Format of the value, with its unit."""
    on: Place = Place.TERMINAL | Place.PAGE
    value: Callable[[Any], Any] | None = None
    """Function that gets the value from the record, if it is not the field; the cell is empty for None."""
    words: bool = False
    """Whether it holds words, not figures."""
    merges: bool = False
    """Leave the cell empty where it repeats the one above."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One row of a table; the fields and their columns are those of a subclass."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, without those that do not apply."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def to_csv(self) -> dict[str, Any]:
        """Values for one line of CSV: an interval becomes two cells, and `psnr_per_image` is left out."""
        cells: dict[str, Any] = {}
        for name, value in asdict(self).items():
            if name.endswith("interval"):
                cells[f"{name}_low"], cells[f"{name}_high"] = value or ("", "")
            elif name != "psnr_per_image":
                cells[name] = value
        return cells

    @classmethod
    def columns(cls, place: Place) -> Iterator[tuple[str, Column]]:
        """Yield the columns of one place, each with the name of its field."""
        for field in fields(cls):
            for column in get_args(field.type):
                if isinstance(column, Column) and column.on & place:
                    yield field.name, column

    def cells(self, place: Place) -> dict[str, str]:
        """Title -> text, for the columns that apply."""
        texts = {}
        for name, column in self.columns(place):
            value = column.value(self) if column.value else getattr(self, name)
            if value is not None:
                texts[column.title] = column.form.format(value) if isinstance(column.form, str) else column.form(value)
        return texts


@dataclass(frozen=True, slots=True)
class Table:
    """A table as text, row by row."""

    columns: list[Column]
    rows: list[list[str]]


def table(records: Sequence[Record], place: Place) -> Table:
    """Show records as the table of one place; columns without any cell are left out.

    Records of several types share the columns of one title.
    """
    cells = [record.cells(place) for record in records]
    columns: dict[str, Column] = {}
    for record in records:
        for _, column in record.columns(place):
            if any(column.title in row for row in cells):
                columns.setdefault(column.title, column)
    above: dict[str, str] = {}
    rows = []
    for row in cells:
        is_repeated = {title: column.merges and row.get(title) == above.get(title) for title, column in columns.items()}
        rows.append(["" if is_repeated[title] else row.get(title, "") for title in columns])
        above = row
    return Table(list(columns.values()), rows)
