"""Flags of `restore` that say how results are written."""

from typing import Annotated

import typer

from sanarestore.options import OUTPUT_FORMATS

RESULT = "Result"
"""Help panel of options for the files that are written."""

Format = Annotated[
    str,
    typer.Option("--format", help=f"Format of the results: {', '.join(OUTPUT_FORMATS)}.", rich_help_panel=RESULT),
]
Quality = Annotated[
    int | None,
    typer.Option(
        "--quality",
        metavar="1..100",
        help="Quality of JPEG and WebP.",
        show_default="the input's own, at least 90",
        rich_help_panel=RESULT,
    ),
]
BitDepth = Annotated[
    str,
    typer.Option("--bit-depth", help="Bits of each value: keep, 8 or 16.", rich_help_panel=RESULT),
]
KeepDates = Annotated[
    bool,
    typer.Option("--keep-dates", help="Give results the dates of their inputs.", rich_help_panel=RESULT),
]
Strip = Annotated[
    bool,
    typer.Option("--strip", help="Write no metadata but colour profile and orientation.", rich_help_panel=RESULT),
]
ToldProvenance = Annotated[
    bool,
    typer.Option("--provenance", help="Write model, licence and options into XMP.", rich_help_panel=RESULT),
]
