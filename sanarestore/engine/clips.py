"""Restore clips, video files or folders of frames, frame by frame in this process, with a temporal filter.

    frames -> restore -> filter over time -> a part of some frames, complete on the disk -> ... -> the parts joined

An interrupted run continues from the last complete part, and writes the same bytes.
"""

import math
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from sanarestore import images, weights
from sanarestore.engine.clip_jobs import ClipJob, ClipOutcome
from sanarestore.engine.file_restorer import FileRestorer
from sanarestore.engine.jobs import Job, Outcome, Stamp, TileDone
from sanarestore.engine.lock import Lock
from sanarestore.engine.restorer import Restorer
from sanarestore.engine.segments import Segments
from sanarestore.engine.temporal import TemporalFilter
from sanarestore.errors import SanarestoreError, UnwritableImage, UsageError
from sanarestore.files import hash_file, hash_text, place, temporary_beside, unwritable
from sanarestore.options import BatchOptions, ClipOptions
from sanarestore.video.planes import Planes, blank, changed, to_rgb
from sanarestore.video.reading import ClipFrame, ClipInfo, count_frames, frames_of, info_of
from sanarestore.video.writing import Encoding, SegmentWriter, join

PART = 24
"""Frames of a part, the most that an interrupted run loses."""

Events = Generator[TileDone, None, ClipOutcome]


