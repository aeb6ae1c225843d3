"""Pairs made from clean photographs: the engine of `sanarestore degrade`.

A pair is a pure function of (recipe, seed, bytes of the photo, variant): the order of the photos and the number of
workers change nothing. Finished pairs are recorded in a journal, so that repeating an interrupted run finishes it.

    OUT/degraded/<tree of the photos>__v03.png    the degraded input; .tif for float photos
    OUT/target/<tree of the photos>__v03.png      the target, if it is not the clean photo itself
    OUT/pairs.jsonl                               the journal
    OUT/pairs.csv                                 the list, written last
"""

from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from sanarestore import images
from sanarestore.degradations.pairs import Pair, PairRow, write_pairs
from sanarestore.degradations.recipes import PRESETS, Recipe
from sanarestore.engine import workers
from sanarestore.engine.lock import Lock
from sanarestore.engine.wire import Task
from sanarestore.errors import DiskFull, NoImagesError, UsageError
from sanarestore.files import TEMPORARY, is_full
from sanarestore.images.find import Rejected
from sanarestore.images.signature import READ
from sanarestore.training.journal import NAME, PairJournal, PairRecord
from sanarestore.training.kept import check_kept
from sanarestore.training.naming import name_photos
from sanarestore.training.variants import DEGRADED, TARGET, PairMaker, PairOutcome, PhotoJob, VariantSettings, stem

MOST_RETRIES = 1
"""Further attempts for a photo that a worker died with."""


class PairBatch:
    """Clean photographs to degrade: what was found, where the pairs go, and the work itself."""

    def __init__(
        self,
        found: images.Findings,
        output: Path,
        *,
        recipe: str = "everything",
        variants: int = 8,
        seed: int = 0,
        pairs: Path | None = None,
    ) -> None:
        """Plan `variants` pairs of every photo found, and their list `pairs` (default OUT/pairs.csv); write nothing.

        What an earlier run made is ignored. UsageError or NoImagesError if the request is wrong or there is nothing to
        degrade.
        """
        self._settings = VariantSettings(output=output, recipe=_spelled_out(recipe), variants=variants, seed=seed)
        self._listed = output / "pairs.csv" if pairs is None else pairs
        photos, made = _without_pairs(found.images, output)
        self._named, collided = name_photos(photos)
        self.photos: tuple[images.Found, ...] = tuple(self._named.values())
        """The photos to degrade, in the order of the list."""
        self.refused: tuple[PairOutcome, ...] = (*map(_rejected, found.failed), *collided)
        """Outcomes of photos and folders that cannot be read, of inputs that name nothing, and of photos without a name
        of their own."""
        self.ignored: tuple[PairOutcome, ...] = (*map(_ignored, found.ignored), *map(_ours, made))
        """Outcomes of other files, and of pairs of earlier runs."""
        if not photos and all(each.reason == "missing" for each in found.failed):
            found.check_inputs()
            raise _nothing_to_degrade(made)
        self._check()

    @property
    def total(self) -> int:
        """Number of outcomes, without those of ignored files."""
        return len(self.photos) * self._settings.variants + len(self.refused)

    def run(self, processes: int = 1) -> Generator[PairOutcome, None, None]:
        """Make the pairs in worker processes; yield an outcome for each as it is made, and for every other file.

        The list is written after the last outcome. Closing the generator early ends the work; finished pairs are kept
        and skipped the next time. A photo that cannot be read, or that a worker dies with twice, fails alone.
        UsageError, before any work, if the number is wrong, if another run is writing to the output, or if pairs or a
        list of another recipe, seed or number of variants would be replaced. DiskFull as soon as a disk is full.
        """
        if processes < 1:
            raise UsageError(f"must be 1 or more, not {processes}", where="--workers")
        if not self.photos:
            yield from (*self.ignored, *self.refused)
            return
        for folder in (self._settings.output, self._listed.parent):
            _make_folder(folder)
        with _locked(self._settings.output) as lock:
            yield from self._run(processes, lock)

    def _run(self, processes: int, lock: Lock) -> Generator[PairOutcome, None, None]:
        journal = PairJournal(self._settings.output / NAME)
        known = journal.read()
        check_kept(self._settings, list(self._named), self._listed, known)
        yield from (*self.ignored, *self.refused)
        # Only this run writes below the output, so temporary files there are those of dead runs and workers.
        _clean(self._settings.output)
        # From now on a search for photographs passes over the pairs, also those of a run that is killed.
        journal.create()
        work = _Work(self._settings, journal)
        try:
            yield from work.run(
                [self._job(name, photo, known) for name, photo in self._named.items()], processes, lock.handles
            )
        finally:
            _clean(self._settings.output)
        try:
            write_pairs(self._listed, work.rows())
        except OSError as error:
            raise _unlisted(self._listed, error) from error

    def _check(self) -> None:
        """Raise UsageError for work that cannot be done or would overwrite a photo."""
        if self._settings.variants < 1:
            raise UsageError(f"must be 1 or more, not {self._settings.variants}", where="--variants")
        own = _folders(self._settings.output)
        if any(folder in photo.path.resolve().parents for photo in self.photos for folder in own):
            fact = "holds some of the photos to degrade"
            raise UsageError(fact, where=self._settings.output, next_step="Name another output.")
        if any(photo.path.resolve() == self._listed.resolve() for photo in self.photos):
            raise UsageError("is one of the photos", where=self._listed, next_step="Name another file for --pairs.")

    def _job(self, name: str, photo: images.Found, known: Mapping[str, PairRecord]) -> PhotoJob:
        variants = range(self._settings.variants)
        records = tuple(known.get(stem(DEGRADED, name, variant)) for variant in variants)
        return PhotoJob(
            photo=photo.path, name=name, settings=self._settings, variants=tuple(variants), known=records
        )  # fmt: skip


