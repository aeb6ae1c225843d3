"""`sanarestore models`: the models that are here or published, listed, described, verified and fetched."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sanarestore.cli import values
from sanarestore.cli.commands import Command, Program
from sanarestore.cli.epilogs import epilog
from sanarestore.cli.flags import Debug, Json, Prompt, Quiet
from sanarestore.errors import ExitCode
from sanarestore.options import precision_named

if TYPE_CHECKING:
    from sanarestore.catalogue import Description, ListedModel

models = typer.Typer(
    name="models",
    cls=Program,
    epilog=epilog("models"),
    help="List, describe, verify, fetch, export and quantize models.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Model or adapter: a name, folder or hub id.", show_default="the embedded model"
    ),
]  # fmt: skip


@models.command("list", cls=Command, epilog=epilog("list"))
def show_list(as_json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """List the embedded model, the fetched models, and the published SANA checkpoints."""
    from sanarestore import catalogue
    from sanarestore.cli import console

    found = list(catalogue.listed())
    if as_json:
        for each in found:
            console.print_json(each.to_json())
        return
    notes = [
        "A base restores only with an adapter: `sanarestore train --base NAME` makes one.",
        "Fetch a published model with `sanarestore models pull NAME`; that shows its licence.",
    ]
    console.print_lines([line for each in found for line in _listed(each)])
    if not quiet:
        console.print_lines(["", *notes])


@models.command("info", cls=Command, epilog=epilog("info"))
def info(name: Name = "sanarestore-mini", as_json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Show parts, sizes, licence, training stages and hashes of a model that is here."""
    from sanarestore import catalogue
    from sanarestore.cli import console

    found = catalogue.describe(name)
    if as_json:
        console.print_json(found.to_json())
    else:
        console.print_lines(_described(found, quiet=quiet))


@models.command("verify", cls=Command, epilog=epilog("verify"))
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help="Models to verify: names, folders or hub ids.", show_default="all that are here"
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare every file of the models with its hash. Exit code 4 if one differs."""
    from sanarestore import catalogue, weights
    from sanarestore.cli import console

    chosen = names or [weights.EMBEDDED, *(name for name, _ in catalogue.cached_models())]
    is_right = True
    for name in chosen:
        found = catalogue.verified(name)
        is_right &= not found.wrong
        if as_json:
            console.print_json(found.to_json())
            continue
        for sentence in found.wrong:
            console.print_word("wrong", "bold red", sentence)
        if not quiet:
            right = found.files - len(found.wrong)
            unknown = f"; {found.unknown} files of weights have no known hash" if found.unknown else ""
            console.print_lines([f"{name}: {right} of {found.files} files have the right hash{unknown}"])
    raise typer.Exit(ExitCode.DONE if is_right else ExitCode.WEIGHTS)


@models.command("export", cls=Command, epilog=epilog("export"))
def export(
    onnx: Annotated[Path, typer.Option("--onnx", metavar="FILE", help="File to write.", show_default=False)],
    name: Name = "sanarestore-mini",
    expert: Annotated[
        str | None,
        typer.Option("--expert", help="Expert to export, such as noise.", show_default="the general refiner"),
    ] = None,
    prompt: Prompt = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a refiner as ONNX, for other programs; see docs/python.md. It needs the extra onnx."""
    from sanarestore.cli import console
    from sanarestore.engine.onnx_file import export_onnx

    console.show_licences(name)
    made = export_onnx(name, onnx, expert=expert, prompt=prompt, overwrite=overwrite)
    if as_json:
        console.print_json(made.to_json())
    elif not quiet:
        console.print_lines(
            [
                f"{made.file}: {_bytes(made.size)}, within {made.difference:.0e} of PyTorch",
                f"  stride {made.stride} px, halo {made.halo} px, opset {made.opset}",
            ]
        )