class ClipRestorer:
    """Restores clips with one model on one device."""

    def __init__(self, restorer: Restorer, clip: ClipOptions, chosen: BatchOptions = BatchOptions()) -> None:  # noqa: B008 - frozen
        """`chosen` says how frames of a folder are written, and whether results are replaced. UsageError for a restorer
        that keeps the best of several candidates."""
        if restorer.judge is not None:
            raise UsageError(
                "frames would keep different samples, and the clip would flicker", where="--candidates",
                next_step="Leave it out.",
            )  # fmt: skip
        self._restorer, self._clip, self._chosen = restorer, clip, chosen
        self._files = FileRestorer(restorer, accept_damaged=chosen.accept_damaged, write=chosen.write)
        options = restorer.options
        self._settings = ":".join((
            options.fingerprint(), clip.fingerprint(), chosen.write.fingerprint(),
            weights.fingerprint(
                weights.chosen(options.model, options.adapter), options.adapter, options.autoencoder
            ),
            # Another number of threads rounds differently, and all parts of a clip must be alike.
            f"threads {options.threads}",
        ))  # fmt: skip
        # If nothing is to be removed, frames stay as they are: averaging would be a change that nobody asked for.
        is_changed = restorer.options.strength > 0 and restorer.request.removes != ()
        self._strength = clip.temporal * restorer.options.strength if is_changed else 0.0

    def restore(self, job: ClipJob) -> Generator[TileDone | ClipOutcome, None, None]:
        """Restore one clip, yielding its progress frame by frame, and finally its outcome."""
        begun = perf_counter()
        try:
            if not self._chosen.overwrite and not job.frames and os.path.lexists(job.target):
                raise UnwritableImage(
                    "it exists already", where=job.target, next_step="Name another output, or use --overwrite."
                )
            with _held(job):
                outcome = yield from (self._frames(job) if job.frames else self._video(job))
            yield replace(outcome, seconds=perf_counter() - begun)
        except Exception as error:  # as for photographs: one clip that fails does not end the others
            failed = self._files.fail(Job(source=job.source, target=job.target), error, perf_counter() - begun)
            yield _as_clip(failed)

    def _video(self, job: ClipJob) -> Events:
        info = info_of(job.source)
        stamp = Stamp.of(job.source)
        encoding = Encoding.of(info, job.target, self._clip.codec)
        sha256 = hash_file(job.source)
        parts = Segments(job.folder, hash_text(f"{self._settings}:{sha256}:{encoding}:{job.target.suffix}"))
        resumed, total = parts.frames, info.frames or count_frames(job.source)
        size = self._restorer.options.result_size(info.width, info.height)
        frames = frames_of(job.source, info, start=resumed, accept_damaged=self._chosen.accept_damaged)
        temporal = self._filter(parts)
        while group := list(islice(frames, 1)):
            path = parts.begun()
            cuts: list[int] = []
            times: list[tuple[int, int]] = []
            writer = SegmentWriter(path, encoding, info, *size)
            try:
                for frame in _up_to(PART, group[0], frames):
                    planes, is_cut = self._restored(frame.planes, size, temporal)
                    writer.add(planes)
                    cuts += [parts.frames + len(times)] * is_cut
                    times.append((frame.time, frame.duration))
                    done = parts.frames + len(times)
                    yield self._progress(job, done, max(total, done), math.prod(size) * total)
            except BaseException:
                writer.abandon()
                raise
            writer.close()
            parts.keep(path, {"frames": len(times), "times": times, "cuts": cuts}, temporal.state)
        shape = f"pixels are not square ({info.aspect}), and the result does not record that"
        left_out = [
            note for note, is_so in ((encoding.note, encoding.note), (shape, info.aspect != 1)) if is_so and note
        ]
        notes = (*parts.notes, *left_out, *self._join(job, info, parts))
        outcome = self._outcome(job, parts, resumed, math.prod(size), notes)
        return replace(outcome, sha256=sha256, stamp=stamp)

    def _join(self, job: ClipJob, info: ClipInfo, parts: Segments) -> tuple[str, ...]:
        """Write the result from the parts, and remove them."""
        paths = [parts.path(index) for index in range(len(parts.done))]
        times = [(int(time), int(length)) for part in parts.done for time, length in part["times"]]
        made = temporary_beside(job.target)
        try:
            notes = join(job.source, info, paths, times, made, job.target.suffix)
            with made.open("r+b") as file:
                os.fsync(file.fileno())
            place(made, job.target, replace=self._chosen.overwrite)
        except FileExistsError as error:
            raise UnwritableImage("it exists already", where=job.target, next_step="Use --overwrite.") from error
        except OSError as error:
            raise unwritable(job.target, error) from error
        finally:
            made.unlink(missing_ok=True)
        parts.remove()
        return notes

    def _restored(self, planes: Planes, size: tuple[int, int], temporal: TemporalFilter) -> tuple[Planes, bool]:
        """Restore and filter one frame; also return whether it begins another scene."""
        given_HWC = to_rgb(planes)
        image = images.Image(pixels_HWC=given_HWC, depth="float32", format="tiff")
        restored = _finished(self._restorer.stages(image))
        result_HWC = self._filtered(given_HWC, restored.pixels_HWC, temporal)
        if result_HWC.shape != given_HWC.shape:
            planes, given_HWC = blank(planes, *size), np.zeros_like(result_HWC)
        return changed(planes, given_HWC, result_HWC), temporal.is_cut

    def _frames(self, job: ClipJob) -> Events:
        names = [(each.source.name, *_size_and_time(each.source)) for each in job.frames]
        parts = Segments(job.folder, hash_text(f"{self._settings}:{names}"))
        resumed, total = parts.frames, len(job.frames)
        if parts.is_finished and all(each.target.is_file() for each in job.frames):
            return replace(self._outcome(job, parts, resumed, 0, ()), status="skipped")
        self._place(job, parts)
        self._check_new(job.frames[resumed:])
        temporal = self._filter(parts)
        pixels, notes = 0.0, dict.fromkeys(parts.notes)
        for start in range(resumed, total, PART):
            folder, group = parts.begun(), job.frames[start : start + PART]
            cuts: list[int] = []
            folder.mkdir()
            for number, each in enumerate(group):
                made = self._frame(replace(each, temporary=folder / each.target.name), temporal)
                cuts += [start + number] * temporal.is_cut
                pixels += made.megapixels
                notes.update(dict.fromkeys(made.notes))
                yield self._progress(job, start + number + 1, total, pixels * 1e6)
            parts.keep(folder, {"frames": len(group), "cuts": cuts}, temporal.state)
            self._place(job, parts)
        parts.finish()
        return replace(self._outcome(job, parts, resumed, 0, tuple(notes)), megapixels=pixels)

    def _frame(self, job: Job, temporal: TemporalFilter) -> Outcome:
        """Restore, filter and write one frame of a folder."""
        read = self._files.read_whole(job)
        given = read.image
        if given.more_pages:
            raise UnwritableImage(
                "it has several pages", where=job.source, next_step="Save each page as a file of its own."
            )
        made = _finished(self._files.work(job, read))
        image = made.image
        assert image is not None
        made.image = replace(image, pixels_HWC=self._filtered(given.pixels_HWC, image.pixels_HWC, temporal))
        return self._files.write(job, made, 0.0)

    def _filtered(self, given_HWC: images.Pixels, restored_HWC: images.Pixels, temporal: TemporalFilter) -> Any:
        if self._strength == 0:
            return restored_HWC
        if given_HWC.shape[:2] != restored_HWC.shape[:2]:
            given_HWC = images.resize(given_HWC, restored_HWC.shape[1], restored_HWC.shape[0])
        return temporal(given_HWC, restored_HWC)

    def _filter(self, parts: Segments) -> TemporalFilter:
        """Return the filter in its state after the last finished part."""
        temporal = TemporalFilter(self._strength)
        temporal.state = parts.state() if self._strength else None
        return temporal

    def _place(self, job: ClipJob, parts: Segments) -> None:
        """Move finished frames to their final names."""
        for index, part in enumerate(parts.done):
            folder = parts.path(index)
            if not folder.is_dir():
                continue
            start = sum(int(each["frames"]) for each in parts.done[:index])
            for each in job.frames[start : start + int(part["frames"])]:
                if (folder / each.target.name).is_file():
                    try:
                        place(folder / each.target.name, each.target, replace=self._chosen.overwrite)
                    except FileExistsError as error:
                        raise _exists(each) from error

    def _check_new(self, frames: Sequence[Job]) -> None:
        for each in frames:
            if not self._chosen.overwrite and os.path.lexists(each.target):
                raise _exists(each)

    def _progress(self, job: ClipJob, done: int, total: int, pixels: float) -> TileDone:
        return TileDone(path=job.source, done=done, total=total, megapixels=pixels / 1e6, expert=self._restorer.expert)

    def _outcome(self, job: ClipJob, parts: Segments, resumed: int, pixels: int, notes: tuple[str, ...]) -> ClipOutcome:
        restorer = self._restorer
        return ClipOutcome(
            path=job.source, output=job.target, status="done", megapixels=pixels * parts.frames / 1e6, notes=notes,
            device=str(restorer.device), tile=restorer.tile, threads=restorer.options.threads,
            dtype=restorer.arithmetic, expert=restorer.expert, removes=restorer.request.removes,
            prompt_note=restorer.prompt_note, frames=parts.frames, resumed=resumed,
            cuts=tuple(cut for part in parts.done for cut in part["cuts"]),
        )  # fmt: skip


