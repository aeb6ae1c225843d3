"""Flags that several commands share, so that names and help are the same everywhere."""

from typing import Annotated

import typer

from sanarestore.cli import values
from sanarestore.options import JUDGES

MACHINE = "Speed and memory"
"""Help panel of options for speed and memory."""
MODEL = "Model"
"""Help panel of options that choose the model and how it runs."""
CONSOLE = "Console output"
"""Help panel of options for console output."""

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show only errors.", rich_help_panel=CONSOLE)]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object per line on stdout.", rich_help_panel=CONSOLE)
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Say more, such as which files are ignored.", rich_help_panel=CONSOLE),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=CONSOLE)]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Random seed; the same seed gives the same result.")]
Devices = Annotated[
    str,
    typer.Option(
        "--devices",
        metavar="LIST",
        help="Devices to run on: cpu, cuda:0,cuda:1, all or auto.",
        autocompletion=values.devices,
        rich_help_panel=MACHINE,
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Run on the machines of a Ray cluster instead: auto or HOST:PORT; see docs/cluster.md.",
        show_default=False,
        rich_help_panel=MACHINE,
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        "-p",
        metavar="TEXT",
        help="What to fix, e.g. 'remove noise'.",
        show_default="all faults found, light and colour left alone",
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="Options of [preset.NAME] in sanarestore.toml; those typed here win.",
        show_default=False,
        autocompletion=values.presets,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        autocompletion=values.models,
        help="Name, folder or hub id of the model.",
        show_default="the embedded model, or the adapter's base",
        rich_help_panel=MODEL,
    ),
]
Adapter = Annotated[
    str | None,
    typer.Option(
        "--adapter",
        metavar="FOLDER",
        help="Restoration adapter (folder or hub id); a SANA base needs one.",
        show_default="none",
        rich_help_panel=MODEL,
    ),
]
OtherAutoencoder = Annotated[
    str | None,
    typer.Option(
        "--autoencoder",
        metavar="FOLDER",
        help="DC-AE (folder or hub id) to use instead of the base's; its latents must have the same shape.",
        show_default="the adapter's, or the base's own",
        rich_help_panel=MODEL,
    ),
]
Fidelity = Annotated[
    float,
    typer.Option(
        "--fidelity",
        metavar="0..1",
        rich_help_panel=MODEL,
        help="Blend of two results: 1 is the refined photo, 0 the image that the latent path generated.",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        "--steps",
        metavar="1..50",
        help="Sampling steps of the latent path: 1 is most faithful, more is sharper but varies with the seed.",
        show_default="the model's",
        rich_help_panel=MODEL,
    ),
]
Guidance = Annotated[
    float,
    typer.Option(
        "--guidance",
        metavar="G",
        help="Guidance of the latent path: above 1 it follows the prompt more closely, in twice the time.",
        rich_help_panel=MODEL,
    ),
]
Candidates = Annotated[
    int,
    typer.Option(
        "--candidates",
        metavar="N",
        help="Number of samples of the latent path; the best one is kept. Needs --steps 2 or more.",
        rich_help_panel=MODEL,
    ),
]
ChosenJudge = Annotated[
    str | None,
    typer.Option(
        "--judge",
        metavar="NAME",
        autocompletion=values.judges,
        help="Judge that scores the candidates: fidelity, niqe or module:object; see docs/guide.md.",
        show_default=JUDGES[0],
        rich_help_panel=MODEL,
    ),
]
Tile = Annotated[
    int | None,
    typer.Option(
        "--tile",
        metavar="PX",
        help="Largest tile side in pixels; smaller tiles need less memory, and exact tiling gives the same result.",
        show_default="chosen for the device",
        rich_help_panel=MACHINE,
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        metavar="TYPE",
        help="Arithmetic of the networks: auto, float32, bfloat16, or int8 (refiners on CPUs).",
        autocompletion=values.dtypes,
        rich_help_panel=MACHINE,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        help="CPU threads per worker.",
        show_default="PyTorch's choice",
        rich_help_panel=MACHINE,
    ),
]
