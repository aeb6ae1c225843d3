"""Batches of training samples, prepared by workers in parallel to the training and divided among its processes."""

import os
import signal
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from sanarestore.degradations.grammar import Wording
from sanarestore.degradations.requests import Request
from sanarestore.errors import SanarestoreError
from sanarestore.training.data import Sample
from sanarestore.training.recipe import TrainingRecipe

WORKER_NICENESS = 9
"""Niceness of the processes that prepare samples, added to that of the training process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """The samples of one step."""

    degraded_BCHW: Tensor
    target_BCHW: Tensor
    statistics_BK: Tensor
    prompts: list[str]
    requests: tuple[Request | None, ...]
    """The requests of the prompts; None for prompts that have to be read first."""
    wordings: tuple[Wording, ...] = ()
    """The wordings of the prompts; empty except when the prompt reader is trained."""
    number: int = 0
    """Number of the step."""
    first: int = 0
    """Number of the first sample, counted over the whole run; a sample's number seeds the noise of its loss."""
    notes: tuple[str, ...] = ()
    """Messages for the user about the samples."""
    degraded_latent_BCHW: Tensor | None = None
    """Latents, in batches whose images are empty."""
    target_latent_BCHW: Tensor | None = None
    label: str = ""
    """In validation, the degradation of the samples or another name for their kind."""

    def to(self, device: torch.device) -> "Batch":
        """Move all tensors to a device; images become channels last."""
        degraded, target = (
            image_BCHW.to(device, memory_format=torch.channels_last, non_blocking=True)
            for image_BCHW in (self.degraded_BCHW, self.target_BCHW)
        )
        condition, clean = (
            None if latent_BCHW is None else latent_BCHW.to(device)
            for latent_BCHW in (self.degraded_latent_BCHW, self.target_latent_BCHW)
        )
        return replace(
            self, degraded_BCHW=degraded, target_BCHW=target, statistics_BK=self.statistics_BK.to(device),
            degraded_latent_BCHW=condition, target_latent_BCHW=clean,
        )  # fmt: skip

    @property
    def numbers(self) -> range:
        """Numbers of the samples."""
        return range(self.first, self.first + len(self.prompts))

    def parts(self, count: int) -> Iterator["Batch"]:
        """Split the batch into `count` equal parts; all notes stay with the first."""
        size = len(self.prompts) // count
        for start in range(0, size * count, size):
            part = slice(start, start + size)
            yield replace(
                self, degraded_BCHW=self.degraded_BCHW[part], target_BCHW=self.target_BCHW[part],
                statistics_BK=self.statistics_BK[part], prompts=self.prompts[part], requests=self.requests[part],
                wordings=self.wordings[part], first=self.first + start, notes=() if start else self.notes,
                degraded_latent_BCHW=None if self.degraded_latent_BCHW is None else self.degraded_latent_BCHW[part],
                target_latent_BCHW=None if self.target_latent_BCHW is None else self.target_latent_BCHW[part],
            )  # fmt: skip


class _Numbers(Sampler[list[int]]):
    """Numbers of the samples that one of several processes uses at each step, from a step to the recipe's end."""

    def __init__(self, recipe: TrainingRecipe, first_step: int, rank: int, count: int) -> None:
        self._steps = range(first_step, recipe.steps)
        self._batch = recipe.batch
        self._own = range(recipe.batch * rank // count, recipe.batch * (rank + 1) // count)

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[int]]:
        return ([step * self._batch + place for place in self._own] for step in self._steps)


def batches(
    samples: Dataset[Sample], recipe: TrainingRecipe, first_step: int, *, rank: int = 0, count: int = 1
) -> Generator[Batch, None, None]:
    """Yield the batches of steps `first_step`, `first_step + 1`, ... to the end of the recipe.

    Each of `count` processes takes an equal part of every batch, selected by its `rank`. Closing the generator ends the
    workers.
    """
    own = recipe.batch // count
    numbers = _Numbers(recipe, first_step, rank, count)
    with closing(numbered_batches(samples, numbers, workers=recipe.workers)) as loaded:
        for number, batch in enumerate(loaded, start=first_step):
            yield replace(batch, number=number, first=number * recipe.batch + rank * own)


def numbered_batches(
    samples: Dataset[Sample], numbers: Iterable[list[int]], *, workers: int
) -> Generator[Batch, None, None]:
    """Yield batches of samples by their numbers, prepared in `workers` processes; closing the generator ends the
    processes."""
    loader: DataLoader[Batch | SanarestoreError] = DataLoader(
        _WithErrors(samples),
        batch_sampler=numbers,
        num_workers=workers,
        collate_fn=_collate_or_error,
        worker_init_fn=_lower_priority,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="spawn" if workers else None,
        pin_memory=torch.cuda.is_available(),
    )
    loaded = iter(loader)
    try:
        for batch in loaded:
            if isinstance(batch, SanarestoreError):
                raise batch
            yield batch
    finally:
        # PyTorch ends workers when the iterator is freed, but a traceback, as after Ctrl-C, keeps it until the program
        # ends.
        getattr(loaded, "_shutdown_workers", lambda: None)()


def batch_at(samples: Dataset[Sample], recipe: TrainingRecipe, step: int, *, rank: int = 0, count: int = 1) -> Batch:
    """Return the part of a step's batch for the process `rank` of `count`, prepared in this process."""
    own = recipe.batch // count
    first = step * recipe.batch + rank * own
    return replace(collate([samples[number] for number in range(first, first + own)]), number=step, first=first)


class _WithErrors(Dataset[Any]):
    """Samples that return SanarestoreErrors as values, because a DataLoader would wrap raised ones in its worker's
    traceback."""

    def __init__(self, samples: Dataset[Sample]) -> None:
        self._samples = samples

    def __getitem__(self, index: int) -> Sample | SanarestoreError:
        try:
            return self._samples[index]
        except SanarestoreError as error:
            return error


def _collate_or_error(samples: list[Sample | SanarestoreError]) -> Batch | SanarestoreError:
    errors = [sample for sample in samples if isinstance(sample, SanarestoreError)]
    return errors[0] if errors else collate([sample for sample in samples if not isinstance(sample, SanarestoreError)])


def collate(samples: list[Sample], label: str = "") -> Batch:
    """Stack samples of equal size into a batch."""
    return Batch(
        degraded_BCHW=torch.stack([sample["degraded"] for sample in samples]),
        target_BCHW=torch.stack([sample["target"] for sample in samples]),
        statistics_BK=torch.stack([sample["statistics"] for sample in samples]),
        prompts=[sample["prompt"] for sample in samples],
        requests=tuple(sample["request"] for sample in samples),
        wordings=tuple(sample["wording"] for sample in samples if "wording" in sample),
        notes=tuple(sample["note"] for sample in samples if sample["note"]),
        degraded_latent_BCHW=_stacked([sample.get("degraded_latent") for sample in samples]),
        target_latent_BCHW=_stacked([sample.get("target_latent") for sample in samples]),
        label=label,
    )


def _stacked(tensors: Sequence[Tensor | None]) -> Tensor | None:
    found = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(found) if found else None


def _lower_priority(_worker: int) -> None:
    """Give a worker one thread and, where possible, low priority: a training step waits for its slowest thread.

    Signals of the terminal reach every process, but only the training acts on them; it ends its workers.
    """
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    torch.set_num_threads(1)
    if hasattr(os, "nice"):
        os.nice(WORKER_NICENESS)
