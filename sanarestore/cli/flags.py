"""Flags that several commands share, so that they are named and explained alike."""

from typing import Annotated

import typer

MACHINE = "Speed and memory"
"""Help panel of what changes how long it takes, not what comes out."""
TOLD = "What is shown"
"""Help panel of what is said on the way."""

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.", rich_help_panel=TOLD)]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.", rich_help_panel=TOLD)]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback of an error.", rich_help_panel=TOLD)]
Seed = Annotated[int, typer.Option("--seed", help="The same seed, the same result.")]
Devices = Annotated[
    str,
    typer.Option(
        "--devices",
        metavar="LIST",
        help="cpu, cuda:0,cuda:1, all, or auto.",
        rich_help_panel=MACHINE,
    ),
]
