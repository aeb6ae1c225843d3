"""The flags of `bench` that no other command has."""

from pathlib import Path
from typing import Annotated

import typer

from sanarestore.cli import values
from sanarestore.cli.bench.speed import SPEED
from sanarestore.cli.flags import MODEL

LEVELS = "Tasks and levels"

Sets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SET",
        autocompletion=values.sets,
        help=f"Published test sets, e.g. urban100 (--list shows all), or '{SPEED}' to measure time and memory.",
        show_default=False,
    ),
]
Data = Annotated[
    list[Path] | None,
    typer.Option("--data", metavar="FOLDER", help="Folder of your own clean images, or a pairs.csv."),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Folder that holds the test sets.",
        show_default="SANARESTORE_DATA, or the cache folder",
    ),
]
Listed = Annotated[
    bool, typer.Option("--list", help="List the known sets and which of them are on this machine, and exit.")
]
Fetch = Annotated[
    bool,
    typer.Option("--download", help="Download what is missing of sets with a stable address; --list shows which."),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        metavar="NAME",
        autocompletion=values.tasks,
        help="Tasks to measure: denoise, jpeg, sr, deblur, mixed, recipe, prompts, real, clean or reconstruction.",
        show_default="the set's own",
        rich_help_panel=LEVELS,
    ),
]
Sigma = Annotated[
    str | None,
    typer.Option(
        "--sigma",
        metavar="LIST",
        help="Noise levels for denoise, in 8-bit codes.",
        show_default="15,25,50",
        rich_help_panel=LEVELS,
    ),
]
Quality = Annotated[
    str | None,
    typer.Option(
        "--quality",
        metavar="LIST",
        help="JPEG qualities for jpeg.",
        show_default="10,20,30,40",
        rich_help_panel=LEVELS,
    ),
]
Scale = Annotated[
    str | None,
    typer.Option("--scale", metavar="LIST", help="Scale factors for sr.", show_default="2,4", rich_help_panel=LEVELS),
]
Blur = Annotated[
    str | None,
    typer.Option(
        "--blur",
        metavar="LIST",
        help="Gaussian blurs for deblur, in pixels.",
        show_default="1.6",
        rich_help_panel=LEVELS,
    ),
]
Recipes = Annotated[
    list[str] | None,
    typer.Option(
        "--recipe",
        metavar="LINE",
        autocompletion=values.recipes,
        help="Degradations for the task recipe, written as for `degrade`.",
        rich_help_panel=LEVELS,
    ),
]
Draws = Annotated[
    int | None,
    typer.Option(
        "--draws",
        min=1,
        metavar="N",
        help="Pairs per image for mixed and prompts.",
        show_default="4",
        rich_help_panel=LEVELS,
    ),
]
Sizes = Annotated[
    str | None,
    typer.Option(
        "--sizes",
        metavar="LIST",
        rich_help_panel=LEVELS,
        help="Sides of square images for speed, in pixels.",
        show_default="256,512,1024,2048",
    ),
]
Rounds = Annotated[
    int | None,
    typer.Option(
        "--rounds",
        min=1,
        metavar="N",
        rich_help_panel=LEVELS,
        help="Rounds of timing for speed.",
        show_default="40, or as many as 20 s allow",
    ),
]
Gray = Annotated[bool, typer.Option("--gray", help="Measure gray versions of the images.", rich_help_panel=LEVELS)]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="NAME",
        autocompletion=values.metrics,
        help="Metrics besides PSNR and SSIM: lpips, dists or fid (with the extra 'perceptual' installed).",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", min=1, metavar="N", help="Number of images per set, for a quick look.", show_default="all"),
]
Prompt = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        "-p",
        metavar="TEXT",
        help="What to fix in every image.",
        show_default="the prompts of pairs.csv or the recipe, or none",
        rich_help_panel=MODEL,
    ),
]
Unprompted = Annotated[
    bool,
    typer.Option(
        "--unprompted", help="Use no prompt, not even those of pairs.csv or the recipe.", rich_help_panel=MODEL
    ),
]
Seeds = Annotated[
    int | None,
    typer.Option(
        "--seeds",
        min=1,
        metavar="N",
        help="Number of seeds to restore every image with.",
        show_default="3 if the latent path takes more than one step, 1 otherwise",
        rich_help_panel=MODEL,
    ),
]
Peers = Annotated[
    list[str] | None,
    typer.Option(
        "--peer",
        metavar="NAME",
        autocompletion=values.peers,
        help="Methods to compare with: nlm at its best strength, wavelet, tv, or a network's file.",
        rich_help_panel=MODEL,
    ),
]
Autoencoders = Annotated[
    list[str] | None,
    typer.Option(
        "--autoencoder",
        metavar="NAME",
        rich_help_panel=MODEL,
        help="Image autoencoders of diffusers for the task reconstruction, by folder or hub id.",
    ),
]
Run = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="RUN", help="Folder for the scores, where an interrupted run continues."),
]
Csv = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Also write the rows to this CSV file.")]
Page = Annotated[
    Path | None,
    typer.Option("--report", metavar="FOLDER", help="Write a page with tables, a plot and crops to this folder."),
]
Old = Annotated[
    Path | None,
    typer.Option("--compare", metavar="OLD", help="Show what changed since `bench --json` wrote this file."),
]
