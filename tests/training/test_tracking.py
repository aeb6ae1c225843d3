"""Trackers of experiments: their data, and errors that do not end a training."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from accelerate import PartialState, tracking

from sanarestore.errors import UsageError
from sanarestore.training.pictures import write_pictures
from sanarestore.training.progress import TrainingProgress
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.tracking import Trackers, check_trackers
from tests.training.labelled import labelled


class Fake(tracking.GeneralTracker):  # type: ignore[misc]
    """A tracker that keeps its data."""

    name = "fake"
    requires_logging_directory = False
    made: ClassVar[list["Fake"]] = []

    def __init__(self, run_name: str) -> None:
        super().__init__()
        self.run_name = run_name
        self.logged: list[tuple[int | None, dict[str, Any]]] = []
        self.pictures: list[tuple[int | None, Any]] = []
        self.config: dict[str, Any] = {}
        self.is_finished = False
        Fake.made.append(self)

    @property
    def tracker(self) -> None:
        return None

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.config = values

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self.logged.append((step, values))

    def log_images(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self.pictures.append((step, values["pictures"]))

    def finish(self) -> None:
        self.is_finished = True


class Broken(Fake):
    """A tracker that loses its connection at the first loss."""

    name = "broken"

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        raise ConnectionError("no network")


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    known = {**tracking.LOGGER_TYPE_TO_CLASS, "fake": Fake, "broken": Broken}
    monkeypatch.setattr(tracking, "LOGGER_TYPE_TO_CLASS", known)
    monkeypatch.setattr(Fake, "made", [])
    yield
    PartialState._reset_state()


def progress(step: int, validation: float | None = None) -> TrainingProgress:
    return TrainingProgress(
        step=step, steps=40, loss=step / 10, learning_rate=1e-3, images_per_second=3, minutes=1, share=step / 40,
        validation=validation, validations=None if validation is None else {"noise:25": validation, "jpeg:20": 0.5},
    )  # fmt: skip


def test_a_tracker_is_given_losses_rates_gains_and_pictures(tmp_path: Path) -> None:
    trackers = Trackers(("fake", "fake"), tmp_path, TrainingRecipe(name="tiny"))
    batch = labelled("noise:25", 1)
    write_pictures(tmp_path, 0, [(batch, batch.target_BCHW)])
    trackers.start({"noise:25": 2.0})
    assert [trackers.log(progress(step)) for step in range(1, 20)] == [()] * 19
    write_pictures(tmp_path, 20, [(batch, batch.target_BCHW)])
    trackers.log(progress(20, 3.0))
    trackers.finish()
    (fake,) = Fake.made
    assert (fake.run_name, fake.config["name"], fake.config["steps"]) == ("sanarestore", "tiny", 10_000)
    assert all(isinstance(value, (bool, int, float, str)) for value in fake.config.values())
    assert [step for step, _ in fake.logged] == [0, 1, 10, 20]
    assert fake.logged[0][1] == {"validation/noise:25": 2.0}
    assert fake.logged[2][1] == {"loss": 1.0, "learning_rate": 1e-3}
    assert fake.logged[3][1] == {
        "loss": 2.0, "learning_rate": 1e-3, "validation": 3.0, "validation/noise:25": 3.0, "validation/jpeg:20": 0.5,
    }  # fmt: skip
    assert [step for step, _ in fake.pictures] == [0, 20]
    assert np.asarray(fake.pictures[0][1][0]).shape[2] == 3
    assert fake.is_finished


def test_a_tracker_that_fails_is_left_out_with_a_note(tmp_path: Path) -> None:
    trackers = Trackers(("broken", "fake"), tmp_path, TrainingRecipe())
    trackers.start()
    assert trackers.log(progress(10)) == ("broken stopped recording this run: ConnectionError: no network",)
    assert trackers.log(progress(20)) == ()
    trackers.finish()
    assert len(next(each for each in Fake.made if each.name == "fake").logged) == 2


def test_trackers_that_are_not_installed_or_not_known_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"tensorboard is not installed\..* pip install 'sanarestore\[track\]'"):
        check_trackers(["tensorboard"])
    with pytest.raises(UsageError, match="pip install 'comet-ml'"):
        check_trackers(["comet_ml"])
    with pytest.raises(UsageError, match=r"'tensorbored' is not a tracker\. Known: aim, .*tensorboard"):
        check_trackers(["tensorbored"])
    check_trackers(["fake"])
    check_trackers([])


def test_without_trackers_accelerate_is_left_alone(tmp_path: Path) -> None:
    trackers = Trackers((), tmp_path, TrainingRecipe())
    trackers.start({"noise:25": 1.0})
    trackers.log(progress(10, 1.0))
    trackers.finish()
    assert PartialState._shared_state == {}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_records_curves_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trackers = Trackers(("tensorboard",), tmp_path, TrainingRecipe(name="tiny"))
    batch = labelled("noise:25", 1)
    write_pictures(tmp_path, 10, [(batch, batch.target_BCHW)])
    trackers.start({"noise:25": 2.0})
    assert trackers.log(progress(10, 3.0)) == ()
    assert trackers.log(progress(20, 4.0)) == ()
    trackers.finish()
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert [(event.step, event.value) for event in found.Scalars("validation/noise:25")] == [(0, 2), (10, 3), (20, 4)]
    assert [event.step for event in found.Images("pictures")] == [10]
