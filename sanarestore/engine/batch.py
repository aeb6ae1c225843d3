"""A batch: photographs found and planned, done by workers, recorded in journals, every one with an outcome.

    find, plan -> lock -> settle (skip, refuse) -> hand out -> record -> give the result its name -> outcome

Imports no torch: the work is done in worker processes, and a worker that dies takes one file with it at most.
"""

import os
import time
from collections.abc import Generator, Sequence, Set
from contextlib import ExitStack, suppress
from dataclasses import replace
from os import PathLike
from pathlib import Path

from sanarestore import images, weights
from sanarestore.engine.jobs import Job, Outcome, TileDone, Waiting
from sanarestore.engine.journal import Journal, is_journal
from sanarestore.engine.lock import Lock
from sanarestore.engine.naming import Naming
from sanarestore.engine.planning import plan
from sanarestore.engine.provenance import adopted
from sanarestore.engine.ray_crew import EXPECTED, RayCluster
from sanarestore.engine.work import Work, failed, is_there_already
from sanarestore.errors import NoImagesError, UnwritableImage, disk_full
from sanarestore.files import TEMPORARY, is_full
from sanarestore.images.find import Rejected
from sanarestore.images.signature import READ
from sanarestore.options import BatchOptions, RestoreOptions

LAST = 16
"""Jobs per worker at the end of a batch that are handed out largest first."""

STALE = 24 * 3600.0
"""Age in seconds from which on a temporary file that no journal names is a left-over: no file takes a day to write."""


