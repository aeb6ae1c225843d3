"""Training samples: photographs or synthetic images, cropped and degraded on the fly, or pairs read from a list.

Sample i is a pure function of (recipe, photos, i). So any number of worker processes, and a run that was interrupted
and resumed, see the same samples in the same order.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sanarestore.degradations.grammar import Wording
from sanarestore.degradations.operations import to_gray
from sanarestore.degradations.pairs import Pair
from sanarestore.degradations.recipes import Plan, stream
from sanarestore.degradations.recipes import Recipe as Degradation
from sanarestore.degradations.requests import LIGHT_AND_COLOUR, Request
from sanarestore.degradations.wordings import languages, word_strangely
from sanarestore.errors import UsageError
from sanarestore.images import Pixels, quantize
from sanarestore.model.colour_correction import colour_statistics, overview
from sanarestore.training.backdrops import before_backdrop
from sanarestore.training.dead_leaves import dead_leaves
from sanarestore.training.photos import CropWindow, Photo, PhotoCache, common_size, readable, to_tensor
from sanarestore.training.recipe import TrainingRecipe

MARGIN = 16
"""Pixels around a crop that are degraded with it and cut off: room for blurs and for shifts of the JPEG grid."""


MOST_DRAWS = 1000
"""Plans drawn for one sample before a recipe counts as asking for neither light nor colour."""


class Sample(TypedDict):
    """One training pair."""

    degraded: Tensor
    """[3, P, P] float32."""
    target: Tensor
    """[3, P, P] float32."""
    statistics: Tensor
    """[K] float32: the `colour_statistics` of the whole degraded photograph."""
    prompt: str
    request: Request | None
    """Request of the prompt; None if the prompt has to be read first."""
    wording: NotRequired[Wording]
    """Wording of the prompt; only in samples for the prompt reader."""
    degraded_latent: NotRequired[Tensor]
    """[C, H, W]: the degraded image's latent, in samples without images (see `latents`)."""
    target_latent: NotRequired[Tensor]
    note: str
    """A message for the user about the sample; usually empty."""


