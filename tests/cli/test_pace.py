"""Tests of speed and time left."""

from pathlib import Path

import pytest

from sanarestore.cli.pace import Pace, spoken_duration
from sanarestore.engine.jobs import Outcome, Stamp
from tests.cli.conftest import Clock


def outcome(size: int) -> Outcome:
    return Outcome(path=Path("a.png"), status="done", megapixels=2.0, stamp=Stamp(size, 0, 0))


def test_speed_and_time_left_begin_with_the_first_tile(clock: Clock) -> None:
    pace = Pace(3, 3000)
    clock.now += 500  # the model is loaded
    assert pace.spoken() == ""
    pace.part(Path("a.png"), 0.5, 4.0, 1000)
    assert pace.spoken() == ""
    clock.now += 10
    pace.part(Path("a.png"), 1.0, 4.0, 1000)
    pace.add(outcome(1000))
    assert pace.megapixels_per_second is None, "these 2 MP were done before the clock began"
    clock.now += 10
    pace.part(Path("b.png"), 0.5, 4.0, 1000)
    assert pace.megapixels_per_second == pytest.approx(2 / 20)
    assert pace.seconds_left == pytest.approx(1500 / 1000 * 20)
    assert pace.spoken() == "0.10 MP/s 30 s left"


def test_files_without_parts_have_a_speed_too(clock: Clock) -> None:
    pace = Pace(4)
    pace.add(outcome(0))
    assert pace.spoken() == ""
    clock.now += 10
    pace.add(outcome(0))
    assert pace.spoken() == "0.20 MP/s 20 s left"


@pytest.mark.parametrize(
    ("seconds", "spoken"), [(4, "4 s"), (89, "89 s"), (600, "10 min"), (5300, "88 min"), (11100, "3 h 05 min")]
)
def test_durations_are_spoken(seconds: float, spoken: str) -> None:
    assert spoken_duration(seconds) == spoken
