"""Flags that several commands share, so that names and help are the same everywhere."""

from typing import Annotated

import typer

MACHINE = "Speed and memory"
"""Help panel of options for speed and memory."""
MODEL = "The model"
"""Help panel of options that choose the model and how it runs."""
TOLD = "What is shown"
"""Help panel of options for console output."""

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
Prompt = Annotated[
    str | None, typer.Option("--prompt", "-p", help="What to fix. [default: no prompt]", rich_help_panel=MODEL)
]
Model = Annotated[
    str | None,
    typer.Option("--model", help="A model's name, folder or hub id; else the embedded one.", rich_help_panel=MODEL),
]
Adapter = Annotated[
    str | None,
    typer.Option("--adapter", help="Folder or hub id of what makes a SANA base a restorer.", rich_help_panel=MODEL),
]
Fidelity = Annotated[
    float,
    typer.Option(
        "--fidelity",
        metavar="0..1",
        rich_help_panel=MODEL,
        help="Whose pixels the result has: 1 the refined photo's, 0 the generated image's.",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        "--steps", metavar="1..50", help="Of the latent path: 1 is the mean, more one of many.", rich_help_panel=MODEL
    ),
]
Guidance = Annotated[
    float,
    typer.Option(
        "--guidance", help="Above 1, the latent path follows the prompt more, in twice the time.", rich_help_panel=MODEL
    ),
]
Tile = Annotated[
    int | None,
    typer.Option("--tile", help="Largest tile in pixels; less memory, same result.", rich_help_panel=MACHINE),
]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, float32 or bfloat16.", rich_help_panel=MACHINE)]
Threads = Annotated[int | None, typer.Option("--threads", help="CPU threads per worker.", rich_help_panel=MACHINE)]
