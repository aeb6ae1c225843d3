"""Tests of the peak memory of a piece of work, which excludes earlier work."""

import sys

import numpy as np
import pytest
import torch

from sanarestore.evaluation import memory
from sanarestore.evaluation.memory import PeakMemory

MEGABYTE = 2**20
CPU = torch.device("cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="only the Linux kernel can reset the peak of a process")
def test_the_peak_is_measured_and_reset() -> None:
    watch = PeakMemory(CPU)
    held = np.ones(64 * MEGABYTE, np.uint8)
    del held
    taken = watch.taken()
    if taken is None:
        pytest.skip("this kernel does not let its peak be reset")
    assert 60 * MEGABYTE < taken < 100 * MEGABYTE, "the peak includes memory that was freed"
    later = PeakMemory(CPU).taken()
    assert later is not None
    assert later < 30 * MEGABYTE


def test_the_peak_is_none_when_the_system_does_not_report_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_RESET", memory._RESET.with_name("nothing") / "there")
    assert PeakMemory(CPU).taken() is None


def test_cuda_is_initialised_before_its_peak_is_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resetting the peak of an unused device is an error."""
    calls: list[str] = []
    for name, answer in (("init", None), ("reset_peak_memory_stats", None), ("memory_allocated", 5)):
        monkeypatch.setattr(torch.cuda, name, lambda *_, name=name, answer=answer: calls.append(name) or answer)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _device: 12)
    watch = PeakMemory(torch.device("cuda:0"))
    assert calls == ["init", "reset_peak_memory_stats", "memory_allocated"]
    assert watch.taken() == 7
