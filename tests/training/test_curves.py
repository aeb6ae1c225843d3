"""Curves over the steps of a run."""

import math
import re

import pytest

from sanarestore.training.curves import MOST, gain_picture, importance_picture, loss_picture, round_numbers, smoothed


def places(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](\S+) ([\d.]+)", path)]


def test_gains_are_shown_against_the_first_validation() -> None:
    found = gain_picture({"noise": [(0, 10.0), (50, 12.0), (100, 11.0)], "jpeg": [(0, 1.0), (100, 0.0)]})
    assert found is not None
    assert [curve.label for curve in found.curves] == ["noise", "jpeg"]
    noise, jpeg = (places(curve.path) for curve in found.curves)
    assert noise[0] == jpeg[0] == (found.left, found.zero)
    assert noise[1][1] < noise[2][1] < noise[0][1] < jpeg[1][1], "up is better"
    assert noise[2][0] == found.right
    assert all(found.top <= y <= found.bottom for _, y in noise + jpeg)
    assert len({curve.hue for curve in found.curves}) == 2


def test_too_few_points_give_no_picture() -> None:
    assert gain_picture({"noise": [(0, 1.0)]}) is None
    assert loss_picture([(50, 1.0)]) is None


def test_a_constant_loss_and_one_that_is_no_number_are_drawn() -> None:
    assert loss_picture([(1, 2.0), (2, 2.0)]) is not None
    found = loss_picture([(1, 2.0), (2, math.nan), (3, 1.0)])
    assert found is not None
    assert "nan" not in found.curves[0].path


def test_many_captions_do_not_fill_a_picture() -> None:
    found = gain_picture({str(number): [(0, 0.0), (1, 1.0)] for number in range(MOST + 3)})
    assert found is not None
    assert (len(found.curves), found.left_out) == (MOST, 3)


def test_smoothing_keeps_a_constant_and_has_no_bias_at_the_beginning() -> None:
    assert [value for _, value in smoothed([(step, 3.0) for step in range(9)])] == pytest.approx([3.0] * 9)
    noisy = [(step, float(step % 2)) for step in range(400)]
    assert all(abs(value - 0.5) < 0.06 for _, value in smoothed(noisy)[100:])


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 10, [0, 2, 4, 6, 8, 10]), (-0.31, 0.19, [-0.3, -0.2, -0.1, 0, 0.1])]
)
def test_ticks_are_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert round_numbers(low, high) == pytest.approx(expected)


def test_the_importance_of_each_block_is_drawn_and_removed_ones_apart() -> None:
    found = importance_picture([0.2, 0.1, 0.4], [1])
    assert found is not None
    assert [(curve.label, curve.path.count("M")) for curve in found.curves] == [("kept", 2), ("removed", 1)]
    assert [label for _, label in found.x_ticks] == ["0", "1", "2"]
    places = dict(found.y_ticks and [(label, place) for place, label in found.y_ticks])
    assert found.curves[1].path.endswith(f"V{places['0.1']}")
    assert importance_picture([], []) is None
    whole = importance_picture([0.0] * 60, [])
    assert whole is not None
    assert len(whole.x_ticks) == 20
    assert [curve.label for curve in whole.curves] == ["kept"]
