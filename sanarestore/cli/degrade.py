"""`sanarestore degrade`: clean photographs in, training pairs and their list out."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from sanarestore.cli import values
from sanarestore.cli.flags import Debug, Json, Quiet, Seed, Verbose


def degrade(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="Clean photos: files, folders, globs or @list.txt.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="Folder to write the pairs to.", show_default=False)
    ],
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            metavar="LINE",
            autocompletion=values.recipes,
            help="Degradations to apply, e.g. noise:15/25,blur:1-2+jpeg:30, or a recipe's name.",
        ),
    ] = "everything",
    variants: Annotated[int, typer.Option("--variants", metavar="N", min=1, help="Number of pairs per photo.")] = 8,
    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", metavar="CSV", help="File for the list of pairs.", show_default="OUT/pairs.csv"),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=1, help="Number of processes; each holds up to two photos.")
    ] = 1,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Make training pairs: degraded photos, prompts and pairs.csv for `train`. A later run makes only missing pairs."""
    from sanarestore import images
    from sanarestore.cli import console, reports
    from sanarestore.training.making import PairBatch

    batch = PairBatch(images.find(inputs), output, recipe=recipe, variants=variants, seed=seed, pairs=pairs)
    with (
        reports.Report("degraded", batch.total, quiet=quiet, as_json=as_json, verbose=verbose) as report,
        closing(batch.run(workers)) as outcomes,
    ):
        report.expect(batch.total, 0)
        for outcome in outcomes:
            report.add(outcome)
            console.say_lines(outcome.trace.splitlines() if debug else ())
    raise typer.Exit(report.exit_code)
