"""A benchmark over all images of a set, on one device in this process or on several in workers.

Every score is kept as a line of JSON: an interrupted benchmark resumes where it stopped.
"""

import math
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, fields
from functools import partial

from sanarestore.engine.processes import in_one_line
from sanarestore.engine.workers import Crew, Limits, Lost
from sanarestore.errors import OutOfMemory, SanarestoreError
from sanarestore.evaluation.benchmark import Benchmark
from sanarestore.evaluation.datasets import Item
from sanarestore.evaluation.flat_fields import FlatField
from sanarestore.evaluation.rows import Score
from sanarestore.ndjson import Lines

_LIMITS = Limits(reading=math.inf, stall=math.inf, silence=math.inf)
"""None: a method may take any time, and may keep a worker from answering meanwhile."""


def run(plan: Benchmark, devices: Sequence[str], lines: Lines | None = None) -> Generator[Score, None, None]:
    """Yield every score when it is ready: image by image on one device, images distributed over several.

    With `lines`, scores already in the file are reused and new ones are appended.
    """
    known = {score.key: score for score in read_scores(lines)} if lines else {}
    measured = _in_process(plan, devices[0], known) if len(devices) == 1 else _in_workers(plan, devices, known)
    with closing(measured) as scores:
        for score in scores:
            if lines and score.key not in known:
                lines.add([asdict(score)])
            yield score


def read_scores(lines: Lines) -> Iterator[Score]:
    """Yield the scores of a file; lines with other fields are skipped."""
    names = {field.name for field in fields(Score)}
    return (Score(**line) for line in lines if line.keys() == names)


def _in_process(
    plan: Benchmark, device: str, known: Mapping[tuple[object, ...], Score]
) -> Generator[Score, None, None]:
    # One device needs no worker, and one would change what memory means: what the allocator keeps from earlier sets
    # counts as held before, and a worker of its own would begin every set without it.
    bench = plan.on(device, known)
    for number in range(len(plan.items)):
        yield from bench.item(number)


def _in_workers(
    plan: Benchmark, devices: Sequence[str], known: Mapping[tuple[object, ...], Score]
) -> Generator[Score, None, None]:
    """Run a worker process per device, each of which takes the next image when it is free.

    No score depends on which worker measures it; time and memory are those of the worker.
    """
    crew = Crew[int](partial(partial, _Measurer, plan, known), devices, limits=_LIMITS)
    counts: Counter[int] = Counter()
    with closing(crew.run(range(len(plan.items)))) as events:
        for number, event in events:
            match event:
                case (place, Score() as score) if place == counts[number]:
                    counts[number] += 1
                    yield score
                case SanarestoreError() as error:
                    raise error
                case Lost():
                    raise _lost(plan.items[number], event)


class _Measurer:
    """Measures whole images on one device of several (`wire.Task`)."""

    def __init__(self, plan: Benchmark, known: Mapping[tuple[object, ...], Score], device: str) -> None:
        self._plan = plan
        self._bench = plan.on(device, known)

    def read(self, _number: int) -> None:
        """Nothing: reading an image while another is measured would add to that one's time and memory."""

    def work(self, number: int, _read: None) -> Generator[tuple[int, Score], None, None]:
        """Measure an image; each score comes with its place in their order, for images that are begun again."""
        yield from enumerate(self._bench.item(number))

    def write(self, _number: int, _worked: None, _seconds: float) -> None:
        """Nothing is left to write."""

    def fail(self, number: int, error: Exception, _seconds: float) -> SanarestoreError:
        """The error that ends the benchmark."""
        if isinstance(error, SanarestoreError):
            return error
        return SanarestoreError(
            f"unexpected {type(error).__name__}: {error}", where=self._plan.items[number].name,
            next_step="Run it again with one device and --debug, and report what it shows.",
        )  # fmt: skip

    def abandon(self, _number: int) -> None:
        """Nothing is half-written."""


def _lost(item: Item | FlatField, lost: Lost) -> OutOfMemory:
    printed = f" It printed: {in_one_line(lost.printed)}" if lost.printed else ""
    return OutOfMemory(
        lost.fact, where=item.name,
        next_step=f"Use fewer --devices or smaller images; what is measured is kept with -o.{printed}",
    )  # fmt: skip
