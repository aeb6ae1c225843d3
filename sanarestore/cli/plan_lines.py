"""The plan of a training in a few lines, before it begins."""

import math
import textwrap
from typing import TYPE_CHECKING

from sanarestore.cli.pace import figure, spoken_duration

if TYPE_CHECKING:
    from sanarestore.training.plan import TrainingPlan

LONG = 12.0
"""Hours after which a training on a CPU is called long."""

_WIDTH = 80
"""Columns of the lines."""

_INDENT = 11
"""Columns of the names in front of the lines."""

_UNBROKEN = "\N{NO-BREAK SPACE}"
"""Stands between a figure and its unit until lines are broken."""

_SPOKEN = {
    "frozen": "frozen weights", "trained": "trained weights", "gradients": "gradients", "optimizer": "optimizer",
    "ema": "EMA", "activations": "activations", "workers": "workers",
}  # fmt: skip
"""Names of the parts of memory."""


def lines(plan: "TrainingPlan") -> list[str]:
    """The plan, aligned, for a terminal of 80 columns."""
    texts = {
        "data": _data(plan), "base": _base(plan), "blocks": _blocks(plan), "decoder": _decoder(plan),
        "steps": _steps(plan), "memory": _memory(plan), "time": _time(plan), "disk": _disk(plan),
    }  # fmt: skip
    found = [f"plan of {plan.stage}"] if plan.stage else []
    for name, text in texts.items():
        # Most plans change no blocks.
        found += [] if not text else textwrap.wrap(
            text, _WIDTH, initial_indent=f"  {name:<{_INDENT - 2}}", subsequent_indent=" " * _INDENT,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
    return [line.replace(_UNBROKEN, " ") for line in found]


def warning(plan: "TrainingPlan") -> str:
    """Return a warning for a training that takes very long on a CPU; empty for others."""
    seconds = plan.seconds
    if plan.device != "cpu" or plan.seconds_per_step is None or seconds is None or seconds <= LONG * 3600:
        return ""
    fitting = plan.step + max(round(LONG * 3600 / plan.seconds_per_step), 1)
    return (
        f"this takes {spoken_duration(seconds)} on this CPU. It ends within {LONG:.0f} hours with --steps {fitting} or "
        f"--max-minutes {LONG * 60:.0f}; a GPU (--device cuda) is many times faster."
    )


def _data(plan: "TrainingPlan") -> str:
    if plan.kind == "wordings":
        return "words alone; the images are not used"
    held = f", {plan.held_back} more for validation" if plan.held_back else ""
    return f"{_counted(plan.samples, plan.kind)}, {figure(plan.megapixels, 1)} MP in all{held}"


def _base(plan: "TrainingPlan") -> str:
    change = "" if plan.rank is None else f", LoRA of rank {plan.rank}"
    trained, whole = (_large(count) for count in (plan.trained_parameters, plan.parameters))
    # Low-rank weights are matrices, which Muon leaves to AdamW; other objectives train a whole refiner beside them.
    is_all_low_rank = plan.rank is not None and plan.objective in ("refiner", "flow", "distillation")
    optimizer = "adamw" if is_all_low_rank and plan.optimizer == "muon" else plan.optimizer
    return f"{plan.base}{change}; {plan.objective} trains {trained} of {whole} weights by {optimizer}"


def _blocks(plan: "TrainingPlan") -> str:
    if plan.depth is None:
        return ""
    cost, name = plan.depth.cost(), "validation" if plan.depth.decoder is None else "reconstruction"
    return f"{plan.depth.words}{f'; {name} ' if cost else ''}{cost}"


def _decoder(plan: "TrainingPlan") -> str:
    return plan.depth.decoder.words if plan.depth and plan.depth.decoder else ""


def _steps(plan: "TrainingPlan") -> str:
    crops = f"{plan.batch} crops of {plan.patch} px"
    crops += f" in {plan.processes} processes" if plan.processes > 1 else ""
    if plan.accumulate > 1:
        crops += f"{', each in' if plan.processes > 1 else ' in'} {plan.accumulate} parts"
    done = f", {plan.step:,} of them done" if plan.step else ""
    if not plan.megapixels:
        return f"{plan.steps:,} steps of {plan.batch} prompts{done}"
    passes = f"{figure(plan.passes, 1)} passes over {_counted(plan.samples, plan.kind)}"
    return f"{plan.steps:,} steps of {crops}{done}: {passes}"


def _memory(plan: "TrainingPlan") -> str:
    parts = {name: size for name, size in plan.memory.items() if name != "total"}
    shown = {name: size for name, size in parts.items() if size >= 0.005 * plan.memory["total"]}
    named = [f"{_SPOKEN[name]} {_size(size)}".replace(" ", _UNBROKEN) for name, size in shown.items()]
    free = "" if plan.memory_free is None else f" of {_size(plan.memory_free)} free on {plan.device}"
    each = "each process takes about " if plan.processes > 1 else "about "
    return f"{each}{_size(plan.memory['total'])}{free}: {', '.join(named)}"


def _time(plan: "TrainingPlan") -> str:
    if plan.seconds_per_step is None or plan.seconds is None:
        return "not estimated"
    pace = f"{_seconds(plan.seconds_per_step)} a step on {plan.device} in {plan.dtype}, by a trial step"
    if plan.max_minutes and not plan.seconds_left:
        return f"the limit of {plan.max_minutes:g} min is used up: raise --max-minutes to continue"
    if plan.max_minutes and plan.seconds == plan.seconds_left:
        fitting = math.floor(plan.seconds / plan.seconds_per_step)
        used = f"{plan.minutes:.1f} of {plan.max_minutes:g} min are used; " if plan.minutes else ""
        return f"{used}{spoken_duration(plan.seconds)}, the limit, for about {fitting:,} steps: {pace}"
    return f"about {spoken_duration(plan.seconds)}: {pace}"


def _disk(plan: "TrainingPlan") -> str:
    kind = "adapter" if plan.rank is not None else "result"
    sizes = f"a checkpoint takes {_size(plan.checkpoint_bytes)}, the {kind} {_size(plan.result_bytes)}"
    return f"{sizes}; {_size(plan.disk_free)} are free"


def _counted(count: int, kind: str) -> str:
    return f"{count:,} {kind.removesuffix('s') if count == 1 else kind}"


def _large(count: int) -> str:
    """A number of weights: 850, 12 k, 3.1 M, 1.6 G."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= unit:
            value = count / unit
            return f"{value:.1f}{name}" if value < 100 else f"{value:.0f}{name}"
    return str(count)


def _seconds(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _size(count: int) -> str:
    text = f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(count / 1e6, 0.1):.{0 if count >= 1e7 else 1}f} MB"
    return text.replace(" ", _UNBROKEN)
