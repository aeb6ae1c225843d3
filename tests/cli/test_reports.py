"""Tests of reports: no animation in logs, only data on stdout, and errors always shown."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sanarestore.cli import reports
from sanarestore.engine.jobs import Outcome, Stamp
from sanarestore.errors import ExitCode
from tests.cli.conftest import Clock, Terminal


def outcome(name: str = "a.png", status: str = "done", **fields: Any) -> Outcome:
    return Outcome(path=Path(name), output=Path("out") / name, status=status, megapixels=2.0, **fields)  # type: ignore[arg-type]


def report(*outcomes: Outcome, **chosen: Any) -> reports.Report:
    with reports.Report("restored", len(outcomes), **chosen) as made:
        for one in outcomes:
            made.part(one.path, 1, 4)
            made.add(one)
    return made


BAD = outcome("b.png", "failed", error="b.png: it is empty.")


def test_a_log_holds_only_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    report(outcome(), outcome("c.png"), outcome("d.png", "skipped"))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"2 restored, 1 finished before, 4\.0 MP in \d+\.\d s \([\d.]+ MP/s\)\n", shown.err)


def test_a_log_also_holds_errors_and_notes(capsys: pytest.CaptureFixture[str]) -> None:
    report(outcome(notes=("palette became RGB", "MakerNote may dangle")), BAD)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["note a.png: palette became RGB; MakerNote may dangle", "failed b.png: it is empty."]
    assert lines[2].startswith("1 restored, 1 failed, 2.0 MP")


def test_quiet_prints_only_errors(capsys: pytest.CaptureFixture[str]) -> None:
    report(outcome(notes=("x",)), BAD, quiet=True)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "failed b.png: it is empty.\n")


def test_stdout_holds_only_json(capsys: pytest.CaptureFixture[str]) -> None:
    report(outcome("caf\u00e9 \udce9.png", notes=("x",)), BAD, as_json=True)
    shown = capsys.readouterr()
    lines = [json.loads(line) for line in shown.out.splitlines()]
    assert [line["status"] for line in lines] == ["done", "failed"]
    assert lines[0]["input"] == "caf\u00e9 \udce9.png"
    assert lines[1]["error"] == "b.png: it is empty."
    assert shown.out.isascii()
    assert shown.err == "failed b.png: it is empty.\n"


def test_outcomes_decide_the_exit_code() -> None:
    unreadable = outcome("b.png", "failed", error="x", reason="unreadable")
    assert report(outcome(), outcome("b.png", "skipped")).exit_code == ExitCode.DONE
    assert report(outcome(), BAD).exit_code == ExitCode.SOME_FAILED
    assert report(outcome(), unreadable).exit_code == ExitCode.SOME_FAILED
    assert report(unreadable, BAD).exit_code == ExitCode.SOME_FAILED
    assert report(unreadable, unreadable).exit_code == ExitCode.NO_IMAGES


def test_markup_and_emoji_codes_in_names_are_printed_literally(capsys: pytest.CaptureFixture[str]) -> None:
    report(outcome("[red]:cat:[/x].png", notes=("n",)), outcome("y\\", "failed", error="[/]:dog: y\\"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["note [red]:cat:[/x].png: n", "failed [/]:dog: y\\"]


def seen(terminal: Terminal, made: reports.Report | reports.TrainingReport) -> list[str]:
    """Return the lines of the progress display."""
    terminal.truncate(0)
    made._progress.refresh()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).replace("\0", "").replace("\r", "\n")
    return [line for line in shown.splitlines() if line.strip()]


def shown_lines(terminal: Terminal, total: int = 4, name: str = "photo.png") -> list[str]:
    """Return the lines of the progress display when one of three files is done and one is in progress."""
    with reports.Report("restored", 3) as made:
        made.add(outcome("first.png"))
        made.part(Path(name), 1, total)
        return seen(terminal, made)


def done_of(size: int, **fields: Any) -> Outcome:
    return outcome(stamp=Stamp(size, 0, 0), **fields)


def test_a_terminal_shows_overall_and_file_progress(terminal: Terminal, clock: Clock) -> None:
    with reports.Report("restored", 10_000) as made:
        made.expect(4, 4000)
        made.part(Path("photo.png"), 1, 4, megapixels=8.0, size=2000)
        clock.now += 10
        made.part(Path("photo.png"), 2, 4, megapixels=8.0, size=2000, label="noise")
        made.add(outcome("b.png", "failed", error="b.png: it is empty."))
        overall, part = (line for line in seen(terminal, made) if "failed b.png" not in line)
    assert re.search(r"restored, 1 failed .*1/10000 +0\.20 MP/s 60 s left$", overall)
    assert re.search(r" photo\.png \(noise\) .*2/4 *$", part)
    assert len(overall) <= 80


def test_a_log_gets_a_line_every_half_minute(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    with reports.Report("restored", 4) as made:
        made.expect(4, 4000)
        for seconds, name in ((1, "a.png"), (31, "b.png"), (10, "c.png"), (40, "d.png")):
            made.part(Path(name), 1, 2, megapixels=2.0, size=1000)
            clock.now += seconds
            made.add(done_of(1000, name=name))
        lines = capsys.readouterr().err.splitlines()
    assert lines == ["2/4 restored  0.094 MP/s 43 s left"]


def test_json_holds_progress_on_request(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    for progress in (True, False):
        with reports.Report("restored", 3, as_json=True, progress=progress) as made:
            made.expect(3, 3000)
            made.part(Path("a.png"), 1, 2, megapixels=2.0, size=1000)
            clock.now += 31
            made.add(done_of(1000))
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["status"] for line in lines] == ["progress", "done"][not progress :]
        if progress:
            assert lines[0] | {"schema_version": 0} == {
                "schema_version": 0, "status": "progress", "files": 3, "done": 1, "skipped": 0, "failed": 0,
                "ignored": 0, "megapixels": 2.0, "seconds": 31.0, "seconds_left": 124,
            }  # fmt: skip


def test_failures_are_named_again_at_the_end_of_a_long_run(capsys: pytest.CaptureFixture[str]) -> None:
    failed = [outcome(f"f{n}.png", "failed", error=f"f{n}.png: it is empty.") for n in range(23)]
    report(*failed, outcome())
    lines = capsys.readouterr().err.splitlines()
    assert lines[-22:-2] == [f"failed f{n}.png: it is empty." for n in range(20)]
    assert lines[-2] == "and 3 others failed; --log-file keeps all of them"
    report(failed[0], outcome())
    assert capsys.readouterr().err.count("it is empty") == 1


def test_files_that_failed_for_one_reason_are_named_by_it_once(capsys: pytest.CaptureFixture[str]) -> None:
    alike = [outcome(f"f{n}.png", "failed", error="out: nothing can be written there.") for n in range(30)]
    report(*alike, BAD)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:-1] == ["failed out: nothing can be written there.", "failed b.png: it is empty."] * 2
    assert lines[-1] == "0 restored, 31 failed"


def test_control_characters_in_names_reach_no_terminal(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown_lines(terminal, name="a\x1b]0;b\n.png")
    assert any(r"a\x1b]0;b\n.png" in line for line in lines)


def test_a_log_file_keeps_every_outcome(tmp_path: Path) -> None:
    ignored = Outcome(path=Path("notes.txt"), status="ignored", reason="other", notes=("it is not a photograph",))
    for _ in range(2):
        report(outcome(), BAD, ignored, log=tmp_path / "log.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["status"] for line in lines] == ["done", "failed", "ignored", "ended"] * 2
    assert (lines[3]["done"], lines[3]["failed"], lines[3]["ignored"]) == (1, 1, 1)


def test_ignored_files_are_named_only_if_more_is_to_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    ignored = Outcome(path=Path("notes.txt"), status="ignored", reason="other", notes=("it is not a photograph",))
    report(outcome(), ignored)
    shown = capsys.readouterr().err
    assert "notes.txt" not in shown
    assert "1 other file ignored" in shown
    report(outcome(), ignored, verbose=True)
    assert "ignored notes.txt: it is not a photograph" in capsys.readouterr().err


def test_a_file_of_one_part_has_no_separate_bar(terminal: Terminal) -> None:
    assert len(shown_lines(terminal, total=1)) == 1


def test_long_names_leave_room_for_the_bar(terminal: Terminal) -> None:
    _, part = shown_lines(terminal, name="a" * 90 + "_0001.png")
    assert "aaa…" in part
    assert "_0001.png " in part
    assert re.search(r"━{5}", part)
    assert re.search(r"1/4", part)


def test_smaller_tiles_midway_change_the_total(terminal: Terminal) -> None:
    with reports.Report("restored", 1) as made:
        for done, total in ((1, 4), (2, 4), (1, 16), (2, 16)):
            made.part(Path("a.png"), done, total)
        task = made._progress.tasks[1]
        assert (task.completed, task.total) == (2, 16)
        assert made._progress.tasks[0].completed == 2 / 16
        made.add(outcome())
        assert [task.completed for task in made._progress.tasks] == [1]


@pytest.mark.parametrize("how", ["quiet", "as_json", "dumb", "log"])
def test_quiet_json_dumb_and_log_output_is_not_animated(
    how: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    if how == "log":  # FORCE_COLOR may colour a log, but not animate it
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setattr(terminal, "isatty", lambda: False)
    report(outcome(), **{how: True} if how in ("quiet", "as_json") else {})
    assert "\r" not in terminal.getvalue()
    assert "\x1b[?25l" not in terminal.getvalue()
    assert "photo" not in terminal.getvalue()
    assert ("1 restored" in terminal.getvalue()) == (how in ("dumb", "log"))


def step(number: int, validation: float | None = None, minutes: float = 0.5) -> dict[str, Any]:
    return {
        "step": number, "steps": 10, "loss": 0.25, "learning_rate": 1e-3, "images_per_second": 40.4,
        "minutes": minutes, "share": number / 10, "validation": validation, "notes": [],
    }  # fmt: skip


def test_a_training_log_has_at_most_a_line_per_minute(capsys: pytest.CaptureFixture[str]) -> None:
    with reports.TrainingReport() as made:
        for fields in (step(1), step(2, 1.5), step(3, minutes=1.0), step(4, minutes=2.0)):
            made.step(fields)
    assert capsys.readouterr().err.splitlines() == [
        "step 2/10  loss 0.25  40 images/s  validation +1.50 dB  2 min left",
        "step 4/10  loss 0.25  40 images/s  validation +1.50 dB  3 min left",
    ]


def test_a_photo_that_is_left_out_is_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    bad = {**step(1), "notes": ["a.png: it is damaged. It is left out."]}
    for quiet in (False, True):
        with reports.TrainingReport(quiet=quiet) as made:
            made.step(bad)
            made.step(bad)
    assert capsys.readouterr().err.splitlines() == ["note a.png: it is damaged. It is left out."]


def test_training_progress_fits_a_small_terminal(terminal: Terminal) -> None:
    with reports.TrainingReport() as made:
        made.step({**step(5, -10.25), "step": 15000, "steps": 16000, "loss": -24.69581, "images_per_second": 1250.0})
        line = seen(terminal, made)[0].strip()
    assert line.startswith("step 15000/16000  loss -24.7  1250 images/s  validation -10.25 dB ━")
    assert line.endswith(" 30 s left")
    assert len(line) <= 80


def test_the_time_left_of_a_long_training_is_shown_in_hours(capsys: pytest.CaptureFixture[str]) -> None:
    with reports.TrainingReport() as made:
        made.step({**step(1), "share": 0.001, "minutes": 62.0})
    assert capsys.readouterr().err.splitlines()[-1].endswith("1032 h 18 min left")


def test_training_json_has_a_line_per_validation(capsys: pytest.CaptureFixture[str]) -> None:
    with reports.TrainingReport(as_json=True) as made:
        for fields in (step(1), step(2, 1.5), step(3)):
            made.step(fields)
    shown = capsys.readouterr()
    assert [json.loads(line) for line in shown.out.splitlines()] == [{"schema_version": 2, **step(2, 1.5)}]
    assert shown.err == ""


def test_quiet_training_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with reports.TrainingReport(quiet=True) as made:
        made.step(step(2, 1.5, minutes=9))
    assert capsys.readouterr() == ("", "")
