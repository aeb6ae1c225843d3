"""`restore --dry-run`: what would be done, what would fail, and the memory and time that it would take."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sanarestore.errors import ExitCode
from sanarestore.options import BatchOptions, RestoreOptions

if TYPE_CHECKING:
    from sanarestore.engine.batch import Batch


def rehearse(
    batch: "Batch", options: RestoreOptions, chosen: BatchOptions, devices: Sequence[str], *, as_json: bool, quiet: bool
) -> ExitCode:
    """List what would be done with each file, try model and devices, and estimate memory and time."""
    from sanarestore.cli import console, pace
    from sanarestore.engine import rehearsal
    from sanarestore.engine.budget import free_memory

    checked = list(rehearsal.check(batch, options, chosen.write))
    failed = list(batch.refused)
    skipped = 0
    for each in checked:
        if each.outcome is not None and each.outcome.status == "failed":
            failed.append(each.outcome)
            continue
        skipped += each.outcome is not None
        paths = {"input": str(each.job.path), "output": str(each.job.output)}
        if as_json:
            console.print_json({**paths, "status": "planned" if each.outcome is None else "skipped"})
        else:
            console.print_lines([" -> ".join(paths.values()) + ("" if each.outcome is None else " (finished before)")])
    for outcome in failed if as_json else ():
        console.print_json(outcome.to_json())
    for error in dict.fromkeys(outcome.error or "" for outcome in failed):
        console.print_word("failed", "red", error)
    for note in () if as_json or quiet else batch.notes:
        console.print_word("note", "yellow", note)
    waits = any(each.outcome is None for each in checked)
    speeds = rehearsal.try_devices(options, devices) if waits else []
    figures = rehearsal.total(checked, speeds, len(devices))
    allowed = chosen.memory_per_file or free_memory() // len(devices)
    if as_json:
        rest = {"skipped": skipped, "failed": len(failed), "ignored": len(batch.ignored), "free_memory": allowed}
        console.print_json({"status": "estimate", **figures, **rest})
    elif not quiet:
        console.say_lines(pace.estimate(figures, speeds, skipped, len(failed), allowed))
    return ExitCode.SOME_FAILED if failed or figures["memory"] > allowed else ExitCode.DONE
