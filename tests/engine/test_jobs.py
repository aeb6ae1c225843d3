"""Tests of jobs and outcomes."""

import json
from pathlib import Path

from sanarestore.engine.jobs import Outcome, Stamp


def test_an_outcome_converts_to_json() -> None:
    outcome = Outcome(path=Path("a.png"), output=Path("b.png"), status="done", notes=("x",), tile=64)
    line = json.loads(json.dumps(outcome.to_json()))
    assert line.keys() == {
        "input", "output", "status", "reason", "seconds", "megapixels", "error", "notes", "device", "tile",
        "threads", "dtype", "expert", "removes", "judge", "candidates", "sha256",
    }  # fmt: skip
    assert (line["input"], line["output"], line["notes"]) == ("a.png", "b.png", ["x"])


def test_a_stamp_changes_with_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    before = Stamp.of(path)
    assert Stamp.of(path) == before
    path.write_bytes(b"another")
    assert Stamp.of(path) != before
