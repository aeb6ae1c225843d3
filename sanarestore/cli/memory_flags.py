"""Flags of `restore` that decide how much of a device's memory it takes."""

from typing import Annotated

import typer

from sanarestore.cli import values
from sanarestore.cli.flags import MACHINE

Quantize = Annotated[
    str | None,
    typer.Option(
        "--quantize",
        metavar="TYPE",
        help="Keep the transformer's weights in int8, int4 or fp8: less memory, slightly different results.",
        show_default="as they are stored",
        autocompletion=values.precisions,
        rich_help_panel=MACHINE,
    ),
]
Offload = Annotated[
    str,
    typer.Option(
        "--offload",
        metavar="WHAT",
        help="Weights that wait in the host's memory while a GPU works: none, parts or blocks; same result.",
        autocompletion=values.offloads,
        rich_help_panel=MACHINE,
    ),
]
DeviceMemory = Annotated[
    str | None,
    typer.Option(
        "--device-memory",
        metavar="SIZE",
        help="Memory that a device has, such as 8G; tile, offload and precision are chosen to fit.",
        show_default="what is free",
        rich_help_panel=MACHINE,
    ),
]
