"""`sanarestore restore`: files and folders in, restored files out."""

import sys
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sanarestore.cli.flags import (
    MACHINE,
    Adapter,
    Devices,
    Dtype,
    Fidelity,
    Guidance,
    Json,
    Model,
    Prompt,
    Quiet,
    Seed,
    Steps,
    Threads,
    Tile,
    Verbose,
)
from sanarestore.errors import ExitCode, ImageError, OutOfMemory, UnreadableImage, UnwritableImage, UsageError
from sanarestore.options import BLENDED_OVERLAP, BLENDING, RestoreOptions

if TYPE_CHECKING:
    from sanarestore.cli.reports import Report
    from sanarestore.engine.jobs import Job, Outcome
    from sanarestore.engine.journal import Journal
    from sanarestore.images import Image

RUN = "Batch"


def restore(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT", help="Photos: files, folders, globs, @list.txt, or - for stdin.", show_default=False
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Output folder or file, or - for stdout.",
            show_default="beside the input; stdout for stdin",
        ),
    ] = None,
    prompt: Prompt = None,
    strength: Annotated[
        float,
        typer.Option(
            "--strength", metavar="0..1", help="Fraction of the change to apply; 0 leaves the input unchanged."
        ),
    ] = 1.0,
    model: Model = None,
    adapter: Adapter = None,
    fidelity: Fidelity = 1.0,
    steps: Steps = None,
    guidance: Guidance = 1.0,
    scale: Annotated[int, typer.Option("--scale", metavar="1|2|4", help="Enlargement per side before restoring.")] = 1,
    seed: Seed = 0,
    tile: Tile = None,
    tiling: Annotated[
        str,
        typer.Option(
            "--tiling",
            help=f"Tiling scheme: exact (same result as untiled), off (untiled), or one that blends overlapping tiles: "
            f"{', '.join(BLENDING)}.",
            rich_help_panel=MACHINE,
        ),
    ] = "exact",
    overlap: Annotated[
        int | None,
        typer.Option(
            "--overlap",
            metavar="PX",
            help="Overlap of blended tiles in pixels.",
            show_default=str(BLENDED_OVERLAP),
            rich_help_panel=MACHINE,
        ),
    ] = None,
    devices: Devices = "auto",
    dtype: Dtype = "auto",
    threads: Threads = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace outputs that already exist.", rich_help_panel=RUN)
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first file that fails.", rich_help_panel=RUN)
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be written, and exit.", rich_help_panel=RUN)
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Restore photographs. Folder trees are mirrored, finished files are skipped, and inputs never change."""
    options = RestoreOptions(
        prompt=prompt, strength=strength, model=model, adapter=adapter, fidelity=fidelity, steps=steps,
        guidance=guidance, scale=scale, tile=tile, tiling=tiling,  # type: ignore[arg-type]
        overlap=overlap, dtype=dtype, seed=seed, threads=threads,  # type: ignore[arg-type]
    )  # fmt: skip
    if output == "-" or "-" in inputs:
        _refuse_what_no_pipe_can(inputs, output, devices, as_json=as_json, dry_run=dry_run)
        raise typer.Exit(_through_pipe(inputs[0], output, options, devices, overwrite, as_json=as_json, quiet=quiet))
    from sanarestore import images, weights
    from sanarestore.cli import console, reports
    from sanarestore.engine.jobs import plan

    found = images.find(inputs)
    jobs = plan(found.images, inputs, output)
    if dry_run:
        _show_plan(jobs, as_json=as_json)
        return
    journals = _journals(jobs, options)
    console.show_licences(weights.chosen(options.model, options.adapter), options.adapter)
    with (
        reports.Report("restored", len(jobs), quiet=quiet, as_json=as_json) as report,
        closing(_outcomes(jobs, journals, options, devices, report, overwrite=overwrite)) as outcomes,
    ):
        for outcome in outcomes:
            report.add(outcome, readable=outcome.readable)
            console.say(outcome.trace, quiet=not (verbose and outcome.trace))
            if fail_fast and outcome.status == "failed":
                break
    files = "1 other file is" if found.skipped == 1 else f"{found.skipped} other files are"
    console.say(f"{files} not in a supported image format", quiet=quiet or as_json or not found.skipped)
    raise typer.Exit(report.exit_code)


def _journals(jobs: Sequence["Job"], options: RestoreOptions) -> dict[Path | None, "Journal"]:
    """The journal of every output folder; WeightsError, before any work, if the model does not exist."""
    from sanarestore import weights
    from sanarestore.engine.journal import Journal

    name = weights.chosen(options.model, options.adapter)
    settings = f"{options.fingerprint()}:{weights.fingerprint(name, options.adapter)}"
    return {folder: Journal(folder, settings=settings) for folder in {job.folder for job in jobs}}


def _outcomes(
    jobs: Sequence["Job"], journals: dict[Path | None, "Journal"], options: RestoreOptions, devices: str,
    report: "Report", *, overwrite: bool,
) -> Generator["Outcome", None, None]:  # fmt: skip
    """Yield an outcome for every job; report progress within files, and enter finished files in their journals."""
    from sanarestore.engine import workers
    from sanarestore.engine.jobs import TileDone

    waiting = []
    for job in jobs:
        settled = _settle(job, journals[job.folder], overwrite)
        if settled is None:
            waiting.append(job)
        else:
            yield settled
    if not waiting:
        return
    for folder, journal in journals.items():
        journal.begin(job for job in waiting if job.folder == folder)
    unwritten = {job.source: job for job in waiting}
    try:
        with closing(workers.restore(waiting, options, workers.parse_devices(devices))) as events:
            for event in events:
                if isinstance(event, TileDone):
                    report.part(event.path, event.done, event.total)
                    continue
                if event.status == "done":
                    journals[unwritten.pop(event.path).folder].add(event)
                yield event
    finally:
        for folder, journal in journals.items():
            journal.release(job for job in unwritten.values() if job.folder == folder)


def _settle(job: "Job", journal: "Journal", overwrite: bool) -> "Outcome | None":
    """Outcome of a job that needs no work or must not be done; None for other jobs."""
    from sanarestore.engine.jobs import Outcome

    if not job.target.exists():
        return None
    if journal.is_finished(job):
        return Outcome(path=job.source, output=job.target, status="skipped")
    if overwrite or journal.wrote(job):
        return None
    return Outcome(path=job.source, status="failed", error=str(_is_there_already(job.target)))


def _is_there_already(target: Path) -> UnwritableImage:
    return UnwritableImage(
        "the output already exists, and is not as an earlier run left it",
        where=target,
        next_step="Replace it with --overwrite, or name another output with -o.",
    )


def _show_plan(jobs: Sequence["Job"], *, as_json: bool) -> None:
    from sanarestore.cli import console

    for job in jobs:
        if as_json:
            paths = {"input": str(job.source), "output": str(job.target)}
            console.print_json({**paths, "status": "planned"})
        else:
            typer.echo(f"{job.source} -> {job.target}")


def _refuse_what_no_pipe_can(
    inputs: list[str], output: str | None, devices: str, *, as_json: bool, dry_run: bool
) -> None:
    from sanarestore.engine.jobs import format_named

    if dry_run:
        raise UsageError(
            "a pipe has no files to list", where="--dry-run", next_step="Leave it out, or name files instead of -."
        )
    if as_json and output in ("-", None):
        raise UsageError(
            "stdout cannot carry both an image and JSON", where="--json",
            next_step="Leave it out, or name an output file with -o.",
        )  # fmt: skip
    if len(inputs) != 1 or "," in devices:
        raise UsageError(
            "a pipe takes exactly one image and one device", where="-",
            next_step="Name one of each, or use files and folders instead of -.",
        )  # fmt: skip
    if output in ("-", None) and sys.stdout.isatty():
        raise UsageError(
            "an image cannot be shown in a terminal", where="-",
            next_step="Redirect stdout, or name an output file with -o.",
        )  # fmt: skip
    if output not in ("-", None) and Path(str(output)).is_dir():
        raise UsageError(
            "this is a folder, but an image from stdin has no file name", where=output,
            next_step="Name an output file with -o.",
        )  # fmt: skip
    if output not in ("-", None):
        format_named(Path(str(output)))


def _through_pipe(
    source: str, output: str | None, options: RestoreOptions, devices: str, overwrite: bool,
    *, as_json: bool, quiet: bool,
) -> ExitCode:  # fmt: skip
    """Restore one image from stdin or a file to stdout or a file."""
    from sanarestore import weights
    from sanarestore.cli import console, reports
    from sanarestore.engine.jobs import Outcome
    from sanarestore.engine.restorer import Restorer
    from sanarestore.engine.workers import parse_devices

    target = None if output in ("-", None) else Path(str(output))
    console.show_licences(weights.chosen(options.model, options.adapter), options.adapter)
    begun = time.perf_counter()
    with reports.Report("restored", 1, quiet=quiet, as_json=as_json) as report:
        try:
            if target is not None and target.exists() and not overwrite:
                raise _is_there_already(target)
            restorer = Restorer(options, device=parse_devices(devices)[0])
            restored = restorer(_take(source))
            _give(restored, target)
            outcome = Outcome(
                path=Path(source), output=target, status="done", seconds=time.perf_counter() - begun,
                megapixels=restored.megapixels, notes=restored.notes, expert=restorer.expert,
                removes=restorer.request.removes,
            )  # fmt: skip
        except (ImageError, OutOfMemory) as error:
            readable = not isinstance(error, UnreadableImage)
            outcome = Outcome(path=Path(source), status="failed", error=str(error), readable=readable)
        report.add(outcome, readable=outcome.readable)
    return report.exit_code


def _take(source: str) -> "Image":
    from sanarestore import images

    return images.decode(sys.stdin.buffer.read(), "stdin") if source == "-" else images.read(source)


def _give(restored: "Image", target: Path | None) -> None:
    from sanarestore import images
    from sanarestore.engine.jobs import format_named

    if target is not None:
        images.write(restored, target, format=format_named(target))
        return
    sys.stdout.buffer.write(images.encode(restored))
    sys.stdout.buffer.flush()
