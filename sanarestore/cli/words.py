"""Words of other tools: what a flag is called there, and what does the same here."""

from collections.abc import Collection, Mapping, Sequence

_DEVICES = (("--devices", "Use --devices, as in --devices cuda:0."), ("--device", "Use --device, as in --device cuda."))
_CPU = (("--devices", "Use --devices cpu."), ("--device", "Use --device cpu."))
_OUTPUT = (("--output", "Use --output, or -o."),)
_FORMAT = (
    ("--format", "Use --format, as in --format png."),
    ("--overwrite", "Name the output with the format's suffix, as in -o photo.png."),
)
_INPUT = (("", "Name inputs without a flag, as in `sanarestore restore photo.jpg`."),)
_FOLDERS = (("", "Leave it out: folders are always read with all folders below them."),)
_PROMPT = (("--prompt", 'Use --prompt, as in --prompt "remove noise".'),)
_STRENGTH = (("--strength", "Use --strength, from 0 to 1."),)
_SCALE = (("--scale", "Use --scale, as in --scale 2."),)
_TILE = (("--tile", "Use --tile, as in --tile 1024."),)
_OVERLAP = (("--overlap", "Use --overlap, with a tiling scheme that blends."),)
_MODEL = (
    ("--model", "Use --model with a name, a folder or a hub id."),
    ("--base", "Use --base with a name, a folder or a hub id."),
)
_ADAPTER = (("--adapter", "Use --adapter with a folder or a hub id."), ("--rank", "Use --lora."))
_DTYPE = (("--dtype", "Use --dtype float32 or --dtype bfloat16."),)
_STEPS = (("--steps", "Use --steps."),)
_GUIDANCE = (("--guidance", "Use --guidance."),)
_OVERWRITE = (("--overwrite", "Use --overwrite."), ("", "Nothing is replaced: choose another output with -o."))
_WORKERS = (
    ("--workers", "Use --workers."),
    ("--devices", "One worker runs on each device of --devices; --threads sets the CPU threads of each."),
    ("--threads", "Use --threads for the number of CPU threads."),
)
_RECIPE = (("--max-minutes", "It is a value of the training recipe: name the recipe's file with --recipe."),)
_CONFIG = (("", "Settings are read from sanarestore.toml; `sanarestore config path` shows where."),)
_QUIET = (("--quiet", "Use --quiet, or -q."),)
_DRY_RUN = (("--dry-run", "Use --dry-run."),)
_SIGMA = (
    ("--prompt", 'Use --prompt "remove noise"; its level is measured.'),
    ("--variants", "Use --recipe, as in --recipe noise:25."),
)
_TASK = (("--prompt", 'Use --prompt, as in --prompt "remove noise".'),)


def _asked(kind: str) -> Sequence[tuple[str, str]]:
    return (
        ("--variants", "Use --recipe, as in --recipe noise:25/50,jpeg:30."),
        ("--task", "Use --task, as in --task denoise."),
        ("--prompt", f'Use --prompt "{kind}".'),
    )


ADVICE: Mapping[str, Sequence[tuple[str, str]]] = {
    **dict.fromkeys(("device", "gpu", "gpus", "gpu-id", "gpu-ids", "cuda", "devices", "g"), _DEVICES),
    **dict.fromkeys(("cpu", "no-gpu", "no-cuda"), _CPU),
    **dict.fromkeys(
        ("out", "outdir", "out-dir", "output-dir", "output-folder", "output-path", "dest", "save", "save-dir", "o"),
        _OUTPUT,
    ),
    **dict.fromkeys(("format", "output-format", "out-format", "ext", "extension", "suffix", "file-type"), _FORMAT),
    **dict.fromkeys(("input", "inputs", "in", "input-dir", "input-folder", "source", "image", "images", "i"), _INPUT),
    **dict.fromkeys(("recursive", "recurse", "subfolders", "r"), _FOLDERS),
    **dict.fromkeys(("noise", "denoise", "denoising", "remove-noise"), _asked("remove noise")),
    **dict.fromkeys(("deblur", "sharpen", "blur"), _asked("remove blur")),
    **dict.fromkeys(("dejpeg", "jpeg", "artifacts", "artefacts"), _asked("remove JPEG artefacts")),
    **dict.fromkeys(("lowlight", "low-light", "brighten"), _asked("brighten")),
    **dict.fromkeys(("text", "instruction", "positive-prompt", "words"), _PROMPT),
    **dict.fromkeys(("task", "mode"), _TASK),
    **dict.fromkeys(("denoise-strength", "amount", "weight", "blend", "opacity", "intensity"), _STRENGTH),
    **dict.fromkeys(("upscale", "upscaling", "outscale", "scale-factor", "factor", "zoom", "resize", "s"), _SCALE),
    **dict.fromkeys(("tile-size", "tilesize", "tiles", "chunk", "chunk-size", "patch", "patch-size", "t"), _TILE),
    **dict.fromkeys(("tile-pad", "tile-overlap", "padding", "pad"), _OVERLAP),
    **dict.fromkeys(("weights", "checkpoint", "ckpt", "model-path", "model-name", "model-id", "pretrained"), _MODEL),
    **dict.fromkeys(("lora", "lora-path", "lora-weights"), _ADAPTER),
    **dict.fromkeys(("half", "fp16", "fp32", "bf16", "float16", "bfloat16", "precision", "mixed-precision"), _DTYPE),
    **dict.fromkeys(("num-steps", "num-inference-steps", "sampling-steps", "iterations", "iters", "epochs"), _STEPS),
    **dict.fromkeys(("guidance-scale", "cfg", "cfg-scale"), _GUIDANCE),
    **dict.fromkeys(("force", "yes", "replace", "clobber", "overwrite", "f", "y"), _OVERWRITE),
    **dict.fromkeys(("workers", "jobs", "num-workers", "processes", "parallel", "threads", "batch", "j"), _WORKERS),
    **dict.fromkeys(("batch-size", "lr", "learning-rate", "crop", "crop-size", "optimizer", "loss"), _RECIPE),
    **dict.fromkeys(("config", "settings", "config-file"), _CONFIG),
    **dict.fromkeys(("silent", "no-progress"), _QUIET),
    **dict.fromkeys(("simulate", "list", "check", "plan"), _DRY_RUN),
    **dict.fromkeys(("sigma", "noise-level", "level"), _SIGMA),
}  # fmt: skip
"""Word -> (a flag, a sentence); the first sentence whose flag the command has is shown, or one without a flag."""

NOT_COMMANDS = {
    **dict.fromkeys(("denoise", "deblur", "dejpeg", "upscale", "enhance", "fix", "run", "process"), "restore"),
    **dict.fromkeys(("predict", "infer", "inference"), "restore"),
    **dict.fromkeys(("benchmark", "evaluate", "eval", "test", "measure"), "bench"),
    **dict.fromkeys(("finetune", "fine-tune", "fit"), "train"),
    **dict.fromkeys(("settings", "configure"), "config"),
}  # fmt: skip
"""Name of a command in other tools -> the command."""


def advice(flag: str, known: Collection[str]) -> str | None:
    """A sentence on a flag that a command lacks, if other tools have it; `known` are the flags of the command."""
    for has, sentence in ADVICE.get(flag.lstrip("-").replace("_", "-").lower(), ()):
        if not has or has in known:
            return sentence
    return None
