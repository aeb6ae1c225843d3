"""Pairs made from clean photographs: the engine of `sanarestore degrade`.

A pair is a pure function of (recipe, seed, bytes of the photo, variant): the order of the photos and the number of
workers change nothing. Finished pairs are recorded in a journal, so that repeating an interrupted run finishes it.

    OUT/degraded/<tree of the photos>__v03.png    the degraded input; .tif for float photos
    OUT/target/<tree of the photos>__v03.png      the target, if it is not the clean photo itself
    OUT/pairs.jsonl                               the journal
    OUT/pairs.csv                                 the list, written last
"""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from multiprocessing.synchronize import Event
from pathlib import Path

from sanarestore import images
from sanarestore.degradations.pairs import Pair, PairRow, write_pairs
from sanarestore.degradations.recipes import PRESETS, Recipe
from sanarestore.errors import NoImagesError, OutOfMemory, UsageError
from sanarestore.training.journal import PairJournal, Record
from sanarestore.training.variants import DEGRADED, TARGET, PairOutcome, PhotoJob, Settings, stem, work

__all__ = ["PairOutcome", "make_pairs", "originals"]

Keep = Callable[[PairOutcome], None]
"""Records an outcome in the journal."""

QUEUED = 4
"""Photos queued per worker: enough that no worker waits, few enough that the queue stays small."""


def originals(photos: Sequence[images.Found], output: Path) -> tuple[images.Found, ...]:
    """Leave out photos that an earlier run made: the output folder may lie inside the input folder."""
    made = [(output / folder).resolve() for folder in (DEGRADED, TARGET)]
    return tuple(photo for photo in photos if not any(photo.path.resolve().is_relative_to(folder) for folder in made))


def make_pairs(
    photos: Sequence[images.Found],
    output: Path,
    *,
    recipe: str = "everything",
    variants: int = 8,
    seed: int = 0,
    pairs: Path | None = None,
    workers: int = 1,
) -> Generator[PairOutcome, None, None]:
    """Degrade every photo in `variants` ways; yield an outcome per pair as it is made, in order of photo and variant.

    The list is written to `pairs` (default OUT/pairs.csv) after the last outcome. Closing the iterator early stops the
    work; finished pairs are kept and skipped the next time. Photos that cannot be read fail without stopping the
    others. With more than one worker the caller's main module must be importable (processes are spawned).
    UsageError or NoImagesError, before any work, if the request is wrong or two photos would write the same file.
    """
    settings = Settings(output=output, recipe=_spelled_out(recipe), variants=variants, seed=seed)
    listed = output / "pairs.csv" if pairs is None else pairs
    ordered = sorted(photos, key=_name)
    _check(ordered, settings, listed, workers)
    return _run(ordered, settings, listed, min(workers, len(ordered)))


def _spelled_out(recipe: str) -> str:
    Recipe.parse(recipe)
    return "".join(PRESETS.get(recipe.strip().lower(), recipe).lower().split())


def _name(photo: images.Found) -> str:
    return photo.relative.with_suffix("").as_posix()


def _check(photos: Sequence[images.Found], settings: Settings, listed: Path, workers: int) -> None:
    """Raise NoImagesError or UsageError for work that cannot be done or would overwrite a photo."""
    if not photos:
        raise NoImagesError("there are no photos to degrade")
    for option, count in (("--variants", settings.variants), ("--workers", workers)):
        if count < 1:
            raise UsageError(f"must be 1 or more, not {count}", where=option)
    if len(originals(photos, settings.output)) < len(photos):
        raise UsageError("holds some of the photos to degrade", where=settings.output, next_step="Name another output.")
    if any(photo.path.resolve() == listed.resolve() for photo in photos):
        raise UsageError("is one of the photos", where=listed, next_step="Name another file for --pairs.")
    _check_names(photos)
    for folder in (settings.output, listed.parent):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot be made a folder ({error.strerror})", where=folder) from error


