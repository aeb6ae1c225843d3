"""`sanarestore seams`: measure the seams of each tiling scheme on your own photographs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sanarestore.cli import values
from sanarestore.cli.flags import (
    Adapter,
    Debug,
    Dtype,
    Fidelity,
    Guidance,
    Json,
    Model,
    Prompt,
    Quiet,
    Seed,
    Steps,
    Threads,
)
from sanarestore.errors import NoImagesError, UsageError
from sanarestore.options import BLENDED_OVERLAP, BLENDED_TILE, SCHEMES, RestoreOptions

if TYPE_CHECKING:
    from sanarestore import images


def seams(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="IMAGE", help="Photographs, larger than a tile.", show_default=False)
    ],
    tilings: Annotated[
        str | None,
        typer.Option(
            "--tilings",
            metavar="LIST",
            help=f"Tiling schemes to compare: {', '.join(SCHEMES)}.",
            show_default="every scheme that applies",
            autocompletion=values.tiling_lists,
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option("--tile", metavar="PX", help="Largest tile side in pixels.", show_default=str(BLENDED_TILE)),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            "--overlap", metavar="PX", help="Overlap of blended tiles in pixels.", show_default=str(BLENDED_OVERLAP)
        ),
    ] = None,
    clean: Annotated[
        Path | None,
        typer.Option(
            "--clean", metavar="FILE", help="Clean version of the photograph, or a folder with one of the same name."
        ),
    ] = None,
    prompt: Prompt = None,
    model: Model = None,
    adapter: Adapter = None,
    fidelity: Fidelity = 1.0,
    steps: Steps = None,
    guidance: Guidance = 1.0,
    seed: Seed = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="REPORT", help="Folder for a page with difference maps and crops."),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            metavar="NAME",
            help="Device to run on: cpu, cuda, cuda:1, mps, xpu or auto.",
            autocompletion=values.device,
        ),
    ] = "auto",
    dtype: Dtype = "auto",
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare tiling schemes with the untiled result: PSNR at the seams, steps across them, time and memory."""
    asked = None if tilings is None else [name.strip() for name in tilings.split(",") if name.strip()]
    options = RestoreOptions(
        prompt=prompt, model=model, adapter=adapter, fidelity=fidelity, steps=steps, guidance=guidance, seed=seed,
        tile=tile, dtype=dtype, threads=threads,  # type: ignore[arg-type]
    )  # fmt: skip
    from sanarestore import images, weights
    from sanarestore.cli import console, figures
    from sanarestore.evaluation.seams import SeamBench
    from sanarestore.evaluation.seams_report import Maps, page_of

    figures.check_writable(None, output)
    short = [path.name for path in inputs]
    names = {path: path.as_posix() if short.count(path.name) > 1 else path.name for path in inputs}
    targets = {path: _clean(path, clean) for path in inputs}
    console.show_licences(weights.chosen(options.model, options.adapter), options.adapter)
    bench = SeamBench(options, device, asked, overlap=overlap)
    maps, rows = Maps(), []
    with figures.FigureReport(len(inputs) * len(bench.compared), quiet=quiet, as_json=as_json) as report:
        for path in inputs:
            image, target = images.read(path), targets[path]
            for measured in bench.measure(names[path], image, target, watch=maps.add if output else None):
                rows.append(measured)
                report.step(f"{measured.image} {measured.tiling}")
                report.lines([measured.to_json()])
            report.table(f"{names[path]}, PSNR against the untiled result", rows[-len(bench.compared) :])
    if output is not None:
        figures.write_page(output, page_of(rows, maps))


def _clean(path: Path, clean: Path | None) -> "images.Image | None":
    """Read the clean photograph, if `clean` is given; NoImagesError for a missing file, UsageError for another size."""
    from sanarestore import images

    if not path.is_file():
        fact = "this is a folder" if path.is_dir() else "there is no such file"
        raise NoImagesError(fact, where=path, next_step="Name photographs by their files.")
    if clean is None:
        return None
    place = clean / path.name if clean.is_dir() else clean
    if not place.is_file():
        raise NoImagesError(
            f"there is no clean photograph for {path.name}",
            where=place,
            next_step="Name the file, or a folder that holds one of the same name.",
        )
    target = images.read(place)
    if target.pixels_HWC.shape != images.read(path).pixels_HWC.shape:
        raise UsageError(
            f"it does not match {path.name} in size or channels", where=place,
            next_step="Use a clean photograph of the same size, both in colour or both in gray.",
        )  # fmt: skip
    return target
