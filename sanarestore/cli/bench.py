"""`sanarestore bench`: how good and how fast, on the published sets or on one's own."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from sanarestore.cli.flags import (
    MODEL,
    Adapter,
    Devices,
    Dtype,
    Fidelity,
    Guidance,
    Json,
    Model,
    Prompt,
    Quiet,
    Steps,
    Threads,
    Tile,
    Verbose,
)
from sanarestore.errors import UsageError
from sanarestore.options import RestoreOptions

if TYPE_CHECKING:
    from sanarestore.evaluation.benchmark import Benchmark
    from sanarestore.evaluation.datasets import Item
    from sanarestore.evaluation.rows import Row

LEVELS = "What is done to the images"
SPEED = "speed"
"""A name that no set has: what is measured then is time and memory."""

Number = TypeVar("Number")


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="SET", help="Published sets: urban100, kodak24, live1, ...", show_default=False),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="FOLDER", help="Clean images of your own, or a pairs.csv."),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", metavar="DIR", help="Where the sets are; else SANARESTORE_DATA, else the cache."),
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--download", help="Fetch what is missing of sets with a stable address: kodak24.")
    ] = False,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            help="denoise, jpeg, sr, deblur, mixed, recipe, prompts, real or ceiling; else the set's own.",
            rich_help_panel=LEVELS,
        ),
    ] = None,
    sigma: Annotated[
        str, typer.Option("--sigma", metavar="LIST", help="Of denoise.", rich_help_panel=LEVELS)
    ] = "15,25,50",
    quality: Annotated[
        str, typer.Option("--quality", metavar="LIST", help="Of jpeg.", rich_help_panel=LEVELS)
    ] = "10,20,30,40",
    scale: Annotated[str, typer.Option("--scale", metavar="LIST", help="Of sr.", rich_help_panel=LEVELS)] = "2,4",
    blur: Annotated[
        str, typer.Option("--blur", metavar="LIST", help="Of deblur, in pixels.", rich_help_panel=LEVELS)
    ] = "1.6",
    recipe: Annotated[
        list[str] | None,
        typer.Option("--recipe", metavar="LINE", help="Of recipe, as `degrade` takes it.", rich_help_panel=LEVELS),
    ] = None,
    draws: Annotated[
        int, typer.Option("--draws", min=1, metavar="N", help="Of mixed, prompts.", rich_help_panel=LEVELS)
    ] = 4,
    sizes: Annotated[
        str, typer.Option("--sizes", metavar="LIST", help="Of speed: sides of square images.", rich_help_panel=LEVELS)
    ] = "512,1024",
    rounds: Annotated[int, typer.Option("--rounds", min=1, metavar="N", help="Of speed.", rich_help_panel=LEVELS)] = 7,
    gray: Annotated[bool, typer.Option("--gray", help="Judge gray versions.", rich_help_panel=LEVELS)] = False,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME", help="Besides PSNR and SSIM: lpips, dists, fid (extra perceptual)."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Images of each set, for a quick look.")
    ] = None,
    prompt: Prompt = None,
    model: Model = None,
    adapter: Adapter = None,
    fidelity: Fidelity = 1.0,
    steps: Steps = None,
    guidance: Guidance = 1.0,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, metavar="N", help="Repeat with N seeds.", rich_help_panel=MODEL)
    ] = 1,
    peers: Annotated[
        list[str] | None,
        typer.Option(
            "--peer", metavar="NAME", help="Beside ours: nlm, wavelet, tv, or a network's file.", rich_help_panel=MODEL
        ),
    ] = None,
    autoencoder: Annotated[
        list[str] | None,
        typer.Option(
            "--autoencoder",
            metavar="NAME",
            rich_help_panel=MODEL,
            help="Of ceiling: diffusers' image autoencoders, by folder or hub id.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="RUN", help="Folder that keeps scores; begun again, it goes on."),
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the rows there too.")] = None,
    page: Annotated[
        Path | None, typer.Option("--report", metavar="FOLDER", help="Write a page with tables, a plot and crops.")
    ] = None,
    old: Annotated[
        Path | None,
        typer.Option("--compare", metavar="OLD", help="Say what changed since `bench --json` wrote that file."),
    ] = None,
    tile: Tile = None,
    devices: Devices = "auto",
    dtype: Dtype = "auto",
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure on published test sets, under the protocols of the literature: PSNR, SSIM, seconds per megapixel."""
    options = RestoreOptions(
        prompt=prompt, model=model, adapter=adapter, fidelity=fidelity, steps=steps, guidance=guidance, tile=tile,
        dtype=dtype, threads=threads,  # type: ignore[arg-type]
    )  # fmt: skip
    if SPEED in (names or []):
        if names != [SPEED] or data or task or recipe or peers or page or old:
            raise UsageError("is measured alone, and on no images", where=SPEED, next_step="Leave the rest out.")
        _measure_speed(options, devices, _numbers("--sizes", sizes, int), rounds, csv, as_json=as_json, quiet=quiet)
        return
    from sanarestore import weights
    from sanarestore.cli import console, figures, reports
    from sanarestore.engine.workers import parse_devices
    from sanarestore.evaluation.benchmark import Benchmark, run
    from sanarestore.evaluation.comparison import compare, read_rows
    from sanarestore.evaluation.datasets import GRAY
    from sanarestore.evaluation.downloads import download
    from sanarestore.evaluation.methods import autoencoder_sources, autoencoders, our_methods
    from sanarestore.evaluation.perceptual import Perceptual
    from sanarestore.evaluation.rows import FID_IMAGES, Row, rows
    from sanarestore.evaluation.tasks import CEILING, Levels, cases
    from sanarestore.ndjson import Lines

    if autoencoder and CEILING not in (task or ()):
        raise UsageError(
            "autoencoders are measured by the task ceiling", where="--autoencoder", next_step="Add --task ceiling."
        )
    levels = Levels(
        sigma=_numbers("--sigma", sigma, float), quality=_numbers("--quality", quality, int),
        scale=_numbers("--scale", scale, int), blur=_numbers("--blur", blur, float),
        recipe=tuple(recipe or ()), draws=draws,
    )  # fmt: skip
    chosen = task or (["recipe"] if recipe else [])
    earlier = read_rows(old) if old is not None else None
    for name in names or [] if fetch else ():
        reports.counted(f"fetching {name.lower()}", download(name, data_dir), quiet=quiet or as_json)
    metrics = tuple(dict.fromkeys(name.lower() for name in metric or ()))
    # All of it before anything is measured, so that a set that is not there is known at once.
    Perceptual(metrics, parse_devices(devices)[0])
    ours = partial(our_methods, options, tuple(range(seeds)), tuple(peers or ()))
    sources = autoencoder_sources(options, autoencoder or ()) if CEILING in chosen else ()
    console.show_licences(*(autoencoder or ()), wanted=weights.WANTED_OF_AUTOENCODERS)
    reconstructing = partial(autoencoders, sources)
    plans = [
        Benchmark(dataset=name, items=items[:limit], gray=gray, cases=of_a_kind, methods=methods, metrics=metrics)
        for name, own, items in _sets(names or [], data or [], data_dir)
        for asked in [tuple(case for each in chosen or [own] for case in cases(each, levels))]
        for methods, of_a_kind in (
            (ours, tuple(case for case in asked if case.degrades)),
            (reconstructing, tuple(case for case in asked if not case.degrades)),
        )
        if of_a_kind
    ]
    console.show_licences(weights.chosen(options.model, options.adapter), options.adapter)
    lines = Lines(output / "scores.jsonl") if output else None
    measured: list[Row] = []
    total = sum(len(plan.items) * len(plan.cases) for plan in plans)
    with figures.BenchReport(total, quiet=quiet, as_json=as_json) as report:
        for plan in plans:
            scores, begun = [], set()
            for score in run(plan, parse_devices(devices), lines):
                scores.append(score)
                place = (score.item, score.task, score.level, score.draw)
                report.score(score.dataset, f"{score.task} {score.level}", finished=place not in begun)
                begun.add(place)
            fresh = rows(scores)
            measured += fresh
            report.rows(_beside_published(fresh, gray=gray or plan.dataset in GRAY))
            few = [row.images for row in fresh if row.fid is not None and row.images < FID_IMAGES]
            console.say(
                f"FID of {max(few, default=0)} images says little: below {FID_IMAGES} it is biased upwards",
                quiet=not few or quiet or as_json,
            )
        if earlier is not None:
            report.changes([change.to_json() for change in compare(earlier, measured)])
    if csv is not None:
        _write_csv(csv, measured, Row)
    if page is not None:
        _write_report(page, plans, measured, parse_devices(devices)[0])


