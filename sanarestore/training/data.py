"""Training samples: clean photographs cropped and degraded on the fly, or pairs read from a list.

Sample i is a pure function of (recipe, photos, i): any number of worker processes, and a run that was interrupted and
resumed, see the same samples in the same order.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sanarestore import images
from sanarestore.degradations.operations import Pixels, resize, to_gray
from sanarestore.degradations.pairs import Pair
from sanarestore.degradations.recipes import Plan, stream
from sanarestore.degradations.recipes import Recipe as Degradation
from sanarestore.degradations.wordings import DEFAULT_PROMPT
from sanarestore.errors import ImageError, NoImagesError, SanarestoreError, UsageError
from sanarestore.model.tone import overview, tone_statistics
from sanarestore.tiling import mirror
from sanarestore.training.recipe import Recipe

MARGIN = 16
"""Pixels around a crop that are degraded with it, so that no blur or grid starts at its border."""

CACHE_BYTES = 700 * 2**20
"""Decoded photos that each worker keeps; the rest are read again."""


NARROWEST_FRAMING = 0.35
"""Share of a photo's sides that the photograph is taken to have had, at least, when its tone is measured."""

VALIDATED = ("noise:25", "jpeg:20", "blur:1.6", "lowres:2")
"""What validation degrades the photos kept back with."""

TONES_VALIDATED = (
    ("lowlight:2", "brighten this photo"), ("lowlight:2", DEFAULT_PROMPT), ("colour:0.2", "fix the colours"),
    ("colour:0.2", DEFAULT_PROMPT), ("noise:25", DEFAULT_PROMPT),
)  # fmt: skip
"""What the tone is validated with, and how it is asked for."""

TONE_DRAWS = 8
"""Of each, per photo."""

Item = TypeVar("Item")


class Sample(TypedDict):
    """One training pair."""

    degraded: Tensor
    """[3, P, P] float32."""
    target: Tensor
    """[3, P, P] float32."""
    tone: Tensor
    """[K] float32, of the whole degraded photograph."""
    prompt: str
    note: str
    """What is to be said of it; mostly nothing."""


class PhotoCache:
    """The photos last used, decoded, as codes, within `CACHE_BYTES`; of all, their sizes and overviews."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Path, npt.NDArray[np.generic]] = OrderedDict()
        self._bytes = 0
        self._sizes: dict[Path, tuple[int, int]] = {}
        self._overviews: dict[Path, Pixels] = {}

    def read(self, path: Path) -> npt.NDArray[np.generic]:
        """Codes [H, W, C] as the file stores them."""
        if path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path]
        image = images.read(path)
        codes = images.from_float(image.pixels_HWC, image.depth)
        self._sizes[path] = (image.height, image.width)
        self._kept[path] = codes
        self._bytes += codes.nbytes
        while self._bytes > CACHE_BYTES and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return codes

    def size(self, path: Path) -> tuple[int, int]:
        """Height and width; ImageError for what cannot be read."""
        if path not in self._sizes:
            self.read(path)
        return self._sizes[path]

    def overview(self, path: Path) -> Pixels:
        """The whole photo's `overview`, [h, w, 3]."""
        if path not in self._overviews:
            self._overviews[path] = overview(to_tensor(_as_colour(self.read(path)))).numpy().transpose(1, 2, 0)
        return self._overviews[path]

    def crop(self, path: Path, top: int, left: int, height: int, width: int) -> Pixels:
        """A window [height, width, 3] in float, mirrored where it leaves the photo; gray is repeated."""
        codes = self.read(path)
        if top >= 0 and left >= 0 and top + height <= codes.shape[0] and left + width <= codes.shape[1]:
            return _as_colour(codes[top : top + height, left : left + width])
        rows = mirror(np.arange(top, top + height), codes.shape[0])
        columns = mirror(np.arange(left, left + width), codes.shape[1])
        return _as_colour(codes[np.ix_(rows, columns)])


