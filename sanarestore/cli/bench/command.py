"""The command and its flags."""

from pathlib import Path
from typing import Annotated

import typer

from sanarestore.cli.bench import outputs, run, sets, speed
from sanarestore.cli.bench.plan import Wanted
from sanarestore.cli.bench.speed import SPEED
from sanarestore.cli.flags import (
    MODEL,
    Adapter,
    Devices,
    Dtype,
    Fidelity,
    Guidance,
    Json,
    Model,
    Quiet,
    Steps,
    Threads,
    Tile,
    Verbose,
)
from sanarestore.options import RestoreOptions

LEVELS = "Tasks and levels"


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SET",
            help=f"Published test sets, e.g. urban100 (--list shows all), or '{SPEED}' to measure time and memory.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="FOLDER", help="Folder of your own clean images, or a pairs.csv."),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            help="Folder that holds the test sets.",
            show_default="SANARESTORE_DATA, or the cache folder",
        ),
    ] = None,
    listed: Annotated[
        bool, typer.Option("--list", help="List the known sets and which of them are on this machine, and exit.")
    ] = False,
    fetch: Annotated[
        bool,
        typer.Option("--download", help="Download what is missing of sets with a stable address; --list shows which."),
    ] = False,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            help="Tasks to measure: denoise, jpeg, sr, deblur, mixed, recipe, prompts, real, clean or reconstruction.",
            show_default="the set's own",
            rich_help_panel=LEVELS,
        ),
    ] = None,
    sigma: Annotated[
        str | None,
        typer.Option(
            "--sigma",
            metavar="LIST",
            help="Noise levels for denoise, in 8-bit codes.",
            show_default="15,25,50",
            rich_help_panel=LEVELS,
        ),
    ] = None,
    quality: Annotated[
        str | None,
        typer.Option(
            "--quality",
            metavar="LIST",
            help="JPEG qualities for jpeg.",
            show_default="10,20,30,40",
            rich_help_panel=LEVELS,
        ),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            "--scale", metavar="LIST", help="Scale factors for sr.", show_default="2,4", rich_help_panel=LEVELS
        ),
    ] = None,
    blur: Annotated[
        str | None,
        typer.Option(
            "--blur",
            metavar="LIST",
            help="Gaussian blurs for deblur, in pixels.",
            show_default="1.6",
            rich_help_panel=LEVELS,
        ),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe",
            metavar="LINE",
            help="Degradations for the task recipe, written as for `degrade`.",
            rich_help_panel=LEVELS,
        ),
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(
            "--draws",
            min=1,
            metavar="N",
            help="Pairs per image for mixed and prompts.",
            show_default="4",
            rich_help_panel=LEVELS,
        ),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            "--sizes",
            metavar="LIST",
            rich_help_panel=LEVELS,
            help="Sides of square images for speed, in pixels.",
            show_default="256,512,1024,2048",
        ),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            "--rounds",
            min=1,
            metavar="N",
            rich_help_panel=LEVELS,
            help="Rounds of timing for speed.",
            show_default="40, or as many as 20 s allow",
        ),
    ] = None,
    gray: Annotated[
        bool, typer.Option("--gray", help="Measure gray versions of the images.", rich_help_panel=LEVELS)
    ] = False,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="Metrics besides PSNR and SSIM: lpips, dists or fid (with the extra 'perceptual' installed).",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", min=1, metavar="N", help="Number of images per set, for a quick look.", show_default="all"
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            "-p",
            help="Description of what to fix in every image.",
            show_default="the prompts of pairs.csv or the recipe, or none",
            rich_help_panel=MODEL,
        ),
    ] = None,
    unprompted: Annotated[
        bool,
        typer.Option(
            "--unprompted", help="Use no prompt, not even those of pairs.csv or the recipe.", rich_help_panel=MODEL
        ),
    ] = False,
    model: Model = None,
    adapter: Adapter = None,
    fidelity: Fidelity = 1.0,
    steps: Steps = None,
    guidance: Guidance = 1.0,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds",
            min=1,
            metavar="N",
            help="Number of seeds to restore every image with.",
            show_default="3 if the latent path takes more than one step, 1 otherwise",
            rich_help_panel=MODEL,
        ),
    ] = None,
    peers: Annotated[
        list[str] | None,
        typer.Option(
            "--peer",
            metavar="NAME",
            help="Methods to compare with: nlm at its best strength, wavelet, tv, or a network's file.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    autoencoder: Annotated[
        list[str] | None,
        typer.Option(
            "--autoencoder",
            metavar="NAME",
            rich_help_panel=MODEL,
            help="Image autoencoders of diffusers for the task reconstruction, by folder or hub id.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="RUN", help="Folder for the scores, where an interrupted run continues."
        ),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Also write the rows to this CSV file.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option("--report", metavar="FOLDER", help="Write a page with tables, a plot and crops to this folder."),
    ] = None,
    old: Annotated[
        Path | None,
        typer.Option("--compare", metavar="OLD", help="Show what changed since `bench --json` wrote this file."),
    ] = None,
    tile: Tile = None,
    devices: Devices = "auto",
    dtype: Dtype = "auto",
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure PSNR, SSIM and seconds per megapixel on published test sets, under the protocols of the literature."""
    options = RestoreOptions(
        prompt=prompt, model=model, adapter=adapter, fidelity=fidelity, steps=steps, guidance=guidance, tile=tile,
        dtype=dtype, threads=threads,  # type: ignore[arg-type]
    )  # fmt: skip
    levels = {
        "--sigma": sigma, "--quality": quality, "--scale": scale, "--blur": blur, "--recipe": recipe, "--draws": draws,
    }  # fmt: skip
    if SPEED in (names or []):
        of_images = {
            "--data": data, "--data-dir": data_dir, "--download": fetch, "--task": task, "--gray": gray,
            "--metric": metric, "--limit": limit, "--unprompted": unprompted, "--seeds": seeds, "--peer": peers,
            "--autoencoder": autoencoder, "--output": output, "--report": page, "--compare": old,
        }  # fmt: skip
        speed.refuse([name for name in names or [] if name != SPEED], {**levels, **of_images})
        outputs.check_writable(csv)
        speed.measure(options, devices, sizes, rounds, csv, as_json=as_json, quiet=quiet)
        return
    speed.refuse_elsewhere(sizes, rounds)
    if listed:
        sets.list_sets(data_dir, as_json=as_json)
        return
    wanted = Wanted(
        names=names or [], folders=data or [], data_dir=data_dir, download=fetch, tasks=task or [], levels=levels,
        gray=gray, metrics=metric or [], limit=limit, unprompted=unprompted, seeds=seeds, peers=peers or [],
        autoencoders=autoencoder or [],
    )  # fmt: skip
    run.measure(
        wanted, options, devices, output=output, csv=csv, page=page, old=old, as_json=as_json, quiet=quiet
    )  # fmt: skip
