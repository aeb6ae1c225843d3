"""Results recognised by their provenance, where the journal is lost."""

from dataclasses import replace
from pathlib import Path

import pytest

from sanarestore import images, restore_files
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
    # They may have been edited since, so a run that does not ask for them must not take them for its own.
    assert statuses(restored(prompt="remove noise")) == ["exists"] * 3


@pytest.mark.parametrize("changed", [{"prompt": "remove noise"}, {"strength": 0.5}, {"strip": True}, {"bit_depth": 16}])
def test_results_of_other_options_are_not_taken_over(shoot: Path, changed: dict[str, object]) -> None:
    assert statuses(restored(adopt=True, **changed)) == ["exists"] * 3


def test_only_whole_results_of_the_same_photographs_are_taken_over(shoot: Path) -> None:
    save_photo(shoot / "a.png", 24, 32, seed=9)
    torn = Path("out/b.png")
    torn.write_bytes(torn.read_bytes()[:-40])
    assert statuses(restored(adopt=True)) == ["exists", "exists", "skipped"]


def test_a_result_of_another_size_is_not_taken_over(shoot: Path) -> None:
    image = images.read("out/a.png")
    images.write(replace(image, pixels_HWC=image.pixels_HWC[:20]), "out/a.png")
    assert statuses(restored(adopt=True)) == ["exists", "skipped", "skipped"]


def test_options_that_are_zero_are_told(shoot: Path) -> None:
    list(restore_files("shoot/a.png", output="zero", model="tiny-model", provenance=True, strength=0))
    told = images.provenance_of(images.read("zero/a.png").metadata)
    assert told is not None
    assert {("strength", "0.0"), ("seed", "0")} <= set(told.options)


def test_an_earlier_provenance_does_not_speak_of_a_new_result(shoot: Path) -> None:
    (outcome,) = restore_files("out/a.png", output="again", model="tiny-model", prompt="remove noise")
    assert outcome.notes == ("the provenance of an earlier restoration is left out",)
    assert images.provenance_of(images.read("again/a.png").metadata) is None


def test_a_result_without_provenance_is_not_taken_over(shoot: Path) -> None:
    Path("out/a.png").write_bytes((shoot / "a.png").read_bytes())
    assert statuses(restored(adopt=True)) == ["exists", "skipped", "skipped"]


def test_taking_over_needs_provenance() -> None:
    with pytest.raises(UsageError, match="Add --provenance"):
        BatchOptions(adopt=True)
    BatchOptions(adopt=True, write=WriteOptions(provenance=True))
