"""What a batch costs beyond inference: `python -m tests.engine.overhead --images 200 --megapixels 1`.

Photographs are made and restored with one thread per worker. CPU time of the thread that restores is inference; all
other CPU time of workers and of the batch is overhead. So the share of overhead does not depend on what else the
machine does, as the share on the clock does. Starting a worker and loading the model are left out.
"""

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from sanarestore.engine.batch import Batch
from sanarestore.engine.budget import Budget
from sanarestore.engine.file_restorer import FileRestorer
from sanarestore.engine.jobs import Job, Outcome, TileDone
from sanarestore.engine.restorer import Restorer
from sanarestore.engine.wire import Task
from sanarestore.engine.work import Work
from sanarestore.options import RestoreOptions
from tests.conftest import save_photo

STEPS = ("reading", "inference", "writing")


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """Seconds of one batch, summed over its files."""

    files: int
    reading: float
    """CPU seconds for reading, hashing and decoding."""
    inference: float
    writing: float
    """CPU seconds for encoding, hashing and writing."""
    messages: float
    """CPU seconds of the workers that were spent in none of the steps."""
    batch: float
    """CPU seconds of the process of the batch: planning, journal, messages."""
    clock: float
    """Seconds on the clock, times the number of workers, over those of inference on the clock."""

    @property
    def share(self) -> float:
        """CPU time beyond inference, divided by that of inference."""
        return (self.reading + self.writing + self.messages + self.batch) / self.inference


class Timed(FileRestorer):
    """Notes the CPU seconds of each step in the outcome of the file."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._spent: dict[Path, dict[str, float]] = {}
        self._process, self._clock = time.process_time(), time.perf_counter()

    def read(self, job: Job) -> Any:
        """Read, timed."""
        begun = time.thread_time()
        read = super().read(job)
        self._spent[job.target] = {"reading": time.thread_time() - begun}
        return read

    def work(self, job: Job, read: Any) -> Generator[TileDone, None, Any]:
        """Restore, timed."""
        begun, clock = time.thread_time(), time.perf_counter()
        restored = yield from super().work(job, read)
        self._spent[job.target] |= {"inference": time.thread_time() - begun, "clock": time.perf_counter() - clock}
        return restored

    def write(self, job: Job, worked: Any, seconds: float) -> Outcome:
        """Write, timed."""
        begun = time.thread_time()
        outcome = super().write(job, worked, seconds)
        sums = {
            **self._spent.pop(job.target), "writing": time.thread_time() - begun, "worker": os.getpid(),
            "process": time.process_time() - self._process, "lasted": time.perf_counter() - self._clock,
        }  # fmt: skip
        return replace(outcome, notes=(json.dumps(sums),))


def timed(options: RestoreOptions, device: str) -> Task:
    """Build the task of a worker; called there."""
    return Timed(Restorer(options, device=device), budget=Budget(1 << 34, is_chosen=True))


def _task_of(work: Work, device: str, _workers: int) -> Callable[[], Task]:
    return partial(timed, work._options, device)


def measure(folder: Path, *, images: int, megapixels: float, devices: tuple[str, ...], **options: Any) -> Overhead:
    """Restore photographs made in a folder, and return what it took."""
    side = round(math.sqrt(megapixels * 1e6))
    for number in range(images):
        save_photo(folder / f"in/{number}.png", side, side, seed=number)
    noted: list[dict[str, float]] = []
    own = time.process_time()
    batch = Batch([folder / "in"], folder / "out", RestoreOptions(threads=1, **options))
    with mock.patch.object(Work, "_task_of", _task_of), closing(batch.run(devices)) as events:
        for event in events:
            if isinstance(event, Outcome):
                assert event.status == "done", event.error
                noted.append(json.loads(event.notes[0]))
    own = time.process_time() - own
    last = {each["worker"]: each for each in noted}.values()
    totals = {step: sum(each[step] for each in noted) for step in STEPS}
    return Overhead(
        files=len(noted), **totals, messages=sum(each["process"] for each in last) - sum(totals.values()), batch=own,
        clock=sum(each["lasted"] for each in last) / sum(each["clock"] for each in noted),
    )  # fmt: skip


def main() -> None:
    """Run from the command line with the embedded model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--megapixels", type=float, default=1.0)
    parser.add_argument("--devices", default="cpu,cpu")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(
            Path(folder), images=chosen.images, megapixels=chosen.megapixels,
            devices=tuple(chosen.devices.split(",")),
        )  # fmt: skip
    each = {name: 1000 * getattr(found, name) / found.files for name in (*STEPS, "messages", "batch")}
    share, clock = 100 * found.share, 100 * found.clock - 100
    print(f"{found.files} files: {share:.1f}% of CPU time beyond inference, {clock:.1f}% on the clock")
    print("CPU ms a file: " + ", ".join(f"{name} {figure:.1f}" for name, figure in each.items()))


if __name__ == "__main__":
    from tests.engine import overhead  # workers look for it by this name, not as __main__

    overhead.main()
