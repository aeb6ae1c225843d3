"""The work of a batch: jobs handed out to workers, and their results recorded and given their names.

A result is recorded while it still has its temporary name; see `journal`. Imports no torch.
"""

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from sanarestore.engine import shared_storage, workers
from sanarestore.engine.budget import KEPT, Budget, free_memory
from sanarestore.engine.jobs import Job, Outcome, TileDone
from sanarestore.engine.journal import Journal
from sanarestore.engine.ray_crew import RayCluster, crew_on
from sanarestore.engine.sidecars import copy_sidecars
from sanarestore.engine.wire import Task
from sanarestore.errors import UnwritableImage, disk_full
from sanarestore.files import is_full, place, temporary_beside
from sanarestore.options import BatchOptions, RestoreOptions

MOST_HALVINGS = 1
"""Attempts with smaller tiles for a file that a worker died with."""


class Work:
    """Jobs handed out to workers, and their results recorded and given their names."""

    def __init__(
        self,
        options: RestoreOptions,
        chosen: BatchOptions,
        journals: Mapping[Path | None, Journal],
        *,
        with_sidecars: bool = True,
    ) -> None:
        """`with_sidecars` says that XMP sidecars are copied beside results."""
        self._with_sidecars = with_sidecars
        self._options, self._chosen, self._journals = options, chosen, journals
        self._begun: dict[Path, Job] = {}

    def run(
        self, jobs: Sequence[Job], devices: Sequence[str] | RayCluster, inherited: Sequence[int] = ()
    ) -> Generator[TileDone | Outcome, None, None]:
        """Do all jobs, yielding progress and an outcome for each."""
        crew = crew_on(
            devices, self._task_of, threads=self._options.threads, begin=self._begin, again=_again, inherited=inherited
        )
        try:
            with closing(crew.run(jobs)) as events:
                for job, event in events:
                    if isinstance(event, TileDone):
                        yield event
                    elif isinstance(event, workers.Lost):
                        _remove(self._begun.pop(job.target))
                        yield _lost(job, event)
                    else:
                        # It counts as begun until it has its name: a journal that cannot be written ends the batch.
                        outcome = self._keep(self._begun[job.target], event)
                        del self._begun[job.target]
                        yield outcome
        finally:
            for job in self._begun.values():
                _remove(job)

    def _task_of(self, device: str, workers_there: int) -> Callable[[], Task]:
        """Return what builds the task of a worker, for its device and the number of workers on its machine."""
        return partial(_file_restorer, self._options, self._chosen, workers_there, device)

    def _begin(self, job: Job) -> Job:
        if job.target in self._begun:  # a worker has died with it
            _remove(self._begun[job.target])
        job = replace(job, temporary=temporary_beside(job.target))
        self._journals[job.folder].begin(job)
        self._begun[job.target] = job
        return job

    def _keep(self, job: Job, outcome: Outcome) -> Outcome:
        """Record a result and give it its name."""
        if outcome.status != "done" or job.temporary is None:
            return outcome
        if not os.path.lexists(job.temporary):
            return failed(job, "unwritable", str(shared_storage.not_shared(job)))
        journal = self._journals[job.folder]
        try:
            # Asked before the record is added, which would take a file that was put there meanwhile for ours.
            replaced = os.path.lexists(job.target) and (self._chosen.overwrite or journal.made(job.target))
            if self._chosen.write.keep_dates and outcome.stamp is not None:
                accessed = job.temporary.stat().st_atime_ns
                os.utime(job.temporary, ns=(accessed, outcome.stamp.modified))
            journal.add(job, outcome)
            place(job.temporary, job.target, replace=replaced)
        except FileExistsError:
            _remove(job)
            return failed(job, "exists", str(is_there_already(job.output)))
        except OSError as error:
            _remove(job)
            if is_full(error):
                raise disk_full(job.output) from error
            return failed(job, "unwritable", f"{job.output}: it cannot be written ({error.strerror or error}).")
        if not self._with_sidecars or self._chosen.write.strip:
            return outcome
        notes = copy_sidecars(
            job.source, job.target, keep_dates=self._chosen.write.keep_dates, overwrite=self._chosen.overwrite
        )
        return replace(outcome, notes=(*outcome.notes, *notes))


def _file_restorer(options: RestoreOptions, chosen: BatchOptions, workers: int, device: str) -> Task:
    """Build the task of one of several workers; called there."""
    from sanarestore.engine.file_restorer import FileRestorer  # imports torch
    from sanarestore.engine.restorer import Restorer

    restorer = Restorer(options, device=device)
    size = chosen.memory_per_file or round(free_memory() * (1 - KEPT) / workers)
    budget = Budget(size, is_chosen=chosen.memory_per_file is not None)
    return FileRestorer(restorer, accept_damaged=chosen.accept_damaged, budget=budget, write=chosen.write)


def is_there_already(target: Path) -> UnwritableImage:
    """The error for an output that exists and is not ours."""
    return UnwritableImage(
        "the output already exists, and is not as an earlier run left it", where=target,
        next_step="Replace it with --overwrite, or name another output with -o.",
    )  # fmt: skip


def failed(job: Job, reason: str, error: str) -> Outcome:
    """The outcome of a file that could not be restored."""
    return Outcome(path=job.path, status="failed", reason=reason, error=error)


def _again(job: Job, deaths: int) -> Job | None:
    """The job for another attempt, on smaller tiles, after workers have died with it."""
    return replace(job, halvings=deaths) if deaths <= MOST_HALVINGS else None


def _lost(job: Job, lost: workers.Lost) -> Outcome:
    step = "Try a smaller --tile or fewer devices." if lost.reason == "crashed" else "Check if the file is damaged."
    return Outcome(
        path=job.path, status="failed", reason=lost.reason, error=f"{job.path}: {lost.fact}. {step}",
        trace=lost.printed,
    )  # fmt: skip


def _remove(job: Job) -> None:
    if job.temporary is not None:
        with suppress(OSError):
            job.temporary.unlink(missing_ok=True)
