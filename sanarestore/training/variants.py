"""The pairs of one clean photograph: planned, degraded and written, or skipped because an earlier run made them.

A worker process does this (`wire.Task`), and says after each pair that it is finished.
"""

import time
import traceback
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sanarestore import images
from sanarestore.degradations.operations import Operation
from sanarestore.degradations.photograph import Photograph
from sanarestore.degradations.recipes import Plan, Recipe, stream
from sanarestore.engine.jobs import Status
from sanarestore.errors import DamagedImage, DiskFull, MissingImage, OutOfMemory, SanarestoreError, UnreadableImage
from sanarestore.files import hash_bytes, unwritable, write_atomically
from sanarestore.images import Pixels
from sanarestore.training.journal import PairRecord

DEGRADED, TARGET = "degraded", "target"
"""Folders in the output: degraded inputs, and targets that are not the clean photo itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairOutcome:
    """The result of making one pair, or of a file of which no pair is made."""

    source: Path
    """The clean photo, or the other file."""
    variant: int | None = None
    """None for a file of which no pair is made."""
    status: Status
    """`skipped` when an earlier run made the very same pair."""
    reason: str | None = None
    """Reason of a failed pair or an ignored file, in a word that `docs/json.md` explains; None otherwise."""
    files: tuple[Path, ...] = ()
    """The degraded file, then the target if it is not the clean photo itself."""
    sizes: tuple[int, ...] = ()
    """Bytes of each file."""
    label: str = ""
    """Operations of the pair, as in `noise:25+jpeg:20`; an operation with `!` stays in the target."""
    prompt: str = ""
    sha256: str = ""
    """Hash of the clean photo's file."""
    seconds: float = 0.0
    """Seconds for degrading and writing; those for reading the photo count with its first pair."""
    megapixels: float = 0.0
    error: str | None = None
    """Fault of a failed pair, with the next step; None otherwise."""
    notes: tuple[str, ...] = ()
    trace: str = ""
    """Traceback of an unexpected error."""

    size: int = 0
    """Always 0, as several pairs share a photo. Reports read it and the next two of a restoration's outcome."""
    removes: None = None
    prompt_note: None = None

    @property
    def path(self) -> Path:
        """The file that a report names."""
        return self.source

    def to_json(self) -> dict[str, Any]:
        """One line of NDJSON."""
        return {
            "path": str(self.source),
            "variant": self.variant,
            "status": self.status,
            "reason": self.reason,
            "files": [str(file) for file in self.files],
            "label": self.label,
            "prompt": self.prompt,
            "sha256": self.sha256,
            "seconds": round(self.seconds, 4),
            "megapixels": self.megapixels,
            "error": self.error,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class VariantSettings:
    """Settings that all pairs of a run share."""

    output: Path
    recipe: str
    """A recipe line in lower case without spaces, presets expanded, so that equal recipes are equal text."""
    variants: int
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoJob:
    """One photo and its variants: decoded once, by one worker."""

    photo: Path
    name: str
    """The photo's name below the output, by `naming.name_photos`."""
    settings: VariantSettings
    variants: tuple[int, ...]
    """The variants to make: fewer than all after a worker has died with the others made."""
    known: tuple[PairRecord | None, ...]
    """For every variant of the photo, the journal's record of the file of that name."""


def stem(folder: str, name: str, variant: int) -> str:
    """Path of a pair's file below the output folder, without its suffix."""
    return f"{folder}/{name}__v{variant:02d}"


@dataclass(slots=True)
class _Read:
    """A photo that was read."""

    sha256: str
    earlier: Mapping[int, PairOutcome]
    """Outcomes of the variants that an earlier run made."""
    image: images.Image | Exception | None
    """None if no variant needs it; the error if it cannot be decoded."""
    seconds: float


class PairMaker:
    """Makes the pairs of whole photographs (`wire.Task`)."""

    def read(self, job: PhotoJob) -> _Read:
        """Read and hash the photo, and decode it if a variant is to be made; UnreadableImage if it is not there."""
        begun = time.perf_counter()
        if not _is_text(job.photo):
            fact = "its name is not UTF-8, so no list can hold it"
            raise UnreadableImage(fact, where=job.photo, next_step="Rename it.")
        data = _bytes_of(job.photo)
        sha256 = hash_bytes(data)
        found = ((variant, _earlier(job, variant, sha256)) for variant in job.variants)
        earlier = {variant: outcome for variant, outcome in found if outcome is not None}
        image: images.Image | Exception | None = None
        if len(earlier) < len(job.variants):
            try:
                image = images.decode(data, str(job.photo))
            except DamagedImage as error:  # what can be decoded of it is no target
                image = DamagedImage(error.fact, where=job.photo, next_step="Restore the file from a backup.")
            except (SanarestoreError, MemoryError) as error:  # the pairs of earlier runs are still there
                image = error
        return _Read(sha256, earlier, image, time.perf_counter() - begun)

    def work(self, job: PhotoJob, read: _Read) -> Generator[PairOutcome, None, None]:
        """Make the variants, yielding the outcome of each when its files are complete; DiskFull if there is no space.

        Files are written here and not in `write`, so that no finished variant takes memory while the next is made.
        """
        seconds = read.seconds
        for variant in job.variants:
            begun = time.perf_counter()
            try:
                outcome = read.earlier.get(variant) or _make(job, read, variant)
            except DiskFull:
                raise
            except Exception as error:  # the other variants are still made
                outcome = _failed(job, variant, error)
            yield replace(outcome, seconds=seconds + time.perf_counter() - begun)
            seconds = 0.0

    def write(self, _job: PhotoJob, _worked: None, _seconds: float) -> tuple[PairOutcome, ...]:
        """Nothing is left to write, and every outcome was told."""
        return ()

    def fail(self, job: PhotoJob, error: Exception, seconds: float) -> tuple[PairOutcome, ...]:
        """The outcomes of a photo that cannot be read."""
        failed = [_failed(job, variant, error) for variant in job.variants]
        return tuple(replace(outcome, seconds=seconds / len(failed)) for outcome in failed)

    def abandon(self, job: PhotoJob) -> None:
        """Nothing: files get their names when they are complete, and the batch removes what is left of others."""


def _failed(job: PhotoJob, variant: int, error: Exception) -> PairOutcome:
    """The outcome of a pair with which an error happened; its message names a file."""
    if isinstance(error, MemoryError):
        error = OutOfMemory("there is not enough memory", where=job.photo, next_step="Use fewer --workers.")
    foreseen = isinstance(error, SanarestoreError)
    sentence = str(error) if foreseen else f"unexpected {type(error).__name__}: {error}. Report it, with --debug."
    named = isinstance(error, SanarestoreError) and error.where
    return PairOutcome(
        source=job.photo,
        variant=variant,
        status="failed",
        reason=error.reason if isinstance(error, SanarestoreError) else "error",
        error=sentence if named else f"{job.photo}: {sentence}",
        trace="" if foreseen else "".join(traceback.format_exception(error)),
    )


def _bytes_of(photo: Path) -> bytes:
    try:
        return photo.read_bytes()
    except OSError as error:
        kind = MissingImage if isinstance(error, FileNotFoundError) else UnreadableImage
        fact = "there is no such file" if kind is MissingImage else f"it cannot be read ({error.strerror or error})"
        raise kind(fact, where=photo, next_step="Check its name and permissions.") from error


def _earlier(job: PhotoJob, variant: int, sha256: str) -> PairOutcome | None:
    """Outcome of the pair if an earlier run made it from the same inputs and its files are still there."""
    record, settings = job.known[variant], job.settings
    if record is None or not record.describes(settings.recipe, settings.seed, sha256, settings.output):
        return None
    return PairOutcome(
        source=job.photo,
        variant=variant,
        status="skipped",
        files=tuple(settings.output / file for file in record.files),
        sizes=tuple(record.files.values()),
        label=record.label,
        prompt=record.prompt,
        sha256=record.sha256,
    )


def _make(job: PhotoJob, read: _Read, variant: int) -> PairOutcome:
    if isinstance(read.image, Exception):
        raise read.image
    clean = read.image
    assert clean is not None, "it is decoded if a variant is to be made"
    rng = stream(job.settings.seed, read.sha256, variant)
    plan = Recipe.parse(job.settings.recipe).draw(rng, variant)
    files = [_store(job, DEGRADED, variant, clean, plan.degraded(clean.pixels_HWC))]
    if plan.kept:
        files.append(_store(job, TARGET, variant, clean, plan.target(clean.pixels_HWC)))
    return PairOutcome(
        source=job.photo,
        variant=variant,
        status="done",
        files=tuple(file for file, _ in files),
        sizes=tuple(size for _, size in files),
        label=plan.label,
        prompt=plan.prompt,
        sha256=read.sha256,
        megapixels=clean.megapixels,
        notes=_notes(plan, clean, variant),
    )


def _is_text(path: Path) -> bool:
    """Return whether all bytes of the path could be decoded (Python keeps the others as lone surrogates)."""
    return not any("\ud800" <= letter <= "\udfff" for letter in str(path))


def _store(job: PhotoJob, folder: str, variant: int, clean: images.Image, pixels_HWC: Pixels) -> tuple[Path, int]:
    """Write pixels without loss, at the depth of the clean photo and with its metadata; return file and size."""
    suffix: Literal["tiff", "png"] = "tiff" if clean.depth == "float32" else "png"
    file = job.settings.output / f"{stem(folder, job.name, variant)}.{'tif' if suffix == 'tiff' else 'png'}"
    data = images.encode(replace(clean, pixels_HWC=pixels_HWC, format=suffix, extra=None, more_pages=()))
    try:
        with write_atomically(file) as opened:
            opened.write(data)
    except OSError as error:
        raise unwritable(file, error) from error
    return file, len(data)


def _is_stored(operation: Operation) -> bool:
    """Return whether the operation rounds to 8 bits."""
    return operation.kind == "jpeg" or (isinstance(operation, Photograph) and bool(operation.jpegs))


def _notes(plan: Plan, clean: images.Image, variant: int) -> tuple[str, ...]:
    """Messages for the user; those about reading the photo come once, with its first variant."""
    notes = clean.notes if variant == 0 else ()
    if clean.depth != "uint8" and any(map(_is_stored, plan.operations)):
        notes += (f"{plan.label}: JPEG and WebP hold 8 bits, whatever the depth of the photo",)
    return notes
