"""Scores, and the rows that they make: means over images, with an interval that says how much another choice of images
would change them."""

import base64
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from sanarestore.evaluation.metrics import frechet_distance

PERCEPTIBLE = 60.0
"""Decibels above which the margin between two prompts is not counted."""

FID_IMAGES = 5000
"""Below which FID says little."""

RESAMPLES = 2000
"""Of the bootstrap."""

EACH = "one per image"
"""Stands for the prompt where images have several."""

DEGRADED = "degraded"
"""Name of the method that does nothing: the row to compare with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One result, judged."""

    dataset: str
    task: str
    level: str
    protocol: str
    method: str
    best_of: str | None = None
    """Name that the method shares with others, of which the best of each case is a row; None for one that always is."""
    settings: str
    """Fingerprint of all that decides the method's pixels."""
    prompt: str | None
    """What was asked for, empty for a blind run; None of a method that does not listen."""
    conditions: str
    """How and where the method computed, in words."""
    item: str
    sha256: str
    """Of the clean file, and of a pair's degraded one."""
    draw: int
    seed: int
    psnr: float
    """dB over all values, after rounding to 8 bits."""
    ssim: float | None
    psnr_y: float | None
    """dB on luma, of colour images."""
    ssim_y: float | None
    """On luma, of the task sr."""
    psnr_b: float | None
    """dB with blocking counted, of the task jpeg."""
    largest_change: int | None = None
    """Largest change of any value, in 8-bit codes, of the task clean."""
    wrong_psnr: float | None
    """dB when the prompt names what shall stay, of the task prompts."""
    sharpness: float
    """Of the result over the target's: see `metrics.sharpness`."""
    agreement: float | None
    """dB between this result and that of the method's first seed, not rounded to 8 bits; None for the first."""
    parameters: int | None
    """Of the method's networks."""
    memory: int | None
    """Bytes at most beyond what was held before, where the system tells."""
    seconds: float
    megapixels: float
    metrics: str = ""
    """Which of the following were asked for, with commas."""
    lpips: float | None = None
    """Distances that networks were taught: see `evaluation.perceptual`."""
    dists: float | None = None
    inception: str | None = None
    """Features of the result, packed, for FID."""
    inception_of_target: str | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """What it is a function of."""
        where = (self.dataset, self.task, self.level, self.protocol, self.draw, self.item, self.sha256)
        return (*where, self.method, self.settings, self.seed, self.metrics)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A method on all images of a set, at one level of a task."""

    dataset: str
    task: str
    level: str
    protocol: str
    method: str
    prompt: str | None
    """What was asked for, empty for a blind run, `EACH` if it differs; None of a method that does not listen."""
    conditions: str
    """How and where the method computed, in words."""
    images: int
    psnr: float
    interval: tuple[float, float]
    """95% bootstrap interval of `psnr` over the choice of images."""
    worst_psnr: float | None = None
    """dB of the image that was changed most, of the task clean."""
    worst_image: str | None = None
    """The name of that image."""
    largest_change: int | None = None
    """Largest change of any value of any image, in 8-bit codes, of the task clean."""
    gain: float | None
    """dB over the degraded input; None where nothing was degraded."""
    gain_interval: tuple[float, float] | None
    better: float | None
    """Share of images whose PSNR rises."""
    ssim: float | None
    psnr_y: float | None
    ssim_y: float | None
    psnr_b: float | None
    lpips: float | None
    dists: float | None
    fid: float | None
    """Of the first seed's results; biased upwards below `FID_IMAGES` of them."""
    seed_deviation: float | None
    """Standard deviation of `psnr` between seeds; None for one seed."""
    seed_agreement: float | None
    """dB between results of the first seed and of the others."""
    sharpness: float | None
    """Mean ratio to the target's; None where targets are flat."""
    right_beats_wrong: float | None
    """Of the task prompts, share of pairs in which the right prompt comes closer than the wrong one."""
    margin: float | None
    """By how many dB on average, counted up to 60."""
    parameters: int | None
    peak_memory: int | None
    """Bytes: the most that restoring any of the images took beyond what was held before."""
    seconds_per_megapixel: float
    psnr_per_image: dict[str, float]
    """dB by name, so that two benchmarks can be compared image by image."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, without those that do not apply."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def rows(scores: Iterable[Score]) -> list[Row]:
    """Means over images, in the order in which their cases came first.

    Methods that share the name `best_of` make one row a case: that of the highest mean PSNR over the images.
    """
    gathered: dict[tuple[str, ...], list[Score]] = {}
    for score in scores:
        key = (score.dataset, score.task, score.level, score.protocol, score.method)
        gathered.setdefault(key, []).append(score)
    inputs = {key[:-1]: group for key, group in gathered.items() if key[-1] == DEGRADED}
    best: dict[tuple[str | None, ...], Row] = {}
    for name, group in gathered.items():
        row = _row(name, group, inputs.get(name[:-1], []))
        shared = group[0].best_of
        place = (*name[:-1], shared, None if shared else row.method)
        if place not in best or row.psnr > best[place].psnr:
            best[place] = row
    return list(best.values())


def _row(key: tuple[str, ...], scores: Sequence[Score], inputs: Sequence[Score]) -> Row:
    before = {(score.item, score.draw): score.psnr for score in inputs}
    per_image = _per_image(scores, lambda score: score.psnr)
    gains = _per_image(scores, lambda score: score.psnr - before[score.item, score.draw]) if before else None
    prompted = [(score.psnr, score.wrong_psnr) for score in scores if score.wrong_psnr is not None]
    margins = [min(right, PERCEPTIBLE) - min(wrong, PERCEPTIBLE) for right, wrong in prompted]
    harmed = [score.largest_change for score in scores if score.largest_change is not None]
    names = sorted({score.item for score in scores})
    dataset, task, level, protocol, method = key
    return Row(
        dataset=dataset, task=task, level=level, protocol=protocol, method=method, prompt=_common(scores),
        conditions=scores[0].conditions, images=len(per_image),
        psnr=float(per_image.mean()), interval=bootstrap(per_image),
        worst_psnr=float(per_image.min()) if harmed else None,
        worst_image=names[int(per_image.argmin())] if harmed else None,
        largest_change=max(harmed, default=None),
        gain=None if gains is None else float(gains.mean()), gain_interval=None if gains is None else bootstrap(gains),
        better=_mean(float(score.psnr > before[score.item, score.draw]) for score in scores) if before else None,
        ssim=_mean(score.ssim for score in scores),
        psnr_y=_mean(score.psnr_y for score in scores),
        ssim_y=_mean(score.ssim_y for score in scores),
        psnr_b=_mean(score.psnr_b for score in scores),
        lpips=_mean(score.lpips for score in scores),
        dists=_mean(score.dists for score in scores),
        fid=_fid(scores),
        seed_deviation=_seed_deviation(scores),
        seed_agreement=_mean(score.agreement for score in scores),
        sharpness=_mean(score.sharpness if math.isfinite(score.sharpness) else None for score in scores),
        right_beats_wrong=_mean(float(margin > 0) for margin in margins),
        margin=_mean(margins),
        parameters=scores[0].parameters,
        peak_memory=max((score.memory for score in scores if score.memory is not None), default=None),
        seconds_per_megapixel=sum(score.seconds for score in scores) / sum(score.megapixels for score in scores),
        psnr_per_image=dict(zip(names, per_image.tolist(), strict=True)),
    )  # fmt: skip


def _common(scores: Sequence[Score]) -> str | None:
    """What all were asked for."""
    prompts = {score.prompt for score in scores}
    return prompts.pop() if len(prompts) == 1 else EACH


def packed(features_D: npt.NDArray[Any]) -> str:
    """Features of an image as text that a line of JSON holds, in half precision."""
    return base64.b64encode(features_D.astype("<f2").tobytes()).decode()


def _unpacked(texts: Sequence[str]) -> npt.NDArray[np.float64]:
    return np.stack([np.frombuffer(base64.b64decode(text), "<f2") for text in texts]).astype(np.float64)


def bootstrap(values_N: npt.NDArray[np.float64]) -> tuple[float, float]:
    """95% interval of the mean over the choice of images, by percentiles (Efron 1979); always the same draws."""
    draws = np.random.default_rng(0).integers(len(values_N), size=(RESAMPLES, len(values_N)))
    low, high = np.percentile(values_N[draws].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def _per_image(scores: Sequence[Score], value: Callable[[Score], float]) -> npt.NDArray[np.float64]:
    """Means over draws and seeds, in the order of items: images are what varies between sets."""
    ordered = sorted(scores, key=lambda score: score.item)
    return np.array([np.mean([value(one) for one in group]) for _, group in groupby(ordered, lambda score: score.item)])


def _fid(scores: Sequence[Score]) -> float | None:
    first = min(score.seed for score in scores)
    pairs = [
        (score.inception, score.inception_of_target) for score in scores
        if score.seed == first and score.inception and score.inception_of_target
    ]  # fmt: skip
    if len(pairs) < 2:
        return None
    ours, targets = (_unpacked(features) for features in zip(*pairs, strict=True))
    return frechet_distance(ours, targets)


def _seed_deviation(scores: Sequence[Score]) -> float | None:
    seeds = sorted({score.seed for score in scores})
    if len(seeds) < 2:
        return None
    return float(np.std([np.mean([score.psnr for score in scores if score.seed == seed]) for seed in seeds], ddof=1))


def _mean(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return math.fsum(there) / len(there) if there else None
