"""A short mutation fuzz over all readers; SANARESTORE_FUZZ_SECONDS asks for a longer one. See `fuzz.py`."""

import os
import sys

import pytest

from tests.images.fuzz import CRASH, GOOD, fuzz

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits of memory and time are those of Linux")


def test_changed_files_are_read_or_refused_within_limits():
    """Short runs try a fixed number of cases, so that they do not depend on the speed of the machine."""
    seconds = float(os.environ.get("SANARESTORE_FUZZ_SECONDS", "0"))
    counts = fuzz(1, seconds=seconds or 300, most=None if seconds else 1500)
    assert counts.total() >= min(1500, 20 * seconds or 1500)
    crashes = {what: count for what, count in counts.items() if what.startswith(CRASH)}
    assert not counts.keys() - GOOD - crashes.keys(), counts
    assert sum(crashes.values()) <= 1 + counts.total() / 10_000, "libheif crashes seldom"
    assert counts["read"] > 0, "some changes do not matter"
    assert counts["damaged"] > 0
    assert counts["noted"] > 0
