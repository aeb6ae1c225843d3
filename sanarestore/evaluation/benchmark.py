"""Run methods on the images of a set and score each result.

A score belongs to one image, case, method and seed.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from sanarestore import __version__
from sanarestore.degradations.operations import to_gray
from sanarestore.engine.devices import describe
from sanarestore.engine.tiles import is_out_of_memory
from sanarestore.errors import OutOfMemory, UsageError
from sanarestore.evaluation.datasets import Item
from sanarestore.evaluation.flat_fields import FlatField
from sanarestore.evaluation.memory import PeakMemory
from sanarestore.evaluation.metrics import luma, psnr, psnr_b, sharpness, ssim, to_8bit
from sanarestore.evaluation.perceptual import Perceptual
from sanarestore.evaluation.rows import DEGRADED, Score
from sanarestore.evaluation.tasks import CLEAN, Case, Example
from sanarestore.files import hash_file
from sanarestore.images import Pixels

MOST_DECIBELS = 100.0
"""Largest PSNR counted, in dB, as for an image without any error, so that means stay finite."""

SMALLEST_WINDOW = 16
"""Side in pixels below which SSIM and PSNR-B are not computed."""


class Method(ABC):
    """A restoration method to measure."""

    name: str
    settings: str
    """Fingerprint of everything that determines its results, except the kind of device and this package's version."""
    details: str = ""
    """The settings that are shown with its figures, in words."""
    best_of: str | None = None
    """Name shared with other methods, of which a report shows only the best for each case; None if it is always
    shown."""
    prompt: str | None = None
    """Prompt used where a trial has none; None for an unprompted run."""
    seeds: Sequence[int] = (0,)
    parameters: int | None = None
    """Parameters of the networks that process an image; None for a method without networks."""
    device = torch.device("cpu")
    """Device that it computes on."""
    reads_prompts = False
    """Whether the prompt can change its result."""

    @property
    def identity(self) -> str:
        """Settings, kind of device and version; a kept score is reused only if all three are the same."""
        return f"{self.settings}@{self.device.type}, {__version__}"

    @property
    def conditions(self) -> str:
        """The conditions of the computation, such as weights and device, in words."""
        return ", ".join(filter(None, [self.details, describe(self.device)]))

    def prepare(self, prompt: str | None, seed: int) -> None:  # noqa: B027 - most methods have nothing to load
        """Load everything that `__call__` needs, so that its time and memory do not include loading."""

    @abstractmethod
    def __call__(self, trial: Example, prompt: str | None, seed: int) -> Pixels:
        """Restore the degraded image, in its shape and without rounding; `prompt` is the trial's right or wrong one."""


class Degraded(Method):
    """The degraded input, unchanged."""

    name = DEGRADED
    settings = ""

    def __call__(self, trial: Example, prompt: str | None, seed: int) -> Pixels:
        return trial.degraded_HWC


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Everything to be scored; can be pickled for another process."""

    dataset: str
    items: tuple[Item | FlatField, ...]
    cases: tuple[Case, ...]
    methods: Callable[[str], Sequence[Method]]
    """Makes the methods for a device; a module-level function or a partial of one, so that it can be pickled."""
    gray: bool = False
    """Convert the set's images to gray first: BT.601 luma in full swing, rounded to 8 bits."""
    metrics: tuple[str, ...] = ()
    """Perceptual metrics to compute as well, out of `perceptual.METRICS`."""

    captions: bool = True
    """Use each image's own prompt: the one in a list of pairs, or one that names light and colour where a recipe
    changes them. The task `prompts` always uses its own; clean images never use a list's."""

    def protocol(self, case: Case) -> str:
        """Name and version of the protocol, and whether images are converted to gray."""
        return f"{case.protocol}, gray" if self.gray else case.protocol

    def on(self, device: str, known: Mapping[tuple[object, ...], Score]) -> "Bench":
        """Make the methods on one device; scores in `known`, by their keys, are not measured again."""
        return Bench(self, device, known)


