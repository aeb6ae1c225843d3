"""Scores, and the rows computed from them: means over images, with an interval for how much another choice of images
would change them."""

import base64
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from sanarestore.evaluation.columns import Column, Place, Record
from sanarestore.evaluation.metrics import frechet_distance

PERCEPTIBLE = 60.0
"""PSNR in dB at which both results are capped before the margin between two prompts is taken."""

FID_IMAGES = 5000
"""Number of images below which FID says little."""

RESAMPLES = 2000
"""Number of bootstrap samples."""

DEGRADED = "degraded"
"""Name of the method that does nothing; other rows are compared with its row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """The measurements of one result."""

    dataset: str
    task: str
    level: str
    protocol: str
    method: str
    best_of: str | None = None
    """Name shared with other methods, of which only the best for each case becomes a row; None if it always does."""
    settings: str
    """Fingerprint of everything that determines the method's results."""
    prompt: str | None
    """The prompt used, empty if unprompted; None for a method that reads no prompts."""
    conditions: str
    """How and where the method computed, in words."""
    item: str
    sha256: str
    """Hash of the clean file, and of a pair's degraded file."""
    draw: int
    seed: int
    psnr: float
    """PSNR over all values in dB, after rounding to 8 bits."""
    ssim: float | None
    psnr_y: float | None
    """PSNR on luma in dB, for colour images and for the task sr."""
    ssim_y: float | None
    """SSIM on luma, for the task sr."""
    psnr_b: float | None
    """PSNR-B in dB, which counts blocking as error, for the task jpeg."""
    largest_change: int | None = None
    """Largest change of any value, in 8-bit codes, for the task clean."""
    wrong_psnr: float | None
    """PSNR in dB if the prompt names the degradation that shall stay, for the task prompts."""
    sharpness: float
    """Sharpness of the result over that of the target: see `metrics.sharpness`."""
    agreement: float | None
    """PSNR in dB between this result and the first seed's, not rounded to 8 bits; None for the first seed."""
    parameters: int | None
    """Parameters of the method's networks."""
    memory: int | None
    """Peak in bytes beyond what was held before; None where the system does not report it."""
    seconds: float
    megapixels: float
    metrics: str = ""
    """The perceptual metrics that were asked for, separated by commas."""
    lpips: float | None = None
    """Learned perceptual distance, as is `dists`: see `evaluation.perceptual`."""
    dists: float | None = None
    inception: str | None = None
    """Inception features of the result, packed, for FID."""
    inception_of_target: str | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """Everything that the score depends on."""
        where = (self.dataset, self.task, self.level, self.protocol, self.draw, self.item, self.sha256)
        return (*where, self.method, self.settings, self.seed, self.metrics)


def case_of(row: Any) -> str:
    """Name the task and level of a row."""
    return f"{row.task} {row.level}"