class Batch:
    """Photographs to restore: what was found, where the results go, and the work itself."""

    def __init__(
        self,
        inputs: Sequence[str | PathLike[str]],
        output: str | PathLike[str] | None = None,
        options: RestoreOptions = RestoreOptions(),  # noqa: B008 - frozen
        chosen: BatchOptions = BatchOptions(),  # noqa: B008 - frozen
        *,
        only: Set[str] | None = None,
    ) -> None:
        """Find the photographs and plan where the results go; nothing is written.

        `only` holds real paths: other files are left out, and nothing to do is no error then. UsageError if an output
        is of the wrong kind, NoImagesError if there is nothing to do, WeightsError if the model does not exist.
        """
        self._options, self._chosen = _anchored(options), chosen
        naming = Naming(chosen.write.format, chosen.name, chosen.write.bit_depth, chosen.write.quality)
        names = [os.fspath(each) for each in inputs]
        found = images.find(names)
        if only is not None:
            found = _limited(found, only)
        name = weights.chosen(options.model, options.adapter)
        autoencoder = weights.chosen_autoencoder(options.autoencoder, options.adapter)
        self._weights = weights.fingerprint(name, options.adapter, autoencoder)
        self._settings = ":".join((options.fingerprint(), chosen.write.fingerprint(), self._weights))
        self._journals: dict[Path | None, Journal] = {}
        given: Sequence[images.Found] = found.images
        made: list[Outcome] = []
        if output is None:
            given, made = self._without_results(found.images)
        whole = plan(given, names, None if output is None else os.fspath(output), naming)
        self.jobs: tuple[Job, ...] = tuple(job for job in whole.jobs if self._is_in_shard(job))
        """The files to restore, in order."""
        self.refused: tuple[Outcome, ...] = self._in_shard(*map(_rejected, found.failed), *whole.refused)
        """Outcomes of photographs that cannot be restored."""
        self.notes = whole.notes
        """What is to be said once for all files."""
        others = (each for each in found.ignored if not is_journal(each.path))
        self.ignored: tuple[Outcome, ...] = self._in_shard(*map(_ignored, others), *made, *map(_inside, whole.inside))
        """Outcomes of other files, and of results of earlier runs; our own journals are none."""
        is_empty = not whole.jobs and not whole.refused and not made
        if only is None and is_empty and all(each.reason == "missing" for each in found.failed):
            found.check_inputs()
            raise _nothing_found(names)

    def settled(self) -> Generator[tuple[Job, Outcome | None], None, None]:
        """Each job with its outcome if it is finished or must not be done, or None if there is work to do."""
        for job in self.jobs:
            journal = self._journal(job.folder)
            if self._chosen.adopt and journal.find(job) is None:
                outcome = adopted(job, self._options, self._chosen.write, self._weights)
                if outcome is not None:
                    yield job, outcome
                    continue
            yield job, _settle(job, journal, overwrite=self._chosen.overwrite)

    def run(
        self, devices: Sequence[str] | RayCluster = ("auto",)
    ) -> Generator[Waiting | TileDone | Outcome, None, None]:
        """Do the work on devices or a cluster, yielding how much there is, progress, and one outcome for every file.

        Closing the generator early ends the work; finished files are kept. UsageError if another run is writing to an
        output folder, UnwritableImage if none of the output folders can be written to, WeightsError if the model cannot
        be loaded, DiskFull as soon as a disk is full.
        """
        yield from self.ignored
        yield from self.refused
        with ExitStack() as locks:
            held, broken = self._lock(locks)
            if self.jobs and broken.keys() >= {job.folder for job in self.jobs}:
                raise next(iter(broken.values()))
            self._journals.clear()  # another run may have written since they were read
            self._clean()
            waiting = []
            for job, outcome in self.settled():
                if job.folder in broken:
                    yield failed(job, "unwritable", str(broken[job.folder]))
                elif outcome is not None:
                    yield outcome
                else:
                    waiting.append(job)
            if waiting:
                yield Waiting(files=len(waiting), size=sum(_size(job) for job in waiting))
                handles = [handle for lock in held for handle in lock.handles]
                ordered = _ordered(waiting, EXPECTED if isinstance(devices, RayCluster) else len(devices))
                yield from Work(self._options, self._chosen, self._journals).run(ordered, devices, handles)

    def _journal(self, folder: Path | None) -> Journal:
        """The journal of an output folder, read when it is first asked for."""
        if folder not in self._journals:
            self._journals[folder] = Journal(folder, settings=self._settings, shard=self._chosen.shard)
        return self._journals[folder]

    def _without_results(self, found: Sequence[images.Found]) -> tuple[list[images.Found], list[Outcome]]:
        """Tell photographs from results of earlier runs, which are no inputs of a run without an output of its own."""
        given, made = [], []
        for each in found:
            if any(self._journal(folder).made(each.path) for folder in _folders_above(each)):
                made.append(_ours(each, "an earlier run wrote it; name an output with -o to restore it again"))
            else:
                given.append(each)
        return given, made

    def _is_in_shard(self, job: Job) -> bool:
        if self._chosen.shard is None:
            return True
        name = job.target if job.folder is None else job.target.relative_to(job.folder)
        return self._chosen.shard.has(name.as_posix())

    def _in_shard(self, *outcomes: Outcome) -> tuple[Outcome, ...]:
        """Outcomes of files that are no jobs, each in one part; by name, since folders may be mounted elsewhere."""
        shard = self._chosen.shard
        return tuple(each for each in outcomes if shard is None or shard.has(each.path.name))

    def _lock(self, locks: ExitStack) -> tuple[list[Lock], dict[Path | None, UnwritableImage]]:
        """Lock the output folders; those in which nothing can be written come with an error."""
        held: dict[str, Lock] = {}
        broken: dict[Path | None, UnwritableImage] = {}
        for folder in sorted({job.folder for job in self.jobs if job.folder is not None}):
            real = os.path.realpath(folder)  # a folder may have several names
            try:
                if real not in held:
                    held[real] = locks.enter_context(Lock(folder, self._chosen.shard))
            except OSError as error:
                if is_full(error):
                    raise disk_full(folder) from error
                broken[folder] = UnwritableImage(
                    f"nothing can be written there ({error.strerror or error})", where=folder,
                    next_step="Check the permissions of the folder, or name another output with -o.",
                )  # fmt: skip
        return list(held.values()), broken

    def _clean(self) -> None:
        """Remove temporary files of dead runs from the folders that results go to."""
        folders = {job.folder for job in self.jobs}
        dead = {path for folder in folders for path in self._journal(folder).leftovers()}
        for folder in {job.target.parent for job in self.jobs}:
            for path in folder.glob(TEMPORARY):
                with suppress(OSError):
                    if path in dead or _age(path) > STALE:
                        path.unlink()


