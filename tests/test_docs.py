"""The documentation of JSON names every field that a command prints, and none that it does not."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from sanarestore.engine.jobs import Outcome
from sanarestore.evaluation.comparison import Change
from sanarestore.evaluation.published import Published
from sanarestore.evaluation.rows import Row
from sanarestore.evaluation.seams import Measured
from sanarestore.evaluation.speed.timings import Timing
from sanarestore.ndjson import SCHEMA_VERSION
from sanarestore.training.loop import Progress
from sanarestore.training.variants import PairOutcome

PAGE = Path(__file__).parents[1] / "docs" / "json.md"


def sections() -> dict[str, str]:
    """Title of a section -> its text."""
    _, *parts = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {part.split("\n", 1)[0]: part for part in parts}


def named(text: str) -> set[str]:
    return set(re.findall(r"`([a-z_0-9]+)`", text))


def in_first_column(text: str) -> set[str]:
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return named(" ".join(rows))


def of(*kinds: type) -> set[str]:
    return {field.name for kind in kinds for field in fields(kind)}


def test_the_version_is_documented() -> None:
    assert f"`schema_version`, which is {SCHEMA_VERSION}" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("section", "printed"),
    [
        ("restore", set(Outcome(path=Path("a"), status="done").to_json())),
        ("degrade", set(PairOutcome(source=Path("a"), variant=0, status="done").to_json())),
        ("train", of(Progress)),
        ("bench", of(Row)),
        ("seams", of(Measured)),
    ],
)
def test_every_field_of_a_table_is_printed_and_every_printed_one_is_there(section: str, printed: set[str]) -> None:
    assert in_first_column(sections()[section]) == printed


def test_other_objects_of_bench_are_documented() -> None:
    derived = {"change", "exceeds_noise", "compared", "reason", "published", "growth", "found", "downloads", "title"}
    assert of(Change, Published, Timing) | derived <= named(sections()["bench"])
