"""What a batch would do, without writing: files checked, memory estimated, model and devices tried, time estimated.

Imports no torch; the model is loaded in worker processes.
"""

import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sanarestore import images
from sanarestore.engine import workers
from sanarestore.engine.batch import Batch
from sanarestore.engine.budget import memory_to_restore
from sanarestore.engine.jobs import Job, Outcome
from sanarestore.engine.strips.use import in_strips, memory_in_strips
from sanarestore.engine.wire import Task
from sanarestore.errors import ImageError, UnreadableImage, UnwritableImage
from sanarestore.options import RestoreOptions, WriteOptions

SIDE = 512
"""Side in pixels of the image that is restored to measure speed."""

TILE = 1536
"""Tile side assumed where the device chooses it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """One file of a batch, as far as can be told without decoding it."""

    job: Job
    outcome: Outcome | None
    """The outcome if the file is finished, or would fail; None if it would be restored."""
    megapixels: float = 0.0
    """Megapixels of the result."""
    memory: int = 0
    """Estimated peak bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """Speed of a device on a small image."""

    device: str
    """Name of the device that was chosen."""
    seconds_per_megapixel: float


def check(
    batch: Batch,
    options: RestoreOptions,
    write: WriteOptions = WriteOptions(),  # noqa: B008 - frozen
) -> Generator[Checked, None, None]:
    """Check each file of a batch: whether it is finished, can be read and written, and what it would take."""
    for job, outcome in batch.settled():
        if outcome is not None and outcome.reason != "unwritable":
            yield Checked(job=job, outcome=outcome)
            continue
        try:
            _check_permissions(job)  # what is wrong with a folder is the same for all its files
            if outcome is not None:
                yield Checked(job=job, outcome=outcome)
                continue
            header = _measured(job)
            result = images.result_header(header, options.result_size, format=job.format, options=write)
            images.check_header(result, job.output)
        except ImageError as error:
            failed = Outcome(path=job.path, status="failed", reason=error.reason, error=str(error))
            yield Checked(job=job, outcome=failed)
            continue
        memory = _memory(header, result, options)
        yield Checked(job=job, outcome=None, megapixels=result.megapixels, memory=memory)


def _memory(header: images.Header, result: images.Header, options: RestoreOptions) -> int:
    """Estimated peak bytes of restoring a file, whole or in strips."""
    tile, is_judged = options.tile or TILE, options.candidates > 1
    is_generated = options.fidelity < 1 or is_judged
    if in_strips(header, result, options, is_generated=is_generated, is_judged=is_judged):
        return memory_in_strips(header, tile=tile, is_host=True)
    return memory_to_restore(header, result, tile=tile, is_generated=is_generated, is_judged=is_judged)


def try_devices(options: RestoreOptions, devices: Sequence[str]) -> list[Speed]:
    """Load the model on each device and restore a small image. UsageError or WeightsError if that cannot be done."""
    found = []
    for device in dict.fromkeys(devices):
        crew = workers.Crew[str](_building(options), [device])
        for _, result in crew.run([device]):
            if isinstance(result, Speed):
                found.append(result)
    return found


def _building(options: RestoreOptions) -> Callable[[str], Callable[[], Task]]:
    return partial(partial, _trial, options)


def _trial(options: RestoreOptions, device: str) -> Task:
    """Build the task of a worker; called there."""
    from sanarestore.engine.trial import DeviceTrial  # imports torch

    return DeviceTrial(options, device)


def _measured(job: Job) -> images.Header:
    try:
        return images.measure(job.source)
    except ImageError as error:
        raise type(error)(error.fact, where=job.path, next_step=error.next_step) from error


def _check_permissions(job: Job) -> None:
    """Raise an ImageError if the file cannot be read, or nothing can be written to the output folder."""
    if not os.access(job.source, os.R_OK):
        raise UnreadableImage("it cannot be read", where=job.path, next_step="Check its permissions.")
    folder = _existing(job.target.parent)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UnwritableImage(
            "nothing can be written there", where=folder, next_step="Check its permissions, or name another output."
        )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))


def total(checked: Sequence[Checked], speeds: Sequence[Speed], devices: int) -> dict[str, Any]:
    """Figures of a batch: files and megapixels to restore, the largest memory and its file, and the seconds it takes.

    `seconds` is None if no speed was measured.
    """
    waiting = [each for each in checked if each.outcome is None]
    largest = max(waiting, key=lambda each: each.memory, default=None)
    megapixels = sum(each.megapixels for each in waiting)
    mean = sum(speed.seconds_per_megapixel for speed in speeds) / max(len(speeds), 1)
    return {
        "files": len(waiting),
        "megapixels": round(megapixels, 6),
        "memory": largest.memory if largest else 0,
        "largest": str(largest.job.path) if largest else None,
        "seconds": round(megapixels * mean / devices, 1) if speeds else None,
    }
