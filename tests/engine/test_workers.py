"""Tests of worker processes: several write what one writes, and a killed worker loses one file."""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from sanarestore.engine import workers
from sanarestore.engine.jobs import Job, Outcome
from sanarestore.errors import UsageError, WeightsError
from sanarestore.model.loading import REFINER
from sanarestore.options import RestoreOptions
from tests.conftest import save_photo


def jobs_of(folder: Path, sizes: dict[str, int]) -> list[Job]:
    return [
        Job(source=save_photo(folder / "in" / name, side, side, seed=side), target=folder / "out" / name)
        for name, side in sizes.items()
    ]


def options_of(model: Path) -> RestoreOptions:
    return RestoreOptions(model=str(model), tile=64, threads=1)


def outcomes_of(jobs: Sequence[Job], options: RestoreOptions, devices: Sequence[str]) -> dict[str, Outcome]:
    events = workers.restore(jobs, options, devices)
    return {event.path.name: event for event in events if isinstance(event, Outcome)}


def test_device_lists_are_parsed() -> None:
    assert workers.parse_devices("auto") == ("auto",)
    assert workers.parse_devices("cuda:0, cuda:1,cpu") == ("cuda:0", "cuda:1", "cpu")
    assert workers.parse_devices("all")
    for text in ("", "cpu,", ",", " "):
        with pytest.raises(UsageError, match="--devices"):
            workers.parse_devices(text)


def test_two_workers_write_what_one_writes(tmp_path: Path, tiny_folder: Path) -> None:
    sizes = {"a.png": 90, "b.png": 30, "c.png": 140, "d.png": 64}
    alone, together = jobs_of(tmp_path / "alone", sizes), jobs_of(tmp_path / "together", sizes)
    together[1].source.write_bytes(b"no image")
    options = options_of(tiny_folder)
    one = outcomes_of(alone, options, ["cpu"])
    two = outcomes_of(together, options, ["cpu:0", "cpu:1"])
    assert list(one) == list(sizes)
    assert {outcome.status for outcome in one.values()} == {"done"}
    assert {name: outcome.status for name, outcome in two.items()} == {
        "a.png": "done", "b.png": "failed", "c.png": "done", "d.png": "done",
    }  # fmt: skip
    assert {two[name].device for name in ("a.png", "c.png", "d.png")} <= {"cpu:0", "cpu:1"}
    for first, second in zip(alone, together, strict=True):
        if second.target.exists():
            assert first.target.read_bytes() == second.target.read_bytes()
    assert multiprocessing.active_children() == []


def test_a_killed_worker_loses_only_its_file(tmp_path: Path, tiny_folder: Path) -> None:
    """Both workers are killed in the middle of a file; a new one does the rest."""
    jobs = jobs_of(tmp_path, {"large.png": 900, "larger.png": 901, "small.png": 40})
    begun: set[str] = set()
    outcomes: dict[str, Outcome] = {}
    for event in workers.restore(jobs, options_of(tiny_folder), ["cpu", "cpu"]):
        if isinstance(event, Outcome):
            outcomes[event.path.name] = event
        elif event.path.name not in begun:
            begun.add(event.path.name)
            if begun == {"large.png", "larger.png"}:
                for process in multiprocessing.active_children():
                    assert process.pid is not None
                    os.kill(process.pid, signal.SIGKILL)
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        "large.png": "failed", "larger.png": "failed", "small.png": "done",
    }  # fmt: skip
    assert "ended unexpectedly" in (outcomes["large.png"].error or "")
    assert str(jobs[0].source) in (outcomes["large.png"].error or "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["small.png"]
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"]])
def test_damaged_weights_stop_all_workers(devices: list[str], tmp_path: Path, tiny_folder: Path) -> None:
    (tiny_folder / REFINER).write_bytes(b"damaged")
    jobs = jobs_of(tmp_path, {"a.png": 20, "b.png": 20})
    with pytest.raises(WeightsError, match="sha256"):
        outcomes_of(jobs, options_of(tiny_folder), devices)
    assert multiprocessing.active_children() == []


def test_a_single_file_starts_no_worker_process(tmp_path: Path, tiny_folder: Path) -> None:
    jobs = jobs_of(tmp_path, {"a.png": 20})
    events = workers.restore(jobs, options_of(tiny_folder), ["cpu", "cpu"])
    next(events)
    assert multiprocessing.active_children() == []
    events.close()
