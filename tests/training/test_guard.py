"""The guard on the loss: it passes noisy learning and notices breakdowns."""

import math

import numpy as np
import pytest

from sanarestore.training.guard import LEARNING, LossGuard


def noisy(count: int, *, seed: int = 0) -> list[float]:
    """Losses as of training in dB: falling slowly, with the spread of small batches."""
    rng = np.random.default_rng(seed)
    return [-28 - 3 * (1 - math.exp(-step / 300)) + 2.5 * float(rng.normal()) for step in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_noisy_learning_is_no_fault(seed: int) -> None:
    guard = LossGuard()
    assert {guard.fault(loss, 1.0) for loss in noisy(5000, seed=seed)} == {None}


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (0.0, math.nan)])
def test_what_is_no_number_is_a_fault_at_once(loss: float, norm: float) -> None:
    assert LossGuard().fault(loss, norm) == "the loss is not a number"


def test_a_rise_that_lasts_is_a_fault_and_a_single_hard_batch_is_none() -> None:
    guard = LossGuard()
    for loss in noisy(2 * LEARNING):
        guard.fault(loss, 1.0)
    assert guard.fault(10.0, 1.0) is None
    later = [guard.fault(loss, 1.0) for loss in noisy(100)]
    assert set(later) == {None}
    faults = [guard.fault(10.0, 1.0) for _ in range(20)]
    assert any(fault and fault.startswith("the loss rose from") for fault in faults)


def test_a_restored_guard_judges_alike() -> None:
    losses = noisy(600)
    whole, first = LossGuard(), LossGuard()
    for loss in losses[:300]:
        whole.fault(loss, 1.0)
        first.fault(loss, 1.0)
    second = LossGuard()
    second.load(first.state())
    for loss in losses[300:]:
        assert whole.fault(loss, 1.0) == second.fault(loss, 1.0)
    assert whole.state() == second.state()