def _check_names(photos: Sequence[images.Found]) -> None:
    """Refuse photos that would write outside the output, or the same file on some disks (other suffix or case)."""
    taken: dict[str, Path] = {}
    for photo in photos:
        name = _name(photo).casefold()
        if name in taken:
            raise UsageError(
                f"would write the same files as {taken[name]}",
                where=photo.path,
                next_step="Rename one, or name the folder that holds both.",
            )
        if ".." in photo.relative.parts:
            raise UsageError("would be written outside of the output", where=photo.path, next_step="Name its folder.")
        taken[name] = photo.path


def _run(
    photos: Sequence[images.Found], settings: Settings, listed: Path, workers: int
) -> Generator[PairOutcome, None, None]:
    rows = []
    journal = PairJournal(settings.output / "pairs.jsonl")

    def keep(outcome: PairOutcome) -> None:
        if outcome.status == "done":
            journal.add(_record(outcome, settings))

    known = journal.read()
    jobs = (_job(photo, settings, known) for photo in photos)
    with closing(_in_process(jobs, keep) if workers == 1 else _in_pool(jobs, workers, keep)) as outcomes:
        for outcome in outcomes:
            if outcome.status != "failed":
                rows.append(_row(outcome))
            yield outcome
    try:
        write_pairs(listed, rows)
    except OSError as error:
        raise UsageError(f"cannot be written ({error.strerror})", where=listed) from error


def _job(photo: images.Found, settings: Settings, known: Mapping[str, Record]) -> PhotoJob:
    name = _name(photo)
    records = tuple(known.get(stem(DEGRADED, name, variant)) for variant in range(settings.variants))
    return PhotoJob(photo=photo.path, name=name, settings=settings, known=records)


def _row(outcome: PairOutcome) -> PairRow:
    degraded, target = outcome.files[0], outcome.files[-1] if len(outcome.files) > 1 else outcome.source
    pair = Pair(target=target, degraded=degraded, prompt=outcome.prompt)
    return PairRow(pair=pair, label=outcome.label, variant=outcome.variant, sha256=outcome.sha256)


def _record(outcome: PairOutcome, settings: Settings) -> Record:
    return Record(
        recipe=settings.recipe,
        seed=settings.seed,
        sha256=outcome.sha256,
        variant=outcome.variant,
        label=outcome.label,
        prompt=outcome.prompt,
        files={file.relative_to(settings.output).as_posix(): file.stat().st_size for file in outcome.files},
    )


def _in_process(jobs: Iterable[PhotoJob], keep: Keep) -> Generator[PairOutcome, None, None]:
    for job in jobs:
        for outcome in work(job):
            keep(outcome)
            yield outcome


def _in_pool(jobs: Iterable[PhotoJob], workers: int, keep: Keep) -> Generator[PairOutcome, None, None]:
    """Yield outcomes in the order of the jobs, with at most `QUEUED` jobs per worker handed out at a time.

    Closing waits for each worker's current pair, and records pairs that were finished after the last one yielded.
    """
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    waiting: deque[Future[list[PairOutcome]]] = deque()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(stop,))
    try:
        for job in jobs:
            waiting.append(pool.submit(_work_through, job))
            if len(waiting) >= QUEUED * workers:
                yield from _first(waiting, keep)
        while waiting:
            yield from _first(waiting, keep)
    except BrokenProcessPool as error:
        raise OutOfMemory(
            "a worker process died, most likely for want of memory",
            where="--workers",
            next_step="Run again with fewer: what was made is kept.",
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        for future in waiting:
            if not future.cancelled() and future.exception() is None:
                for outcome in future.result():
                    keep(outcome)


def _first(waiting: deque[Future[list[PairOutcome]]], keep: Keep) -> Iterator[PairOutcome]:
    outcomes = waiting[0].result()
    waiting.popleft()
    for outcome in outcomes:
        keep(outcome)
    yield from outcomes


_stop: Event | None = None
"""In a worker process: set when no more pairs are wanted."""


def _begin(stop: Event) -> None:
    global _stop
    _stop = stop
    # Ctrl-C reaches every process of the terminal; the main process handles it and stops the workers by `_stop`.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work_through(job: PhotoJob) -> list[PairOutcome]:
    outcomes = []
    for outcome in work(job):
        outcomes.append(outcome)
        if _stop is not None and _stop.is_set():
            break
    return outcomes