class PhotoSamples(Dataset[Sample]):
    """Clean photographs, cropped, turned, degraded and worded by the recipe."""

    def __init__(self, photos: Sequence[Path], recipe: Recipe) -> None:
        self.photos = tuple(photos)
        self.recipe = recipe
        self._cache = PhotoCache()
        self._degradations = [Degradation.parse(line) for line in recipe.degradations]
        weights = np.array(list(recipe.degradations.values()))
        self._edges = np.cumsum(weights / weights.sum())

    def __len__(self) -> int:
        return self.recipe.steps * self.recipe.batch

    def __getitem__(self, index: int) -> Sample:
        recipe = self.recipe
        rng = stream(recipe.seed, "sample", index)
        photo, note = self._photo(index)
        window = self._most_detailed(photo, rng)
        clean = self._clean(photo, window, rng)
        plan = self._plan(rng)
        degraded, target = plan.degraded(clean), plan.target(clean)
        if rng.random() < recipe.stored:
            degraded, target = _store(degraded), _store(target)
        shift = rng.integers(0, 8, 2) if rng.random() < recipe.shifted else np.zeros(2, dtype=np.int64)
        framed = self._framed(photo, window, stream(recipe.seed, "framing", index))
        return Sample(
            degraded=self._cut(degraded, shift), target=self._cut(target, shift), prompt=plan.prompt,
            tone=_tone(plan.degraded_on_average(framed if clean.shape[2] == 3 else to_gray(framed))), note=note,
        )  # fmt: skip

    def _photo(self, index: int) -> tuple[Path, str]:
        """Whose turn it is, and what is to be said of it."""
        return _readable(self.photos, self.recipe.seed, index, self._cache.size)

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
        clean = clean if span == side else np.clip(resize(clean, side, side), 0, 1)
        clean = np.rot90(clean, int(rng.integers(4)))
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
        return _detail(self._cache.read(photo), top, left, span, every=max(span // side, 1))

    def _cut(self, image_HWC: Pixels, shift: npt.NDArray[np.int64]) -> Tensor:
        top, left = (MARGIN + int(offset) for offset in shift)
        cut = image_HWC[top : top + self.recipe.patch, left : left + self.recipe.patch]
        return to_tensor(cut)


class ToneSamples(PhotoSamples):
    """Nothing but the tones of the photographs: for a crop, as many cells of an overview. They cost a hundredth."""

    def __getitem__(self, index: int) -> Sample:
        rng = stream(self.recipe.seed, "tone", index)
        photo, note = self._photo(index)
        height, width = self._cache.size(photo)
        framed = self._framed(photo, (int(rng.integers(height)), int(rng.integers(width)), 1), rng)
        framed = to_gray(framed) if rng.random() < self.recipe.gray else framed
        return {**_tones(framed, self._plan(rng), self.recipe.patch, rng), "note": note}


class PairSamples(Dataset[Sample]):
    """Pairs already on disk: the same crop of both, turned alike."""

    def __init__(self, pairs: Sequence[Pair], recipe: Recipe) -> None:
        self.pairs = tuple(pairs)
        self.recipe = recipe
        self._cache = PhotoCache()

    def __len__(self) -> int:
        return self.recipe.steps * self.recipe.batch

    def __getitem__(self, index: int) -> Sample:
        rng = stream(self.recipe.seed, "sample", index)
        pair, note = _readable(self.pairs, self.recipe.seed, index, self._size)
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
            tone=_tone(self._cache.overview(pair.degraded)),
            note=note,
        )

    def _size(self, pair: Pair) -> tuple[int, int]:
        return _common_size(pair, self._cache)


def _readable(items: Sequence[Item], seed: int, index: int, look: Callable[[Item], object]) -> tuple[Item, str]:
    """Sample `index`'s item, each once an epoch in an order of the epoch's own; one that cannot be read gives way to
    the next, with a sentence about it, so that the samples stay a function of what there is."""
    epoch, place = divmod(index, len(items))
    order = stream(seed, "epoch", epoch).permutation(len(items))
    note = ""
    for number in (*order[place:], *order[:place]):
        item = items[int(number)]
        try:
            look(item)
        except ImageError as error:
            note = note or f"{error} It is left out."
        else:
            return item, note
    raise NoImagesError("not one of them can be read", where=str(items[0]), next_step=note)


def _common_size(pair: Pair, cache: PhotoCache) -> tuple[int, int]:
    """Height and width of both images of a pair; UsageError if they differ."""
    degraded, target = cache.size(pair.degraded), cache.size(pair.target)
    if degraded != target:
        sizes = " and ".join(f"{width} x {height}" for height, width in (degraded, target))
        raise UsageError(
            f"its size is not that of {pair.target}: {sizes}", where=pair.degraded,
            next_step="Enlarge the smaller one first: pixels are compared one by one.",
        )  # fmt: skip
    return target


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """A step's samples."""

    degraded_BCHW: Tensor
    target_BCHW: Tensor
    tone_BK: Tensor
    prompts: list[str]
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
        worker_init_fn=_one_thread,
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


def hold_back(photos: Sequence[Item], count: int) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Photos or pairs to train on and `count` to validate on, spread evenly over the list."""
    count = min(count, len(photos) // 2)
    kept = {(2 * index + 1) * len(photos) // (2 * count) for index in range(count)}
    train = tuple(photo for index, photo in enumerate(photos) if index not in kept)
    return train, tuple(photos[index] for index in sorted(kept))


def hold_back_pairs(pairs: Sequence[Pair], count: int) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """Pairs to train on, and one of each of `count` photos to validate on, of which no other pair is trained on."""
    photos, held = hold_back(list(dict.fromkeys(pair.target for pair in pairs)), count)
    kept = []
    for number, photo in enumerate(held):
        variants = [pair for pair in pairs if pair.target == photo]
        # Another variant of each, so that all kinds of degradation come.
        kept.append(variants[number % len(variants)])
    return tuple(pair for pair in pairs if pair.target in set(photos)), tuple(kept)


def validation_batches(photos: Sequence[Path], side: int = 192) -> list[Batch]:
    """One batch per degradation of `VALIDATED`: the most detailed part of every photo at half size, default prompt."""
    cache = PhotoCache()
    found = []
    for line in VALIDATED:
        samples = []
        for index, photo in enumerate(photos):
            height, width = cache.read(photo).shape[:2]
            # At half size, where photographs are as sharp as those that restoration is measured on.
            span = min(2 * side, max(side, min(height, width)))
            top, left = _most_detailed(cache.read(photo), span)
            clean = cache.crop(photo, top, left, span, span)
            clean = clean if span == side else np.clip(resize(clean, side, side), 0, 1)
            plan = Degradation.parse(line).draw(stream("validation", line, index), 0)
            samples.append(
                Sample(
                    degraded=to_tensor(plan.degraded(clean)), target=to_tensor(clean), prompt=DEFAULT_PROMPT,
                    tone=_tone(plan.degraded_on_average(cache.overview(photo))), note="",
                )
            )  # fmt: skip
        found.append(_collate(samples))
    return found if photos else []


def tone_validation(photos: Sequence[Path], side: int = 64) -> list[Batch]:
    """One batch per degradation and prompt of `TONES_VALIDATED`: cells of the photos' overviews, for `ToneSamples`."""
    if not photos:
        return []
    cache = PhotoCache()
    found = []
    for line, prompt in TONES_VALIDATED:
        samples = []
        for index in range(TONE_DRAWS * len(photos)):
            rng = stream("validation", line, index)
            plan = replace(Degradation.parse(line).draw(rng, 0), prompt=prompt)
            samples.append(_tones(cache.overview(photos[index % len(photos)]), plan, side, rng))
        found.append(_collate(samples))
    return found


def _tones(overview_HWC: Pixels, plan: Plan, side: int, rng: np.random.Generator) -> Sample:
    """Cells of an overview, drawn at random and laid out as a square of that side."""
    degraded, target = plan.degraded_on_average(overview_HWC), plan.target_on_average(overview_HWC)
    cells = rng.integers(overview_HWC.shape[0] * overview_HWC.shape[1], size=(side, side))
    degraded_PPC, target_PPC = (image.reshape(-1, image.shape[2])[cells] for image in (degraded, target))
    return Sample(
        degraded=to_tensor(degraded_PPC),
        target=to_tensor(target_PPC),
        prompt=plan.prompt,
        tone=_tone(degraded),
        note="",
    )


def _detail(codes_HWC: npt.NDArray[np.generic], top: int, left: int, span: int, *, every: int) -> float:
    """Mean absolute difference of neighbours in a square, at about the scale that it will be shrunk to."""
    codes = codes_HWC[top : top + span : every, left : left + span : every].astype(np.float32)
    return float(sum(np.abs(np.diff(codes, axis=axis)).mean() for axis in (0, 1) if codes.shape[axis] > 1))


def _most_detailed(codes_HWC: npt.NDArray[np.generic], span: int) -> tuple[int, int]:
    """Top and left of that square, of a grid of them: one out of focus says nothing of restoring sharpness."""
    height, width = codes_HWC.shape[:2]
    grid = ((top, left) for top in _starts(height, span) for left in _starts(width, span))
    return max(grid, key=lambda place: _detail(codes_HWC, place[0], place[1], span, every=2))


def _starts(size: int, span: int) -> list[int]:
    """Where squares begin along one side, edge to edge; centred where the photo is smaller than one."""
    return list(range(0, size - span + 1, span)) or [(size - span) // 2]


def pair_validation(pairs: Sequence[Pair], side: int = 192) -> list[Batch]:
    """The middle of every pair, with its own prompt."""
    cache = PhotoCache()
    samples = []
    for pair in pairs:
        height, width = _common_size(pair, cache)
        # On the JPEG grid, as training crops are.
        top, left = ((max(size - side, 0) // 2) // 8 * 8 for size in (height, width))
        degraded, target = (to_tensor(cache.crop(path, top, left, side, side)) for path in (pair.degraded, pair.target))
        tone = _tone(cache.overview(pair.degraded))
        samples.append(Sample(degraded=degraded, target=target, prompt=pair.prompt, tone=tone, note=""))
    return [_collate(samples)] if samples else []


def to_tensor(image_HWC: Pixels) -> Tensor:
    """[H, W, 1 or 3] -> [3, H, W]."""
    colour = np.repeat(image_HWC, 3, axis=2) if image_HWC.shape[2] == 1 else image_HWC
    return torch.from_numpy(np.ascontiguousarray(colour.transpose(2, 0, 1)))


def _as_colour(codes_HWC: npt.NDArray[np.generic]) -> Pixels:
    depth: images.Depth = codes_HWC.dtype.name  # type: ignore[assignment]
    pixels = images.to_float(codes_HWC, depth)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def _tone(overview_HWC: Pixels) -> Tensor:
    return tone_statistics(to_tensor(overview_HWC))


def _store(image_HWC: Pixels) -> Pixels:
    return np.rint(np.clip(image_HWC, 0, 1) * 255).astype(np.float32) / np.float32(255)


def _collate_or_excuse(samples: list[Sample | SanarestoreError]) -> Batch | SanarestoreError:
    errors = [sample for sample in samples if isinstance(sample, SanarestoreError)]
    return errors[0] if errors else _collate([sample for sample in samples if not isinstance(sample, SanarestoreError)])


def _collate(samples: list[Sample]) -> Batch:
    return Batch(
        degraded_BCHW=torch.stack([sample["degraded"] for sample in samples]),
        target_BCHW=torch.stack([sample["target"] for sample in samples]),
        tone_BK=torch.stack([sample["tone"] for sample in samples]),
        prompts=[sample["prompt"] for sample in samples],
        notes=tuple(sample["note"] for sample in samples if sample["note"]),
    )


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)
