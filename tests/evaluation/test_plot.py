"""Tests of plots: positions of points, colours of series, and round ticks."""

import pytest

from sanarestore.evaluation.plot import Point, _steps_around, plot


def test_the_y_axis_points_up_and_the_x_axis_is_logarithmic() -> None:
    plotted = plot([Point(0.1, 20, "a", "low"), Point(1, 25, "a", ""), Point(10, 30, "a", "high")], "seconds", "dB")
    (x1, y1, _, low), (x2, y2, _, _), (x3, y3, _, high) = plotted.marks
    assert y1 > y2 > y3
    assert (low, high) == ("low", "high")
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2)
    ticks = {label: x for x, label in plotted.x_ticks}
    assert [ticks["0.1"], ticks["1"], ticks["10"]] == [x1, x2, x3]
    heights = {label: y for y, label in plotted.y_ticks}
    assert (heights["20"], heights["30"]) == (y1, y3)
    assert all(plotted.left < x < plotted.right and 0 < y < plotted.bottom for x, y, _, _ in plotted.marks)


def test_every_series_has_its_own_colour() -> None:
    hues = [hue for _, _, hue, _ in plot([Point(1, 1, name, "") for name in "abcab"], "", "").marks]
    assert hues[:2] == hues[3:]
    assert len(set(hues)) == 3


def test_one_point_can_be_plotted() -> None:
    plotted = plot([Point(1, 30.04, "a", "")], "", "")
    assert [label for _, label in plotted.x_ticks + plotted.y_ticks] == ["1", "30"]


@pytest.mark.parametrize(
    ("seconds", "steps"),
    [
        ([3.75, 3.87], [2, 5]), ([1, 1], [1]), ([0.9, 11], [0.5, 1, 2, 5, 10, 20]), ([5, 5.1], [5, 10]),
        ([0.02, 0.03, 0.05], [0.02, 0.05]),
    ],
)  # fmt: skip
def test_ticks_enclose_the_times_in_round_steps(seconds: list[float], steps: list[float]) -> None:
    """Two times that hardly differ are not plotted at opposite ends."""
    assert _steps_around(seconds) == pytest.approx(steps)
