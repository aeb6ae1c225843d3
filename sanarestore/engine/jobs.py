"""Jobs (which file to restore, and where to) and their outcomes. Imports no torch, so that planning is instant."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sanarestore.errors import NoImagesError, UsageError
from sanarestore.images import Format, Found

SUFFIXES: dict[str, Format] = {
    ".tif": "tiff", ".tiff": "tiff", ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp",
}  # fmt: skip
"""Suffixes that mark an output as one file, and the format of each."""

OTHERS = {
    ".avif", ".bmp", ".cr2", ".cr3", ".dng", ".exr", ".gif", ".heic", ".heif", ".jp2", ".jpf", ".jxl", ".nef", ".psd",
    ".tga",
}  # fmt: skip
"""Suffixes of image formats that are not written."""

Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One file in, one file out."""

    source: Path
    target: Path
    format: Format | None = None
    """Format to write; None keeps the input's."""
    folder: Path | None = None
    """The output folder whose journal records the job; None if the output is a single file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TileDone:
    """Progress of one file: `done` of `total` steps."""

    path: Path
    done: int
    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The result of one job."""

    path: Path
    """The input."""
    output: Path | None = None
    status: Status
    seconds: float = 0.0
    """Seconds for reading, restoring and writing."""
    megapixels: float = 0.0
    """Megapixels of the result."""
    error: str | None = None
    readable: bool = True
    """False if the job failed because the input is not a readable image."""
    notes: tuple[str, ...] = ()
    """What had to be changed or left out, in words."""
    device: str = ""
    tile: int | None = None
    """Tile side used, in pixels, after any halving when memory ran out."""
    threads: int | None = None
    """CPU threads of the worker: another number may round differently."""
    expert: str | None = None
    """Name of the expert with the largest share in the result; None for the general refiner."""
    removes: tuple[str, ...] | None = None
    """The kinds of degradation that the prompt asks to remove; None for a photo that was restored as if unprompted, or
    not restored in this run."""
    prompt_note: str | None = None
    """A note on the prompt for the user, the same for every file of a batch."""
    sha256: str = ""
    """Hash of the input, taken before it was read."""
    trace: str = ""
    """Traceback of an unexpected error."""

    def to_json(self) -> dict[str, Any]:
        """The object for one line of NDJSON."""
        return {
            "input": str(self.path),
            "output": None if self.output is None else str(self.output),
            "status": self.status,
            "seconds": round(self.seconds, 4),
            "megapixels": round(self.megapixels, 6),
            "error": self.error,
            "notes": [*self.notes, *([self.prompt_note] if self.prompt_note else [])],
            "device": self.device,
            "tile": self.tile,
            "threads": self.threads,
            "expert": self.expert,
            "removes": None if self.removes is None else list(self.removes),
            "sha256": self.sha256,
        }


def plan(found: Sequence[Found], inputs: Sequence[str], output: str | None) -> list[Job]:
    """Pair every input with its output.

    Without `output`, a folder `shoot` goes to `shoot-restored` beside it and a file `a.jpg` to `a-restored.jpg`. The
    output is one file if one file is named as input and the output has an image suffix, which then decides the format;
    otherwise it is a folder, and files that an earlier run wrote there are not inputs.
    NoImagesError if no input is left; UsageError if two inputs would write the same file, or an output would replace an
    input or lie outside the output folder.
    """
    if output is not None:
        found = [each for each in found if not _was_made_there(each, Path(output).resolve())]
    if not found:
        raise NoImagesError(
            "no readable image was found",
            where=", ".join(inputs),
            next_step="TIFF, PNG, JPEG and WebP are read, recognised by their content.",
        )
    jobs = _without_output(found) if output is None else _with_output(found, inputs, Path(output))
    _refuse_collisions(jobs)
    return jobs


def format_named(output: Path) -> Format | None:
    """The format of a file name's suffix; None if it names no image format, UsageError if the format is not written."""
    suffix = output.suffix.lower()
    if suffix in OTHERS:
        raise UsageError(
            f"{suffix[1:].upper()} is not written", where=output, next_step="TIFF, PNG, JPEG and WebP are."
        )
    return SUFFIXES.get(suffix)


def _was_made_there(each: Found, output: Path) -> bool:
    """Whether a found file lies in the output folder, and the output folder lies inside the searched folder."""
    root = each.root.resolve()
    return output != root and output.is_relative_to(root) and output in each.path.resolve().parents


def _with_output(found: Sequence[Found], inputs: Sequence[str], output: Path) -> list[Job]:
    format = None if output.is_dir() else format_named(output)  # noqa: A001 - the word users say
    single = len(found) == 1 and len(inputs) == 1 and Path(inputs[0]).is_file()
    if single and format:
        source = found[0].path
        # a.jpg to b.jpg keeps the real format, even if the suffix is wrong; a.jpg to b.png asks for another.
        same = format == SUFFIXES.get(source.suffix.lower())
        return [Job(source=source, target=output, format=None if same else format)]
    if output.is_file():
        raise UsageError("is a file, and a folder is needed here", where=output)
    return [Job(source=each.path, target=output / each.relative, folder=output) for each in found]


def _without_output(found: Sequence[Found]) -> list[Job]:
    jobs = []
    for each in found:
        if each.in_folder:
            folder = _beside(each.root)
            jobs.append(Job(source=each.path, target=folder / each.relative, folder=folder))
        else:
            jobs.append(Job(source=each.path, target=each.path.with_stem(f"{each.path.stem}-restored")))
    return jobs


def _beside(folder: Path) -> Path:
    whole = folder.resolve()
    if not whole.name:
        raise UsageError("nothing can be beside this folder", where=whole, next_step="Choose an output with -o.")
    return whole.with_name(f"{whole.name}-restored")


def _refuse_collisions(jobs: Iterable[Job]) -> None:
    # Case-folded, because names that differ only in case are one file on macOS and Windows.
    sources = {_folded(job.source) for job in jobs}
    taken: dict[str, Job] = {}
    for job in jobs:
        target = _folded(job.target)
        if job.folder and not job.target.resolve().is_relative_to(job.folder.resolve()):
            raise UsageError(
                "it would be written outside of the output", where=job.source, next_step="Name its folder instead."
            )
        if target in taken:
            raise UsageError(
                f"{taken[target].source} and {job.source} would both be written there",
                where=job.target,
                next_step="Restore them into different folders.",
            )
        if target in sources:
            raise UsageError(
                "the output would replace an input", where=job.target, next_step="Choose another output with -o."
            )
        taken[target] = job


def _folded(path: Path) -> str:
    return str(path.resolve()).casefold()