@models.command("quantize", cls=Command, epilog=epilog("quantize"))
def quantize(
    name: Name,
    precision: Annotated[
        str,
        typer.Option(
            "--precision", metavar="TYPE", help="Precision of the weights: int8, int4 or fp8.", show_default=False,
            autocompletion=values.precisions,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="New folder for the copy.", show_default=False)
    ],
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Copy a model or an adapter with its transformer in int8, int4 or fp8, for machines with little memory."""
    from sanarestore.cli import console
    from sanarestore.model.quantized_copy import write_quantized

    known = precision_named(precision, "--precision")
    console.show_licences(name)
    share = write_quantized(name, output, known)
    if as_json:
        console.print_json({"name": name, "folder": str(output), "precision": known, "share": round(share, 4)})
    elif not quiet:
        console.print_lines([f"{output}: its transformer in {known} takes {share:.0%} of its size in bfloat16"])


@models.command("calibrate", cls=Command, epilog=epilog("calibrate"))
def calibrate(
    name: Name,
    photos: Annotated[
        Path, typer.Argument(metavar="PHOTOS", help="Folder of clean photographs, such as those of the training.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="New folder.", show_default=False)],
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Copy a model with its refiners calibrated by photographs: they run faster, and on CPUs also in 8 bits."""
    from sanarestore.cli import console
    from sanarestore.training.calibrated_copy import write_calibrated

    show = (lambda refiner: None) if quiet or as_json else (lambda refiner: console.print_lines([f"{refiner} ..."]))
    write_calibrated(name, photos, output, show)
    if as_json:
        console.print_json({"name": name, "folder": str(output)})
    elif not quiet:
        console.print_lines([f"{output}: restore with --model {output}, and also with --dtype int8"])


@models.command("pull", cls=Command, epilog=epilog("pull"))
def pull(
    name: Annotated[
        str,
        typer.Argument(metavar="ID", help="Hub id, such as owner/model or owner/model@revision.", show_default=False),
    ],
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Fetch a model or an adapter from the hub into its cache, and show its licence."""
    from huggingface_hub.utils.tqdm import disable_progress_bars

    from sanarestore import weights
    from sanarestore.cli import console
    from sanarestore.errors import UsageError

    if not weights.is_hub_id(name):
        raise UsageError(
            "it is no hub id",
            where=name,
            next_step="Name one that `sanarestore models list` shows, such as owner/model.",
        )
    if as_json or not console.is_live(quiet=quiet):
        disable_progress_bars()
    folder = weights.resolve(name)
    console.show_licences(name)
    size = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
    if as_json:
        licence = weights.licence(folder)
        console.print_json(
            {"name": name, "pinned": weights.pinned(name), "folder": str(folder), "size": size, "licence": licence}
        )
    elif not quiet:
        console.print_lines([f"{name}: {_bytes(size)} in {folder}"])


def _listed(model: "ListedModel") -> list[str]:
    """Two lines of one model, that fit a terminal of 80 columns."""
    facts = {
        "model": "restoration model", "adapter": "adapter", "base": "base, needs an adapter",
        "autoencoder": "autoencoder",
    }[model.kind]  # fmt: skip
    count = "" if model.parameters is None else f", {_count(model.parameters)} parameters"
    here = f"{_bytes(model.size)}, " if model.size is not None else ""
    licence = f", licence {model.licence}" if model.licence is not None else ""
    return [model.name, f"  {facts}{count}; {here}{model.place}{licence}"]


def _described(found: "Description", *, quiet: bool) -> list[str]:
    what = {"model": "restoration model", "adapter": "adapter", "base": "base, restores only with an adapter"}
    what["autoencoder"] = "autoencoder, to be named with --autoencoder"
    lines = [
        found.name,
        f"  kind      {what[found.kind]}",
        f"  folder    {found.folder}",
        f"  licence   {found.licence}",
    ]
    if found.base:
        lines.append(f"  base      {found.base}")
    if found.experts:
        lines.append(f"  experts   {', '.join(found.experts)}")
    if found.defaults:
        lines.append(f"  defaults  {', '.join(f'{key} = {value}' for key, value in found.defaults.items())}")
    lines += ["", f"{'Part':<34}{'parameters':>12}{'size':>12}"]
    lines += [f"  {each.name:<32}{_count(each.parameters):>12}{_bytes(each.size):>12}" for each in found.parts]
    if found.stages and not quiet:
        lines += ["", "Training stages, oldest first", *(f"  {_stage(each)}" for each in found.stages)]
    if found.sha256 and not quiet:
        lines += ["", "sha256", *(f"  {digest[:16]}…  {name}" for name, digest in found.sha256.items())]
    return lines


def _stage(stage: object) -> str:
    if not isinstance(stage, dict):
        return str(stage)
    runs = stage.get("run", stage.get("runs"))
    parts = [
        f"run {runs}" if runs else "",
        str(stage.get("objective", "")),
        f"{stage['steps']} steps" if "steps" in stage else "",
        f"{stage['minutes']} min" if "minutes" in stage else "",
        str(stage.get("recipe", "")),
    ]
    return ", ".join(part for part in parts if part)


def _count(number: int) -> str:
    for step, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= step:
            return f"{number / step:.3g} {unit}"
    return str(number)


def _bytes(size: int) -> str:
    for step, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= step:
            return f"{size / step:.3g} {unit}"
    return f"{size} B"
