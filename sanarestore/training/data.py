"""Training samples: clean photographs, or pictures drawn, cropped and degraded on the fly, or pairs read from a list.

Sample i is a pure function of (recipe, photos, i): any number of worker processes, and a run that was interrupted and
resumed, see the same samples in the same order.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sanarestore.degradations.grammar import Wording
from sanarestore.degradations.operations import Pixels, resize, to_gray
from sanarestore.degradations.pairs import Pair
from sanarestore.degradations.recipes import Plan, stream
from sanarestore.degradations.recipes import Recipe as Degradation
from sanarestore.degradations.requests import Request
from sanarestore.degradations.wordings import languages, word_strangely
from sanarestore.errors import SanarestoreError
from sanarestore.model.tone import overview, tone_statistics
from sanarestore.training.dead_leaves import dead_leaves
from sanarestore.training.photos import PhotoCache, common_size, detail, readable, to_tensor
from sanarestore.training.recipe import Recipe

MARGIN = 16
"""Pixels around a crop that are degraded with it, so that no blur or grid starts at its border."""

NARROWEST_FRAMING = 0.35
"""Share of a photo's sides that the photograph is taken to have had, at least, when its tone is measured."""

WHOLLY_PLAIN = 0.35
"""Share of the crops with a plain backdrop that show nothing else."""

WORKER_NICENESS = 9
"""Of the processes that make samples, above that of the one that learns from them."""


class Sample(TypedDict):
    """One training pair."""

    degraded: Tensor
    """[3, P, P] float32."""
    target: Tensor
    """[3, P, P] float32."""
    tone: Tensor
    """[K] float32, of the whole degraded photograph."""
    prompt: str
    request: Request | None
    """What the prompt asks for; None where it is to be read first."""
    wording: NotRequired[Wording]
    """What the prompt says, where reading is learnt."""
    note: str
    """What is to be said of it; mostly nothing."""


