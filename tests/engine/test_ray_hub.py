"""Tests of the process that speaks to Ray, with a fake Ray: which workers it starts where, and what it refuses."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sanarestore.engine import ray_crew
from sanarestore.engine.ray_crew import RayCluster, RayCrew
from sanarestore.engine.ray_messages import Setup
from sanarestore.engine.ray_slots import Share, shares
from sanarestore.engine.wire import Task
from sanarestore.errors import OutOfMemory, UsageError
from tests.engine.test_ray_crew import build, finished
from tests.fake_ray import FakeRay


def test_a_cluster_without_room_is_refused(marked_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeRay(monkeypatch, "a", memory=1e9)
    with pytest.raises(UsageError, match="no CPU or GPU"):
        finished(RayCrew[str](build, RayCluster("auto")), "one")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_workers_that_die_while_they_start_end_the_batch(marked_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (marked_run / "no-start").touch()
    FakeRay(monkeypatch, "a", "b")
    with pytest.raises(OutOfMemory, match=r"host-.*while it started"):
        finished(RayCrew[str](build, RayCluster("auto")), "one", "two")


def test_another_version_on_a_machine_is_refused(marked_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeRay(monkeypatch, "a")
    monkeypatch.setattr(ray_crew, "Setup", lambda **fields: Setup(**{**fields, "version": "0.0.1"}))
    with pytest.raises(UsageError, match=r"is installed there, and 0\.0\.1 here. Install the same version"):
        finished(RayCrew[str](build, RayCluster("auto")), "one")


@pytest.mark.parametrize(
    ("resources", "threads", "on_gpus", "expected"),
    [
        ({"CPU": 9.0}, None, False, [Share(4, 0)] * 2),
        ({"CPU": 9.0}, 2, False, [Share(2, 0)] * 4),
        ({"CPU": 2.0}, 8, False, [Share(2, 0)]),
        ({"CPU": 1.0, "GPU": 2.0}, None, False, [Share(1, 0)]),
        ({"CPU": 64.0, "GPU": 2.0}, None, True, [Share(4, 1)] * 2),
        ({"CPU": 1.0, "GPU": 2.0}, 8, True, [Share(0, 1)] * 2),
        ({"CPU": 64.0}, None, True, []),
        ({"GPU": 0.5, "CPU": 0.5}, None, True, []),
        ({}, None, False, []),
    ],
)
def test_a_machine_is_shared_out_by_gpus_or_cpus(
    resources: dict[str, float], threads: int | None, on_gpus: bool, expected: list[Share]
) -> None:
    assert shares(resources, threads, on_gpus=on_gpus) == expected


def test_workers_on_gpus_get_one_each(marked_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch, "a", CPU=16.0, GPU=2.0)
    there: list[tuple[str, int]] = []

    def build_and_note(device: str, workers_there: int) -> Callable[[], Task]:
        there.append((device, workers_there))
        return build(device, workers_there)

    crew = RayCrew[str](build_and_note, RayCluster("auto"), threads=3)
    assert set(finished(crew, "one", "two", "three").values()) == {"ONE on cuda:0", "TWO on cuda:0", "THREE on cuda:0"}
    assert set(there) == {("cuda:0", 2)}
    assert {(actor.options["num_cpus"], actor.options["num_gpus"]) for actor in fake.actors} == {(3, 1)}
