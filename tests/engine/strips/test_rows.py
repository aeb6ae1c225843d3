"""Tests of the window on rows that arrive in bands."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from sanarestore.engine.strips.rows import Rows

IMAGE = np.arange(90, dtype=np.uint16).reshape(30, 3, 1)


def bands(*heights: int) -> Iterator[npt.NDArray[np.uint16]]:
    top = 0
    for height in heights:
        yield IMAGE[top : top + height].copy()
        top += height


@pytest.mark.parametrize("seed", range(50))
def test_rows_are_those_of_the_image_whatever_the_bands(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cuts = np.unique(rng.integers(1, 30, rng.integers(0, 12)))
    rows = Rows(bands(*np.diff([0, *cuts, 30]).tolist()), 12)
    first = 0
    while first < 30:
        last = int(rng.integers(first + 1, min(first + 12, 30), endpoint=True))
        assert np.array_equal(rows(first, last), IMAGE[first:last])
        first += int(rng.integers(0, 9))


def test_rows_that_have_left_are_a_mistake() -> None:
    rows = Rows(bands(10, 20), 9)
    rows(5, 12)
    with pytest.raises(AssertionError, match="row 4"):
        rows(4, 9)
