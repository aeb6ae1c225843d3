"""The record of a run in its folder, and the page that shows it."""

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from sanarestore.training.pictures import write_pictures
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.record import DataFacts, RunRecord, shortened
from sanarestore.training.report import changed_recipe, data_facts, toml, write_report
from tests.training.labelled import labelled
from tests.training.test_results import FOUND

DATA = DataFacts(
    kind="pairs", trained=3, held_back=4, size=5_000_000, captions=("remove <b>dust</b>", ""), other_captions=2
)  # fmt: skip


def write_run(folder: Path, *records: dict[str, object]) -> Path:
    """Write the files of a run that the report reads."""
    folder.mkdir(exist_ok=True)
    recipe = TrainingRecipe(name="dusty", degradations={'noise:5-40': 0.5})  # fmt: skip
    (folder / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    start = {
        "event": "start", "step": 0, "steps": 100, "device": "cuda", "dtype": "bfloat16", "batch": 16,
        "trained_parameters": 1234567, "origin": "sanarestore-mini 0123", "sanarestore": "1",
    }  # fmt: skip
    lines = [start, *(records or CURVES)]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    FOUND.save(folder)
    DATA.save(folder)
    return folder


def progress(step: int, loss: float, gain: float | None = None) -> dict[str, object]:
    gains = {"noise": gain, "jpeg": 0.1} if gain is not None else None
    return {"step": step, "loss": loss, "minutes": step / 10, "validation": gain, "validations": gains}


CURVES = (
    {"event": "before", "step": 0, "validation": 5.0, "validations": {"noise": 5.0, "jpeg": 0.2}},
    progress(50, -20, 6.0), progress(100, -21, 6.5),
)  # fmt: skip


def test_the_record_of_a_run_holds_its_curves(tmp_path: Path) -> None:
    record = RunRecord.read(write_run(tmp_path))
    assert record.losses == [(50, -20), (100, -21)]
    assert record.gains["noise"] == [(0, 5.0), (50, 6.0), (100, 6.5)]
    assert (record.steps, record.minutes, record.setbacks, record.data, record.results) == (100, 10, 0, DATA, FOUND)


def test_steps_that_were_repeated_are_shown_once(tmp_path: Path) -> None:
    """After a setback, and after a resumption from an earlier checkpoint."""
    back = {"event": "setback", "step": 50, "reason": "the loss is not a number"}
    again = {"event": "start", "step": 0, "steps": 80, "device": "cpu"}
    record = RunRecord.read(write_run(tmp_path, *CURVES[1:], back, progress(70, -25)))
    assert record.losses == [(50, -20), (70, -25)]
    assert record.setbacks == 1
    record = RunRecord.read(write_run(tmp_path, *CURVES, again, progress(60, -30)))
    assert record.losses == [(60, -30)]
    assert record.gains["noise"] == [(0, 5.0)]
    assert record.facts["device"] == "cpu"


def test_a_folder_with_little_in_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 50, "loss": 1.0}\n{"step": 100, "lo')
    record = RunRecord.read(tmp_path)
    assert record.losses == [(50, 1.0)]
    text = write_report(tmp_path).read_text()
    assert "Training of" in text


def test_the_page_shows_the_run_and_needs_nothing_else(tmp_path: Path) -> None:
    write_run(tmp_path)
    batch = labelled("noise", 1)
    for step in (0, 50, 100):
        write_pictures(tmp_path, step, [(batch, batch.target_BCHW)])
    text = write_report(tmp_path).read_text(encoding="utf-8")
    for shown in ("dusty", "100 of 100", "10 min on cuda, bfloat16", "3 pairs, 5.0 MB", "4 pairs", "1,234,567"):
        assert shown in text, shown
    assert "noise:5-40" in text
    assert "noise by 0.20 dB" in text
    assert "remove &lt;b&gt;dust&lt;/b&gt;" in text
    assert "<b>dust" not in text
    assert re.findall(r'<img src="(data:image/webp;base64,)', text) == ["data:image/webp;base64,"] * 2
    assert [step for step in (0, 50, 100) if f"target, step {step}" in text] == [0, 100]
    assert text.count("<svg") == 2
    # The page fetches and runs nothing.
    assert not re.search(r"https?:|<script|<link|@import|url\(", text)
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text


def test_a_run_of_several_stages_has_a_page_of_all(tmp_path: Path) -> None:
    stages = [write_run(tmp_path / f"stage-{number}") for number in (1, 2)]
    text = write_report(tmp_path, stages).read_text()
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["Stage 1: refiner", "Stage 2: refiner"]


def test_the_recipe_is_shown_as_toml_that_gives_the_same_recipe() -> None:
    recipe = TrainingRecipe(
        name='a "b" \\ c', steps=7, held_back=("x", "y"), learning_rate=3e-4, degradations={"noise:5-30+jpeg:30": 0.25}
    )
    text = changed_recipe(json.loads(json.dumps(recipe.to_dict())))
    assert TrainingRecipe.from_dict(tomllib.loads(text)) == recipe


@pytest.mark.parametrize("value", [True, 3, 0.1, 1e-5, "a\nb\u2028c", ["a", "b"], [1, 2]])
def test_values_of_toml_are_read_back(value: object) -> None:
    assert tomllib.loads(toml({"name": value})) == {"name": value}


def test_long_captions_are_shortened(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    replace(DATA, captions=("y" * 3000,)).save(folder)
    assert dict(data_facts(RunRecord.read(folder)))["captions"] == f"“{'y' * 79}…”, and 2 more"
    assert shortened("remove\n dust ") == "remove dust"
    assert shortened("x" * 80) == "x" * 80
    assert shortened("x" * 81) == "x" * 79 + "…"