class _Work:
    """Photos handed out to workers, and their pairs recorded."""

    def __init__(self, settings: VariantSettings, journal: PairJournal) -> None:
        self._settings, self._journal = settings, journal
        self._reported: defaultdict[str, set[int]] = defaultdict(set)
        """Name of a photo -> the variants whose outcomes are known."""
        self._rows: dict[tuple[str, int], PairRow] = {}

    def run(
        self, jobs: Sequence[PhotoJob], processes: int, inherited: Sequence[int]
    ) -> Generator[PairOutcome, None, None]:
        """Do all jobs, yielding an outcome for every variant of each."""
        crew = workers.Crew[PhotoJob](
            _build, ["cpu"] * processes, begin=self._begin, again=_again, inherited=inherited
        )  # fmt: skip
        with closing(crew.run(jobs)) as events:
            for job, event in events:
                for outcome in _outcomes(job, event):
                    if outcome.variant is not None and outcome.variant not in self._reported[job.name]:
                        self._keep(job, outcome, outcome.variant)
                        yield outcome

    def rows(self) -> list[PairRow]:
        """The list of all pairs, in order of photo and variant."""
        return [self._rows[key] for key in sorted(self._rows)]

    def _begin(self, job: PhotoJob) -> PhotoJob:
        """The job without the variants that were made before a worker died."""
        return replace(job, variants=tuple(each for each in job.variants if each not in self._reported[job.name]))

    def _keep(self, job: PhotoJob, outcome: PairOutcome, variant: int) -> None:
        """Record a pair and list it."""
        if outcome.status == "done":
            self._journal.add(_record(outcome, variant, self._settings))
        if outcome.status in ("done", "skipped"):
            self._rows[job.name, variant] = _row(outcome, variant)
        self._reported[job.name].add(variant)


def _build(_device: str) -> Callable[[], Task]:
    return PairMaker


def _again(job: PhotoJob, deaths: int) -> PhotoJob | None:
    return job if deaths <= MOST_RETRIES else None


def _outcomes(job: PhotoJob, event: object) -> Sequence[PairOutcome]:
    """The outcomes that an event of a job brings."""
    if isinstance(event, PairOutcome):
        return (event,)
    if isinstance(event, workers.Lost):
        step = "Use fewer --workers." if event.reason == "crashed" else "Check if the file is damaged."
        lost = PairOutcome(
            source=job.photo, status="failed", reason=event.reason, error=f"{job.photo}: {event.fact}. {step}",
            trace=event.printed,
        )  # fmt: skip
        return [replace(lost, variant=variant) for variant in job.variants]
    assert isinstance(event, tuple), "the result of `PairMaker`"
    return event


