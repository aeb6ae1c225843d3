"""Timing in interleaved rounds, and the peak throughput of a machine.

Every round runs all arms: ours, ours again and the others. A machine that slows down slows all of them, and the median
of the rounds' ratios is reported. Ours against ours again (the A/A arm) shows how much of a ratio is chance.
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
"""Side of the matrices and bytes of the copy that measure peak throughput; a quarter of each on a CPU."""

ROUNDS, FEWEST = 40, 3
"""Most and fewest rounds, if no number is given."""

ENOUGH = 20.0
"""Seconds after which no new round begins, if no number of rounds is given."""

RESAMPLES = 1000
"""Bootstrap samples of the rounds, for the interval of a ratio."""

Work = Callable[[], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class RooflineLimits:
    """Peak throughput of a device in one dtype, as measured."""

    flops: float
    """Floating-point operations per second of a large matrix product; a multiply-add counts as two."""
    bandwidth: float
    """Bytes per second read and written by a large copy."""


@torch.inference_mode()
def measured_limits(device: torch.device, dtype: torch.dtype) -> RooflineLimits:
    """Measure the peak throughput of a device in one dtype, by a matrix product and a copy: each the best of 5 runs."""
    large = device.type != "cpu"
    side, size = (MATRIX, COPIED) if large else (MATRIX // 4, COPIED // 4)
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product, copied = (
        min(seconds_of(work, device) for _ in range(5))
        for work in (lambda: matrix @ matrix, lambda: target.copy_(source))
    )
    return RooflineLimits(flops=2 * side**3 / product, bandwidth=2 * size / copied)


def time_interleaved(arms: Sequence[Work], rounds: int | None, device: torch.device) -> list[list[float]]:
    """Time every arm in every round, in seconds; each round starts with the next arm.

    With `rounds` None, there are `ROUNDS` or as many as begin within `ENOUGH` seconds, but `FEWEST` at least.
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
    """Return theirs over ours, as exp of the median of the rounds' log ratios, and its 95% bootstrap interval (Efron
    1979)."""
    logs = np.log(np.array(others) / np.array(ours))
    drawn = np.random.default_rng(0).integers(0, len(logs), (RESAMPLES, len(logs)))
    low, high = np.quantile(np.median(logs[drawn], axis=1), [0.025, 0.975])
    return math.exp(statistics.median(logs)), (math.exp(low), math.exp(high))


def seconds_of(work: Work, device: torch.device) -> float:
    """Time one run in seconds, until the device has finished."""
    _wait(device)
    begun = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - begun


def _wait(device: torch.device) -> None:
    """Wait until an asynchronous device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type in ("mps", "xpu"):
        getattr(torch, device.type).synchronize()


class _Moved(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that operations read and return; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        if not func.is_view:
            for tensor in torch.utils._pytree.tree_leaves((args, kwargs, given)):
                self.bytes += tensor.numel() * tensor.element_size() if isinstance(tensor, Tensor) else 0
        return given


def count_work(work: Work) -> tuple[int, int]:
    """Count floating-point operations and bytes moved in one run; kernels, which hide theirs, run as references."""
    with choice.references(), FlopCounterMode(display=False) as flop, _Moved() as moved:
        work()
    return flop.get_total_flops(), moved.bytes
