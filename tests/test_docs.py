"""Tests of the documentation of JSON: it lists exactly the fields that commands print."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from sanarestore.catalogue import Description, ListedModel, Verified
from sanarestore.engine.diagnosis import GIVES, Finding
from sanarestore.engine.jobs import Outcome
from sanarestore.engine.onnx_file import OnnxFile
from sanarestore.evaluation.comparison import Change
from sanarestore.evaluation.published import Published
from sanarestore.evaluation.rows import Row
from sanarestore.evaluation.seams import Measured
from sanarestore.evaluation.speed.timings import Timing
from sanarestore.ndjson import SCHEMA_VERSION
from sanarestore.training.journal import PairRecord
from sanarestore.training.plan import TrainingPlan
from sanarestore.training.progress import TrainingProgress
from sanarestore.training.variants import PairOutcome

PAGE = Path(__file__).parents[1] / "docs" / "json.md"


def sections() -> dict[str, str]:
    """Return the text of every section by title."""
    _, *parts = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {part.split("\n", 1)[0]: part for part in parts}


def named(text: str) -> set[str]:
    return set(re.findall(r"`([a-z_0-9]+)`", text))


def in_first_column(text: str) -> set[str]:
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return named(" ".join(rows))


def field_names(*kinds: type) -> set[str]:
    return {field.name for kind in kinds for field in fields(kind)}


def test_the_schema_version_is_documented() -> None:
    assert f"`schema_version`, which is {SCHEMA_VERSION}" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("section", "printed"),
    [
        ("restore", set(Outcome(path=Path("a"), status="done").to_json())),
        ("degrade", set(PairOutcome(source=Path("a"), variant=0, status="done").to_json())),
        ("train", {"event", *field_names(TrainingProgress, TrainingPlan)}),
        ("bench", field_names(Row)),
        ("seams", field_names(Measured)),
        ("doctor", field_names(Finding)),
        ("models list", {*field_names(ListedModel), "needs_adapter"}),
        ("models info", field_names(Description)),
        ("models verify", field_names(Verified)),
        ("models export", field_names(OnnxFile)),
    ],
)
def test_the_table_of_a_command_lists_exactly_its_fields(section: str, printed: set[str]) -> None:
    assert in_first_column(sections()[section]) == printed


def test_every_extra_for_users_is_in_the_page_on_installing() -> None:
    page = (PAGE.parent / "install.md").read_text(encoding="utf-8")
    extras = page[page.index("## Extras") : page.index("## With Docker")]
    assert in_first_column(extras) == set(GIVES)


def test_the_fields_of_other_bench_objects_are_documented() -> None:
    derived = {"change", "exceeds_noise", "compared", "reason", "published", "growth", "found", "downloads", "title"}
    assert field_names(Change, Published, Timing) | derived <= named(sections()["bench"])


def test_the_fields_of_the_journal_of_pairs_are_documented() -> None:
    assert field_names(PairRecord) <= named(sections()["degrade"])