def _of_result(name: str) -> Callable[["Row"], Any]:
    """Get a field of a result; what it is for the input says nothing."""
    return lambda row: None if row.method == DEGRADED else getattr(row, name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row(Record):
    """A method on all images of a set, at one level of a task."""

    dataset: str
    task: str
    level: Annotated[str, Column("", on=Place.ALL, value=case_of, words=True, merges=True)]
    protocol: str
    method: Annotated[str, Column("method", on=Place.ALL, words=True)]
    prompt: str | None
    """The prompt used, empty if unprompted; None if images differ, or for a method that reads no prompts."""
    prompt_per_image: bool | None = None
    """True if images have prompts of their own."""
    conditions: str
    """How and where the method computed, in words."""
    images: int
    psnr: Annotated[float, Column("PSNR", "{:.2f}")]
    interval: Annotated[
        tuple[float, float],
        Column("±", lambda ends: f"{(ends[1] - ends[0]) / 2:.2f}", Place.TERMINAL),
        Column("95%", "{0[0]:.2f} to {0[1]:.2f}", Place.PAGE),
    ]
    """95% bootstrap interval of `psnr` over the choice of images."""
    worst_psnr: Annotated[float | None, Column("worst", "{:.2f}")] = None
    """PSNR in dB of the image that was changed most, for the task clean."""
    worst_image: Annotated[str | None, Column("worst image", on=Place.PAGE, words=True)] = None
    """The name of that image."""
    largest_change: Annotated[
        int | None, Column("change", on=Place.TERMINAL), Column("largest change", "{} of 255", Place.PAGE)
    ] = None
    """Largest change of any value of any image, in 8-bit codes, for the task clean."""
    gain: Annotated[float | None, Column("gain", "{:+.2f}", value=_of_result("gain"))]
    """Gain in dB over the degraded input; None where nothing was degraded."""
    gain_interval: tuple[float, float] | None
    improved: Annotated[float | None, Column("improved", "{:.0%}", value=_of_result("improved"))]
    """Share of results, over images, draws and seeds, whose PSNR is above that of the degraded input."""
    ssim: Annotated[float | None, Column("SSIM", "{:.4f}")]
    psnr_y: Annotated[
        float | None,
        # Colour images always have it; literature compares super-resolution alone by it.
        Column("PSNR-Y", "{:.2f}", Place.TERMINAL, lambda row: row.psnr_y if row.task == "sr" else None),
        Column("PSNR-Y", "{:.2f}", Place.PAGE),
    ]
    ssim_y: Annotated[float | None, Column("SSIM-Y", "{:.4f}", Place.PAGE)]
    psnr_b: Annotated[float | None, Column("PSNR-B", "{:.2f}")]
    lpips: Annotated[float | None, Column("LPIPS", "{:.3f}", Place.PERCEPTUAL | Place.PAGE)]
    dists: Annotated[float | None, Column("DISTS", "{:.3f}", Place.PERCEPTUAL | Place.PAGE)]
    fid: Annotated[float | None, Column("FID", "{:.1f}", Place.PERCEPTUAL | Place.PAGE)]
    """FID of the first seed's results; biased upwards below `FID_IMAGES` images."""
    seed_deviation: Annotated[float | None, Column("between seeds", "± {:.2f}", Place.PAGE)]
    """Standard deviation of `psnr` between seeds; None for one seed."""
    seed_agreement: Annotated[float | None, Column("seeds agree", "{:.1f}", Place.PAGE)]
    """Mean PSNR in dB between the results of the first seed and of the others."""
    sharpness: float | None
    """Mean sharpness over the target's, where that is finite; None if it is finite for no image."""
    right_beats_wrong: Annotated[float | None, Column("right prompt better", "{:.1%}", Place.PAGE)]
    """Share of pairs in which the right prompt comes closer to the target than the wrong one, for the task prompts."""
    margin: Annotated[float | None, Column("by", "{:.2f} dB", Place.PAGE)]
    """Mean lead of the right prompt over the wrong one in dB, with PSNR capped at `PERCEPTIBLE`."""
    parameters: Annotated[int | None, Column("parameters", lambda count: f"{count / 1e6:.1f} M", Place.PAGE)]
    peak_memory: Annotated[
        int | None,
        Column("peak memory", lambda count: f"{count / 2**20:.0f} MiB", Place.PAGE, _of_result("peak_memory")),
    ]
    """Peak in bytes beyond what was held before, over all images."""
    seconds_per_megapixel: Annotated[float, Column("s/MP", "{:.2f}", value=_of_result("seconds_per_megapixel"))]
    psnr_per_image: dict[str, float]
    """Image name -> PSNR in dB, so that two benchmarks can be compared image by image."""


def rows(scores: Iterable[Score]) -> list[Row]:
    """Average scores over images; rows are in the order in which their cases first came.

    Methods that share a name in `best_of` make one row per case: that of the highest mean PSNR over the images.
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
    prompts = {score.prompt for score in scores}
    dataset, task, level, protocol, method = key
    return Row(
        dataset=dataset, task=task, level=level, protocol=protocol, method=method,
        prompt=next(iter(prompts)) if len(prompts) == 1 else None,
        prompt_per_image=True if len(prompts) > 1 else None,
        conditions=scores[0].conditions, images=len(per_image),
        psnr=float(per_image.mean()), interval=bootstrap(per_image),
        worst_psnr=float(per_image.min()) if harmed else None,
        worst_image=names[int(per_image.argmin())] if harmed else None,
        largest_change=max(harmed, default=None),
        gain=None if gains is None else float(gains.mean()), gain_interval=None if gains is None else bootstrap(gains),
        improved=_mean(float(score.psnr > before[score.item, score.draw]) for score in scores) if before else None,
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


def packed(features_D: npt.NDArray[Any]) -> str:
    """Encode the features of an image as text for JSON, in half precision."""
    return base64.b64encode(features_D.astype("<f2").tobytes()).decode()


def _unpacked(texts: Sequence[str]) -> npt.NDArray[np.float64]:
    return np.stack([np.frombuffer(base64.b64decode(text), "<f2") for text in texts]).astype(np.float64)


def bootstrap(values_N: npt.NDArray[np.float64]) -> tuple[float, float]:
    """95% percentile bootstrap interval of the mean over images (Efron 1979); its draws are always the same."""
    draws = np.random.default_rng(0).integers(len(values_N), size=(RESAMPLES, len(values_N)))
    low, high = np.percentile(values_N[draws].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def _per_image(scores: Sequence[Score], value: Callable[[Score], float]) -> npt.NDArray[np.float64]:
    """Average over draws and seeds, in the order of item names: the bootstrap is over the choice of images."""
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
