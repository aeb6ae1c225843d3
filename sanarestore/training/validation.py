"""Validation batches: photos or pairs held back from training, degraded identically at every step of every run."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sanarestore.degradations.pairs import Pair
from sanarestore.degradations.recipes import Plan, stream
from sanarestore.degradations.recipes import Recipe as Degradation
from sanarestore.degradations.requests import DEFAULT_PROMPT, Request
from sanarestore.errors import ImageError
from sanarestore.images import Pixels
from sanarestore.training.batching import Batch, collate
from sanarestore.training.data import Sample, on_average, overview_sample, statistics_of
from sanarestore.training.photos import CropWindow, Photo, PhotoCache, common_size, to_tensor

VALIDATED = ("noise:25", "jpeg:20", "blur:1.6", "lowres:2")
"""Degradations of the validation photos."""

CORRECTIONS_VALIDATED = (("lowlight:2", "lowlight"), ("colour:0.2", "colour"))
"""Degradations that validate global colour correction, and the kind that the prompt asks for."""

UNPROMPTED = "no caption"
"""Label of pairs that have neither label nor caption."""

OVERVIEW_DRAWS = 8
"""Draws of each degradation per photo."""


def validation_batches(paths: Sequence[Path], side: int = 192) -> list[Batch]:
    """One batch per degradation of `VALIDATED`: the most detailed part of every photo at half size, default prompt."""
    photos = _readable(paths)
    if not photos:
        return []
    found = []
    for line in VALIDATED:
        samples = []
        for index, photo in enumerate(photos):
            plan = Degradation.parse(line).draw(stream("validation", line, index), 0)
            plan = replace(plan, prompt=DEFAULT_PROMPT, request=Request())
            samples.append(_sample(plan, _sharpest(photo, side), photo.overview))
        found.append(collate(samples, line))
    return found


def overview_validation(paths: Sequence[Path], side: int = 64) -> list[Batch]:
    """One batch per degradation and prompt of `CORRECTIONS_VALIDATED`: pixels of overviews, as in `OverviewSamples`."""
    photos = _readable(paths)
    if not photos:
        return []
    found = []
    for line, kind in CORRECTIONS_VALIDATED:
        request = Request.of(kind)
        samples = []
        for index in range(OVERVIEW_DRAWS * len(photos)):
            rng = stream("validation", line, index)
            plan = replace(Degradation.parse(line).draw(rng, 0), prompt=request.plain, request=request)
            samples.append(overview_sample(photos[index % len(photos)].overview, plan, side, rng))
        found.append(collate(samples, line))
    return found


def pair_validation(pairs: Sequence[Pair], side: int = 192, *, scale: int = 1) -> list[Batch]:
    """A batch for each label, of the middle of every pair, with its own prompt; inputs are enlarged `scale` times.

    The label of a pair names the operations that made it; in lists without labels, it is the caption. If all labels
    differ, levels are left out of them.
    """
    cache = PhotoCache()
    samples: dict[str, list[Sample]] = {}
    for pair in pairs:
        photos = cache.pair(pair, scale)
        height, width = common_size(pair, cache, scale)
        # Crops start on the JPEG grid, as in training.
        top, left = ((max(size - side, 0) // 2) // 8 * 8 for size in (height, width))
        degraded, target = (to_tensor(photo.crop(top, left, side, side)) for photo in photos)
        samples.setdefault(_label_of(pair, pairs), []).append(
            Sample(
                degraded=degraded, target=target, prompt=pair.prompts[0], request=None, note="",
                statistics=statistics_of(photos[0].overview),
            )
        )  # fmt: skip
    return [collate(alike, label) for label, alike in samples.items()]


def _label_of(pair: Pair, pairs: Sequence[Pair]) -> str:
    # Random levels all differ, and would leave one pair for each label.
    are_drawn = len(pairs) > 1 and len({each.label for each in pairs}) == len(pairs)
    label = re.sub(r":[\d.]+", "", pair.label) if are_drawn else pair.label
    return label or pair.prompts[0] or UNPROMPTED


def _readable(paths: Sequence[Path]) -> list[Photo]:
    """The photos at the paths; damaged ones are left out, as training does."""
    cache = PhotoCache()
    return [photo for photo in map(cache.photo, paths) if _is_readable(photo)]


def _is_readable(photo: Photo) -> bool:
    try:
        return bool(photo.size)
    except ImageError:
        return False


def _sharpest(photo: Photo, side: int) -> Pixels:
    """Cut the most detailed part, [side, side, 3], at half size, where photos are as sharp as the test sets."""
    span = min(2 * side, max(side, min(photo.size)))
    return photo.square(_most_detailed(photo, span), side)


def _sample(plan: Plan, clean_HWC: Pixels, overview_HWC: Pixels) -> Sample:
    return Sample(
        degraded=to_tensor(plan.degraded(clean_HWC)),
        target=to_tensor(plan.target(clean_HWC)),
        prompt=plan.prompt,
        request=plan.request,
        statistics=statistics_of(on_average(plan.degraded_on_average, overview_HWC)),
        note="",
    )


def _most_detailed(photo: Photo, span: int) -> CropWindow:
    """The most detailed square of a grid: one out of focus cannot measure restored sharpness."""
    height, width = photo.size
    grid = (CropWindow(top, left, span) for top in _starts(height, span) for left in _starts(width, span))
    return max(grid, key=lambda window: photo.detail(window, every=2))


def _starts(size: int, span: int) -> list[int]:
    """Starts of adjacent squares along one side; a single centred one if the photo is smaller than a square."""
    return list(range(0, size - span + 1, span)) or [(size - span) // 2]
