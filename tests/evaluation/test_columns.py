"""Tests of records whose fields declare how tables show them."""

from dataclasses import dataclass, replace
from typing import Annotated

import pytest

from sanarestore.evaluation.columns import Column, Place, Record, table
from sanarestore.evaluation.comparison import Change
from sanarestore.evaluation.published import Published
from sanarestore.evaluation.rows import DEGRADED, Row
from sanarestore.evaluation.seams import Measured, StageRow
from sanarestore.evaluation.speed.timings import Timing
from tests.evaluation.test_comparison import row


@dataclass(frozen=True, kw_only=True, slots=True)
class Fruit(Record):
    kind: Annotated[str, Column("", words=True, merges=True)]
    grams: Annotated[
        float | None, Column("weight", "{:.1f} g"), Column("kg", lambda each: f"{each / 1000}", Place.PAGE)
    ]
    colour: Annotated[str | None, Column("colour", on=Place.PAGE, words=True)] = None
    hidden: int = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Nut(Record):
    grams: Annotated[float, Column("weight", "about {:.0f} g")]
    shell: Annotated[str, Column("shell", value=lambda nut: "hard" if nut.grams else None, words=True)] = ""


APPLE = Fruit(kind="apple", grams=100.25)


def test_every_place_shows_its_own_columns() -> None:
    assert APPLE.cells(Place.TERMINAL) == {"": "apple", "weight": "100.2 g"}
    assert APPLE.cells(Place.PAGE) == {"": "apple", "weight": "100.2 g", "kg": "0.10025"}
    assert APPLE.cells(Place.PERCEPTUAL) == {}
    assert APPLE.to_json() == {"kind": "apple", "grams": 100.25, "hidden": 3}


def test_empty_columns_are_dropped_and_repeated_cells_are_blank() -> None:
    shown = table([APPLE, replace(APPLE, grams=None), replace(APPLE, kind="pear", grams=1)], Place.PAGE)
    assert [column.title for column in shown.columns] == ["", "weight", "kg"]
    assert shown.rows == [["apple", "100.2 g", "0.10025"], ["", "", ""], ["pear", "1.0 g", "0.001"]]


def test_records_of_two_types_share_columns_by_title() -> None:
    shown = table([APPLE, Nut(grams=4), Nut(grams=0)], Place.TERMINAL)
    assert [column.title for column in shown.columns] == ["", "weight", "shell"]
    assert shown.rows == [["apple", "100.2 g", ""], ["", "about 4 g", "hard"], ["", "about 0 g", ""]]


@pytest.mark.parametrize("kind", [Row, Published, Change, Measured, StageRow, Timing])
@pytest.mark.parametrize("place", [Place.TERMINAL, Place.PERCEPTUAL, Place.PAGE])
def test_column_titles_are_unique(kind: type[Record], place: Place) -> None:
    titles = [column.title for _, column in kind.columns(place)]
    assert len(titles) == len(set(titles))


def test_rows_of_the_degraded_input_show_no_gain_or_time() -> None:
    result = row({"a.png": 30.0})
    only_results = {"gain", "improved", "s/MP"}
    assert only_results <= result.cells(Place.TERMINAL).keys()
    assert not only_results & replace(result, method=DEGRADED).cells(Place.TERMINAL).keys()


def test_the_terminal_shows_luma_only_for_super_resolution() -> None:
    measured = replace(row({"a.png": 30.0}), psnr_y=31.0)
    assert "PSNR-Y" not in measured.cells(Place.TERMINAL)
    assert replace(measured, task="sr").cells(Place.TERMINAL)["PSNR-Y"] == "31.00"
    assert measured.cells(Place.PAGE)["PSNR-Y"] == "31.00"