def restore_one(
    job: Job,
    options: RestoreOptions,
    device: str,
    chosen: BatchOptions = BatchOptions(),  # noqa: B008 - frozen
) -> Generator[TileDone | Outcome, None, None]:
    """Restore one file to an output without a journal, in a worker; an output that exists is not replaced unasked."""
    journals: dict[Path | None, Journal] = {None: Journal(None, settings="")}
    outcome = _settle(job, journals[None], overwrite=chosen.overwrite)
    if outcome is None:
        yield from Work(options, chosen, journals, with_sidecars=False).run([job], [device])
    else:
        yield outcome


def _anchored(options: RestoreOptions) -> RestoreOptions:
    """Options that name the same folders whatever the current folder is when a worker starts."""
    given = (options.model, options.adapter, options.autoencoder)
    model, adapter, autoencoder = (None if name is None else weights.anchored(name) for name in given)
    return replace(options, model=model, adapter=adapter, autoencoder=autoencoder)


def _limited(found: images.Findings, only: Set[str]) -> images.Findings:
    """Limit the files found to those at some real paths."""

    def kept(each: images.Found | Rejected) -> bool:
        return os.path.realpath(each.path) in only

    return images.Findings(
        tuple(filter(kept, found.images)), tuple(filter(kept, found.ignored)), tuple(filter(kept, found.failed))
    )


def _age(path: Path) -> float:
    """Seconds since a file was written; OSError if it is gone."""
    return time.time() - path.stat().st_mtime


def _nothing_found(names: Sequence[str]) -> NoImagesError:
    return NoImagesError(
        "no readable image was found", where=", ".join(names),
        next_step=f"{READ} are read, recognised by their content.",
    )  # fmt: skip


def _rejected(rejected: Rejected) -> Outcome:
    return Outcome(path=rejected.path, status="failed", reason=rejected.reason, error=str(rejected))


def _ignored(rejected: Rejected) -> Outcome:
    return Outcome(path=rejected.path, status="ignored", reason=rejected.reason, notes=(rejected.fact,))


def _inside(found: images.Found) -> Outcome:
    return _ours(found, "it lies in the output folder; name another output with -o to restore it")


def _folders_above(found: images.Found) -> list[Path]:
    """Folders whose journal may know a file: its own, and those above it up to the one that was searched."""
    folder = found.path.parent
    return [folder, *(each for each in folder.parents if each == found.root or found.root in each.parents)]


def _ours(found: images.Found, note: str) -> Outcome:
    return Outcome(path=found.path, status="ignored", reason="ours", notes=(note,))


def _settle(job: Job, journal: Journal, *, overwrite: bool) -> Outcome | None:
    """Outcome of a job that needs no work or must not be done; None for other jobs."""
    try:
        os.lstat(job.target)
    except FileNotFoundError:
        return None
    except OSError as error:  # a name that is too long, a file where a folder is needed
        return failed(job, "unwritable", f"{job.output}: it cannot be written ({error.strerror or error}).")
    earlier = journal.find(job)
    if earlier is None:
        return None if overwrite else failed(job, "exists", str(is_there_already(job.output)))
    if earlier.is_same_content and earlier.is_same_settings:
        return Outcome(path=job.path, output=job.output, status="skipped")
    if earlier.is_same_path or earlier.is_same_content or overwrite:
        return None
    fact = f"{job.output} is the result of another photograph, {earlier.source}"
    step = "Name another output with -o, or replace it with --overwrite."
    return failed(job, "exists", f"{job.path}: {fact}. {step}")


def _ordered(jobs: Sequence[Job], workers: int) -> list[Job]:
    """Jobs in their order; the last ones largest first, so that several workers end at about the same time."""
    if workers == 1:
        return list(jobs)
    last = max(len(jobs) - LAST * workers, 0)
    return [*jobs[:last], *sorted(jobs[last:], key=_size, reverse=True)]


def _size(job: Job) -> int:
    try:
        return job.source.stat().st_size
    except OSError:
        return 0
