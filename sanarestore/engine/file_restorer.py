"""The task of a worker: whole files read, restored and written, with one kind of outcome for every error."""

import math
import os
import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch

from sanarestore import images
from sanarestore.engine.budget import Budget, memory_to_restore
from sanarestore.engine.jobs import Job, Outcome, Stamp, TileDone
from sanarestore.engine.provenance import provenance
from sanarestore.engine.restorer import Restorer
from sanarestore.engine.tiles import is_out_of_memory
from sanarestore.errors import (
    ImageError,
    MissingImage,
    OutOfMemory,
    SanarestoreError,
    UnreadableImage,
    UnwritableImage,
)
from sanarestore.files import hash_bytes, unwritable, write_new
from sanarestore.options import WriteOptions


@dataclass(slots=True)
class _Read:
    """A file that was read."""

    image: images.Image
    sha256: str
    stamp: Stamp
    accessed: int
    """Time of the last access before, in nanoseconds."""


@dataclass(slots=True)
class _Restored:
    """A restored image, and what its outcome says of it."""

    image: images.Image
    outcome: Outcome
    accessed: int
    """Time of the last access to the input before it was read, in nanoseconds."""


class FileRestorer:
    """Restores files with one model on one device (`wire.Task`)."""

    def __init__(
        self,
        restorer: Restorer,
        *,
        accept_damaged: bool = False,
        budget: Budget | None = None,
        write: WriteOptions = WriteOptions(),  # noqa: B008 - frozen
    ) -> None:
        """`budget` is the memory that the files share; without one, they take what they need."""
        self._restorer = restorer
        self._write = write
        self._accept_damaged = accept_damaged
        self._budget = budget
        # Asked in the main thread, since each thread has a number of its own.
        self._where: dict[str, Any] = {
            "device": str(self._restorer.device), "threads": torch.get_num_threads(),
            "dtype": self._restorer.arithmetic,
        }  # fmt: skip

    def read(self, job: Job) -> _Read:
        """Read and hash the file once, when there is memory for it.

        UnreadableImage, UnwritableImage if the result could not be written, or OutOfMemory if it would not fit.
        """
        with _readable(job):
            accessed = job.source.stat().st_atime_ns
        self._check_header(job)
        with _readable(job):
            stamp = Stamp.of(job.source)
            data = job.source.read_bytes()
        image = images.decode(data, _called(job), accept_damaged=self._accept_damaged)
        images.check_writable(image, job.output, format=job.format, options=self._write)
        is_chosen = self._write.format != "preserve" or (
            job.folder is None and job.target.suffix.lower() in images.SUFFIXES
        )
        written = images.format_written(image, job.format, self._write)
        if written != image.format and not is_chosen:
            names = images.FORMAT_NAMES[written], images.FORMAT_NAMES[image.format]
            why = "cannot be written as it is" if image.format in images.WRITTEN else "is only read"
            note = f"the result is {names[0]}, because {names[1]} {why}"
            image = replace(image, notes=(*image.notes, note))
        return _Read(image, hash_bytes(data), stamp, accessed)

    def work(self, job: Job, read: _Read) -> Generator[TileDone, None, _Restored]:
        """Restore the image, yielding its progress."""
        restorer = self._restorer
        outcome = Outcome(path=job.path, status="done", sha256=read.sha256, stamp=read.stamp)
        accessed = read.accessed
        pages = (read.image, *read.image.more_pages)
        pixels = sum(math.prod(restorer.options.result_size(page.width, page.height)) for page in pages)
        del pages
        with restorer.tiles_for(read.image, job.halvings):
            steps = restorer.stages(read.image)
            del read  # writing needs memory of its own
            while True:
                try:
                    done, total = next(steps)
                except StopIteration as finished:
                    restored: images.Image = finished.value
                    break
                yield TileDone(
                    path=job.path, done=done, total=total, megapixels=pixels / 1e6, size=outcome.size,
                    expert=restorer.expert,
                )  # fmt: skip
            tile = restorer.tile
        restored = self._prepared(job, restored, outcome.sha256)
        outcome = replace(
            outcome, megapixels=restored.megapixels, notes=restored.notes, tile=tile, expert=restorer.expert,
            removes=restorer.request.removes, prompt_note=restorer.prompt_note, candidates=restorer.candidates,
            judge=restorer.judge.name if restorer.judge and restorer.candidates else None, **self._where,
        )  # fmt: skip
        return _Restored(restored, outcome, accessed)

    def _prepared(self, job: Job, restored: images.Image, sha256: str) -> images.Image:
        """The image to write, with its provenance if the options ask for it."""
        options, restorer = self._write, self._restorer
        if options.strip:
            restored = replace(restored, metadata=images.stripped(restored.metadata))
        if options.provenance:
            record = provenance(restorer.model, restorer.options, options, sha256)
            try:
                restored = replace(restored, metadata=images.with_provenance(restored.metadata, record))
            except UnwritableImage as error:
                raise UnwritableImage(error.fact, where=job.output, next_step=error.next_step) from error
        return images.prepared(restored, job.format, options)

    def write(self, job: Job, worked: _Restored, seconds: float) -> Outcome:
        """Write the result under its temporary name; DiskFull if there is no space."""
        assert job.temporary is not None
        begun = perf_counter()
        try:
            data = images.encode(worked.image, job.format, self._write)
        except UnwritableImage as error:
            raise UnwritableImage(error.fact, where=job.output, next_step=error.next_step) from error
        outcome, accessed = worked.outcome, worked.accessed
        del worked  # the pixels are freed
        try:
            write_new(job.temporary, data)
            if self._write.keep_dates and outcome.stamp is not None:
                # The time of the last change follows as the file gets its name: an old one would make it a left-over.
                os.utime(job.temporary, ns=(accessed, job.temporary.stat().st_mtime_ns))
        except OSError as error:
            raise unwritable(job.output, error) from error
        self._give_memory_back(job)
        return replace(
            outcome, output=job.output, output_sha256=hash_bytes(data), seconds=seconds + perf_counter() - begun
        )

    def fail(self, job: Job, error: Exception, seconds: float) -> Outcome:
        """The outcome of a file with which an error happened; its message names the file."""
        self.abandon(job)
        self._give_memory_back(job)
        if not isinstance(error, SanarestoreError) and is_out_of_memory(error):
            error = OutOfMemory("the image does not fit into memory", next_step="Close other programs.")
        foreseen = isinstance(error, SanarestoreError)
        sentence = str(error) if foreseen else f"unexpected {type(error).__name__}: {error}. Report it, with --debug."
        named = isinstance(error, SanarestoreError) and error.where
        return Outcome(
            path=job.path,
            status="failed",
            reason=error.reason if isinstance(error, SanarestoreError) else "error",
            error=sentence if named else f"{_called(job)}: {sentence}",
            seconds=seconds,
            trace="" if foreseen else "".join(traceback.format_exception(error)),
            **self._where,
        )

    def abandon(self, job: Job) -> None:
        """Remove the half-written result."""
        if job.temporary is not None:
            with suppress(OSError):
                job.temporary.unlink(missing_ok=True)

    def _check_header(self, job: Job) -> None:
        """Check by the header that the result can be written, and take the memory that the file will need."""
        try:
            header = images.measure(job.source)
        except ImageError as error:
            raise type(error)(error.fact, where=_called(job), next_step=error.next_step) from error
        restorer = self._restorer
        result = images.result_header(header, restorer.options.result_size, format=job.format, options=self._write)
        images.check_header(result, job.output)
        if self._budget is None:
            return
        size = memory_to_restore(
            header, result, tile=restorer.tile if restorer.device.type == "cpu" else None,
            is_generated=restorer.generation is not None, is_judged=restorer.judge is not None,
        )  # fmt: skip
        try:
            self._budget.take(job.target, size)
        except OutOfMemory as error:
            raise OutOfMemory(error.fact, where=_called(job), next_step=error.next_step) from error

    def _give_memory_back(self, job: Job) -> None:
        if self._budget is not None:
            self._budget.give_back(job.target)


@contextmanager
def _readable(job: Job) -> Iterator[None]:
    """Turn an OSError of the block into an error that names the file."""
    try:
        yield
    except OSError as error:
        kind = MissingImage if isinstance(error, FileNotFoundError) else UnreadableImage
        fact = "there is no such file" if kind is MissingImage else f"it cannot be read ({error.strerror})"
        raise kind(fact, where=_called(job), next_step="Check its name and permissions.") from error


def _called(job: Job) -> str:
    return str(job.path) if job.name is None else job.name