class PhotoSamples(Dataset[Sample]):
    """Pairs made from clean photographs by the recipe: cropped, rotated, degraded and given a prompt."""

    def __init__(self, photos: Sequence[Path], recipe: TrainingRecipe, decoded: Path | None = None) -> None:
        """`decoded` is a folder in which all workers share decoded photos."""
        self.photos = tuple(photos)
        self.recipe = recipe
        self._cache = PhotoCache(decoded)
        self._degradations = [Degradation.parse(line) for line in recipe.degradations]
        weights = np.array(list(recipe.degradations.values()))
        self._edges = np.cumsum(weights / weights.sum())

    def __len__(self) -> int:
        return self.recipe.steps * self.recipe.batch

    def __getitem__(self, index: int) -> Sample:
        recipe = self.recipe
        rng = stream(recipe.seed, "sample", index)
        clean, framed, note = self._drawn_or_photographed(index, rng)
        backdrop = stream(recipe.seed, "backdrop", index)
        if backdrop.random() < recipe.backdrops:
            clean = before_backdrop(clean, backdrop)
        plan = self._plan(rng)
        degraded, target = plan.degraded(clean), plan.target(clean)
        if rng.random() < recipe.quantized_fraction:
            degraded, target = quantize(degraded), quantize(target)
        shift = rng.integers(0, 8, 2) if rng.random() < recipe.jpeg_offset_fraction else np.zeros(2, dtype=np.int64)
        return Sample(
            degraded=self._cut(degraded, shift), target=self._cut(target, shift), prompt=plan.prompt,
            request=plan.request, note=note,
            statistics=statistics_of(on_average(plan.degraded_on_average, framed, gray=clean.shape[2] == 1)),
        )  # fmt: skip

    def _drawn_or_photographed(self, index: int, rng: np.random.Generator) -> tuple[Pixels, Pixels, str]:
        """Return a clean crop with its margin [S, S, C], an overview [h, w, 9] of the image around it, and a note."""
        drawing = stream(self.recipe.seed, "drawing", index)
        if drawing.random() < self.recipe.synthetic_fraction:
            drawn = dead_leaves(self._side, drawing)
            return self._turned(drawn, rng), overview(to_tensor(drawn)).numpy().transpose(1, 2, 0), ""
        photo, note = self._photo(index)
        window = self._most_detailed(photo, rng)
        framed = photo.framing(window, stream(self.recipe.seed, "framing", index))
        return self._turned(photo.square(window, self._side), rng), framed, note

    def _photo(self, index: int) -> tuple[Photo, str]:
        """Choose the photo of a sample, and a note about unreadable ones."""
        path, note = readable(self.photos, self.recipe.seed, index, lambda path: self._cache.photo(path).size)
        return self._cache.photo(path), note

    def _plan(self, rng: np.random.Generator) -> Plan:
        choice = int(np.searchsorted(self._edges, rng.random(), side="right"))
        return self._degradations[min(choice, len(self._degradations) - 1)].draw(rng, int(rng.integers(2**31)))

    @property
    def _side(self) -> int:
        """Side of a crop including its margin, in pixels."""
        return self.recipe.patch + 2 * MARGIN

    def _most_detailed(self, photo: Photo, rng: np.random.Generator) -> CropWindow:
        """Choose the most detailed of a few random windows of random sizes."""
        first, *others = (self._window(photo, rng) for _ in range(self.recipe.candidates))
        # Most recipes try one window, and its detail need not be measured.
        return max(first, *others, key=lambda window: self._detail(photo, window)) if others else first

    def _window(self, photo: Photo, rng: np.random.Generator) -> CropWindow:
        """Draw a window of the photo that becomes a crop with its margin."""
        scale = float(rng.uniform(1, self.recipe.shrink_most)) if rng.random() < self.recipe.shrink else 1.0
        height, width = photo.size
        # Small photos are shrunk less, so that less of the window has to be mirrored.
        span = min(round(self._side * scale), max(self._side, min(height, width)))
        top, left = (int(rng.integers(0, max(size - span, 0) + 1)) for size in (height, width))
        return CropWindow(top, left, span)

    def _detail(self, photo: Photo, window: CropWindow) -> float:
        return photo.detail(window, every=max(window.span // self._side, 1))

    def _turned(self, clean_HWC: Pixels, rng: np.random.Generator) -> Pixels:
        """Rotate and mirror a crop at random, and convert some crops to gray."""
        clean = np.rot90(clean_HWC, int(rng.integers(4)))
        clean = clean[:, ::-1] if rng.random() < 0.5 else clean
        if rng.random() < self.recipe.gray:
            clean = to_gray(clean)
        return np.ascontiguousarray(clean)

    def _cut(self, image_HWC: Pixels, shift: npt.NDArray[np.int64]) -> Tensor:
        top, left = (MARGIN + int(offset) for offset in shift)
        cut = image_HWC[top : top + self.recipe.patch, left : left + self.recipe.patch]
        return to_tensor(cut)


class OverviewSamples(PhotoSamples):
    """Samples for global colour correction: random overview pixels in place of a crop, at a hundredth of the cost.

    All prompts ask for light or colour, because others teach nothing here. Noise, blur, compression and low resolution
    move the extremes of cells: where they are involved, the pixels of a small copy of the photograph are degraded.
    """

    def __init__(self, photos: Sequence[Path], recipe: TrainingRecipe, decoded: Path | None = None) -> None:
        super().__init__(photos, recipe, decoded)
        self._made: dict[int, Sample] = {}

    def __getitem__(self, index: int) -> Sample:
        distinct = self.recipe.distinct_samples
        if not distinct:
            return self._make(index)
        place = index % distinct
        if place not in self._made:
            self._made[place] = self._make(place)
        return self._made[place]

    def _make(self, index: int) -> Sample:
        rng = stream(self.recipe.seed, "tone", index)
        photo, note = self._photo(index)
        top, left = (int(rng.integers(size)) for size in photo.size)
        window = CropWindow(top, left, 1)
        is_gray = rng.random() < self.recipe.gray
        plan = self._asking_plan(rng)
        if any(operation.kind not in LIGHT_AND_COLOUR for operation in plan.operations):
            sample = small_sample(photo.small_framing(window, rng), plan, self.recipe.patch, rng, gray=is_gray)
        else:
            sample = overview_sample(photo.framing(window, rng), plan, self.recipe.patch, rng, gray=is_gray)
        return {**sample, "note": note}

    def _asking_plan(self, rng: np.random.Generator) -> Plan:
        """Draw plans until one asks for light or colour; UsageError if the recipe makes none that do."""
        for _ in range(MOST_DRAWS):
            plan = self._plan(rng)
            if plan.request.is_lit or plan.request.is_coloured:
                return plan
        raise UsageError(
            "hardly any of these degradations asks for light or colour", where="degradations in the recipe",
            next_step="Add colour:0.2 or lowlight:0.5-3.",
        )  # fmt: skip


class WordingSamples(Dataset[Sample]):
    """Samples for the prompt reader: prompts and what they ask for, without any image."""

    def __init__(self, recipe: TrainingRecipe) -> None:
        self.recipe = recipe
        self._languages = languages()

    def __len__(self) -> int:
        return self.recipe.steps * self.recipe.batch

    def __getitem__(self, index: int) -> Sample:
        wording = word_strangely(stream(self.recipe.seed, "wording", index), self._languages)
        nothing = torch.zeros(3, 0, 0)
        return Sample(
            degraded=nothing, target=nothing, statistics=torch.zeros(0), prompt=wording.text, request=wording.request,
            wording=wording, note="",
        )  # fmt: skip


class PairSamples(Dataset[Sample]):
    """Pairs read from disk: the same crop of both images, mirrored together."""

    def __init__(self, pairs: Sequence[Pair], recipe: TrainingRecipe, decoded: Path | None = None) -> None:
        """`decoded` is a folder in which all workers share decoded photos."""
        self.pairs = tuple(pairs)
        self.recipe = recipe
        self._cache = PhotoCache(decoded)

    def __len__(self) -> int:
        return self.recipe.steps * self.recipe.batch

    def __getitem__(self, index: int) -> Sample:
        rng = stream(self.recipe.seed, "sample", index)
        pair, note = readable(self.pairs, self.recipe.seed, index, self._size)
        patch = self.recipe.patch
        height, width = self._size(pair)
        # Crops start on the JPEG grid, as a whole photo does.
        top = int(rng.integers(0, max(height - patch, 0) // 8 + 1)) * 8
        left = int(rng.integers(0, max(width - patch, 0) // 8 + 1)) * 8
        flip = rng.random() < 0.5
        photos = self._cache.pair(pair, self.recipe.scale)
        both = (photo.crop(top, left, patch, patch) for photo in photos)
        prompts = pair.prompts
        choice = stream(self.recipe.seed, "caption", index)
        prompt = prompts[int(choice.integers(len(prompts)))]
        prompt = "" if choice.random() < self.recipe.caption_dropout else prompt
        degraded, target = (to_tensor(image[:, ::-1] if flip else image) for image in both)
        return Sample(
            degraded=degraded,
            target=target,
            prompt=prompt,
            request=None,
            statistics=statistics_of(photos[0].overview),
            note=note,
        )

    def _size(self, pair: Pair) -> tuple[int, int]:
        return common_size(pair, self._cache, self.recipe.scale)


def overview_sample(
    overview_HWC: Pixels, plan: Plan, side: int, rng: np.random.Generator, *, gray: bool = False
) -> Sample:
    """Degrade an overview [h, w, 9] by the plan, and lay out random means of it as a square of `side`."""
    degraded, target = (
        on_average(change, overview_HWC, gray=gray) for change in (plan.degraded_on_average, plan.target_on_average)
    )
    return _of_overviews(degraded, target, plan, side, rng)


def small_sample(clean_HWC: Pixels, plan: Plan, side: int, rng: np.random.Generator, *, gray: bool = False) -> Sample:
    """Degrade a small photograph [H,W,3] by the plan, as stored in 8 bits, and make the sample of its overviews."""
    clean = to_gray(clean_HWC) if gray else clean_HWC
    degraded, target = (
        overview(to_tensor(quantize(change(clean)))).numpy().transpose(1, 2, 0)
        for change in (plan.degraded, plan.target)
    )
    return _of_overviews(degraded, target, plan, side, rng)


def _of_overviews(degraded: Pixels, target: Pixels, plan: Plan, side: int, rng: np.random.Generator) -> Sample:
    """Lay out random means of two overviews [h, w, 9] as squares of `side`."""
    cells = rng.integers(degraded.shape[0] * degraded.shape[1], size=(side, side))
    degraded_PPC, target_PPC = (image[..., :3].reshape(-1, 3)[cells] for image in (degraded, target))
    return Sample(
        degraded=to_tensor(degraded_PPC),
        target=to_tensor(target_PPC),
        prompt=plan.prompt,
        request=plan.request,
        statistics=statistics_of(degraded),
        note="",
    )


def on_average(change: Callable[[Pixels], Pixels], overview_HWC: Pixels, *, gray: bool = False) -> Pixels:
    """Change an overview [h, w, 9], perhaps made gray: changes of means move the extremes of cells alike."""
    # As the rows of one picture, because operations know gray and colour only.
    picture = np.concatenate(np.split(overview_HWC, 3, axis=2))
    changed = change(to_gray(picture) if gray else picture)
    return np.concatenate(np.split(np.broadcast_to(changed, picture.shape), 3), axis=2)


def statistics_of(overview_HWC: Pixels) -> Tensor:
    """Compute the `colour_statistics` [K] of an `overview` [h, w, 9]."""
    return colour_statistics(to_tensor(overview_HWC))


def without_files(samples: Dataset[Sample]) -> Dataset[Sample]:
    """Return the same samples, with decoded photos kept in memory only."""
    other = copy.copy(samples)
    if isinstance(other, PhotoSamples | PairSamples):
        other._cache = PhotoCache()
    return other