def _measure_speed(
    options: RestoreOptions, devices: str, sizes: tuple[int, ...], rounds: int, csv: Path | None, *, as_json: bool,
    quiet: bool,
) -> None:  # fmt: skip
    from sanarestore.cli import console, figures
    from sanarestore.evaluation.speed import Timing, growth, measure

    timings = []
    for timing in measure(options, devices, sizes, rounds):
        timings.append(timing)
        if as_json:
            console.print_json({"schema_version": 1, "task": SPEED, **timing.to_json()})
    powers = growth(timings)
    if as_json:
        if powers:
            console.print_json({"schema_version": 1, "task": SPEED, "growth": powers})
    elif not quiet:
        figures.timings([timing.to_json() for timing in timings], powers)
    if csv is not None:
        _write_csv(csv, timings, Timing)


def _sets(names: list[str], folders: list[Path], data_dir: Path | None) -> list[tuple[str, str, tuple["Item", ...]]]:
    """Name, own task and items of each; UsageError if nothing is named."""
    from sanarestore.evaluation.datasets import SETS, find_folder, find_set

    if not names and not folders:
        raise UsageError("names no set", where="bench", next_step=f"Known: {', '.join(SETS)}; or use --data FOLDER.")
    found = [(name.lower(), items, SETS[name.lower()].task) for name in names for items in [find_set(name, data_dir)]]
    found += [
        (folder.name, items, "real" if items[0].degraded else "denoise")
        for folder in folders for items in [find_folder(folder)]
    ]  # fmt: skip
    return [(name, own, items) for name, items, own in found]


