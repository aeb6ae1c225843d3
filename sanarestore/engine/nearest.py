"""The nearest pixel of a set, for every pixel: an exact Euclidean feature transform.

Shape suffixes: H, W pixels; R rows of a strip.
"""

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int32]

_AT_ONCE = 2**21
"""Pixels searched at a time, so that temporaries do not grow with the image."""

_NOWHERE = np.int32(2**30)
"""Row of a pixel that does not exist: further away than any other, and its squared distance fits int64."""


def nearest(wanted_HW: npt.NDArray[np.bool_]) -> tuple[Places, Places]:
    """Row and column [H, W] of the nearest wanted pixel; at least one pixel must be wanted.

    Among equally near pixels, the leftmost column is taken, and in it the upper row. First each column is searched
    alone, then each row among the results (Felzenszwalb & Huttenlocher 2012).
    """
    height, width = wanted_HW.shape
    row_HW, column_HW = np.empty((height, width), np.int32), np.empty((height, width), np.int32)
    for columns in _strips(width, height):
        row_HW[:, columns] = _nearest_in_column(wanted_HW[:, columns])
    for rows in _strips(height, width):
        away_RW = row_HW[rows].astype(np.int64) - np.arange(height)[rows, None]
        column_HW[rows] = _nearest_column(away_RW * away_RW)
        row_HW[rows] = np.take_along_axis(row_HW[rows], column_HW[rows], axis=1)
    return row_HW, column_HW


def _strips(count: int, length: int) -> list[slice]:
    """Cut `count` rows or columns of `length` pixels into strips of about `_AT_ONCE` pixels."""
    at_once = max(_AT_ONCE // length, 1)
    return [slice(first, first + at_once) for first in range(0, count, at_once)]


def _nearest_in_column(wanted_HW: npt.NDArray[np.bool_]) -> Places:
    """Row of the nearest wanted pixel of the same column, the upper of two; far outside if there is none."""
    row_H1 = np.arange(len(wanted_HW), dtype=np.int32)[:, None]
    above_HW = np.maximum.accumulate(np.where(wanted_HW, row_H1, -_NOWHERE), axis=0)
    below_HW = np.minimum.accumulate(np.where(wanted_HW, row_H1, _NOWHERE)[::-1], axis=0)[::-1]
    return np.where(row_H1 - above_HW <= below_HW - row_H1, above_HW, below_HW)


def _nearest_column(square_RW: npt.NDArray[np.int64]) -> Places:
    """Column c that minimises `square[r, c] + (c - x)^2` for every place x of a row r, the leftmost of equals.

    Each column is a parabola over x. Those that are the lowest somewhere are collected from left to right, with the
    first x at which each is lower than the one before it.
    """
    rows, width = square_RW.shape
    cost_RW = square_RW + np.arange(width) ** 2
    lowest_RW = np.zeros((rows, width), np.int32)
    first_RW = np.zeros((rows, width), np.int32)
    last_R = np.zeros(rows, np.intp)
    for column in range(1, width):
        row = np.arange(rows)
        while row.size:
            last = last_R[row]
            rival = lowest_RW[row, last]
            first = (cost_RW[row, column] - cost_RW[row, rival]) // (2 * (column - rival)) + 1
            # A rival that is lower nowhere any more gives way; without a rival left, the column is the first.
            beats = first <= first_RW[row, last]
            alone = beats & (last == 0)
            lowest_RW[row[alone], 0] = column
            added = ~beats & (first < width)
            last_R[row[added]] += 1
            lowest_RW[row[added], last[added] + 1] = column
            first_RW[row[added], last[added] + 1] = first[added]
            row = row[beats & ~alone]
            last_R[row] -= 1
    return _spread(lowest_RW, first_RW, last_R)


def _spread(lowest_RW: Places, first_RW: Places, last_R: npt.NDArray[np.intp]) -> Places:
    """Repeat each collected column from its first x to the next one's; columns grow from left to right."""
    found_RW = np.zeros(lowest_RW.shape, np.int32)
    row, place = np.nonzero(np.arange(lowest_RW.shape[1]) <= last_R[:, None])
    found_RW[row, first_RW[row, place]] = lowest_RW[row, place]
    return np.maximum.accumulate(found_RW, axis=1)
