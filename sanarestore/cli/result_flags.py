"""Flags of `restore` that say how large results are, and how they are written."""

from typing import Annotated

import typer

from sanarestore.cli import values
from sanarestore.options import OUTPUT_FORMATS

RESULT = "Result"
"""Help panel of options for the files that are written."""

Scale = Annotated[
    float,
    typer.Option("--scale", metavar="1..4", help="Enlargement of each side before restoring, such as 1.5 or 2."),
]
LongSide = Annotated[
    int | None,
    typer.Option(
        "--long-side",
        metavar="PX",
        help="Longer side of results instead: smaller photos are enlarged, larger ones shrunk after restoring.",
        show_default=False,
    ),
]
Format = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help=f"Format of the results: {', '.join(OUTPUT_FORMATS)}.",
        autocompletion=values.formats,
        rich_help_panel=RESULT,
    ),
]
Quality = Annotated[
    int | None,
    typer.Option(
        "--quality",
        metavar="1..100",
        help="Quality of JPEG, WebP, AVIF and JPEG XL.",
        show_default="the input's own, at least 90",
        rich_help_panel=RESULT,
    ),
]
BitDepth = Annotated[
    str,
    typer.Option("--bit-depth", metavar="BITS", help="Bits of each value: keep, 8 or 16.", rich_help_panel=RESULT),
]
Name = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="TEMPLATE",
        help="Names of results, with {stem}, {ext}, {parent} and {index}; the extension is added.",
        show_default="{stem}",
        rich_help_panel=RESULT,
    ),
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