def _numbers(flag: str, text: str, kind: Callable[[str], Number]) -> tuple[Number, ...]:
    """A list with commas; UsageError names the flag."""
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"'{text}' is no list of numbers", where=flag, next_step="As in 15,25,50.") from error


def _beside_published(measured: "Sequence[Row]", *, gray: bool) -> list[dict[str, Any]]:
    """The rows, and behind those of each task and level what others published of it."""
    from itertools import groupby

    from sanarestore.evaluation.published import published

    lines: list[dict[str, Any]] = []
    for (dataset, task, level), group in groupby(measured, lambda row: (row.dataset, row.task, row.level)):
        lines += [row.to_json() for row in group]
        lines += [each.to_json() for each in published(dataset, task, level, gray=gray)]
    return lines


def _write_report(folder: Path, plans: "Sequence[Benchmark]", measured: "Sequence[Row]", device: str) -> None:
    from sanarestore.cli import figures
    from sanarestore.evaluation.report import extremes, write_report

    examples = [example for plan in plans for example in extremes(plan, measured, device)]
    figures.page(folder, partial(write_report, rows=measured, examples=examples))


def _write_csv(path: Path, measured: "Sequence[Any]", kind: type) -> None:
    """Dataclasses of one kind, a line each, without what no cell holds."""
    import csv
    from dataclasses import asdict, fields

    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            names = [field.name for field in fields(kind) if field.name != "psnr_per_image"]
            writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(map(asdict, measured))
    except OSError as error:
        raise UsageError(f"cannot be written ({error.strerror})", where=path) from error
