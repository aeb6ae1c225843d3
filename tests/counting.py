"""Counts of operations and memory without running them: fake tensors have shapes but no values."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from sanarestore.engine.live_bytes import LiveBytes


class Cost(NamedTuple):
    """The cost of a function."""

    flop: int
    """Operations of products and convolutions; a multiply-add counts as two."""
    bytes: int
    """Peak size of all tensors that the function made, without memory used within an operation."""


@contextmanager
def fake() -> Iterator[None]:
    """Make new tensors fake, and existing ones where they are used."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def cost(work: Callable[[], object]) -> Cost:
    with FlopCounterMode(display=False) as flop, LiveBytes() as live:
        work()
    return Cost(flop.get_total_flops(), live.most)


def exponent(pixels: list[int], costs: list[float]) -> float:
    """Fit the exponent of the pixel count with which costs grow."""
    return float(np.polyfit(np.log(pixels), np.log(costs), 1)[0])
