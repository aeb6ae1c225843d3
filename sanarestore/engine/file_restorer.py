"""The task of a worker: whole files read, restored and written, with one kind of outcome for every error."""

import math
import os
import traceback
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch

from sanarestore import images
from sanarestore.engine.budget import Budget, memory_to_restore
from sanarestore.engine.jobs import Job, Outcome, Stamp, TileDone, readable
from sanarestore.engine.provenance import provenance
from sanarestore.engine.restorer import Restorer
from sanarestore.engine.strips.file import Surveyed, restore_file, survey_file
from sanarestore.engine.strips.use import in_strips, memory_in_strips
from sanarestore.engine.tiles import is_out_of_memory
from sanarestore.errors import (
    DamagedImage,
    ImageError,
    OutOfMemory,
    SanarestoreError,
    UnwritableImage,
)
from sanarestore.files import hash_bytes, hash_file, unwritable, write_new
from sanarestore.options import WriteOptions


@dataclass(slots=True)
class _Read:
    """A file that was read."""

    image: images.Image
    sha256: str
    stamp: Stamp
    accessed: int
    """Time of the last access before, in nanoseconds."""
    surveyed: Surveyed | None = None
    """What the first pass found, if the file is restored in strips; then the image has no pixels."""


@dataclass(slots=True)
class _Restored:
    """A restored image, and what its outcome says of it."""

    image: images.Image | None
    """None if it is written already."""
    outcome: Outcome
    accessed: int
    """Time of the last access to the input before it was read, in nanoseconds."""


