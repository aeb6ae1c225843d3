"""Tests of the search for the nearest pixel against SciPy."""

import numpy as np
import pytest
from scipy import ndimage

from sanarestore.engine import nearest as nearest_module
from sanarestore.engine.nearest import nearest


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 63), (64, 1), (31, 47), (50, 20)])
@pytest.mark.parametrize("share", [0.002, 0.05, 0.5, 0.98, 1.0])
def test_nearest_equals_scipy_for_any_density(height: int, width: int, share: float) -> None:
    rng = np.random.default_rng(round(1000 * share) + height)
    for _ in range(8):
        wanted = rng.random((height, width)) < share
        wanted[rng.integers(height), rng.integers(width)] = True
        expected = ndimage.distance_transform_edt(~wanted, return_distances=False, return_indices=True)
        assert np.array_equal(nearest(wanted), expected)


@pytest.mark.parametrize("size", [(40, 57), (121, 90)])
def test_nearest_equals_scipy_for_shapes_with_many_ties(size: tuple[int, int]) -> None:
    rows, columns = np.indices(size)
    away = np.hypot(rows - size[0] / 2, columns - size[1] / 2)
    for wanted in (away < 15, away > 15, (rows % 9 == 4) & (columns % 9 == 4), columns == 7, rows == 30, away < 0.8):
        expected = ndimage.distance_transform_edt(~wanted, return_distances=False, return_indices=True)
        assert np.array_equal(nearest(wanted), expected)


def test_ties_go_to_the_leftmost_pixel_and_then_to_the_upper_one() -> None:
    wanted = np.zeros((5, 5), bool)
    wanted[[0, 4, 2, 2], [2, 2, 0, 4]] = True
    assert [int(place[2, 2]) for place in nearest(wanted)] == [2, 0]
    wanted[2] = False
    assert [int(place[2, 2]) for place in nearest(wanted)] == [0, 2]


def test_working_in_strips_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = np.random.default_rng(3).random((37, 29)) < 0.01
    whole = nearest(wanted)
    monkeypatch.setattr(nearest_module, "_AT_ONCE", 100)
    assert np.array_equal(nearest(wanted), whole)
