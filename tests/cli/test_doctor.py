"""Tests of `sanarestore doctor`."""

import json
from collections.abc import Sequence

import pytest

from sanarestore.cli.app import run
from sanarestore.cli.doctor import lines
from sanarestore.engine.diagnosis import Finding

RIGHT = Finding(group="versions", name="torch", status="ok", found="2.8")
ABSENT = Finding(
    group="optional", name="ray", status="missing", found="clusters; needs ray", next_step="pip install ray"
)
WRONG = Finding(group="devices", name="cuda:0", status="problem", found="it fails", next_step="Check its driver.")


def given(findings: Sequence[Finding], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sanarestore.engine.diagnosis.diagnose", lambda: iter(findings))


def test_what_is_only_missing_does_not_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given([RIGHT, ABSENT], monkeypatch)
    assert run(["doctor"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "Versions"
    assert "- ray               clusters; needs ray" in shown
    assert "                    > pip install ray" in shown
    assert shown[-1].startswith("Restoring works.")


def test_a_problem_ends_with_1_and_its_next_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given([RIGHT, WRONG], monkeypatch)
    assert run(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "! cuda:0            it fails\n                    > Check its driver." in shown
    assert "Restoring does not work: 1 problem, marked with !." in shown
    assert run(["doctor", "--quiet"]) == 1
    assert capsys.readouterr().out.splitlines()[0] == "Devices"


def test_json_has_an_object_per_finding(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given([RIGHT, WRONG], monkeypatch)
    assert run(["doctor", "--json"]) == 1
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["status"] for each in found] == ["ok", "problem"]
    assert found[1]["next_step"] == "Check its driver."


def test_lines_are_broken_between_words() -> None:
    long = Finding(group="folders", name="cache", status="ok", found="/a/path-with-hyphens/that-is-long " * 4)
    shown = list(lines(long, 80))
    assert len(shown) > 1
    assert max(map(len, shown)) <= 80
    assert "/a/path-with-hyphens/that-is-long" in shown[1]
