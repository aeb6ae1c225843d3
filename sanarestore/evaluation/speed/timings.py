"""Time and memory that the parts of a model take, beside other implementations of the same."""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch

from sanarestore.engine.devices import describe, pick_device
from sanarestore.engine.tiles import is_out_of_memory, release
from sanarestore.errors import OutOfMemory, UsageError
from sanarestore.evaluation.columns import Column, Record
from sanarestore.evaluation.memory import PeakMemory
from sanarestore.evaluation.speed.buffers import buffers
from sanarestore.evaluation.speed.clock import (
    RooflineLimits,
    Work,
    count_work,
    measured_limits,
    ratio,
    seconds_of,
    time_interleaved,
)
from sanarestore.evaluation.speed.parts import Part, Subject
from sanarestore.options import RestoreOptions

WARM_UPS = 2
"""Uncounted runs of every arm, in which kernels are chosen and memory is allocated."""

LONG = 10.0
"""Seconds per run above which ours gets no warm-up: the runs that measured its memory and operations are enough."""

FEWEST_SIZES = 3
"""Sizes needed to fit an exponent of growth: two points fit any exponent."""

OURS = "sanarestore"


def _of_ours(name: str) -> Callable[["Timing"], Any]:
    """Get a field for ours; the others stand below with the same value."""
    return lambda timing: getattr(timing, name) if timing.by == OURS else None


def _seconds_cell(timing: "Timing") -> str:
    """Write seconds; kernels take only some microseconds."""
    if timing.seconds is None:
        return "no memory"
    return f"{timing.seconds:.3f}" if timing.seconds >= 0.01 else f"{timing.seconds:.6f}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing(Record):
    """One part at one size, in one implementation."""

    part: Annotated[str, Column("", value=_of_ours("part"), words=True)]
    by: Annotated[str, Column("by", words=True)]
    """Name of the implementation: sanarestore, or one that it is compared with."""
    size: Annotated[int, Column("size", value=_of_ours("size"))]
    """Side of the square image in pixels."""
    steps: int
    """Steps of the flow, in the parts restore and generate."""
    dtype: str
    device: str
    rounds: int
    seconds: Annotated[float | None, Column("s", value=_seconds_cell)]
    """Median of the rounds; None where it ran out of memory."""
    seconds_per_megapixel: Annotated[float | None, Column("s/MP", "{:.2f}")]
    ratio: Annotated[float | None, Column("ratio", "{:.2f}")] = None
    """Its seconds over ours, median of the rounds: above 1, ours is faster; None for ours."""
    ratio_interval: Annotated[tuple[float, float] | None, Column("95%", "{0[0]:.2f}..{0[1]:.2f}")] = None
    """95% bootstrap interval of `ratio` over the rounds."""
    chance: Annotated[float, Column("A/A", "{:.2f}", value=_of_ours("chance"))]
    """Ours again over ours, median of the rounds, as a factor of 1 or more: ratios closer to 1 say nothing."""
    chance_interval: tuple[float, float]
    """95% bootstrap interval of ours again over ours; if it excludes 1, the order of runs matters."""
    peak_memory: Annotated[int | None, Column("MiB", lambda count: f"{count / 2**20:.0f}")]
    """Peak in bytes beyond what was held before, such as weights."""
    beyond_buffers: int | None = None
    """Peak memory of ours in the part restore, less the buffers that must grow with the image: the same for all sizes
    of more than a few tiles."""
    tile_area_factor: float | None = None
    """Computation of tiles with their halos over that of the untiled image, for ours in the part restore."""
    teraflop: float | None = None
    """Operations of matrix products and convolutions in a run of ours, in 10^12."""
    of_compute: Annotated[float | None, Column("compute", "{:.0%}")] = None
    """Share of the peak compute throughput that ours achieves."""
    gigabytes: float | None = None
    """Data that the operations of ours read and write one by one; a fused kernel needs less."""
    of_bandwidth: Annotated[float | None, Column("memory", "{:.0%}")] = None
    """Share of the peak memory bandwidth that ours achieves; above 1 where caches serve."""


def measure(options: RestoreOptions, device: str, sizes: Sequence[int], rounds: int | None) -> Iterator[Timing]:
    """Time every part at every size, small sizes first, ours before the others; `rounds` as for `time_interleaved`.

    UsageError for a model, sizes or rounds that make no sense.
    """
    if (rounds is not None and rounds < 1) or not sizes or min(sizes) < 32:
        raise UsageError(
            "a size is below 32 px, or there is no round", where="bench speed",
            next_step="Choose --sizes of 32 or more, and --rounds of 1 or more.",
        )  # fmt: skip
    place = pick_device(device)
    subject = Subject(options, place)
    limits = measured_limits(place, subject.dtype)
    for size in sorted(sizes):
        for part in subject.parts(size):
            yield from _timed(part, subject, size, rounds, limits)