_Steps = Generator[tuple[int, int], None, tuple[images.Image | None, images.Image]]
"""Yields (tiles done, total tiles); returns the image to write, None if it is written, and the one that says what it
carries."""


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
        """Read and hash the file once, when there is memory for it; a large one is only surveyed.

        UnreadableImage, UnwritableImage if the result could not be written, or OutOfMemory if it would not fit.
        """
        with readable(job):
            accessed = job.source.stat().st_atime_ns
        header, result = self._checked_headers(job)
        if self._is_in_strips(header, result):
            surveyed = self._surveyed(job, header)
            if surveyed is not None:
                frame = images.without_provenance(self._with_format_noted(job, surveyed.survey.frame))
                return _Read(frame, surveyed.sha256, surveyed.stamp, accessed, surveyed)
        return self._read_whole(job, header, result, accessed)

    def read_whole(self, job: Job) -> _Read:
        """Read and hash the file with all its pixels, whatever its size; errors as above."""
        with readable(job):
            accessed = job.source.stat().st_atime_ns
        return self._read_whole(job, *self._checked_headers(job), accessed)

    def _read_whole(self, job: Job, header: images.Header, result: images.Header, accessed: int) -> _Read:
        self._take_memory(job, self._memory(header, result))
        with readable(job):
            stamp = Stamp.of(job.source)
            data = job.source.read_bytes()
        image = images.decode(data, job.called, accept_damaged=self._accept_damaged)
        images.check_writable(image, job.output, format=job.format, options=self._write)
        return _Read(self._with_format_noted(job, image), hash_bytes(data), stamp, accessed)

    def _surveyed(self, job: Job, header: images.Header) -> Surveyed | None:
        """Survey a file to restore it in strips; None if it has to be restored whole, with no memory taken."""
        restorer = self._restorer
        memory = memory_in_strips(header, tile=restorer.tile, is_host=restorer.device.type == "cpu")
        self._take_memory(job, memory)
        try:
            found = survey_file(job, restorer, self._write)
        except DamagedImage:
            if not self._accept_damaged:
                raise
            found = None
        if found is None:
            self._give_memory_back(job)
        return found

    def _with_format_noted(self, job: Job, image: images.Image) -> images.Image:
        """The image with a note if it is written in another format for no wish of the user."""
        is_chosen = self._write.format != "preserve" or (
            job.folder is None and job.target.suffix.lower() in images.SUFFIXES
        )
        written = images.format_written(image, job.format, self._write)
        if written == image.format or is_chosen:
            return image
        names = images.FORMAT_NAMES[written], images.FORMAT_NAMES[image.format]
        why = "cannot be written as it is" if image.format in images.WRITTEN else "is only read"
        return replace(image, notes=(*image.notes, f"the result is {names[0]}, because {names[1]} {why}"))

    def work(self, job: Job, read: _Read) -> Generator[TileDone, None, _Restored]:
        """Restore the image, yielding its progress; in strips, it is also written."""
        outcome = Outcome(path=job.path, status="done", sha256=read.sha256, stamp=read.stamp)
        accessed = read.accessed
        pages = (read.image, *read.image.more_pages)
        pixels = sum(math.prod(self._restorer.options.result_size(page.width, page.height)) for page in pages)
        del pages
        with self._restorer.tiles_for(read.image, job.halvings):
            steps = self._whole(job, read) if read.surveyed is None else self._in_strips(job, read, read.surveyed)
            del read  # writing needs memory of its own
            while True:
                try:
                    done, total = next(steps)
                except StopIteration as finished:
                    restored, described = finished.value
                    break
                yield TileDone(
                    path=job.path, done=done, total=total, megapixels=pixels / 1e6, size=outcome.size,
                    expert=self._restorer.expert,
                )  # fmt: skip
            tile = self._restorer.tile
        return _Restored(restored, self._described(outcome, described, tile), accessed)

    def _whole(self, job: Job, read: _Read) -> _Steps:
        """Restore an image that lies in memory."""
        steps = self._restorer.stages(read.image)
        sha256 = read.sha256
        del read
        restored = self._prepared(job, (yield from steps), sha256)
        return restored, restored

    def _in_strips(self, job: Job, read: _Read, surveyed: Surveyed) -> _Steps:
        """Restore a file in strips, and write the result."""
        frame = self._prepared(job, read.image, read.sha256)
        written = images.format_written(read.image, job.format, self._write)
        yield from restore_file(job, self._restorer, surveyed, frame, written)
        return None, frame

    def _described(self, outcome: Outcome, result: images.Image, tile: int) -> Outcome:
        """The outcome with what the restorer and the result say."""
        restorer = self._restorer
        return replace(
            outcome, megapixels=result.megapixels, notes=result.notes, tile=tile, expert=restorer.expert,
            removes=restorer.request.removes, prompt_note=restorer.prompt_note, candidates=restorer.candidates,
            judge=restorer.judge.name if restorer.judge and restorer.candidates else None, **self._where,
        )  # fmt: skip

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
        outcome, accessed = worked.outcome, worked.accessed
        data = None if worked.image is None else self._encoded(job, worked.image)
        del worked  # the pixels are freed
        try:
            if data is not None:
                write_new(job.temporary, data)
            sha256 = hash_file(job.temporary) if data is None else hash_bytes(data)
            if self._write.keep_dates and outcome.stamp is not None:
                # The time of the last change follows as the file gets its name: an old one would make it a left-over.
                os.utime(job.temporary, ns=(accessed, job.temporary.stat().st_mtime_ns))
        except OSError as error:
            raise unwritable(job.output, error) from error
        self._give_memory_back(job)
        return replace(outcome, output=job.output, output_sha256=sha256, seconds=seconds + perf_counter() - begun)

    def _encoded(self, job: Job, image: images.Image) -> bytes:
        try:
            return images.encode(image, job.format, self._write)
        except UnwritableImage as error:
            raise UnwritableImage(error.fact, where=job.output, next_step=error.next_step) from error

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
            error=sentence if named else f"{job.called}: {sentence}",
            seconds=seconds,
            trace="" if foreseen else "".join(traceback.format_exception(error)),
            **self._where,
        )

    def abandon(self, job: Job) -> None:
        """Remove the half-written result."""
        if job.temporary is not None:
            with suppress(OSError):
                job.temporary.unlink(missing_ok=True)

    def _checked_headers(self, job: Job) -> tuple[images.Header, images.Header]:
        """The headers of the file and of its result, by which it is checked that the result can be written."""
        try:
            header = images.measure(job.source)
        except ImageError as error:
            raise type(error)(error.fact, where=job.called, next_step=error.next_step) from error
        size = self._restorer.options.result_size
        result = images.result_header(header, size, format=job.format, options=self._write)
        images.check_header(result, job.output)
        return header, result

    def _is_in_strips(self, header: images.Header, result: images.Header) -> bool:
        restorer = self._restorer
        return in_strips(
            header, result, restorer.options, is_generated=restorer.generation is not None,
            is_judged=restorer.judge is not None,
        )  # fmt: skip

    def _memory(self, header: images.Header, result: images.Header) -> int:
        """Estimated peak bytes of a file that is restored whole."""
        restorer = self._restorer
        return memory_to_restore(
            header, result, tile=restorer.tile if restorer.device.type == "cpu" else None,
            is_generated=restorer.generation is not None, is_judged=restorer.judge is not None,
        )  # fmt: skip

    def _take_memory(self, job: Job, size: int) -> None:
        """Take the memory that a file needs; OutOfMemory if it would not fit."""
        if self._budget is None:
            return
        try:
            self._budget.take(job.target, size)
        except OutOfMemory as error:
            raise OutOfMemory(error.fact, where=job.called, next_step=error.next_step) from error

    def _give_memory_back(self, job: Job) -> None:
        if self._budget is not None:
            self._budget.give_back(job.target)
