"""Clips to restore: inputs, outputs and outcomes. Imports no torch."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sanarestore import images
from sanarestore.engine.jobs import Job, Outcome
from sanarestore.engine.naming import Naming
from sanarestore.engine.planning import plan
from sanarestore.errors import NoImagesError, UnwritableImage, UsageError
from sanarestore.options import ClipOptions, WriteOptions
from sanarestore.video.library import CONTAINERS
from sanarestore.video.reading import count_frames, info_of, is_clip
from sanarestore.video.writing import Encoding

HIDDEN = ".sanarestore-clip"
"""Name of the hidden folder for finished parts, in an output folder; for an output file, the file's name is in
front."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipJob:
    """One clip in, one out."""

    source: Path
    """A video file, or a folder of frames."""
    target: Path
    frames: tuple[Job, ...] = ()
    """The frames of a folder, in order; empty for a video file."""

    @property
    def folder(self) -> Path:
        """The hidden folder for finished parts."""
        return self.target / HIDDEN if self.frames else self.target.with_name(f".{self.target.name}{HIDDEN}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipOutcome(Outcome):
    """The result of one clip."""

    frames: int = 0
    """Number of frames written, those of earlier runs included."""
    resumed: int = 0
    """Number of these frames that earlier runs wrote."""
    cuts: tuple[int, ...] = ()
    """Numbers of the frames, from 0, at which another scene begins."""

    def to_json(self) -> dict[str, Any]:
        """The object for one line of NDJSON."""
        return {
            **Outcome.to_json(self), "frames": self.frames, "resumed": self.resumed, "cuts": list(self.cuts),
        }  # fmt: skip


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that orders names as people count: frame9 before frame10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def video_jobs(inputs: Sequence[str], output: str | None, chosen: ClipOptions) -> tuple[ClipJob, ...]:
    """Pair video files with their outputs. UsageError for inputs of both kinds, and outputs of the wrong kind."""
    others = [each for each in inputs if not is_clip(Path(each))]
    if others:
        raise UsageError(
            "photographs and video are restored in separate runs", where=others[0],
            next_step="Name either video files only, or no video files.",
        )  # fmt: skip
    jobs = [ClipJob(source=Path(each), target=_output_of(Path(each), output, inputs, chosen)) for each in inputs]
    for number, job in enumerate(jobs):
        if job.target.resolve() == job.source.resolve():
            raise UsageError("the result would replace the input", where=job.target, next_step="Name another output.")
        if any(job.target.resolve() == earlier.target.resolve() for earlier in jobs[:number]):
            raise UsageError("two inputs have this output", where=job.target, next_step="Restore them one by one.")
    return tuple(jobs)


def frames_job(inputs: Sequence[str], output: str | None, write: WriteOptions, name: str | None = None) -> ClipJob:
    """Return the clip of a folder of frames. UsageError for other inputs, NoImagesError for an empty folder."""
    folder = Path(inputs[0])
    if len(inputs) != 1 or not folder.is_dir():
        raise UsageError("--frames takes one folder, which holds the frames of one clip", where=inputs[0])
    target = folder.absolute().with_name(f"{folder.absolute().name}-restored") if output is None else Path(output)
    found = images.find([folder])
    if found.failed:
        raise UsageError(found.failed[0].fact, where=found.failed[0].path, next_step="A clip needs all its frames.")
    below = [each for each in found.images if len(each.relative.parts) > 1]
    if below:
        raise UsageError(
            "it lies in a subfolder, and one folder is one clip", where=below[0].path,
            next_step="Restore each folder in a separate run.",
        )  # fmt: skip
    if not found.images:
        raise NoImagesError("no readable image was found", where=folder, next_step="Name the folder of the frames.")
    ordered = sorted(found.images, key=lambda each: natural(each.relative.name))
    made = plan(ordered, list(inputs), str(target), Naming(write.format, name, write.bit_depth))
    if made.refused:
        raise UsageError(made.refused[0].error or "", where="--frames")
    return ClipJob(source=folder, target=target, frames=made.jobs)


def clip_plan(job: ClipJob, chosen: ClipOptions, *, overwrite: bool) -> dict[str, Any]:
    """Return the plan for a clip: frames, width, height, codec. It raises the errors of the work itself that headers
    reveal."""
    if job.frames:
        header = images.measure(job.frames[0].source)
        return {"frames": len(job.frames), "width": header.width, "height": header.height, "codec": "images"}
    info = info_of(job.source)
    if job.target.exists() and not overwrite:
        raise UnwritableImage("it exists already", where=job.target, next_step="Name another, or use --overwrite.")
    encoding = Encoding.of(info, job.target, chosen.codec)
    frames = info.frames or count_frames(job.source)
    return {"frames": frames, "width": info.width, "height": info.height, "codec": encoding.encoder}


def _output_of(source: Path, output: str | None, inputs: Sequence[str], chosen: ClipOptions) -> Path:
    suffix = source.suffix.lower() if source.suffix.lower() in CONTAINERS else ".mkv"
    if chosen.codec == "ffv1":
        suffix = ".mkv"
    if output is None:
        return source.with_name(f"{source.stem}-restored{suffix}")
    target = Path(output)
    if target.is_dir() or output.endswith("/") or (len(inputs) > 1 and not target.suffix):
        return target / f"{source.stem}{suffix}"
    if len(inputs) > 1:
        raise UsageError(f"{len(inputs)} clips do not fit into one file", where=output, next_step="Name a folder.")
    if target.suffix.lower() not in CONTAINERS:
        raise UsageError(
            f"video is not written as '{target.suffix}'", where=output,
            next_step=f"Use a name that ends in {', '.join(CONTAINERS)}.",
        )  # fmt: skip
    return target
