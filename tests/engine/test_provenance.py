"""Results recognised by their provenance, where the journal is lost."""

from pathlib import Path

import pytest

from sanarestore import restore_files
from sanarestore.engine.jobs import Outcome
from sanarestore.errors import UsageError
from sanarestore.options import BatchOptions, WriteOptions
from tests.conftest import save_photo


@pytest.fixture
def shoot(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three photographs that are restored with their provenance, whose journal is lost."""
    monkeypatch.chdir(tmp_path)
    for index, name in enumerate(("a.png", "b.png", "c.png")):
        save_photo(Path("shoot") / name, 24, 32, seed=index)
    assert statuses(restored()) == ["done"] * 3
    Path("out/sanarestore.jsonl").unlink()
    return Path("shoot")


def restored(**options: object) -> list[Outcome]:
    given = {"output": "out", "model": "tiny-model", "provenance": True, **options}
    return list(restore_files("shoot", **given))  # type: ignore[arg-type]


def statuses(outcomes: list[Outcome]) -> list[str | None]:
    """Status of each, or the reason if it failed, by path."""
    return [each.reason or each.status for each in sorted(outcomes, key=lambda each: each.path)]


def test_results_without_a_journal_are_taken_over_if_that_is_asked_for(shoot: Path) -> None:
    before = [(each.name, each.read_bytes()) for each in sorted(Path("out").glob("*.png"))]
    assert statuses(restored()) == ["exists"] * 3
    outcomes = restored(adopt=True)
    assert statuses(outcomes) == ["skipped"] * 3
    assert all("by its provenance" in note for each in outcomes for note in each.notes)
    assert [(each.name, each.read_bytes()) for each in sorted(Path("out").glob("*.png"))] == before
    again = restored()
    assert statuses(again) == ["skipped"] * 3, "they are in the journal now"
    assert not any(each.notes for each in again)


@pytest.mark.parametrize("changed", [{"prompt": "remove noise"}, {"strength": 0.5}, {"strip": True}, {"bit_depth": 16}])
def test_results_of_other_options_are_not_taken_over(shoot: Path, changed: dict[str, object]) -> None:
    assert statuses(restored(adopt=True, **changed)) == ["exists"] * 3


def test_only_whole_results_of_the_same_photographs_are_taken_over(shoot: Path) -> None:
    save_photo(shoot / "a.png", 24, 32, seed=9)
    torn = Path("out/b.png")
    torn.write_bytes(torn.read_bytes()[:-40])
    assert statuses(restored(adopt=True)) == ["exists", "exists", "skipped"]


def test_a_result_without_provenance_is_not_taken_over(shoot: Path) -> None:
    Path("out/a.png").write_bytes((shoot / "a.png").read_bytes())
    assert statuses(restored(adopt=True)) == ["exists", "skipped", "skipped"]


def test_taking_over_needs_provenance() -> None:
    with pytest.raises(UsageError, match="Add --provenance"):
        BatchOptions(adopt=True)
    BatchOptions(adopt=True, write=WriteOptions(provenance=True))
