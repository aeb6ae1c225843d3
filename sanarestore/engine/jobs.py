"""Jobs (which file to restore, and where to), their progress and their outcomes. Imports no torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sanarestore.errors import MissingImage, UnreadableImage
from sanarestore.images import Format

Status = Literal["done", "skipped", "ignored", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One file in, one file out."""

    source: Path
    """The input. Both paths are absolute once planned, so that a program may change its current folder."""
    target: Path
    format: Format | None = None
    """Format to write; None keeps the input's."""
    folder: Path | None = None
    """The output folder whose journal records the job; None if the output is a single file."""
    temporary: Path | None = None
    """The name under which the result is written, in the folder of `target`; None until the job is handed out."""
    name: str | None = None
    """Name of the input in messages; None for its path."""
    halvings: int = 0
    """Number of times that the tile side is halved, because a worker died with this job."""
    given_source: Path | None = None
    """The input as it was given; None if that is `source`."""
    given_target: Path | None = None
    """The output as it follows from the paths given; None if that is `target`."""

    @property
    def path(self) -> Path:
        """The input as outcomes and messages name it."""
        return self.source if self.given_source is None else self.given_source

    @property
    def output(self) -> Path:
        """The output as outcomes and messages name it."""
        return self.target if self.given_target is None else self.given_target

    @property
    def called(self) -> str:
        """Name of the input in messages."""
        return str(self.path) if self.name is None else self.name

    def anchored(self) -> "Job":
        """The same job with absolute paths, which mean the same whatever the current folder is."""
        return replace(
            self, source=self.source.absolute(), target=self.target.absolute(),
            folder=None if self.folder is None else self.folder.absolute(),
            given_source=self.path, given_target=self.output,
        )  # fmt: skip


@contextmanager
def readable(job: Job) -> Iterator[None]:
    """Turn an OSError of the block into an error that names the input."""
    try:
        yield
    except OSError as error:
        kind = MissingImage if isinstance(error, FileNotFoundError) else UnreadableImage
        fact = "there is no such file" if kind is MissingImage else f"it cannot be read ({error.strerror})"
        raise kind(fact, where=job.called, next_step="Check its name and permissions.") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """Amount of work, before it begins."""

    files: int
    size: int
    """Bytes of the files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TileDone:
    """Progress of one file: `done` of `total` steps."""

    path: Path
    done: int
    total: int
    megapixels: float = 0.0
    """Megapixels of the whole result."""
    size: int = 0
    """Bytes of the input."""
    expert: str | None = None
    """Name of the expert with the largest share; None for the general refiner, and as long as none is chosen."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Properties of a file in the file system, without its content; another stamp means that the file may have
    changed."""

    size: int
    modified: int
    """Time of the last change of the content, in nanoseconds."""
    changed: int
    """Time of the last change of content or attributes, in nanoseconds; time of creation on Windows."""

    @staticmethod
    def of(path: Path) -> "Stamp":
        """Read the stamp of a file; OSError if there is none."""
        status = path.stat()
        return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One of the samples that were judged."""

    page: int = 1
    """Number of the page in its file, from 1."""
    seed: int
    """Seed that it was sampled from."""
    score: float
    """The judge's score; the highest wins, and the first of equal ones."""
    chosen: bool = False
    """Whether this candidate is the result."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The result of one job, or of a file that is no job."""

    path: Path
    """The input."""
    output: Path | None = None
    status: Status
    reason: str | None = None
    """Reason of a failed or ignored file, in a word that `docs/json.md` explains; None otherwise."""
    seconds: float = 0.0
    """Seconds for reading, restoring and writing."""
    megapixels: float = 0.0
    """Megapixels of the result."""
    error: str | None = None
    """Fault of a failed file, with the next step; None otherwise."""
    notes: tuple[str, ...] = ()
    """Notes on changes and omissions, or on why the file was ignored."""
    device: str = ""
    tile: int | None = None
    """Tile side used, in pixels, after any halving when memory ran out."""
    threads: int | None = None
    """CPU threads of the worker: another number may round differently."""
    dtype: str = ""
    """Arithmetic of the networks: float32, bfloat16 or int8; empty if nothing was restored."""
    expert: str | None = None
    """Name of the expert with the largest share in the result; None for the general refiner."""
    removes: tuple[str, ...] | None = None
    """The kinds of degradation that the prompt asks to remove; None for a photo that was restored as if unprompted, or
    not restored in this run."""
    prompt_note: str | None = None
    """A note on the prompt for the user, the same for every file of a batch."""
    judge: str | None = None
    """Name of the judge; None if there were no candidates."""
    candidates: tuple[Candidate, ...] = ()
    """The candidates in the order of their seeds, page after page; empty if there was one sample, or none."""
    sha256: str = ""
    """Hash of the bytes of the input that were read."""
    output_sha256: str = ""
    """Hash of the bytes that were written."""
    stamp: Stamp | None = None
    """Stamp of the input before it was read."""
    trace: str = ""
    """Traceback of an unexpected error."""

    @property
    def size(self) -> int:
        """Bytes of the input; 0 if it was not read."""
        return 0 if self.stamp is None else self.stamp.size

    def to_json(self) -> dict[str, Any]:
        """The object for one line of NDJSON."""
        return {
            "input": str(self.path),
            "output": None if self.output is None else str(self.output),
            "status": self.status,
            "reason": self.reason,
            "seconds": round(self.seconds, 4),
            "megapixels": round(self.megapixels, 6),
            "error": self.error,
            "notes": [*self.notes, *([self.prompt_note] if self.prompt_note else [])],
            "device": self.device,
            "tile": self.tile,
            "threads": self.threads,
            "dtype": self.dtype,
            "expert": self.expert,
            "removes": None if self.removes is None else list(self.removes),
            "judge": self.judge,
            "candidates": [asdict(each) for each in self.candidates],
            "sha256": self.sha256,
        }