@contextmanager
def _held(job: ClipJob) -> Iterator[None]:
    """Lock the hidden folder of a clip, and remove it at the end if it is empty; UnwritableImage if it cannot be
    created."""
    try:
        lock = Lock(job.folder, next_step="Wait for its end, or name another output with -o.")
    except OSError as error:
        raise unwritable(job.target, error) from error
    try:
        with lock:
            yield
    finally:
        with suppress(OSError):  # parts of an unfinished clip stay
            job.folder.rmdir()


def _up_to(count: int, first: ClipFrame, rest: Iterator[ClipFrame]) -> Iterator[ClipFrame]:
    """Return a frame and those that follow it, at most `count` in all."""
    yield first
    yield from islice(rest, count - 1)


def _finished(steps: Generator[Any, None, Any]) -> Any:
    """Run a generator to its end, and return its value."""
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            return ended.value


def _size_and_time(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _exists(job: Job) -> SanarestoreError:
    return UnwritableImage(
        "it exists already", where=job.output, next_step="Name another output with -o, or use --overwrite."
    )


def _as_clip(outcome: Outcome) -> ClipOutcome:
    names = [name for name in Outcome.__slots__ if name in Outcome.__dataclass_fields__]
    return ClipOutcome(**{name: getattr(outcome, name) for name in names})
