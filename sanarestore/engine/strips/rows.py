"""Rows of an image that arrive in bands, from the top down; those that are still needed stay in memory."""

from collections.abc import Iterator

import numpy as np

from sanarestore.images import Stored


class Rows:
    """A window on the rows of an image that only moves down."""

    def __init__(self, bands: Iterator[Stored], most: int) -> None:
        """`bands` are codes [h,W,S], from the top down; `most` is the number of rows that are needed at once."""
        self._bands, self._most = bands, most
        self._band: Stored | None = None
        """What has arrived and is not held yet."""
        self._held: Stored | None = None
        self._first = self._last = 0

    def __call__(self, first: int, last: int) -> Stored:
        """Codes [last - first, W, S] of these rows, valid until the next call; `first` never goes back."""
        assert self._first <= first < last, f"row {first} has left the window, which begins at {self._first}"
        if self._held is None:
            band = self._next_band()
            self._held = np.empty((self._most, *band.shape[1:]), band.dtype)
        self._let_go(first, self._held)
        while self._last < last:
            self._take(last, self._held)
        return self._held[: last - first]

    def _let_go(self, first: int, held: Stored) -> None:
        """Move the rows from `first` on to the top."""
        kept = max(self._last - first, 0)
        if kept and first > self._first:
            begin = first - self._first
            held[:kept] = held[begin : begin + kept]
        while self._last < first:  # rows that nobody needs
            band = self._next_band()
            skipped = min(len(band), first - self._last)
            self._band = band[skipped:]
            self._last += skipped
        self._first = first

    def _take(self, last: int, held: Stored) -> None:
        """Hold more rows, at most up to `last`."""
        band = self._next_band()
        count = min(len(band), last - self._last)
        at = self._last - self._first
        held[at : at + count] = band[:count]
        self._band = band[count:]
        self._last += count

    def _next_band(self) -> Stored:
        """The rest of the band, or the next one; both have rows."""
        if self._band is None or not len(self._band):
            self._band = next(self._bands)
        return self._band