class Bench:
    """A benchmark on one device."""

    def __init__(self, plan: Benchmark, device: str, known: Mapping[tuple[object, ...], Score]) -> None:
        self._plan = plan
        self._methods = plan.methods(device)
        self._known = known
        self._perceptual = Perceptual(plan.metrics, device)

    def item(self, number: int) -> Iterator[Score]:
        """Yield all scores of one image; known scores are not measured again."""
        item = self._plan.items[number]
        place = _Place(self._plan.dataset, item.name, _hash(item))
        read = cache(lambda: self._read(item))
        for case in self._plan.cases:
            # Lazy, so that the image is not read and degraded where all scores are known.
            trial = cache(partial(self._trial, case, read, number))
            for method in self._of(case):
                first = cache(partial(self._first, method, trial))
                for seed in method.seeds:
                    known = self._known.get(self._key(place, case, method, seed))
                    yield known or self._score(place, case, method, seed, trial(), first)

    def pictures(self, number: int, case: Case, names: Collection[str]) -> dict[str, Pixels]:
        """Return by name the results of the named methods on one image (`DEGRADED` is the input), and its target."""
        trial = self._trial(case, lambda: self._read(self._plan.items[number]), number)
        shown = [method for method in self._of(case) if method.name in names]
        made = {method.name: method(trial, trial.prompt, method.seeds[0]) for method in shown}
        return {**made, "target": trial.target_HWC}

    def _of(self, case: Case) -> list[Method]:
        """Return the methods of a case, with the degraded input first if the case degrades."""
        return [*([Degraded()] if case.degrades else []), *self._methods]

    def _key(self, place: "_Place", case: Case, method: Method, seed: int) -> tuple[object, ...]:
        protocol = self._plan.protocol(case)
        where = (place.dataset, case.task, case.level, protocol, case.draw, place.item, place.sha256)
        return (*where, method.name, method.identity, seed, self._perceptual.names)

    def _score(
        self, place: "_Place", case: Case, method: Method, seed: int, trial: Example, first: Callable[[], Pixels]
    ) -> Score:
        method.prepare(trial.prompt, seed)
        watch, begun = PeakMemory(method.device), time.perf_counter()
        try:
            restored_HWC = method(trial, trial.prompt, seed)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(
                f"{method.name} does not fit into memory with it", where=place.item,
                next_step="Leave that method out, or use smaller images; what is measured is kept with -o.",
            ) from error  # fmt: skip
        seconds, memory = time.perf_counter() - begun, watch.taken()
        judged = _judged(restored_HWC, trial), _judged(trial.target_HWC, trial)
        wrong = None
        if trial.wrong_prompt is not None and method.reads_prompts:
            wrong = _finite(psnr(_judged(method(trial, trial.wrong_prompt, seed), trial), judged[1]))
        height, width, channels = judged[1].shape
        large = min(height, width) >= SMALLEST_WINDOW
        return Score(
            dataset=place.dataset, item=place.item, sha256=place.sha256,
            task=case.task, level=case.level, protocol=self._plan.protocol(case), draw=case.draw,
            method=method.name, best_of=method.best_of, settings=method.identity, seed=seed,
            prompt=(trial.prompt or method.prompt or "") if method.reads_prompts else None,
            conditions=method.conditions,
            psnr=_finite(psnr(*judged)),
            ssim=ssim(*judged) if large else None,
            # Gray images have a PSNR-Y too for super-resolution, whose sets mix gray and colour.
            psnr_y=_finite(psnr(luma(judged[0]), luma(judged[1]))) if channels == 3 or case.task == "sr" else None,
            ssim_y=ssim(luma(judged[0]), luma(judged[1])) if large and case.task == "sr" else None,
            psnr_b=_finite(psnr_b(*judged)) if case.task == "jpeg" and large else None,
            largest_change=_largest_change(*judged) if case.task == CLEAN else None,
            wrong_psnr=wrong, sharpness=sharpness(*judged),
            agreement=_finite(psnr(restored_HWC, first())) if seed != method.seeds[0] else None,
            parameters=method.parameters, memory=memory,
            seconds=seconds, megapixels=trial.target_HWC.shape[0] * trial.target_HWC.shape[1] / 1e6,
            metrics=self._perceptual.names, **self._perceptual(*judged),
        )  # fmt: skip

    def _first(self, method: Method, trial: Callable[[], Example]) -> Pixels:
        """Restore with the method's first seed, as the reference for the other seeds."""
        return method(trial(), trial().prompt, method.seeds[0])

    def _trial(self, case: Case, read: Callable[[], tuple[Pixels, Pixels | None]], number: int) -> Example:
        clean, degraded = read()
        item = self._plan.items[number]
        if degraded is not None and degraded.shape != clean.shape:
            sizes = " and ".join(f"{each.shape[1]} x {each.shape[0]} x {each.shape[2]}" for each in (degraded, clean))
            raise UsageError(
                f"is not of the size of {item.files[0]}: {sizes}", where=item.files[1],
                next_step="Make them of one size, both gray or both colour.",
            )  # fmt: skip
        trial = case.trial(clean, degraded, number)
        if trial.wrong_prompt is not None:
            return trial
        listed = item.prompt if case.degrades else None
        return replace(trial, prompt=(trial.prompt or listed) if self._plan.captions else None)

    def _read(self, item: Item | FlatField) -> tuple[Pixels, Pixels | None]:
        clean, degraded = item.read()
        if self._plan.gray:
            return _rounded_gray(clean), None if degraded is None else _rounded_gray(degraded)
        return clean, degraded


@dataclass(frozen=True, slots=True)
class _Place:
    dataset: str
    item: str
    sha256: str


def _hash(item: Item | FlatField) -> str:
    """Return the hash of an item's file, or of both files of a pair."""
    return " ".join(_hash_file(path) for path in item.files)


@cache
def _hash_file(path: Path) -> str:
    # Cached, because a thousand pairs may be blocks of two large files.
    return hash_file(path)


def _judged(image_HWC: Pixels, trial: Example) -> npt.NDArray[np.float64]:
    border = trial.border
    inner = image_HWC[border : image_HWC.shape[0] - border, border : image_HWC.shape[1] - border]
    return to_8bit(inner)


def _largest_change(image_HWC: npt.NDArray[np.float64], reference_HWC: npt.NDArray[np.float64]) -> int:
    """Return the largest difference of any value, in 8-bit codes; both images are rounded to such codes."""
    return round(float(np.abs(image_HWC - reference_HWC).max()) * 255)


def _rounded_gray(image_HWC: Pixels) -> Pixels:
    return to_8bit(to_gray(image_HWC)).astype(np.float32)


def _finite(decibels: float) -> float:
    return min(decibels, MOST_DECIBELS)
