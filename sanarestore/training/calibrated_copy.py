"""A copy of a model whose refiners are calibrated by photographs, so that they run faster."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from sanarestore import weights
from sanarestore.degradations.recipes import stream
from sanarestore.degradations.requests import every_request
from sanarestore.errors import UsageError
from sanarestore.files import changed_copy, hash_file
from sanarestore.model.calibration import Calibration, write_calibrations
from sanarestore.model.loading import CALIBRATION, RestorationModel, load_model
from sanarestore.model.tensors import write_json
from sanarestore.training.calibrating import Calibrating, calibrate
from sanarestore.training.data import PhotoSamples, Sample
from sanarestore.training.preflight import check_photos
from sanarestore.training.recipe import TrainingRecipe

DEGRADATIONS = {
    "noise:0-55": 0.2, "jpeg:8-95": 0.2, "photograph:5-12": 0.2, "combined": 0.15, "clean": 0.1, "lowres:1.5-4": 0.05,
    "blur:0.5-3": 0.05, "selective": 0.05,
}  # fmt: skip
"""What every refiner is calibrated on, with its weight: the router may give any photograph to any of them."""

OWN = {
    "noise": {"noise:0-55": 1.0},
    "jpeg": {"jpeg:8-95": 1.0},
    "photograph": {"photograph:5-12": 0.7, "clean": 0.3},
}
"""What half of an expert's samples are, by its name."""

UNUSUAL = {
    "noise:40-100": 1.0, "jpeg:4-20": 1.0, "photograph:5-12": 1.0, "combined-light": 1.0, "combined": 1.0,
    "lowlight:0.5-4": 1.0, "colour:0.2": 1.0, "lowres:2-6": 0.5, "blur:1-5": 0.5, "clean": 1.0, "selective": 1.0,
    "noise:5-50+jpeg:5-60": 1.0, "jpeg:8-60+noise:3-40": 0.5,
}  # fmt: skip
"""Degradations for which channels must be silent too, with prompts that need not fit."""

SIDE = 192
"""Side of the samples in pixels."""

COUNT, ROUNDING = 200, 64
"""Samples of each refiner, and how many of them say how weights are rounded; there are twice as many unusual ones."""


def write_calibrated(
    name: str, photos: Path, folder: Path, watch: Callable[[str], object], *, count: int = COUNT,
    held_back: Sequence[str] = (),
) -> None:  # fmt: skip
    """Write a model, with its refiners calibrated by a folder of clean photographs, to a new folder.

    `watch` is called with the name of each refiner before its turn. Photographs whose names begin with one of
    `held_back` are left out. UsageError if the model is none that restores by itself; WeightsError if it cannot be
    read; NoImagesError if there is no photograph.
    """
    if folder.exists():
        raise UsageError("it exists already", where=folder, next_step="Name a new folder.")
    source = weights.resolve(name)
    if weights.is_adapter(source) or not weights.is_model(source):
        raise UsageError("only whole models are calibrated", where=name, next_step="Name a model.")
    recipe = TrainingRecipe(held_back=tuple(held_back), validation_photos=1 if held_back else 0)
    found = check_photos(photos, recipe).photos
    model = load_model(name)
    experts = model.experts.names if model.experts else ()
    calibrations: dict[str | None, Calibration] = {}
    for each in (None, *experts):
        watch(each or "general")
        refiner = model.experts.refiner(each, model.refiner) if model.experts and each else model.refiner
        refiner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        samples = _samples(model, OWN.get(each or "", {}), found, count)
        unusual = _unusual(model, found, 2 * count)
        calibrations[each] = calibrate(refiner, samples, rounding=min(ROUNDING, count), unusual=unusual)
    with changed_copy(source, folder) as fresh:
        write_calibrations(fresh / CALIBRATION, calibrations)
        manifest = weights.read_manifest(fresh)
        hashes = {**manifest["sha256"], CALIBRATION: hash_file(fresh / CALIBRATION)}
        write_json(fresh / weights.MANIFEST, {**manifest, "sha256": hashes})


def _samples(
    model: RestorationModel, own: dict[str, float], photos: Sequence[Path], count: int
) -> Iterator[Calibrating]:
    """Photographs degraded as training degrades them, each with the embedding of its prompt."""
    share = 0.5 if own else 1.0
    degradations = {line: weight * share for line, weight in DEGRADATIONS.items()}
    for line, weight in own.items():
        degradations[line] = degradations.get(line, 0) + weight / 2
    for sample in _degraded(degradations, photos, count):
        request = sample["request"] or model.prompts.request(sample["prompt"])
        yield _calibrating(model, sample, model.prompts.wording(sample["prompt"], request))


def _unusual(model: RestorationModel, photos: Sequence[Path], count: int) -> Iterator[Calibrating]:
    """Photographs degraded strongly, each with the embedding of any request."""
    rng = stream("unusual")
    wordings = [model.prompts.wording(request.plain, request) for request in every_request()]
    for sample in _degraded(UNUSUAL, photos, count, synthetic_fraction=0.15):
        yield _calibrating(model, sample, wordings[int(rng.integers(len(wordings)))])


def _degraded(
    degradations: Mapping[str, float], photos: Sequence[Path], count: int, **fields: float
) -> Iterator[Sample]:
    recipe = TrainingRecipe(
        degradations=dict(degradations), patch=SIDE, batch=1, steps=count, quantized_fraction=0.7, backdrops=0.05,
        shrink=0.6, shrink_most=3.0, **fields,  # type: ignore[arg-type]
    )  # fmt: skip
    samples = PhotoSamples(photos, recipe)
    return (samples[index] for index in range(count))


def _calibrating(model: RestorationModel, sample: Sample, wording: str) -> Calibrating:
    degraded_BCHW = sample["degraded"][None].contiguous(memory_format=torch.channels_last)
    return Calibrating(degraded_BCHW, model.prompts.pooled(wording)[None])
