"""One image from stdin or a file to stdout or a file, without a journal."""

import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from sanarestore.errors import ExitCode, UsageError
from sanarestore.options import BatchOptions, RestoreOptions

_NOTHING_ARRIVED = "Nothing arrived on stdin. Check the command before the pipe."


def refuse_what_no_pipe_can(
    inputs: list[str], output: str | None, devices: str, chosen: BatchOptions, *, as_json: bool, dry_run: bool
) -> None:
    """Raise UsageError for inputs and options that have no meaning where stdin or stdout holds an image."""
    from sanarestore.engine.planning import format_named

    if dry_run:
        raise UsageError(
            "a pipe has no files to list", where="--dry-run", next_step="Leave it out, or name files instead of -."
        )
    if chosen.adopt:
        raise UsageError("a pipe has no earlier results", where="--adopt", next_step="Leave it out, or name files.")
    if chosen.name is not None:
        raise UsageError(
            "a pipe has no file names", where="--name", next_step="Leave it out, or name files instead of -."
        )
    if chosen.write.keep_dates:
        raise UsageError(
            "a pipe has no dates", where="--keep-dates", next_step="Leave it out, or name files instead of -."
        )
    if chosen.shard is not None:
        raise UsageError("a pipe has no parts", where="--shard", next_step="Leave it out, or name files instead of -.")
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
    closed = ["stdin"] * ("-" in inputs and sys.stdin is None)
    closed += ["stdout"] * (output in ("-", None) and sys.stdout is None)
    if closed:
        raise UsageError(
            "it is closed", where=closed[0], next_step="Redirect it, or use files and folders instead of -."
        )
    if output in ("-", None) and sys.stdout.isatty():
        raise UsageError(
            "an image cannot be shown in a terminal", where="-",
            next_step="Redirect stdout, or name an output file with -o.",
        )  # fmt: skip
    if output not in ("-", None) and (Path(str(output)).is_dir() or str(output).endswith(("/", os.sep))):
        raise UsageError(
            "this is a folder, but an image from stdin has no file name", where=output,
            next_step="Name an output file with -o.",
        )  # fmt: skip
    if output not in ("-", None):
        format_named(Path(str(output)), chosen.write.format, chosen.write.quality)


def through_pipe(
    source: str, output: str | None, options: RestoreOptions, devices: str, chosen: BatchOptions, *, as_json: bool,
    quiet: bool, log: Path | None,
) -> ExitCode:  # fmt: skip
    """Restore one image from stdin or a file to stdout or a file."""
    from sanarestore import weights
    from sanarestore.cli import console, reports
    from sanarestore.engine.batch import restore_one
    from sanarestore.engine.jobs import Job, TileDone
    from sanarestore.engine.planning import format_named, without_quality
    from sanarestore.engine.workers import parse_devices
    from sanarestore.images import format_of_file

    target = None if output in ("-", None) else Path(str(output))
    console.show_licences(weights.chosen(options.model, options.adapter), options.adapter)
    console.show_licences(options.autoencoder, wanted=weights.WANTED_OF_AUTOENCODERS)
    with tempfile.TemporaryDirectory(prefix="sanarestore-") as folder:
        given = Path(source)
        if source == "-":
            given = Path(folder, "stdin")
            with given.open("xb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        written = Path(folder, "stdout") if target is None else target
        job = Job(
            source=given, target=written, format=None if target is None else format_named(target, chosen.write.format),
            name="stdin" if source == "-" else None, given_target=Path("stdout") if target is None else None,
        )  # fmt: skip
        with reports.Report("restored", 1, quiet=quiet, as_json=as_json, log=log) as report:
            done = False
            note = None if chosen.write.quality is None else without_quality([job.format or format_of_file(given)])
            if note:
                report.note(note)
            device = parse_devices(devices)[0]
            is_empty = source == "-" and not given.stat().st_size
            for event in restore_one(job, options, device, chosen):
                if isinstance(event, TileDone):
                    report.part(event.path, event.done, event.total)
                    continue
                done = event.status == "done"
                if is_empty and event.reason == "unreadable":
                    event = replace(event, error=_NOTHING_ARRIVED)
                report.add(replace(event, path=Path(source), output=target))
        if done and target is None:
            with written.open("rb") as result:
                shutil.copyfileobj(result, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    return report.exit_code