def _row(outcome: PairOutcome, variant: int) -> PairRow:
    degraded, target = outcome.files[0], outcome.files[-1] if len(outcome.files) > 1 else outcome.source
    pair = Pair(target=target, degraded=degraded, prompt=outcome.prompt)
    return PairRow(pair=pair, label=outcome.label, variant=variant, sha256=outcome.sha256)


def _record(outcome: PairOutcome, variant: int, settings: VariantSettings) -> PairRecord:
    names = [file.relative_to(settings.output).as_posix() for file in outcome.files]
    return PairRecord(
        recipe=settings.recipe,
        seed=settings.seed,
        sha256=outcome.sha256,
        variant=variant,
        label=outcome.label,
        prompt=outcome.prompt,
        files=dict(zip(names, outcome.sizes, strict=True)),
    )


def _spelled_out(recipe: str) -> str:
    Recipe.parse(recipe)
    return "".join(PRESETS.get(recipe.strip().lower(), recipe).lower().split())


def _folders(output: Path) -> list[Path]:
    """The folders of the pairs' files."""
    return [output.resolve() / folder for folder in (DEGRADED, TARGET)]


def _without_pairs(
    found: Sequence[images.Found], output: Path
) -> tuple[list[images.Found], list[images.Found]]:  # fmt: skip
    """Tell photos from pairs of earlier runs, which a journal beside their folder gives away.

    They are photos like any other where their folder, or a part of it, was named outright, except those of this output.
    """
    has_journal: dict[Path, bool] = {}

    def is_made(photo: images.Found) -> bool:
        root = photo.root.resolve()
        for folder in photo.path.resolve().parents:
            if folder.name not in (DEGRADED, TARGET) or not (root in folder.parents or folder in own):
                continue
            if folder not in has_journal:
                has_journal[folder] = (folder.parent / NAME).is_file()
            if has_journal[folder]:
                return True
        return False

    own = _folders(output)
    photos: list[images.Found] = []
    made: list[images.Found] = []
    for photo in found:
        (made if is_made(photo) else photos).append(photo)
    return photos, made


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot be made a folder ({error.strerror})", where=folder) from error


def _locked(output: Path) -> Lock:
    try:
        return Lock(output, next_step="Wait for its end, or name another output with -o.")
    except OSError as error:
        raise UsageError(
            f"nothing can be written there ({error.strerror or error})", where=output,
            next_step="Check the permissions of the folder, or name another output with -o.",
        ) from error  # fmt: skip


def _clean(output: Path) -> None:
    """Remove temporary files that are left over."""
    for folder in _folders(output):
        for path in folder.rglob(TEMPORARY):
            with suppress(OSError):
                path.unlink()


def _unlisted(listed: Path, error: OSError) -> DiskFull | UsageError:
    if is_full(error):
        step = "Free some space and run the command again: the pairs are kept."
        return DiskFull("the disk is full", where=listed, next_step=step)
    return UsageError(f"cannot be written ({error.strerror or error})", where=listed)


def _nothing_to_degrade(made: Sequence[images.Found]) -> NoImagesError:
    if made:
        return NoImagesError(
            "an earlier run made it, and no clean photo was found", where=made[0].path,
            next_step="Name a folder of clean photos.",
        )  # fmt: skip
    return NoImagesError("there are no photos to degrade", next_step=f"{READ} are read.")


def _rejected(rejected: Rejected) -> PairOutcome:
    return PairOutcome(source=rejected.path, status="failed", reason=rejected.reason, error=str(rejected))


def _ignored(rejected: Rejected) -> PairOutcome:
    return PairOutcome(source=rejected.path, status="ignored", reason=rejected.reason, notes=(rejected.fact,))


def _ours(made: images.Found) -> PairOutcome:
    note = "an earlier run made it; name its folder to degrade it again"
    return PairOutcome(source=made.path, status="ignored", reason="ours", notes=(note,))
