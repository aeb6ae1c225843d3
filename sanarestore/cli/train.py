"""`sanarestore train`: a folder of clean photographs or pairs.csv in, a model folder out."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sanarestore import __version__
from sanarestore.cli import values
from sanarestore.cli.flags import MACHINE, Debug, Dtype, Json, Quiet
from sanarestore.errors import UsageError
from sanarestore.files import sampled_hash
from sanarestore.options import dtype_of

if TYPE_CHECKING:
    from sanarestore.training.loop import Trainer
    from sanarestore.training.recipe import TrainingRecipe

RANK = 32
"""Default rank of low-rank changes."""

SCRATCH = "scratch"
"""Value of --base for fresh weights."""


def train(
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
            help="Name, folder or hub id of the model to start from, or 'scratch' for new weights.",
            autocompletion=values.bases,
        ),
    ] = "sanarestore-mini",
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
            help="Time limit in minutes, by which the learning rate schedule and the run end.",
            show_default="none",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint in RUN.")] = False,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            metavar="NAME",
            help="Device to train on: cpu, cuda, cuda:1, mps or auto.",
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
    rank = (rank or RANK) if lora else None
    folder = _folder(output, resume=resume)
    import torch

    from sanarestore import weights
    from sanarestore.cli import console, reports
    from sanarestore.engine.devices import pick_device
    from sanarestore.training.claim import claimed, decoded_in
    from sanarestore.training.loop import Schedule, Trainer
    from sanarestore.training.objectives import new_objective
    from sanarestore.training.preflight import fingerprint_of

    if threads is not None:
        torch.set_num_threads(threads)
    place = pick_device(device, "--device")
    if compile_model and place.type == "cpu":
        _check_compiler()
    schedule = Schedule(device=str(place), max_minutes=max_minutes, compile=compile_model, dtype=dtype_of(dtype))
    console.show_licences(base if base != SCRATCH else None)
    chosen = _recipe(recipe, folder, base=base, low_rank=lora, resume=resume)
    chosen = replace(chosen, steps=steps) if steps else chosen
    samples, validation, used = _data(data, chosen, decoded_in(folder), quiet=quiet or as_json)
    objective = new_objective(chosen, None if base == SCRATCH else base, rank=rank)
    origin = _origin(base, rank)
    trainer = Trainer(folder, objective, chosen, schedule, validation, origin=origin, data=fingerprint_of(used))
    _make(folder)
    with claimed(folder):
        if resume:
            trainer.resume()
        else:
            _refuse_taken(folder)  # by a run that has ended meanwhile
        with reports.TrainingReport(quiet=quiet, as_json=as_json) as report:
            _run(trainer, samples, report)
        stage = {
            "objective": chosen.objective, "base": origin, "data": fingerprint_of(used), "samples": len(used),
            "steps": trainer.step, "minutes": round(trainer.minutes, 1), "sanarestore": __version__,
            "recipe": chosen.changed(),
        }  # fmt: skip
        model = trainer.finish({"stages": [*_stages([base, *chosen.experts.values()]), stage]})
    kind = "adapter" if (model / weights.ADAPTER).is_file() else "model"
    console.say(f"the {kind} is in {model}: use it with --{kind} {model}", quiet=quiet or as_json)


def _check_compiler() -> None:
    """Check that torch.compile can find a C++ compiler for the CPU; UsageError if not."""
    import os
    import shutil

    if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++", "c++", "cl"))):
        raise UsageError(
            "needs a C++ compiler to train on the CPU", where="--compile", next_step="Install one, or leave it out."
        )


def _run(trainer: "Trainer", samples: Any, report: Any) -> None:
    """Run all steps; an interrupted run says how to resume it."""
    from sanarestore.cli import console

    try:
        with closing(trainer.run(samples)) as steps:
            for progress in steps:
                report.step(progress.to_dict())
    except KeyboardInterrupt:
        console.say(f"step {trainer.step} is saved: repeat the command with --resume -o {trainer.folder} to continue")
        raise


def _folder(output: Path | None, *, resume: bool) -> Path:
    """The run's folder; UsageError if --resume lacks its folder, or another run is there already."""
    from datetime import datetime

    if output is None:
        if resume:
            raise UsageError("needs the run's folder", where="--resume", next_step="Name it with -o.")
        return Path("runs") / datetime.now().strftime("%Y-%m-%d-%H%M%S")
    if not resume:
        _refuse_taken(output)
    elif not output.is_dir():
        raise UsageError("there is no checkpoint to resume from", where=output, next_step="Leave out --resume.")
    return output


