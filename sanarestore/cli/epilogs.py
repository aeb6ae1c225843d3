"""Examples and exit codes of every command, for the help pages and the manual, and what an interruption leaves."""

from collections.abc import Callable, Mapping
from typing import Any

from sanarestore.errors import ExitCode

EXAMPLES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("sanarestore restore ./shoot", "restore a folder into shoot-restored"),
        ("sanarestore restore --help", "list the options of a command"),
        ("sanarestore config show", "list the settings in force, and where they are set"),
    ),
    "restore": (
        ("sanarestore restore ./shoot", "restore a folder into shoot-restored"),
        ('sanarestore restore a.jpg -o b.png --prompt "remove noise"', "restore one photo, and fix only noise"),
        ("sanarestore restore ./shoot -o ./out --dry-run", "list what would be written, and the time it takes"),
        ("find . -name '*.tif' | sanarestore restore @- -o out", "restore the files of a list"),
        ("sanarestore restore - < a.jpg > b.jpg", "restore from stdin to stdout"),
        ("sanarestore restore clip.mp4 -o clip.mkv", "restore a video, with the extra video"),
    ),
    "degrade": (
        ("sanarestore degrade ./clean -o ./pairs", "make eight pairs of each photo"),
        ("sanarestore degrade ./clean -o ./pairs --recipe noise:15/25,jpeg:30", "with noise or JPEG artefacts"),
    ),
    "train": (
        ("sanarestore train ./clean", "fine-tune the embedded model on clean photos"),
        ("sanarestore train pairs.csv --lora -o runs/mine", "train a small adapter on pairs"),
        ("sanarestore train pairs.csv --lora -o runs/mine --resume", "continue that run"),
    ),
    "bench": (
        ("sanarestore bench --list", "list the test sets that are known"),
        ("sanarestore bench kodak24 --download --sigma 25", "measure denoising on a published set"),
        ("sanarestore bench --data ./clean --limit 5", "take a quick look at your own photos"),
        ("sanarestore bench speed --sizes 512,1024", "measure time and memory"),
    ),
    "seams": (
        ("sanarestore seams photo.tif --tile 512", "compare all tiling schemes on one photo"),
        ("sanarestore seams photo.tif --tilings causal -o page", "write a page with difference maps"),
    ),
    "doctor": (("sanarestore doctor", "check versions, devices, memory, model and folders"),),
    "models": (("sanarestore models list", "list the models that are here or published"),),
    "list": (("sanarestore models list --json", "list the models as JSON"),),
    "info": (("sanarestore models info sanarestore-mini", "show parts, sizes, licence and training"),),
    "verify": (("sanarestore models verify", "compute the hashes of all models that are here"),),
    "export": (
        ("sanarestore models export --onnx refiner.onnx", "write the refiner for other programs"),
        ("sanarestore models export --expert noise --onnx noise.onnx", "write the expert for noise"),
    ),
    "quantize": (
        (
            "sanarestore models quantize ./adapter --precision int8 -o adapter-int8",
            "halve what an adapter's model takes",
        ),
    ),
    "calibrate": (("sanarestore models calibrate ./mine ./clean -o mine-fast", "make a model of your own run faster"),),
    "pull": (("sanarestore models pull owner/model", "fetch a model from the hub"),),
    "config": (("sanarestore config show restore", "list the settings of one command"),),
    "show": (
        ("sanarestore config show", "list all settings, and where they are set"),
        ("sanarestore config show restore --json", "list those of one command as JSON"),
    ),
    "path": (("sanarestore config path", "show where settings are read from"),),
}
"""Command -> (command line, what it does)."""

_ALWAYS = {
    ExitCode.DONE: "everything is done",
    ExitCode.USAGE: "the command line or a setting is wrong",
    ExitCode.INTERRUPTED: "interrupted",
}

_MODEL = {ExitCode.WEIGHTS: "weights are missing, damaged or refused"}

_CODES: Mapping[str, Mapping[ExitCode, str]] = {
    "restore": {
        ExitCode.DONE: "all photos are done, now or in an earlier run",
        ExitCode.SOME_FAILED: "some photos failed; the others are done",
        ExitCode.NO_IMAGES: "no photo could be read",
        **_MODEL,
    },
    "degrade": {
        ExitCode.DONE: "all pairs are made, now or in an earlier run",
        ExitCode.SOME_FAILED: "some pairs failed; the others are made",
        ExitCode.NO_IMAGES: "no photo could be read",
    },
    "train": {
        ExitCode.SOME_FAILED: "training failed or diverged",
        ExitCode.NO_IMAGES: "no photo could be read",
        **_MODEL,
    },
    "bench": {
        ExitCode.SOME_FAILED: "measuring failed",
        ExitCode.NO_IMAGES: "a test set or its images are missing",
        **_MODEL,
    },
    "doctor": {ExitCode.SOME_FAILED: "restoring does not work here"},
    "info": _MODEL,
    "verify": _MODEL,
    "export": _MODEL,
    "quantize": _MODEL,
    "calibrate": {ExitCode.NO_IMAGES: "there is no photograph", **_MODEL},
    "pull": _MODEL,
    "seams": {ExitCode.SOME_FAILED: "measuring failed", ExitCode.NO_IMAGES: "a photo is missing", **_MODEL},
}


def codes(command: str) -> dict[int, str]:
    """Exit code -> meaning, in order, of a command."""
    return {int(code): meaning for code, meaning in sorted({**_ALWAYS, **_CODES.get(command, {})}.items())}


def epilog(command: str) -> str:
    """Examples and exit codes as plain text."""
    lines = [text for line, meaning in EXAMPLES[command] for text in (line, f"    {meaning}")]
    return "\n".join(
        ["Examples:", *lines, "", "Exit codes:", *(f"{c:>3}  {text}" for c, text in codes(command).items())]
    )


def _of_restore(params: Mapping[str, Any]) -> str:
    if "-" in params["inputs"] or params["output"] == "-":
        return "nothing was written"
    return "finished photos are kept, run the same command again to continue"


def _of_bench(params: Mapping[str, Any]) -> str:
    if params["output"] is None:
        return "no scores are kept; with -o RUN, an interrupted run continues"
    return f"finished scores are kept in {params['output']}, run the same command again to continue"


KEPT: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "restore": _of_restore,
    "degrade": lambda _: "finished pairs are kept, run the same command again to continue",
    "train": lambda _: "a checkpoint is there only if a line above names it",
    "bench": _of_bench,
    "seams": lambda _: "nothing was written; only the tables above were measured",
}
"""Command -> what is there after an interruption, from the command's parameters."""
