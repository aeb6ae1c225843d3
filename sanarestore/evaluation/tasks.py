"""Benchmark tasks: how a clean image is degraded, which prompt is given, and how the result is judged.

Every protocol has a name and a number in the output. The number changes whenever a change to the protocol would change
figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import PIL
from PIL import features

from sanarestore.degradations.operations import Jpeg
from sanarestore.degradations.recipes import Plan, Recipe, stream
from sanarestore.degradations.requests import LIGHT_AND_COLOUR, Request
from sanarestore.degradations.wordings import HELD_OUT
from sanarestore.errors import UsageError
from sanarestore.evaluation.metrics import to_8bit
from sanarestore.images import Pixels, resize

RECONSTRUCTION = "reconstruction"
"""The task that measures how well autoencoders reconstruct clean images; it degrades nothing."""

CLEAN = "clean"
"""The task that measures how much harm methods do to clean images; it degrades nothing."""

TASKS = ("denoise", "jpeg", "sr", "deblur", "mixed", "recipe", "prompts", "real", CLEAN, RECONSTRUCTION)

MIXED = ("combined", "combined-light")
"""Recipes that the task mixed measures: one without changes of light and colour, and one with them."""

RENUMBERED = {
    **dict.fromkeys((*LIGHT_AND_COLOUR, "selective", "photograph"), 2), "combined": 4, "combined-light": 4,
}  # fmt: skip
"""Steps of recipes whose protocol number is not 1. Since 2, prompts name light and colour, and `combined` draws
neither; since 3, `combined` also draws degradations of cameras and storage. Photographs are softened by their optics
since 2, which `combined` has drawn since 4."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Levels:
    """Levels of each task's degradation."""

    sigma: tuple[float, ...] = (15, 25, 50)
    """For denoise: standard deviation of the noise, in 8-bit codes."""
    quality: tuple[int, ...] = (10, 20, 30, 40)
    """For jpeg: quality of libjpeg."""
    scale: tuple[int, ...] = (2, 4)
    """For sr: factor per side."""
    blur: tuple[float, ...] = (1.6,)
    """For deblur: standard deviation of the Gaussian, in pixels."""
    recipe: tuple[str, ...] = ()
    """For recipe: lines as `degrade` takes them."""
    draws: int = 4
    """For prompts and mixed: pairs per image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One image to restore, and what it should become."""

    degraded_HWC: Pixels
    target_HWC: Pixels
    prompt: str | None = None
    """The prompt to use; None for the run's prompt, if there is one."""
    wrong_prompt: str | None = None
    """A prompt that names the degradation that shall stay; only in the task prompts, which always uses its own."""
    border: int = 0
    """Pixels on each side that are not judged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A task at one level, for all images of a set; a pure function of image and number."""

    task: str
    level: str
    """Level as text, such as `25` or `noise:25+jpeg:20`."""
    protocol: str
    """Name and number."""
    draw: int = 0
    """Index of the pair, where an image has several."""
    value: float = field(default=0, repr=False)

    @property
    def degrades(self) -> bool:
        """Whether the image is degraded. If not, the input is perfect and gets no row of its own."""
        return self.task not in (CLEAN, RECONSTRUCTION)

    def trial(self, clean_HWC: Pixels, degraded_HWC: Pixels | None, number: int) -> Example:
        """Make the trial of image `number` of the set; `degraded_HWC` is its degraded image in a set of pairs."""
        if self.task == "real":
            if degraded_HWC is None:
                raise UsageError("this set has no degraded images", where="--task real", next_step="Choose another.")
            return Example(degraded_HWC=degraded_HWC, target_HWC=clean_HWC)
        if not self.degrades:
            return Example(degraded_HWC=clean_HWC, target_HWC=clean_HWC)
        if self.task == "denoise":
            return Example(degraded_HWC=_white_noise(clean_HWC, self.value), target_HWC=clean_HWC)
        if self.task == "jpeg":
            return Example(degraded_HWC=Jpeg(quality=round(self.value))(clean_HWC), target_HWC=clean_HWC)
        if self.task == "sr":
            return _enlarged(clean_HWC, round(self.value))
        if self.task == "prompts":
            return _selective(clean_HWC, number, self.draw)
        # Only later draws have their number in the key, so that the first is the same however many there are.
        again = (self.draw,) if self.draw else ()
        plan = Recipe.parse(self.level).draw(stream("quality", self.level, number, *again), number + self.draw)
        return _planned(clean_HWC, plan)


