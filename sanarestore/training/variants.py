"""The pairs of one clean photograph: planned, degraded and written, or skipped because an earlier run made them."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from sanarestore import images
from sanarestore.degradations.operations import Operation
from sanarestore.degradations.photograph import Photograph
from sanarestore.degradations.recipes import Plan, Recipe, stream
from sanarestore.errors import ImageError, OutOfMemory, SanarestoreError, UnreadableImage
from sanarestore.files import hash_file
from sanarestore.images import Pixels
from sanarestore.training.journal import Record

DEGRADED, TARGET = "degraded", "target"
"""Folders in the output: degraded inputs, and targets that are not the clean photo itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairOutcome:
    """The result of making one pair."""

    source: Path
    """The clean photo."""
    variant: int
    status: Literal["done", "skipped", "failed"]
    """`skipped` when an earlier run made the very same pair."""
    files: tuple[Path, ...] = ()
    """The degraded file, then the target if it is not the clean photo itself."""
    label: str = ""
    """What was done, as in `noise:25+jpeg:20`; an operation with `!` stays in the target."""
    prompt: str = ""
    sha256: str = ""
    """Hash of the clean photo's file."""
    seconds: float = 0.0
    megapixels: float = 0.0
    error: str | None = None
    notes: tuple[str, ...] = ()

    removes: None = None
    """Always None, like `prompt_note`: reports read these two fields of a restoration's outcome."""
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
class Settings:
    """What all pairs of a run share."""

    output: Path
    recipe: str
    """A recipe line in lower case without spaces, presets expanded, so that equal recipes are equal text."""
    variants: int
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoJob:
    """One photo and all its variants: decoded once, by one worker."""

    photo: Path
    name: str
    """Path below the input folder, without suffix, with forward slashes."""
    settings: Settings
    known: tuple[Record | None, ...]
    """For each variant, the journal's record of the file of that name."""


def stem(folder: str, name: str, variant: int) -> str:
    """Path of a pair's file below the output folder, without its suffix."""
    return f"{folder}/{name}__v{variant:02d}"


class _Photo:
    """A clean photo, hashed and decoded when first needed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def sha256(self) -> str:
        return hash_file(self.path)

    @cached_property
    def image(self) -> images.Image:
        return images.read(self.path)


def work(job: PhotoJob) -> Iterator[PairOutcome]:
    """Make all variants of one photo; an error in one of them becomes its outcome."""
    photo = _Photo(job.photo)
    for variant in range(job.settings.variants):
        began = time.perf_counter()
        try:
            outcome = _earlier(job, photo, variant) or _make(job, photo, variant)
        except (ImageError, OutOfMemory, OSError, MemoryError) as error:
            outcome = PairOutcome(source=job.photo, variant=variant, status="failed", error=_explain(error, job.photo))
        yield replace(outcome, seconds=time.perf_counter() - began)


def _explain(error: Exception, photo: Path) -> str:
    if isinstance(error, SanarestoreError):
        return str(error)
    if isinstance(error, MemoryError):
        return str(OutOfMemory("there is not enough memory", where=photo, next_step="Use fewer --workers."))
    return str(ImageError(f"it cannot be degraded ({error})", where=photo))


def _earlier(job: PhotoJob, photo: _Photo, variant: int) -> PairOutcome | None:
    """Outcome of the pair if an earlier run made it from the same inputs and its files are still there."""
    record, settings = job.known[variant], job.settings
    if record is None or not record.describes(settings.recipe, settings.seed, photo.sha256, settings.output):
        return None
    return PairOutcome(
        source=job.photo,
        variant=variant,
        status="skipped",
        files=tuple(settings.output / file for file in record.files),
        label=record.label,
        prompt=record.prompt,
        sha256=record.sha256,
    )


def _make(job: PhotoJob, photo: _Photo, variant: int) -> PairOutcome:
    if not _is_text(job.photo):
        raise UnreadableImage("its name is not UTF-8, so no list can hold it", where=job.photo, next_step="Rename it.")
    rng = stream(job.settings.seed, photo.sha256, variant)
    plan = Recipe.parse(job.settings.recipe).draw(rng, variant)
    clean = photo.image
    files = [_store(job, DEGRADED, variant, clean, plan.degraded(clean.pixels_HWC))]
    if plan.kept:
        files.append(_store(job, TARGET, variant, clean, plan.target(clean.pixels_HWC)))
    return PairOutcome(
        source=job.photo,
        variant=variant,
        status="done",
        files=tuple(files),
        label=plan.label,
        prompt=plan.prompt,
        sha256=photo.sha256,
        megapixels=clean.megapixels,
        notes=_notes(plan, clean, variant),
    )


def _is_text(path: Path) -> bool:
    """Whether all bytes of the path could be decoded (Python keeps the others as lone surrogates)."""
    return not any("\ud800" <= letter <= "\udfff" for letter in str(path))


def _store(job: PhotoJob, folder: str, variant: int, clean: images.Image, pixels_HWC: Pixels) -> Path:
    """Write pixels without loss, at the depth of the clean photo and with its metadata."""
    suffix: Literal["tiff", "png"] = "tiff" if clean.depth == "float32" else "png"
    file = job.settings.output / f"{stem(folder, job.name, variant)}.{'tif' if suffix == 'tiff' else 'png'}"
    images.write(replace(clean, pixels_HWC=pixels_HWC, format=suffix), file)
    return file


def _is_stored(operation: Operation) -> bool:
    """Whether the operation rounds to 8 bits."""
    return operation.kind == "jpeg" or (isinstance(operation, Photograph) and bool(operation.jpegs))


def _notes(plan: Plan, clean: images.Image, variant: int) -> tuple[str, ...]:
    """Messages for the user; those about reading the photo come once, with its first variant."""
    notes = clean.notes if variant == 0 else ()
    if clean.depth != "uint8" and any(map(_is_stored, plan.operations)):
        notes += (f"{plan.label}: JPEG and WebP hold 8 bits, whatever the depth of the photo",)
    return notes
