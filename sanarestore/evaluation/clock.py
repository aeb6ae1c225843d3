"""Work timed in turn, and what a machine could do at best.

Arms are run in turn, round after round: ours, the others, ours again. A machine that slows down slows all of them, and
what is told is the middle of the rounds' ratios. Ours against ours again (the A/A arm) says how much of a ratio is
chance.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from sanarestore.kernels import choice

MATRIX, COPIED = 4096, 2**28
"""Side of the matrices, and bytes of the copies, that ceilings are measured with; a quarter of it on a CPU."""

ROUNDS, FEWEST = 40, 3
"""How often arms are run, at most and at least."""

ENOUGH = 20.0
"""Seconds after which no other round begins."""

RESAMPLES = 1000
"""Of the rounds, for the interval of a ratio."""

Work = Callable[[], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ceilings:
    """What this machine reaches at its best, in this arithmetic."""

    flops: float
    """Per second, of a large matrix product; a multiplication and an addition are two."""
    bandwidth: float
    """Bytes per second read and written, of a large copy."""


@torch.inference_mode()
def measured_ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Of this device in this arithmetic, by a matrix product and by a copy: the best of some runs."""
    large = device.type != "cpu"
    side, size = (MATRIX, COPIED) if large else (MATRIX // 4, COPIED // 4)
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product, copied = (
        min(seconds_of(work, device) for _ in range(5))
        for work in (lambda: matrix @ matrix, lambda: target.copy_(source))
    )
    return Ceilings(flops=2 * side**3 / product, bandwidth=2 * size / copied)


def in_turn(arms: Sequence[Work], rounds: int | None, device: torch.device) -> list[list[float]]:
    """Seconds of every arm in every round; the first to go is another one each round.

    Without a number, `ROUNDS`, or as many as begin within `ENOUGH` seconds, and `FEWEST` at least.
    """
    found: list[list[float]] = [[] for _ in arms]
    begun = time.perf_counter()
    for number in range(ROUNDS if rounds is None else rounds):
        if rounds is None and number >= FEWEST and time.perf_counter() - begun > ENOUGH:
            break
        for place in range(len(arms)):
            arm = (number + place) % len(arms)
            found[arm].append(seconds_of(arms[arm], device))
    return found


def ratio(others: Sequence[float], ours: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Theirs over ours: exp of the median of the rounds' log ratios, and what 95% of its bootstrap samples lie within
    (Efron 1979)."""
    logs = np.log(np.array(others) / np.array(ours))
    drawn = np.random.default_rng(0).integers(0, len(logs), (RESAMPLES, len(logs)))
    low, high = np.quantile(np.median(logs[drawn], axis=1), [0.025, 0.975])
    return math.exp(statistics.median(logs)), (math.exp(low), math.exp(high))


def seconds_of(work: Work, device: torch.device) -> float:
    """Of one run, until the device is done."""
    _wait(device)
    begun = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - begun


def _wait(device: torch.device) -> None:
    """Until a device that works on its own is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class _Moved(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that operations take and give; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        if not func.is_view:
            for tensor in torch.utils._pytree.tree_leaves((args, kwargs, given)):
                self.bytes += tensor.numel() * tensor.element_size() if isinstance(tensor, Tensor) else 0
        return given


def counted(work: Work) -> tuple[int, int]:
    """Floating-point operations and bytes moved of one run; of kernels, those of their references, which are seen."""
    with choice.references(), FlopCounterMode(display=False) as flop, _Moved() as moved:
        work()
    return flop.get_total_flops(), moved.bytes
