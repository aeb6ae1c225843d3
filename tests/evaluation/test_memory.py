"""The peak of a piece of work is counted, and not that of work before it."""

import sys

import numpy as np
import pytest

from sanarestore.evaluation import memory
from sanarestore.evaluation.memory import PeakMemory

MEGABYTE = 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own count")
def test_the_peak_is_counted_and_forgotten() -> None:
    watch = PeakMemory("cpu")
    held = np.ones(64 * MEGABYTE, np.uint8)
    del held
    taken = watch.taken()
    if taken is None:
        pytest.skip("this kernel does not let its peak be reset")
    assert 60 * MEGABYTE < taken < 100 * MEGABYTE, "also of what was given back"
    later = PeakMemory("cpu").taken()
    assert later is not None
    assert later < 30 * MEGABYTE


def test_where_the_system_does_not_tell_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_RESET", memory._RESET.with_name("nothing") / "there")
    assert PeakMemory("cpu").taken() is None
