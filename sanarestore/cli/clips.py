"""`restore` for clips: video files, and folders of frames with `--frames`."""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sanarestore.cli import values
from sanarestore.errors import ExitCode, UsageError
from sanarestore.options import BatchOptions, ClipOptions, RestoreOptions

if TYPE_CHECKING:
    from sanarestore.cli.reports import Report
    from sanarestore.engine.clip_jobs import ClipJob

CLIPS = "Video"
"""Help panel of options for clips."""

Frames = Annotated[
    bool,
    typer.Option("--frames", help="Take a folder of frames, in natural order, as one clip.", rich_help_panel=CLIPS),
]
Temporal = Annotated[
    float,
    typer.Option(
        "--temporal",
        metavar="0..1",
        help="Strength of averaging over time, 0 to 1; 0 restores every frame on its own.",
        rich_help_panel=CLIPS,
    ),
]
Codec = Annotated[
    str | None,
    typer.Option(
        "--codec",
        metavar="NAME",
        help="Codec of the video: ffv1, av1, or an encoder of PyAV.",
        show_default="ffv1 in .mkv, av1 in .mp4, .mov and .webm",
        autocompletion=values.codecs,
        rich_help_panel=CLIPS,
    ),
]


def are_named(inputs: Sequence[str], *, frames: bool) -> bool:
    """Return whether the inputs are clips: with `--frames`, or if one of them is a video file."""
    from sanarestore.video.reading import is_clip

    return frames or any(is_clip(Path(each)) and _is_name(each) for each in inputs)


def _is_name(given: str) -> bool:
    """Return whether an input is the path of a file, not a folder, a pattern or a list."""
    return not Path(given).is_dir() and (Path(given).exists() or not (given.startswith("@") or glob.has_magic(given)))


def refuse_what_only_clips_have(clip: ClipOptions) -> None:
    """Raise UsageError for options of clips that would have no effect on photographs."""
    for flag, is_given in (("--temporal", clip.temporal != 1), ("--codec", clip.codec is not None)):
        if is_given:
            raise UsageError(
                "it applies only to clips, and no input is a video", where=flag,
                next_step="Leave it out, or use --frames for a folder of frames.",
            )  # fmt: skip


def restore_clips(
    inputs: Sequence[str], output: str | None, options: RestoreOptions, chosen: BatchOptions, clip: ClipOptions, *,
    frames: bool, devices: str, refused: Sequence[tuple[str, bool]], fail_fast: bool, dry_run: bool, as_json: bool,
    progress: bool, quiet: bool, verbose: bool, debug: bool, log: Path | None,
) -> ExitCode:  # fmt: skip
    """Restore clips one after the other; `refused` says for each flag that does not apply to clips whether it was
    set."""
    from sanarestore import weights
    from sanarestore.cli import console, reports
    from sanarestore.engine.clip_jobs import frames_job, video_jobs
    from sanarestore.engine.workers import parse_devices

    for flag, is_given in refused:
        if is_given:
            raise UsageError("it does not apply to clips", where=flag, next_step="Leave it out.")
    where = parse_devices(devices)
    if len(where) > 1:
        raise UsageError("a clip is restored on one device only", where="--devices", next_step="Name one device.")
    if frames:
        if clip.codec is not None:
            raise UsageError(
                "it applies only to video, and frames are written as images",
                where="--codec",
                next_step="Leave it out, or use --format.",
            )
        jobs: tuple[ClipJob, ...] = (frames_job(inputs, output, chosen.write, chosen.name),)
    else:
        _refuse_formats_of_images(chosen)
        jobs = video_jobs(inputs, output, clip)
        _check_library()
    if dry_run:
        return _list_plans(jobs, clip, chosen, as_json=as_json)
    console.show_licences(weights.chosen(options.model, options.adapter), options.adapter)
    with reports.Report(
        "restored", len(jobs), quiet=quiet, as_json=as_json, verbose=verbose, progress=progress, log=log
    ) as report:
        _run(jobs, options, chosen, clip, where[0], report, fail_fast=fail_fast, debug=debug)
    return report.exit_code


def _run(
    jobs: "Sequence[ClipJob]", options: RestoreOptions, chosen: BatchOptions, clip: ClipOptions, device: str,
    report: "Report", *, fail_fast: bool, debug: bool,
) -> None:  # fmt: skip
    from sanarestore.cli import console
    from sanarestore.engine.clips import ClipRestorer
    from sanarestore.engine.jobs import Outcome
    from sanarestore.engine.restorer import Restorer

    restorer = ClipRestorer(Restorer(options, device=device), clip, chosen)
    for job in jobs:
        for event in restorer.restore(job):
            if not isinstance(event, Outcome):
                report.part(event.path, event.done, event.total, megapixels=event.megapixels, label=event.expert or "")
                continue
            report.add(event)
            console.say_lines(event.trace.splitlines() if debug else ())
            if fail_fast and event.status == "failed":
                return


def _check_library() -> None:
    from sanarestore.video.library import pyav

    pyav()


def _refuse_formats_of_images(chosen: BatchOptions) -> None:
    write = chosen.write
    for flag, is_given in (
        ("--format", write.format != "preserve"), ("--bit-depth", write.bit_depth is not None),
        ("--quality", write.quality is not None), ("--strip", write.strip), ("--provenance", write.provenance),
        ("--name", chosen.name is not None), ("--keep-dates", write.keep_dates),
    ):  # fmt: skip
        if is_given:
            raise UsageError("it does not apply to video", where=flag, next_step="Leave it out.")


def _list_plans(jobs: "Sequence[ClipJob]", clip: ClipOptions, chosen: BatchOptions, *, as_json: bool) -> ExitCode:
    """List what would be written, and what would fail."""
    from sanarestore.cli import console
    from sanarestore.engine.clip_jobs import clip_plan
    from sanarestore.errors import SanarestoreError

    code = ExitCode.DONE
    for job in jobs:
        named = {"input": str(job.source), "output": str(job.target)}
        try:
            found = clip_plan(job, clip, overwrite=chosen.overwrite)
        except SanarestoreError as error:
            code = ExitCode.SOME_FAILED
            console.print_word("failed", "red", str(error))
            if as_json:
                console.print_json({**named, "status": "failed", "reason": error.reason, "error": str(error)})
            continue
        if as_json:
            console.print_json({**named, "status": "planned", **found})
        else:
            described = f"{found['frames']} frames of {found['width']} x {found['height']}, {found['codec']}"
            console.print_lines([f"{job.source} -> {job.target}: {described}"])
    return code