def _refuse_taken(folder: Path) -> None:
    """UsageError if there is a checkpoint or a model of an earlier run."""
    # A checkpoint without its state was never finished: there is nothing to continue from.
    taken = [name for name in ("checkpoint", "checkpoint.new") if (folder / name / "state.json").is_file()]
    taken += ["model"] if (folder / "model").exists() else []
    if taken:
        raise UsageError(
            f"there is a {taken[0]} of an earlier run",
            where=folder,
            next_step="Continue that run with --resume, or name another folder with -o.",
        )


def _make(folder: Path) -> None:
    """Make the run's folder before anything is trained; UsageError if that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot be made a folder ({error.strerror})", where=folder, next_step="Name another one with -o."
        ) from error


def _stages(models: Sequence[str]) -> list[dict[str, Any]]:
    """List the training stages in these models' manifests, each once; fresh weights and published bases have none."""
    from sanarestore import weights

    found: list[dict[str, Any]] = []
    for model in models:
        if model == SCRATCH or not weights.is_model(weights.resolve(model)):
            continue
        training = weights.read_manifest(weights.resolve(model)).get("training", {})
        # Older manifests record only the last run.
        stages = training.get("stages", [training] if training else [])
        found += [stage for stage in stages if stage not in found]
    return found


def _origin(base: str, rank: int | None) -> str:
    """Name and hash of the base's weights, and the rank if low-rank changes are trained."""
    from sanarestore import weights

    if base == SCRATCH:
        return base
    folder = weights.resolve(base)
    parts = (*weights.BASE_PARTS, "text_encoder", "tokenizer")
    low_rank = f", by changes of rank {rank}" if rank else ""
    return f"{Path(base).name} {sampled_hash(folder, *parts)[:16]}{low_rank}"


def _recipe(path: Path | None, folder: Path, *, base: str, low_rank: bool, resume: bool) -> "TrainingRecipe":
    """The recipe at `path`; if None, that of a run to resume; otherwise the embedded model's, adjusted to the base."""
    from sanarestore import weights
    from sanarestore.training.recipe import TrainingRecipe

    own = folder / "recipe.json"
    if path is None and resume and own.is_file():
        return TrainingRecipe.from_dict(json.loads(own.read_text(encoding="utf-8")), own)
    if path is not None:
        return TrainingRecipe.load(path)
    embedded = TrainingRecipe.load(weights.resolve(weights.EMBEDDED) / "recipe.toml")
    if base == SCRATCH:
        return embedded
    is_model = weights.is_model(weights.resolve(base))
    return embedded.for_tuning(folder.name, low_rank=low_rank) if is_model else embedded.for_adapting(folder.name)


def _data(
    data: Path, recipe: "TrainingRecipe", decoded: Path, *, quiet: bool
) -> tuple[Any, list[Any], list[tuple[Path, ...]]]:
    """Check the data, and return training samples, validation batches, and the files of each photo or pair trained on.

    The folder `decoded` holds decoded photos during the run.
    """
    from sanarestore.cli import console
    from sanarestore.degradations.wordings import word_files
    from sanarestore.training.data import OverviewSamples, PairSamples, PhotoSamples, WordingSamples
    from sanarestore.training.preflight import check_pairs, check_photos
    from sanarestore.training.validation import overview_validation, pair_validation, validation_batches

    is_list = data.suffix.lower() == ".csv"
    if is_list:
        if recipe.objective in ("colour-correction", "wording"):
            raise UsageError(
                f"the objective '{recipe.objective}' needs clean photos", where=data,
                next_step="Name a folder of clean photos, not a list of pairs.",
            )  # fmt: skip
        if recipe.held_back:
            raise UsageError(
                "photos can be held back from a folder, but not from a list of pairs", where="held_back in the recipe",
                next_step="Remove held_back, or train on a folder of clean photos.",
            )  # fmt: skip
    found = check_pairs(data, recipe) if is_list else check_photos(data, recipe)
    for note in found.notes if not quiet else ():
        console.print_word("note", "yellow", note)
    if is_list:
        return PairSamples(found.pairs, recipe, decoded), pair_validation(found.held_pairs), found.files
    if recipe.objective == "colour-correction":
        return OverviewSamples(found.photos, recipe, decoded), overview_validation(found.held_photos), found.files
    if recipe.objective == "wording":
        # This objective trains on words alone; the photos are not used.
        return WordingSamples(recipe), [], [(path,) for path in word_files()]
    return PhotoSamples(found.photos, recipe, decoded), validation_batches(found.held_photos), found.files
