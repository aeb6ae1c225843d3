"""`sanarestore bench`: measure quality and speed on published sets or on your own images."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from sanarestore.cli import outputs, subjects
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
from sanarestore.errors import UsageError
from sanarestore.options import RestoreOptions

if TYPE_CHECKING:
    from sanarestore.evaluation.published import Published
    from sanarestore.evaluation.rows import Row

LEVELS = "Tasks and levels"
SPEED = "speed"
"""Name given in place of a set to measure time and memory."""

Number = TypeVar("Number")


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
    given: dict[str, object] = {
        "--sigma": sigma, "--quality": quality, "--scale": scale, "--blur": blur, "--recipe": recipe, "--draws": draws,
    }  # fmt: skip
    if SPEED in (names or []):
        given |= {
            "--data": data, "--data-dir": data_dir, "--download": fetch, "--task": task, "--gray": gray,
            "--metric": metric, "--limit": limit, "--unprompted": unprompted, "--seeds": seeds, "--peer": peers,
            "--autoencoder": autoencoder, "--output": output, "--report": page, "--compare": old,
        }  # fmt: skip
        others = [name for name in names or [] if name != SPEED]
        useless = [*others, *(flag for flag, value in given.items() if value)]
        if useless:
            raise UsageError(
                f"it is measured alone and without images, so {useless[0]} has no effect", where=SPEED,
                next_step="Leave it out.",
            )  # fmt: skip
        outputs.check_writable(csv)
        chosen_sizes = _numbers("--sizes", sizes or "256,512,1024,2048", int)
        _measure_speed(options, devices, chosen_sizes, rounds, csv, as_json=as_json, quiet=quiet)
        return
    for flag, value in (("--sizes", sizes), ("--rounds", rounds)):
        if value is not None:
            raise UsageError(
                "this has no effect unless speed is measured", where=flag,
                next_step=f"Leave it out, or measure with `bench {SPEED}`.",
            )  # fmt: skip
    if listed:
        subjects.list_sets(data_dir, as_json=as_json)
        return
    if unprompted and prompt is not None:
        raise UsageError(
            "this cannot be combined with --prompt", where="--unprompted", next_step="Leave one of them out."
        )
    outputs.check_writable(csv, page)
    from sanarestore import weights
    from sanarestore.cli import console, figures, reports
    from sanarestore.engine.workers import parse_devices
    from sanarestore.evaluation.benchmark import Benchmark, run
    from sanarestore.evaluation.comparison import compare, read_rows, unmatched
    from sanarestore.evaluation.downloads import download
    from sanarestore.evaluation.flat_fields import FLAT, FLAT_FIELDS
    from sanarestore.evaluation.methods import autoencoder_sources, autoencoders, our_methods
    from sanarestore.evaluation.perceptual import Perceptual
    from sanarestore.evaluation.public import GRAY, SETS
    from sanarestore.evaluation.published import Published, of_others
    from sanarestore.evaluation.rows import FID_IMAGES, Row, rows
    from sanarestore.evaluation.tasks import CLEAN, RECONSTRUCTION, Levels, cases
    from sanarestore.ndjson import Lines

    given_levels = {"draws": draws, "recipe": tuple(recipe or ())} | {
        flag.removeprefix("--"): _numbers(flag, text, kind)
        for flag, text, kind in (
            ("--sigma", sigma, float), ("--quality", quality, int), ("--scale", scale, int), ("--blur", blur, float)
        ) if text is not None
    }  # fmt: skip
    if autoencoder and RECONSTRUCTION not in (task or ()):
        raise UsageError(
            "autoencoders are measured by the task reconstruction",
            where="--autoencoder",
            next_step="Add --task reconstruction.",
        )
    levels = Levels(**{name: value for name, value in given_levels.items() if value is not None})  # type: ignore[arg-type]
    earlier = read_rows(old) if old is not None else None
    for name in names or [] if fetch else ():
        reports.show_counting(f"downloading {name.lower()}", download(name, data_dir), quiet=quiet or as_json)
    sets = subjects.find_sets(names or [], data or [], data_dir)
    chosen = subjects.tasks(task or [], [flag for flag, value in given.items() if value], [own for _, own, _ in sets])
    metrics = tuple(dict.fromkeys(name.lower() for name in metric or ()))
    # Prepare everything before measuring, so that whatever is missing is reported at once.
    Perceptual(metrics, parse_devices(devices)[0])
    ours = partial(our_methods, options, None if seeds is None else tuple(range(seeds)), tuple(peers or ()))
    sources = autoencoder_sources(options, autoencoder or ()) if RECONSTRUCTION in chosen else ()
    console.show_licences(*(autoencoder or ()), wanted=weights.WANTED_OF_AUTOENCODERS)
    reconstructing = partial(autoencoders, sources)
    planned = partial(Benchmark, gray=gray, metrics=metrics, captions=prompt is None and not unprompted)
    plans = [
        planned(dataset=name, items=items[:limit], cases=of_a_kind, methods=methods)
        for name, own, items in sets
        for asked in [tuple(case for each in chosen or [own] for case in cases(each, levels))]
        for methods, of_a_kind in (
            (ours, tuple(case for case in asked if case.task != RECONSTRUCTION)),
            (reconstructing, tuple(case for case in asked if case.task == RECONSTRUCTION)),
        )
        if of_a_kind
    ]
    if CLEAN in chosen:
        # Flat fields are measured once for all sets, and --limit does not apply to them.
        plans.append(planned(dataset=FLAT, items=FLAT_FIELDS, cases=cases(CLEAN, levels), methods=ours))
    console.show_licences(weights.chosen(options.model, options.adapter), options.adapter)
    lines = Lines(output / "scores.jsonl") if output else None
    measured: list[Row] = []
    beside: list[Published] = []
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
            # Published figures are for whole sets.
            is_whole = plan.dataset in SETS and len(plan.items) == SETS[plan.dataset].count
            known = of_others(fresh, gray=gray or plan.dataset in GRAY) if is_whole else []
            report.rows(_beside(fresh, known))
            beside += known
            few = [row.images for row in fresh if row.fid is not None and row.images < FID_IMAGES]
            console.say(
                f"FID of {max(few, default=0)} images says little: below {FID_IMAGES} it is biased upwards",
                quiet=not few or quiet or as_json,
            )
        if earlier is not None:
            report.changes([change.to_json() for change in compare(earlier, measured)], unmatched(earlier, measured))
    if csv is not None:
        outputs.write_csv(csv, measured, Row)
    if page is not None:
        outputs.write_report(page, plans, measured, beside, parse_devices(devices)[0])


def _measure_speed(
    options: RestoreOptions, devices: str, sizes: tuple[int, ...], rounds: int | None, csv: Path | None, *,
    as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    from sanarestore.cli import console, figures
    from sanarestore.evaluation.speed import Timing, growth, measure

    timings = []
    for timing in measure(options, devices, sizes, rounds):
        timings.append(timing)
        if as_json:
            console.print_json({"task": SPEED, **timing.to_json()})
    powers = growth(timings)
    if as_json:
        if powers:
            console.print_json({"task": SPEED, "growth": powers})
    elif not quiet:
        figures.timings([timing.to_json() for timing in timings], powers)
    if csv is not None:
        outputs.write_csv(csv, timings, Timing)


def _numbers(flag: str, text: str, kind: Callable[[str], Number]) -> tuple[Number, ...]:
    """Parse numbers separated by commas; UsageError names the flag."""
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"'{text}' is not a list of numbers", where=flag, next_step="Use commas, as in 15,25,50."
        ) from error


def _beside(measured: "Sequence[Row]", others: "Sequence[Published]") -> list[dict[str, Any]]:
    """List the measured rows as JSON; after those of each task and level come the published rows for it."""
    from itertools import groupby

    lines: list[dict[str, Any]] = []
    for (task, level), group in groupby(measured, lambda row: (row.task, row.level)):
        lines += [row.to_json() for row in group]
        lines += [each.to_json() for each in others if (each.task, each.level) == (task, level)]
    return lines
