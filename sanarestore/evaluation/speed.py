"""How long the parts of a model take, and how much memory, beside other ways of doing the same."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from sanarestore.engine.devices import describe, pick_device
from sanarestore.engine.tiles import is_out_of_memory, release
from sanarestore.errors import OutOfMemory, UsageError
from sanarestore.evaluation.clock import Ceilings, Work, counted, in_turn, measured_ceilings, ratio, seconds_of
from sanarestore.evaluation.memory import PeakMemory
from sanarestore.evaluation.subject import Part, Subject
from sanarestore.options import RestoreOptions

WARM_UPS = 2
"""Runs of every arm that are not counted: kernels are chosen and memory is taken then."""

LONG = 10.0
"""Seconds after which two runs that count other things have warmed up enough."""

FEWEST_SIZES = 3
"""Through two any power goes."""

OURS = "sanarestore"


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """One part at one size, done in one way."""

    part: str
    by: str
    """What does it: sanarestore, or what stands beside it."""
    size: int
    """Side of the square image in pixels."""
    steps: int
    """Of the flow, in the parts restore and generate."""
    dtype: str
    device: str
    rounds: int
    seconds: float | None
    """Median of the rounds; None where it ran out of memory."""
    seconds_per_megapixel: float | None
    ratio: float | None = None
    """Its seconds over ours, median of the rounds: above 1, ours is faster; None of ours."""
    ratio_interval: tuple[float, float] | None = None
    """Where 95% of bootstrap samples of the rounds have it."""
    chance: float
    """Ours again over ours, median of the rounds, as a factor of 1 or more: ratios closer to 1 say nothing."""
    chance_interval: tuple[float, float]
    """Where 95% of bootstrap samples of the rounds have ours again over ours; without 1, the order of runs matters."""
    peak_memory: int | None
    """Bytes beyond what was held before, weights for one."""
    beyond_buffers: int | None = None
    """Of them, of ours in the part restore, those beyond the buffers that must grow with the image: the same for all
    sizes of more than a few tiles."""
    tile_area_factor: float | None = None
    """What tiles with their halos compute, of ours in the part restore, over what the image in one piece would."""
    teraflop: float | None = None
    """What a run of ours computes in products of matrices and convolutions."""
    of_compute: float | None = None
    """Share of the ceiling of computation that it reaches."""
    gigabytes: float | None = None
    """What its operations read and write one by one; a fused kernel needs less."""
    of_bandwidth: float | None = None
    """Share of the ceiling of memory; above 1 where caches serve."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, without those that do not apply."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def measure(options: RestoreOptions, device: str, sizes: Sequence[int], rounds: int | None) -> Iterator[Timing]:
    """Every part at every size, small sizes first, ours before the others; UsageError where model, sizes or rounds make
    no sense. Without `rounds`, as `in_turn` has it."""
    if (rounds is not None and rounds < 1) or not sizes or min(sizes) < 32:
        raise UsageError("takes sizes of 32 px or more, and a round at least", where="bench speed")
    place = pick_device(device)
    subject = Subject(options, place)
    ceilings = measured_ceilings(place, subject.dtype)
    for size in sorted(sizes):
        for part in subject.parts(size):
            yield from _timed(part, subject, size, rounds, ceilings)


def growth(timings: Sequence[Timing]) -> dict[str, float]:
    """By part, the power of the pixel count that our seconds grow with, 1 being linear; of parts at three sizes.

    What tiles compute twice is divided out: it differs from size to size as they come out even.
    """
    found = {}
    ours = [timing for timing in timings if timing.by == OURS]
    for part in dict.fromkeys(timing.part for timing in ours):
        mine = [timing for timing in ours if timing.part == part]
        if len({timing.size for timing in mine}) >= FEWEST_SIZES:
            pixels, seconds = (np.log([value(timing) for timing in mine]) for value in (_pixels, _seconds_a_piece))
            found[part] = float(np.polyfit(pixels, seconds, 1)[0])
    return found


@torch.inference_mode()
def _timed(part: Part, subject: Subject, size: int, rounds: int | None, ceilings: Ceilings) -> Iterator[Timing]:
    device = subject.device
    whole = part.name == "restore"
    # Before memory is watched: what the first run of all takes for good is not this size's.
    in_one_piece = subject.flop_untiled(size) if whole else None
    first, memory = _first_run(part.ours, device)
    if first is None:
        raise OutOfMemory(f"out of memory on {device} at {size} px", where=part.name, next_step="Use smaller --sizes.")
    flop, moved = counted(part.ours)
    arms: dict[str, Work] = {}
    memories: dict[str, int | None] = {}
    for name, work in part.others.items():
        # What is compiled takes memory of its own the first time.
        tried, memories[name] = _first_run(work, device, again=name.endswith("compiled"))
        if tried is not None:
            arms[name] = work
    running = [partial(_repeated, work, part.repeats) for work in (part.ours, part.ours, *arms.values())]
    in_turn(running[2:] if first > LONG else running, WARM_UPS, device)
    ours, again, *others = in_turn(running, rounds, device)
    chance, chance_interval = ratio(again, ours)
    same: dict[str, Any] = {
        "part": part.name, "size": size, "steps": subject.steps, "dtype": str(subject.dtype).removeprefix("torch."),
        "device": describe(device), "rounds": len(ours), "chance": math.exp(abs(math.log(chance))),
        "chance_interval": chance_interval,
    }  # fmt: skip
    seconds = statistics.median(ours) / part.repeats
    yield Timing(
        **same, by=OURS, seconds=seconds, seconds_per_megapixel=seconds / (size * size / 1e6), peak_memory=memory,
        beyond_buffers=memory - subject.restorer.buffers(size, size) if whole and memory is not None else None,
        tile_area_factor=flop / in_one_piece if in_one_piece else None,
        teraflop=flop / 1e12, of_compute=flop / seconds / ceilings.flops,
        gigabytes=moved / 1e9, of_bandwidth=moved / seconds / ceilings.bandwidth,
    )  # fmt: skip
    measured = dict(zip(arms, others, strict=True))
    for name in part.others:
        arm = measured.get(name)
        theirs = statistics.median(arm) / part.repeats if arm else None
        compared, interval = ratio(arm, ours) if arm else (None, None)
        yield Timing(
            **same, by=name, seconds=theirs, seconds_per_megapixel=theirs and theirs / (size * size / 1e6),
            ratio=compared, ratio_interval=interval, peak_memory=memories[name],
        )  # fmt: skip


def _first_run(work: Work, device: torch.device, *, again: bool = False) -> tuple[float | None, int | None]:
    """Seconds and bytes at most of a run, the first or the one after it; None where it runs out of memory."""
    try:
        if again:
            work()
        watch = PeakMemory(device)
        return seconds_of(work, device), watch.taken()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    # Out here the error is gone, and with it the tensors that its traceback held.
    release(device)
    return None, None


def _repeated(work: Work, times: int) -> None:
    for _ in range(times):
        work()


def _pixels(timing: Timing) -> float:
    return float(timing.size) ** 2


def _seconds_a_piece(timing: Timing) -> float:
    """What the image in one piece would take."""
    assert timing.seconds is not None, "ours do not run out of memory"
    return timing.seconds / (timing.tile_area_factor or 1)
