"""`sanarestore train`: a folder of clean photographs or pairs.csv in, a model folder out."""

import shlex
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sanarestore import weights
from sanarestore.cli import values
from sanarestore.cli.flags import MACHINE, Debug, Dtype, Json, OtherAutoencoder, Quiet
from sanarestore.errors import UsageError
from sanarestore.options import training_dtype_of

if TYPE_CHECKING:
    from sanarestore.cli.training_report import TrainingReport
    from sanarestore.training.depth_record import DepthRecord
    from sanarestore.training.run import Run

RANK = 32
"""Default rank of low-rank changes."""

SCRATCH = "scratch"
"""Value of --base for fresh weights."""

DEPTH = "Number of blocks"
"""Panel of the options that change the number of blocks."""


def train(
    context: typer.Context,
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Folder of clean photos, or a pairs.csv.", show_default=False)
    ],
    recipe: Annotated[
        Path | None,
        typer.Option(
            "--recipe", metavar="TOML", help="Training recipe: what to learn.", show_default="the embedded model's"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="RUN", help="Folder of the run.", show_default="a dated folder in runs/"
        ),
    ] = None,
    base: Annotated[
        str,
        typer.Option(
            "--base",
            metavar="NAME",
            help="Name, folder or hub id of the model or adapter to start from, or 'scratch' for new weights.",
            autocompletion=values.bases,
        ),
    ] = "sanarestore-mini",
    autoencoder: OtherAutoencoder = None,
    lora: Annotated[
        bool, typer.Option("--lora", help="Train a small low-rank adapter (LoRA); the base's weights do not change.")
    ] = False,
    rank: Annotated[
        int | None,
        typer.Option(
            "--rank", min=1, metavar="R", help="Rank of the adapter; only with --lora.", show_default=str(RANK)
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, metavar="N", help="Total number of steps.", show_default="the recipe's"),
    ] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(
            "--max-minutes",
            min=0.01,
            metavar="MIN",
            help="Time limit in minutes, by which the learning rate schedule and the run end; with --resume, earlier "
            "sessions count.",
            show_default="none",
        ),
    ] = None,
    cache_latents: Annotated[
        int | None,
        typer.Option(
            "--cache-latents",
            min=1,
            metavar="PASSES",
            help="Number of passes over the data whose crops are encoded once and repeated; for the objective flow.",
            show_default="the recipe's",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    grow: Annotated[
        int | None,
        typer.Option(
            "--grow",
            min=1,
            metavar="N",
            help="Drop the last two blocks of the base's transformer and append N new ones, which have no effect at "
            "first.",
            show_default="the recipe's",
            rich_help_panel=DEPTH,
        ),
    ] = None,
    keep_all: Annotated[
        bool,
        typer.Option("--keep-all", help="Keep the last two blocks as well; only with --grow.", rich_help_panel=DEPTH),
    ] = False,
    prune: Annotated[
        int | None,
        typer.Option(
            "--prune",
            min=1,
            metavar="N",
            help="Remove the N least important blocks of the base's transformer; the first and the last stay.",
            show_default="the recipe's",
            rich_help_panel=DEPTH,
        ),
    ] = None,
    prune_decoder: Annotated[
        int | None,
        typer.Option(
            "--prune-decoder",
            min=1,
            metavar="N",
            help="Remove the N least important blocks of the decoder of the base's autoencoder, and train only the "
            "decoder.",
            show_default="the recipe's",
            rich_help_panel=DEPTH,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the checkpoint in RUN; more --steps lengthen the run.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show the plan: steps, memory, time and disk. Nothing is written or trained."),
    ] = False,
    export: Annotated[
        bool, typer.Option("--export", help="Write the model of RUN's checkpoint without training; with --resume.")
    ] = False,
    track: Annotated[
        str | None,
        typer.Option(
            "--track",
            metavar="NAMES",
            help="Trackers that record the run: tensorboard, wandb, trackio or others, separated by commas.",
            show_default="none",
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            "--devices",
            metavar="NAME",
            help="Device to train on: cpu, cuda, cuda:1, mps, xpu or auto. Several, such as cuda:0,cuda:1 or all, "
            "train together, in a process each.",
            autocompletion=values.device,
            rich_help_panel=MACHINE,
        ),
    ] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            min=1,
            metavar="N",
            help="Number of CPU threads.",
            show_default="PyTorch's choice",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    compile_model: Annotated[
        bool, typer.Option("--compile", help="Compile the loss with torch.compile.", rich_help_panel=MACHINE)
    ] = False,
    shard: Annotated[
        bool,
        typer.Option(
            "--shard",
            help="Divide the weights of a transformer that is trained whole among the devices (FSDP2).",
            rich_help_panel=MACHINE,
        ),
    ] = False,
    dtype: Dtype = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a restoration model. Ctrl-C saves a checkpoint, and --resume continues from it."""
    if rank and not lora:
        raise UsageError(
            "this applies only to low-rank adapters", where="--rank", next_step="Add --lora, or leave it out."
        )
    if grow and prune:
        raise UsageError(
            "a run cannot both grow and prune a transformer", where="--grow", next_step="Leave out one of the two."
        )
    if prune_decoder and (grow or prune):
        raise UsageError(
            "a run changes the blocks of the transformer or of the decoder, not of both", where="--prune-decoder",
            next_step="Prune the decoder in a run of its own, with the result of the other as --base.",
        )  # fmt: skip
    if keep_all and not grow:
        raise UsageError("this applies only to growth", where="--keep-all", next_step="Add --grow, or leave it out.")
    if dry_run and export:
        raise UsageError("there is nothing to plan", where="--dry-run", next_step="Leave out --export.")
    if export and not resume:
        raise UsageError("this writes the model of a checkpoint", where="--export", next_step="Add --resume.")
    from sanarestore.cli import launching
    from sanarestore.training.order import Order, choose_recipe, run_folder
    from sanarestore.training.run import runs
    from sanarestore.training.tracking import check_trackers

    trackers = tuple(name.strip() for name in track.split(",")) if track else ()
    check_trackers(trackers)
    folder = run_folder(output, resume=resume)
    if launching.is_needed(device):
        launching.launch(context, folder, device)
        return
    import torch

    from sanarestore.cli import console
    from sanarestore.cli.training_report import TrainingReport
    from sanarestore.engine.devices import pick_device
    from sanarestore.training.progress import Schedule
    from sanarestore.training.ranks import Ranks

    if threads is not None:
        torch.set_num_threads(threads)
    place = pick_device(launching.own_device(device), "--device")
    if compile_model and place.type == "cpu":
        _check_compiler()
    schedule = Schedule(
        device=str(place), max_minutes=max_minutes, compile=compile_model, dtype=training_dtype_of(dtype), sharded=shard
    )
    console.show_licences(base if base != SCRATCH else None)
    console.show_licences(autoencoder, wanted=weights.WANTED_OF_AUTOENCODERS)
    order = Order(
        data=data, folder=folder, recipe=recipe, base=base, rank=(rank or RANK) if lora else None, steps=steps,
        resume=resume, schedule=schedule, cached_passes=cache_latents, track=trackers, autoencoder=autoencoder,
        grow=grow, keep_all=keep_all, prune=prune, prune_decoder=prune_decoder,
    )  # fmt: skip
    chosen = choose_recipe(order)
    ranks = Ranks.joined(place)
    wants_quiet = quiet
    quiet, as_json = quiet or not ranks.is_first, as_json and ranks.is_first
    try:
        for each in runs(order, chosen, ranks):
            if not export:
                _show_plan(each, tries=dry_run or not wants_quiet, quiet=quiet, as_json=as_json)
            if dry_run:
                break
            with each.begun() as before, TrainingReport(quiet=quiet, as_json=as_json) as report:
                report.begin(before, each.name)
                if not export:
                    _run(each, report, folder)
                each.finish()
            report.end(each.trainer.results, each.depth)
    finally:
        ranks.leave()
    if dry_run:
        return
    model = folder / "model"
    kind = "adapter" if weights.is_adapter(model) else "autoencoder" if weights.is_autoencoder(model) else "model"
    console.say(f"the {kind} is in {model}: use it with --{kind} {model}", quiet=quiet or as_json)


def _show_plan(run: "Run", *, tries: bool, quiet: bool, as_json: bool) -> None:
    """Show the plan of a run; every process takes part in it, because all must try a step together."""
    from sanarestore.cli import console, plan_lines
    from sanarestore.training.plan import plan_of

    for note in run.preflight.notes if not quiet and not as_json else ():
        console.print_word("note", "yellow", note)
    plan = plan_of(run, tries=tries)
    if as_json:
        console.print_json({"event": "plan", **plan.to_dict()})
    elif not quiet:
        console.say_lines(plan_lines.lines(plan))
        if run.depth and run.depth.importances:
            _show_importances(run.depth)
        if warning := plan_lines.warning(plan):
            console.print_word("note", "yellow", warning)


def _show_importances(depth: "DepthRecord") -> None:
    """Show the importance of the blocks of the base's transformer or decoder, and which blocks are removed."""
    from sanarestore.cli import console
    from sanarestore.evaluation.columns import Place, table
    from sanarestore.training.importance import EXPLAINED, EXPLAINED_DECODER, importance_rows

    rows = importance_rows(depth.importances, depth.removed, depth.decoder.names if depth.decoder else ())
    caption = EXPLAINED_DECODER if depth.decoder else EXPLAINED
    console.table("importance of the blocks", table(rows, Place.TERMINAL), [caption])


def _check_compiler() -> None:
    """Check that torch.compile can find a C++ compiler for the CPU; UsageError if not."""
    import os
    import shutil

    if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++", "c++", "cl"))):
        raise UsageError(
            "needs a C++ compiler to train on the CPU", where="--compile", next_step="Install one, or leave it out."
        )


def _run(run: "Run", report: "TrainingReport", folder: Path) -> None:
    """Run all steps; if interrupted, name the command that resumes the run from the folder of all stages."""
    from sanarestore.cli import console

    try:
        for done, total in run.encode():
            report.encoding(done, total)
        with closing(run.steps()) as steps:
            for progress in steps:
                report.step(progress.to_dict())
    except KeyboardInterrupt:
        if run.trainer.ranks.is_first:
            console.say(
                f"step {run.trainer.step} is saved: repeat the command with --resume -o "
                f"{shlex.quote(str(folder))} to continue"
            )
        raise