class PhotoSamples(Dataset[Sample]):
    """Clean photographs, cropped, turned, degraded and worded by the recipe."""

    def __init__(self, photos: Sequence[Path], recipe: Recipe, decoded: Path | None = None) -> None:
        """`decoded` is a folder that all workers keep decoded photos in."""
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
        if rng.random() < recipe.stored:
            degraded, target = _store(degraded), _store(target)
        shift = rng.integers(0, 8, 2) if rng.random() < recipe.shifted else np.zeros(2, dtype=np.int64)
        return Sample(
            degraded=self._cut(degraded, shift), target=self._cut(target, shift), prompt=plan.prompt,
            request=plan.request, note=note,
            tone=tone_of(plan.degraded_on_average(framed if clean.shape[2] == 3 else to_gray(framed))),
        )  # fmt: skip

    def _drawn_or_photographed(self, index: int, rng: np.random.Generator) -> tuple[Pixels, Pixels, str]:
        """A clean crop with its margin [S, S, C], an overview [h, w, 3] of its whole, and what is to be said."""
        drawing = stream(self.recipe.seed, "drawing", index)
        if drawing.random() < self.recipe.drawn:
            drawn = dead_leaves(self._side, drawing)
            return self._turned(drawn, rng), overview(to_tensor(drawn)).numpy().transpose(1, 2, 0), ""
        photo, note = self._photo(index)
        window = self._most_detailed(photo, rng)
        framed = self._framed(photo, window, stream(self.recipe.seed, "framing", index))
        return self._clean(photo, window, rng), framed, note

    def _photo(self, index: int) -> tuple[Path, str]:
        """Whose turn it is, and what is to be said of it."""
        return readable(self.photos, self.recipe.seed, index, self._cache.size)

    def _plan(self, rng: np.random.Generator) -> Plan:
        choice = int(np.searchsorted(self._edges, rng.random(), side="right"))
        return self._degradations[min(choice, len(self._degradations) - 1)].draw(rng, int(rng.integers(2**31)))

    def _most_detailed(self, photo: Path, rng: np.random.Generator) -> tuple[int, int, int]:
        """Of a few random places and scales: top, left and span."""
        places = [self._place(photo, self._side, rng) for _ in range(self.recipe.candidates)]
        return max(places, key=lambda place: self._detail(photo, place, self._side))

    def _framed(self, photo: Path, window: tuple[int, int, int], rng: np.random.Generator) -> Pixels:
        """The overview of a random part of the photo around the middle of the window, as if it were the whole.

        The tones of some dozens of photos would be learnt by heart; those of their parts are many.
        """
        whole = self._cache.overview(photo)
        height, width = self._cache.size(photo)
        top, left, span = window
        share = float(rng.uniform(NARROWEST_FRAMING, 1))
        ranges = []
        for middle, size in zip(((top + span / 2) / height, (left + span / 2) / width), whole.shape[:2], strict=True):
            length = max(1, round(share * size))
            latest = min(int(middle * size), size - length)
            first = int(rng.integers(max(0, min(int(middle * size) - length + 1, latest)), latest + 1))
            ranges.append(slice(first, first + length))
        return whole[ranges[0], ranges[1]]

    @property
    def _side(self) -> int:
        """Of what is cut from a photo, before it is degraded and its margin cut off."""
        return self.recipe.patch + 2 * MARGIN

    def _clean(self, photo: Path, window: tuple[int, int, int], rng: np.random.Generator) -> Pixels:
        """The crop of a window, with its margin [S, S, C], randomly turned."""
        side = self._side
        top, left, span = window
        clean = self._cache.crop(photo, top, left, span, span)
        return self._turned(clean if span == side else np.clip(resize(clean, side, side), 0, 1), rng)

    def _turned(self, clean_HWC: Pixels, rng: np.random.Generator) -> Pixels:
        """Turned and mirrored at random, and some of them gray."""
        clean = np.rot90(clean_HWC, int(rng.integers(4)))
        clean = clean[:, ::-1] if rng.random() < 0.5 else clean
        if rng.random() < self.recipe.gray:
            clean = to_gray(clean)
        return np.ascontiguousarray(clean)

    def _place(self, photo: Path, side: int, rng: np.random.Generator) -> tuple[int, int, int]:
        """Top, left and span of a square of the photo that becomes a crop of `side`."""
        scale = float(rng.uniform(1, self.recipe.shrink_most)) if rng.random() < self.recipe.shrink else 1.0
        height, width = self._cache.size(photo)
        # A photo too small for the scale is taken as it is, rather than mirrored more.
        span = min(round(side * scale), max(side, min(height, width)))
        return int(rng.integers(0, max(height - span, 0) + 1)), int(rng.integers(0, max(width - span, 0) + 1)), span

    def _detail(self, photo: Path, place: tuple[int, int, int], side: int) -> float:
        top, left, span = place
        return detail(self._cache.read(photo), top, left, span, every=max(span // side, 1))

    def _cut(self, image_HWC: Pixels, shift: npt.NDArray[np.int64]) -> Tensor:
        top, left = (MARGIN + int(offset) for offset in shift)
        cut = image_HWC[top : top + self.recipe.patch, left : left + self.recipe.patch]
        return to_tensor(cut)


def before_backdrop(clean_HWC: Pixels, rng: np.random.Generator) -> Pixels:
    """The crop, but one plain colour beyond a line through it, or everywhere; often white, black or saturated."""
    height, width, channels = clean_HWC.shape
    colour = rng.uniform(0, 1, channels) if rng.random() < 0.6 else rng.integers(0, 2, channels)
    stored = np.rint(colour * 255).astype(np.float32) / np.float32(255)
    if rng.random() < WHOLLY_PLAIN:
        return np.broadcast_to(stored, clean_HWC.shape).astype(np.float32)
    angle, place = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.8, 2)
    rows, columns = np.mgrid[:height, :width] / np.array([height, width])[:, None, None] - place[:, None, None]
    beyond_HW = rows * np.sin(angle) + columns * np.cos(angle) > 0
    return np.where(beyond_HW[..., None], stored, clean_HWC).astype(np.float32)


class ToneSamples(PhotoSamples):
    """Nothing but the tones of the photographs: for a crop, as many cells of an overview. They cost a hundredth."""

    def __getitem__(self, index: int) -> Sample:
        rng = stream(self.recipe.seed, "tone", index)
        photo, note = self._photo(index)
        height, width = self._cache.size(photo)
        framed = self._framed(photo, (int(rng.integers(height)), int(rng.integers(width)), 1), rng)
        framed = to_gray(framed) if rng.random() < self.recipe.gray else framed
        return {**tone_sample(framed, self._plan(rng), self.recipe.patch, rng), "note": note}


class WordingSamples(Dataset[Sample]):
    """Nothing but words: prompts, and what they ask for. No photo is looked at."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._languages = languages()

    def __len__(self) -> int:
        return self.recipe.steps * self.recipe.batch

    def __getitem__(self, index: int) -> Sample:
        wording = word_strangely(stream(self.recipe.seed, "wording", index), self._languages)
        nothing = torch.zeros(3, 0, 0)
        return Sample(
            degraded=nothing, target=nothing, tone=torch.zeros(0), prompt=wording.text, request=wording.request,
            wording=wording, note="",
        )  # fmt: skip


class PairSamples(Dataset[Sample]):
    """Pairs already on disk: the same crop of both, turned alike."""

    def __init__(self, pairs: Sequence[Pair], recipe: Recipe, decoded: Path | None = None) -> None:
        """`decoded` is a folder that all workers keep decoded photos in."""
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
        # On the JPEG grid, as a whole photo would be.
        top = int(rng.integers(0, max(height - patch, 0) // 8 + 1)) * 8
        left = int(rng.integers(0, max(width - patch, 0) // 8 + 1)) * 8
        flip = rng.random() < 0.5
        both = (self._cache.crop(path, top, left, patch, patch) for path in (pair.degraded, pair.target))
        degraded, target = (to_tensor(image[:, ::-1] if flip else image) for image in both)
        return Sample(
            degraded=degraded,
            target=target,
            prompt=pair.prompt,
            request=None,
            tone=tone_of(self._cache.overview(pair.degraded)),
            note=note,
        )

    def _size(self, pair: Pair) -> tuple[int, int]:
        return common_size(pair, self._cache)


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """A step's samples."""

    degraded_BCHW: Tensor
    target_BCHW: Tensor
    tone_BK: Tensor
    prompts: list[str]
    requests: tuple[Request | None, ...]
    """What the prompts ask for; None where they are to be read first."""
    wordings: tuple[Wording, ...] = ()
    """What the prompts say, where reading is learnt."""
    number: int = 0
    """Of the step, which names the noise that a loss draws."""
    notes: tuple[str, ...] = ()
    """What is to be said of the samples."""


def batches(samples: Dataset[Sample], recipe: Recipe, first_step: int) -> Iterator[Batch]:
    """The batches of steps `first_step`, `first_step + 1`, ... to the end of the recipe."""
    loader: DataLoader[Batch | SanarestoreError] = DataLoader(
        _Excused(samples),
        batch_size=recipe.batch,
        sampler=range(first_step * recipe.batch, recipe.steps * recipe.batch),
        num_workers=recipe.workers,
        collate_fn=_collate_or_excuse,
        worker_init_fn=_modestly,
        prefetch_factor=4 if recipe.workers else None,
        multiprocessing_context="spawn" if recipe.workers else None,
        pin_memory=torch.cuda.is_available(),
    )
    for number, batch in enumerate(loader, start=first_step):
        if isinstance(batch, SanarestoreError):
            raise batch
        yield replace(batch, number=number)


class _Excused(Dataset[Any]):
    """Samples whose foreseen errors come back as values: a loader would wrap them in its worker's traceback."""

    def __init__(self, samples: Dataset[Sample]) -> None:
        self._samples = samples

    def __getitem__(self, index: int) -> Sample | SanarestoreError:
        try:
            return self._samples[index]
        except SanarestoreError as error:
            return error


def tone_sample(overview_HWC: Pixels, plan: Plan, side: int, rng: np.random.Generator) -> Sample:
    """Cells of an overview, drawn at random and laid out as a square of that side."""
    degraded, target = plan.degraded_on_average(overview_HWC), plan.target_on_average(overview_HWC)
    cells = rng.integers(overview_HWC.shape[0] * overview_HWC.shape[1], size=(side, side))
    degraded_PPC, target_PPC = (image.reshape(-1, image.shape[2])[cells] for image in (degraded, target))
    return Sample(
        degraded=to_tensor(degraded_PPC),
        target=to_tensor(target_PPC),
        prompt=plan.prompt,
        request=plan.request,
        tone=tone_of(degraded),
        note="",
    )


def tone_of(overview_HWC: Pixels) -> Tensor:
    """The statistics of an `overview` [h, w, 3], [K]."""
    return tone_statistics(to_tensor(overview_HWC))


def _store(image_HWC: Pixels) -> Pixels:
    return np.rint(np.clip(image_HWC, 0, 1) * 255).astype(np.float32) / np.float32(255)


def _collate_or_excuse(samples: list[Sample | SanarestoreError]) -> Batch | SanarestoreError:
    errors = [sample for sample in samples if isinstance(sample, SanarestoreError)]
    return errors[0] if errors else collate([sample for sample in samples if not isinstance(sample, SanarestoreError)])


def collate(samples: list[Sample]) -> Batch:
    """Samples of one size as one batch."""
    return Batch(
        degraded_BCHW=torch.stack([sample["degraded"] for sample in samples]),
        target_BCHW=torch.stack([sample["target"] for sample in samples]),
        tone_BK=torch.stack([sample["tone"] for sample in samples]),
        prompts=[sample["prompt"] for sample in samples],
        requests=tuple(sample["request"] for sample in samples),
        wordings=tuple(sample["wording"] for sample in samples if "wording" in sample),
        notes=tuple(sample["note"] for sample in samples if sample["note"]),
    )


def _modestly(_worker: int) -> None:
    """One thread, and where the system has priorities, what time the step leaves: it waits for its slowest thread."""
    torch.set_num_threads(1)
    if hasattr(os, "nice"):
        os.nice(WORKER_NICENESS)
