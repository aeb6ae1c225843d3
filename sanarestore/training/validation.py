"""Validation batches: photos or pairs held back from training, degraded identically at every step of every run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sanarestore.degradations.pairs import Pair
from sanarestore.degradations.recipes import Plan, stream
from sanarestore.degradations.recipes import Recipe as Degradation
from sanarestore.degradations.requests import DEFAULT_PROMPT, Request
from sanarestore.errors import ImageError
from sanarestore.images import Pixels, resize
from sanarestore.training.data import Batch, Sample, collate, overview_sample, statistics_of
from sanarestore.training.photos import PhotoCache, common_size, detail, to_tensor

VALIDATED = ("noise:25", "jpeg:20", "blur:1.6", "lowres:2")
"""Degradations of the validation photos."""

CORRECTIONS_VALIDATED = (("lowlight:2", "lowlight"), ("colour:0.2", "colour"))
"""Degradations that validate global colour correction, and the kind that the prompt asks for."""

OVERVIEW_DRAWS = 8
"""Draws of each degradation per photo."""


def validation_batches(photos: Sequence[Path], side: int = 192) -> list[Batch]:
    """One batch per degradation of `VALIDATED`: the most detailed part of every photo at half size, default prompt."""
    cache = PhotoCache()
    photos = [photo for photo in photos if _is_readable(photo, cache)]
    if not photos:
        return []
    found = []
    for line in VALIDATED:
        samples = []
        for index, photo in enumerate(photos):
            plan = Degradation.parse(line).draw(stream("validation", line, index), 0)
            plan = replace(plan, prompt=DEFAULT_PROMPT, request=Request())
            samples.append(_sample(plan, _sharpest(photo, side, cache), cache.overview(photo)))
        found.append(collate(samples))
    return found


def overview_validation(photos: Sequence[Path], side: int = 64) -> list[Batch]:
    """One batch per degradation and prompt of `CORRECTIONS_VALIDATED`: pixels of overviews, as in `OverviewSamples`."""
    cache = PhotoCache()
    photos = [photo for photo in photos if _is_readable(photo, cache)]
    if not photos:
        return []
    found = []
    for line, kind in CORRECTIONS_VALIDATED:
        request = Request.of(kind)
        samples = []
        for index in range(OVERVIEW_DRAWS * len(photos)):
            rng = stream("validation", line, index)
            plan = replace(Degradation.parse(line).draw(rng, 0), prompt=request.plain, request=request)
            samples.append(overview_sample(cache.overview(photos[index % len(photos)]), plan, side, rng))
        found.append(collate(samples))
    return found


def pair_validation(pairs: Sequence[Pair], side: int = 192) -> list[Batch]:
    """One batch of the middle of every pair, with its own prompt."""
    cache = PhotoCache()
    samples = []
    for pair in pairs:
        height, width = common_size(pair, cache)
        # Crops start on the JPEG grid, as in training.
        top, left = ((max(size - side, 0) // 2) // 8 * 8 for size in (height, width))
        degraded, target = (to_tensor(cache.crop(path, top, left, side, side)) for path in (pair.degraded, pair.target))
        statistics = statistics_of(cache.overview(pair.degraded))
        samples.append(
            Sample(degraded=degraded, target=target, prompt=pair.prompt, request=None, statistics=statistics, note="")
        )
    return [collate(samples)] if samples else []


def _is_readable(photo: Path, cache: PhotoCache) -> bool:
    """Leave out a damaged photo, as training does."""
    try:
        cache.size(photo)
    except ImageError:
        return False
    return True


def _sharpest(photo: Path, side: int, cache: PhotoCache) -> Pixels:
    """Cut the most detailed part, [side, side, 3], at half size, where photos are as sharp as the test sets."""
    height, width = cache.read(photo).shape[:2]
    span = min(2 * side, max(side, min(height, width)))
    top, left = _most_detailed(cache.read(photo), span)
    clean = cache.crop(photo, top, left, span, span)
    return clean if span == side else np.clip(resize(clean, side, side), 0, 1)


def _sample(plan: Plan, clean_HWC: Pixels, overview_HWC: Pixels) -> Sample:
    return Sample(
        degraded=to_tensor(plan.degraded(clean_HWC)),
        target=to_tensor(plan.target(clean_HWC)),
        prompt=plan.prompt,
        request=plan.request,
        statistics=statistics_of(plan.degraded_on_average(overview_HWC)),
        note="",
    )


def _most_detailed(codes_HWC: npt.NDArray[np.generic], span: int) -> tuple[int, int]:
    """Top and left of the most detailed square of a grid: one out of focus cannot measure restored sharpness."""
    height, width = codes_HWC.shape[:2]
    grid = ((top, left) for top in _starts(height, span) for left in _starts(width, span))
    return max(grid, key=lambda place: detail(codes_HWC, place[0], place[1], span, every=2))


def _starts(size: int, span: int) -> list[int]:
    """Starts of adjacent squares along one side; a single centred one if the photo is smaller than a square."""
    return list(range(0, size - span + 1, span)) or [(size - span) // 2]
