"""Tests of interleaved timing, of ratios with intervals, and of counted work."""

import math

import pytest
import torch

from sanarestore.evaluation.speed.clock import count_work, ratio, time_interleaved

CPU = torch.device("cpu")


def test_functions_take_turns_in_going_first() -> None:
    order: list[str] = []
    arms = [lambda name=name: order.append(name) for name in "abc"]
    seconds = time_interleaved(arms, 3, CPU)  # type: ignore[arg-type]
    assert "".join(order) == "abcbcacab"
    assert [len(rounds) for rounds in seconds] == [3, 3, 3]


def test_rounds_go_on_until_enough_time_has_passed_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def second() -> None:
        now[0] += 1

    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    assert len(time_interleaved([second, second], None, CPU)[0]) == 11, "no round starts after 20 s"
    assert time_interleaved([second], 2, CPU) == [[1, 1]]
    assert len(time_interleaved([lambda: None], None, CPU)[0]) == 40
    monkeypatch.setattr("sanarestore.evaluation.speed.clock.ENOUGH", 0.5)
    assert len(time_interleaved([second], None, CPU)[0]) == 3


def test_a_ratio_is_the_median_with_an_interval_that_shrinks_with_rounds() -> None:
    assert ratio([2.0, 200.0, 4.0], [1.0, 100.0, 1.0])[0] == pytest.approx(2)
    sampled = torch.randn(400, generator=torch.Generator().manual_seed(0))
    few, many = (ratio((3 * (0.1 * sampled[:count]).exp()).tolist(), [1.0] * count) for count in (10, 400))
    for middle, (low, high) in (few, many):
        assert low < middle < high
        assert low < 3 < high
    widths = [math.log(high / low) for _, (low, high) in (few, many)]
    # For a median of normal logarithms, the width is 2 * 1.96 * sqrt(pi / 2) * 0.1 / sqrt(n).
    assert widths[1] == pytest.approx(0.0246, rel=0.4)
    assert widths[0] > 3 * widths[1]


def test_counted_work_includes_products_and_bytes() -> None:
    one, other = torch.ones(8, 16), torch.ones(16, 4)
    flop, moved = count_work(lambda: one @ other)
    assert flop == 2 * 8 * 16 * 4
    assert moved == 4 * (8 * 16 + 16 * 4 + 8 * 4)
