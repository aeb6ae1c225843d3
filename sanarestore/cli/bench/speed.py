"""`bench speed`: time and memory, measured alone and without images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sanarestore.cli.bench.plan import numbers
from sanarestore.errors import UsageError
from sanarestore.options import RestoreOptions

SPEED = "speed"
"""Name given in place of a set."""

SIZES = "256,512,1024,2048"
"""Sides of the images that are timed unless others are named, in pixels."""


def refuse(names: Sequence[str], flags: Mapping[str, object]) -> None:
    """Raise UsageError for a set or a flag that is given beside `speed` and has no effect."""
    useless = [*names, *(flag for flag, value in flags.items() if value)]
    if useless:
        raise UsageError(
            f"it is measured alone and without images, so {useless[0]} has no effect", where=SPEED,
            next_step="Leave it out.",
        )  # fmt: skip


def refuse_elsewhere(sizes: str | None, rounds: int | None) -> None:
    """Raise UsageError for a flag of `speed` that is given without it."""
    for flag, value in (("--sizes", sizes), ("--rounds", rounds)):
        if value is not None:
            raise UsageError(
                "this has no effect unless speed is measured", where=flag,
                next_step=f"Leave it out, or measure with `bench {SPEED}`.",
            )  # fmt: skip


def measure(
    options: RestoreOptions, devices: str, sizes: str | None, rounds: int | None, csv: Path | None, *, as_json: bool
) -> None:  # fmt: skip
    """Time the parts of a restoration at several sizes, and print and write the rows."""
    from sanarestore.cli.figures import FigureReport, check_writable, write_csv

    check_writable(csv)
    from sanarestore.evaluation.speed.timings import captioned, growth
    from sanarestore.evaluation.speed.timings import measure as timings_of

    timings = []
    report = FigureReport(0, quiet=True, as_json=as_json)  # a bar would take time from what is measured
    for timing in timings_of(options, devices, numbers("--sizes", sizes or SIZES, int), rounds):
        timings.append(timing)
        report.lines([{"task": SPEED, **timing.to_json()}])
    powers = growth(timings)
    report.lines([{"task": SPEED, "growth": powers}] if powers else [])
    report.table(*captioned(timings, powers))
    if csv is not None:
        write_csv(csv, timings)