def growth(timings: Sequence[Timing]) -> dict[str, float]:
    """Part -> the exponent with which our seconds grow with the pixel count, 1 being linear; for three sizes or more.

    What tiles compute twice is divided out, because it depends on how evenly they divide each size.
    """
    found = {}
    ours = [timing for timing in timings if timing.by == OURS]
    for part in dict.fromkeys(timing.part for timing in ours):
        mine = [timing for timing in ours if timing.part == part]
        if len({timing.size for timing in mine}) >= FEWEST_SIZES:
            pixels, seconds = (np.log([value(timing) for timing in mine]) for value in (_pixels, _seconds))
            found[part] = float(np.polyfit(pixels, seconds, 1)[0])
    return found


@torch.inference_mode()
def _timed(part: Part, subject: Subject, size: int, rounds: int | None, limits: RooflineLimits) -> Iterator[Timing]:
    device = subject.device
    whole = part.name == "restore"
    # Before memory is watched: what the very first run allocates for good is not due to this size.
    untiled = subject.flop_untiled(size) if whole else None
    first, memory = _first_run(part.ours, device)
    if first is None:
        raise OutOfMemory(f"out of memory on {device} at {size} px", where=part.name, next_step="Use smaller --sizes.")
    flop, moved = count_work(part.ours)
    arms, memories = _others(part, device)
    running = [partial(_repeated, work, part.repeats) for work in (part.ours, part.ours, *arms.values())]
    time_interleaved(running[2:] if first > LONG else running, WARM_UPS, device)
    ours, again, *others = time_interleaved(running, rounds, device)
    chance, chance_interval = ratio(again, ours)
    same: dict[str, Any] = {
        "part": part.name, "size": size, "steps": subject.steps, "dtype": str(subject.dtype).removeprefix("torch."),
        "device": describe(device), "rounds": len(ours), "chance": math.exp(abs(math.log(chance))),
        "chance_interval": chance_interval,
    }  # fmt: skip
    seconds = statistics.median(ours) / part.repeats
    yield Timing(
        **same, by=OURS, seconds=seconds, seconds_per_megapixel=seconds / (size * size / 1e6), peak_memory=memory,
        beyond_buffers=memory - buffers(subject.restorer, size, size) if whole and memory is not None else None,
        tile_area_factor=flop / untiled if untiled else None,
        teraflop=flop / 1e12, of_compute=flop / seconds / limits.flops,
        gigabytes=moved / 1e9, of_bandwidth=moved / seconds / limits.bandwidth,
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


def _others(part: Part, device: torch.device) -> tuple[dict[str, Work], dict[str, int | None]]:
    """Run the other implementations once; return those that fit into memory, and the peak in bytes of each."""
    arms: dict[str, Work] = {}
    memories: dict[str, int | None] = {}
    for name, work in part.others.items():
        # The first run of something compiled also takes the memory of its compilation.
        tried, memories[name] = _first_run(work, device, again=name.endswith("compiled"))
        if tried is not None:
            arms[name] = work
    return arms, memories


def _first_run(work: Work, device: torch.device, *, again: bool = False) -> tuple[float | None, int | None]:
    """Return the seconds and the peak in bytes of a first run (a second if `again`); None if memory runs out."""
    try:
        if again:
            work()
        watch = PeakMemory(device)
        return seconds_of(work, device), watch.taken()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    # Outside the handler the error is gone, and with it the tensors that its traceback held.
    release(device)
    return None, None


def _repeated(work: Work, times: int) -> None:
    for _ in range(times):
        work()


def _pixels(timing: Timing) -> float:
    return float(timing.size) ** 2


def _seconds(timing: Timing) -> float:
    """Seconds that the untiled image would take."""
    assert timing.seconds is not None, "ours do not run out of memory"
    return timing.seconds / (timing.tile_area_factor or 1)


def captioned(timings: Sequence[Timing], powers: Mapping[str, float]) -> tuple[str, Sequence[Timing], list[str]]:
    """Return the title of a table of timings, the timings, and captions on tiles, memory and growth with pixels."""
    captions = []
    for each in timings:
        if each.tile_area_factor is not None:
            memory = each.beyond_buffers
            beyond = "" if memory is None else f"; {memory / 2**20:.0f} MiB beyond the image's buffers"
            captions.append(f"at {each.size} px, tiles compute {each.tile_area_factor:.2f} times the area{beyond}")
    if powers:
        grown = ", ".join(f"{part} {power:.2f}" for part, power in powers.items())
        captions.append(f"seconds grow with the pixel count to the power of: {grown}")
    first = timings[0]
    return f"{first.device}, {first.dtype}, {first.rounds} round{'s' * (first.rounds > 1)}", timings, captions
