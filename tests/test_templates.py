"""Tests of pages from templates."""

from pathlib import Path

import pytest
from jinja2 import UndefinedError

from sanarestore import __version__
from sanarestore.templates import render, write_page

EMPTY_SHEET = {
    "mark": "",
    "command": "restore <b> & c",
    "counts": {"done": 2, "skipped": 0, "failed": 0},
    "cards": [],
    "names": [],
    "here": "",
}


def test_values_are_escaped_and_the_version_is_shown() -> None:
    text = render("sanarestore.cli", "contact_sheet.html", **EMPTY_SHEET)
    assert "restore &lt;b&gt; &amp; c" in text
    assert f"sanarestore {__version__}" in text


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        render("sanarestore.cli", "contact_sheet.html", command="restore")


def test_names_that_are_no_text_can_be_written(tmp_path: Path) -> None:
    values = {**EMPTY_SHEET, "command": "restore a\udcff.png"}
    write_page(tmp_path / "index.html", "sanarestore.cli", "contact_sheet.html", **values)
    assert r"restore a\udcff.png" in (tmp_path / "index.html").read_text(encoding="utf-8")
