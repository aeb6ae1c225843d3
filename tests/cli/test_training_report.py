"""Tests of what `train` shows: progress in logs and terminals, and only JSON where that is asked for."""

import json
from typing import Any

import pytest

from sanarestore.cli.training_report import TrainingReport
from sanarestore.training.results import Results
from tests.cli.conftest import Terminal
from tests.cli.test_reports import seen
from tests.training.test_results import FOUND


def step(number: int, validation: float | None = None, minutes: float = 0.5) -> dict[str, Any]:
    return {
        "step": number, "steps": 10, "loss": 0.25, "learning_rate": 1e-3, "images_per_second": 40.4,
        "minutes": minutes, "share": number / 10, "validation": validation, "notes": [],
    }  # fmt: skip


def test_a_training_log_has_at_most_a_line_per_minute(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingReport() as made:
        for fields in (step(1), step(2, 1.5), step(3, minutes=1.0), step(4, minutes=2.0)):
            made.step(fields)
    assert capsys.readouterr().err.splitlines() == [
        "step 2/10  loss 0.25  40 images/s  validation +1.50 dB  2 min left",
        "step 4/10  loss 0.25  40 images/s  validation +1.50 dB  3 min left",
    ]


def test_a_photo_that_is_left_out_is_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    bad = {**step(1), "notes": ["a.png: it is damaged. It is left out."]}
    for quiet in (False, True):
        with TrainingReport(quiet=quiet) as made:
            made.step(bad)
            made.step(bad)
    assert capsys.readouterr().err.splitlines() == ["note a.png: it is damaged. It is left out."]


def test_training_progress_fits_a_small_terminal(terminal: Terminal) -> None:
    with TrainingReport() as made:
        made.step({**step(5, -10.25), "step": 15000, "steps": 16000, "loss": -24.69581, "images_per_second": 1250.0})
        line = seen(terminal, made)[0].strip()
    assert line.startswith("step 15000/16000  loss -24.7  1250 images/s  validation -10.25 dB ━")
    assert line.endswith(" 30 s left")
    assert len(line) <= 80


def test_training_json_has_a_line_per_validation(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingReport(as_json=True) as made:
        for fields in (step(1), step(2, 1.5), step(3)):
            made.step(fields)
    shown = capsys.readouterr()
    assert [json.loads(line) for line in shown.out.splitlines()] == [{"schema_version": 2, **step(2, 1.5)}]
    assert shown.err == ""


def test_quiet_training_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingReport(quiet=True) as made:
        made.step(step(2, 1.5, minutes=9))
    assert capsys.readouterr() == ("", "")


def test_the_validation_before_training_names_the_base_with_its_experts(capsys: pytest.CaptureFixture[str]) -> None:
    plain = Results(before=FOUND.before)
    for results in (plain, FOUND, None, Results()):
        with TrainingReport() as made:
            made.begin(results, "")
    assert capsys.readouterr().err.splitlines() == [
        "validation before training: +3.50 dB",
        "validation before training: +5.00 dB by the base, +3.50 dB by its refiner without the experts",
    ]


def test_the_end_shows_a_table_and_warns_where_the_base_is_better(capsys: pytest.CaptureFixture[str]) -> None:
    TrainingReport().end(FOUND)
    shown = capsys.readouterr()
    lines = [line.split() for line in shown.out.splitlines() if line.strip()]
    assert lines[0] == ["validation", "by", "degradation"]
    assert ["noise", "2", "20.00", "25.00", "27.00", "26.80", "+6.80"] in lines
    assert "base: the base with its experts" in shown.out
    assert "1 step, fidelity 0" in shown.out
    assert shown.err.splitlines() == [f"warning {FOUND.warning}"]


def test_results_are_shown_neither_with_json_nor_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    for made in (TrainingReport(quiet=True), TrainingReport(as_json=True)):
        made.begin(FOUND, "stage 1")
        made.end(FOUND)
    TrainingReport().end(Results(before=FOUND.before))
    assert capsys.readouterr() == ("", "")


def test_the_time_left_of_a_long_training_is_shown_in_hours(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingReport() as made:
        made.step({**step(1), "share": 0.001, "minutes": 62.0})
    assert capsys.readouterr().err.splitlines()[-1].endswith("1032 h 18 min left")
