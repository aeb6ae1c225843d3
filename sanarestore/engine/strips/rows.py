"""Rows of an image that arrive in bands, from the top down; those that are still needed stay in memory."""

from collections.abc import Iterator

import numpy as np

from sanarestore.images import Stored


class Rows:
    """A window on the rows of an image that only moves down."""

    def __init__(self, bands: Iterator[Stored]) -> None:
        """`bands` are codes [h,W,S], from the top down."""
        self._bands = bands
        self._band: Stored | None = None
        """What has arrived and is not held yet."""
        self._held: Stored | None = None
        self._first = self._last = 0

    def __call__(self, first: int, last: int) -> Stored:
        """Codes [last - first, W, S] of these rows, valid until the next call; `first` never goes back."""
        assert self._first <= first < last, f"row {first} has left the window, which begins at {self._first}"
        self._let_go(first)
        self._make_room(max(last, self._last) - first)
        while self._last < last:
            self._take(last)
        assert self._held is not None
        return self._held[: last - first]

    def _let_go(self, first: int) -> None:
        """Move the rows from `first` on to the top."""
        kept = max(self._last - first, 0)
        if self._held is not None and first > self._first:
            begin = self._last - self._first - kept
            self._held[:kept] = self._held[begin : begin + kept]
        while self._last < first:  # rows that nobody needs
            band = self._next_band()
            skipped = min(len(band), first - self._last)
            self._band = band[skipped:]
            self._last += skipped
        self._first = first

    def _make_room(self, rows: int) -> None:
        if self._held is not None and len(self._held) >= rows:
            return
        before = self._held
        band = self._next_band() if before is None else before
        self._held = np.empty((rows, *band.shape[1:]), band.dtype)
        if before is not None:
            kept = self._last - self._first
            self._held[:kept] = before[:kept]

    def _take(self, last: int) -> None:
        """Hold more rows, at most up to `last`."""
        assert self._held is not None
        band = self._next_band()
        count = min(len(band), last - self._last)
        at = self._last - self._first
        self._held[at : at + count] = band[:count]
        self._band = band[count:]
        self._last += count

    def _next_band(self) -> Stored:
        """The rest of the band, or the next one; both have rows."""
        if self._band is None or not len(self._band):
            self._band = next(self._bands)
        return self._band