def cases(task: str, levels: Levels) -> tuple[Case, ...]:
    """Return a task at all its levels; UsageError for an unknown task, or for an invalid level or recipe."""
    _check(levels)
    if task == "denoise":
        return tuple(
            Case(task=task, level=f"{sigma:g}", protocol="awgn-float/1", value=sigma) for sigma in levels.sigma
        )
    if task == "jpeg":
        # Decoders differ by a code, so the protocol names the one in use.
        library = features.version("libjpeg_turbo") or f"libjpeg-{features.version('jpg')}"
        protocol = f"jpeg-420-pillow-{PIL.__version__}-turbo-{library}/1"
        return tuple(Case(task=task, level=f"{q}", protocol=protocol, value=q) for q in levels.quality)
    if task == "sr":
        return tuple(Case(task=task, level=f"{n}", protocol="bicubic-antialiased/1", value=n) for n in levels.scale)
    if task == "deblur":
        return _recipes(task, [f"blur:{sigma:g}" for sigma in levels.blur])
    if task == "mixed":
        return _recipes(task, MIXED, levels.draws)
    if task == "recipe":
        if not levels.recipe:
            raise UsageError("needs a recipe", where="--task recipe", next_step="Add --recipe, as in noise:25+jpeg:20.")
        return _recipes(task, levels.recipe)
    if task == "prompts":
        return tuple(Case(task=task, level="pairs", protocol="selective/2", draw=n) for n in range(levels.draws))
    if task == "real":
        return (Case(task=task, level="given", protocol="given/1"),)
    if task == CLEAN:
        return (Case(task=task, level="input", protocol="harm-8bit/1"),)
    if task == RECONSTRUCTION:
        return (Case(task=task, level="clean", protocol="reconstruction/1"),)
    raise UsageError(f"'{task}' is not a known task", where="--task", next_step=f"Known: {', '.join(TASKS)}.")


def _check(levels: Levels) -> None:
    """Raise UsageError, naming the flag, for a level out of range."""
    bounds: tuple[tuple[str, Sequence[float], float, float], ...] = (
        ("sigma", levels.sigma, 0, 255), ("quality", levels.quality, 1, 100), ("scale", levels.scale, 2, 16),
        ("blur", levels.blur, 0.05, 50),
    )  # fmt: skip
    for name, values, least, most in bounds:
        wrong = [value for value in values if not least <= value <= most]  # true for NaN too
        if wrong:
            raise UsageError(
                f"{wrong[0]:g} is outside {least} to {most}", where=f"--{name}", next_step="Choose another level."
            )


def _recipes(task: str, lines: Sequence[str], draws: int = 1) -> tuple[Case, ...]:
    protocols = {line: f"recipe-8bit/{_number(line)}" for line in lines}
    return tuple(
        Case(task=task, level=line, protocol=protocols[line], draw=draw) for line in lines for draw in range(draws)
    )


def _number(line: str) -> int:
    """Number of a recipe's protocol; 1 if it has no step of `RENUMBERED`, because its figures never changed then."""
    names = {term.name for terms in Recipe.parse(line).alternatives for term in terms}
    return max(RENUMBERED.get(name, 1) for name in names)


def _white_noise(clean_HWC: Pixels, sigma: float) -> Pixels:
    """Add noise as the usual scripts do: seed 0 before every image, in float, neither clipped nor rounded."""
    # The literature's generator: another would draw other noise and give other figures.
    noise = np.random.RandomState(0).normal(0, sigma / 255, clean_HWC.shape)
    return (clean_HWC + noise).astype(np.float32)


def _enlarged(clean_HWC: Pixels, scale: int) -> Example:
    """Crop to a multiple of the scale, downscale, round to 8 bits and upscale, by antialiased bicubic resampling."""
    height, width = (side - side % scale for side in clean_HWC.shape[:2])
    clean_HWC = np.ascontiguousarray(clean_HWC[:height, :width])
    small = _stored(resize(clean_HWC, width // scale, height // scale))
    return Example(degraded_HWC=resize(small, width, height), target_HWC=clean_HWC, border=scale)


def _planned(clean_HWC: Pixels, plan: Plan) -> Example:
    """Make the trial of a plan, unprompted; if it removes light or colour, the prompt names everything it removes."""
    removed = [operation.kind for operation, gone in zip(plan.operations, plan.removed, strict=True) if gone]
    request = Request.of(*removed)
    # Light and colour change only where a prompt names them; the plan's own prompt is for training.
    plan = replace(plan, request=request)
    return Example(
        degraded_HWC=_stored(plan.degraded(clean_HWC)), target_HWC=_stored(plan.target(clean_HWC)),
        prompt=request.plain if request.is_lit or request.is_coloured else None,
    )  # fmt: skip


def _selective(clean_HWC: Pixels, number: int, draw: int) -> Example:
    """Apply two degradations; the prompt names one of them, in a wording that no training prompt has."""
    rng = stream("prompts", number, draw)
    plan = Recipe.parse("selective").draw(rng, draw)
    kinds = [operation.kind for operation in plan.operations]
    named = plan.removed.index(True)
    # A stream of its own, so that the draws of the training grammar do not change the prompts chosen here.
    rng = stream("prompts", "held out", number, draw)
    right, wrong = (HELD_OUT[kind][int(rng.integers(len(HELD_OUT[kind])))] for kind in (kinds[named], kinds[1 - named]))
    return Example(
        degraded_HWC=_stored(plan.degraded(clean_HWC)), target_HWC=_stored(plan.target(clean_HWC)),
        prompt=right, wrong_prompt=wrong,
    )  # fmt: skip


def _stored(image_HWC: Pixels) -> Pixels:
    """Round to 8-bit codes, as a file would."""
    return to_8bit(image_HWC).astype(np.float32)
