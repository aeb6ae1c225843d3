"""Flags of `restore` that limit the device memory it uses."""

from typing import Annotated

import typer

from sanarestore.cli import values
from sanarestore.cli.flags import MACHINE

Quantize = Annotated[
    str | None,
    typer.Option(
        "--quantize",
        metavar="TYPE",
        help="Precision of the transformer's weights, int8, int4 or fp8: less memory, slightly different results.",
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
        help="Weights to keep in host memory until a GPU needs them: none, parts or blocks; same result.",
        autocompletion=values.offloads,
        rich_help_panel=MACHINE,
    ),
]
DeviceMemory = Annotated[
    str | None,
    typer.Option(
        "--device-memory",
        metavar="SIZE",
        help="Device memory to fit into, such as 8G; tile, offload and precision are chosen accordingly.",
        show_default="what is free",
        rich_help_panel=MACHINE,
    ),
]
