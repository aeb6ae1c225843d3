"""Batches: the same for any number of workers and processes, split into parts, with workers that end."""

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from sanarestore import images
from sanarestore.degradations.grammar import read_grammar
from sanarestore.degradations.pairs import Pair
from sanarestore.degradations.wordings import Language
from sanarestore.errors import UsageError
from sanarestore.training.batching import WORKER_NICENESS, batch_at, batches
from sanarestore.training.data import PairSamples, PhotoSamples, Sample, WordingSamples
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.validation import pair_validation
from tests.conftest import photo


@pytest.fixture
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use English only, because reading all grammars is slow."""
    monkeypatch.setattr("sanarestore.training.data.languages", lambda: (Language(grammar=read_grammar("en")),))


def recipe(**fields: object) -> TrainingRecipe:
    base: dict[str, object] = {"steps": 4, "batch": 3, "patch": 32, "workers": 0, "seed": 5}
    return TrainingRecipe(**{**base, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_for_any_number_of_workers(photos: list[Path], workers: int) -> None:
    samples = PhotoSamples(photos, recipe())
    got = list(batches(samples, recipe(workers=workers), first_step=2))
    assert len(got) == 2
    assert torch.equal(got[0].degraded_BCHW[1], samples[7]["degraded"])
    assert torch.equal(got[0].statistics_BK[1], samples[7]["statistics"])
    assert got[1].prompts[2] == samples[11]["prompt"]


class _Priorities(WordingSamples):
    """Samples with notes on the niceness of their process, and on whether it ignores signals of the terminal."""

    def __getitem__(self, index: int) -> Sample:
        ignores = all(signal.getsignal(each) is signal.SIG_IGN for each in (signal.SIGINT, signal.SIGHUP))
        return {**super().__getitem__(index), "note": f"{os.nice(0)} {ignores}"}


@pytest.mark.usefixtures("english")
@pytest.mark.skipif(not hasattr(os, "nice"), reason="no priorities to give")
def test_workers_run_at_a_lower_priority_and_leave_signals_to_the_training() -> None:
    (batch,) = batches(_Priorities(recipe()), recipe(steps=1, workers=1), first_step=0)
    assert set(batch.notes) == {f"{min(os.nice(0) + WORKER_NICENESS, 19)} True"}


@pytest.mark.usefixtures("english")
def test_closing_the_batches_ends_the_workers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[object] = []

    class Kept(DataLoader[Any]):
        """A loader that keeps its iterators, as a traceback does."""

        def __iter__(self) -> Any:
            kept.append(super().__iter__())
            return kept[-1]

    monkeypatch.setattr("sanarestore.training.batching.DataLoader", Kept)
    found = batches(WordingSamples(recipe()), recipe(steps=50, workers=1), first_step=0)
    next(found)
    assert multiprocessing.active_children()
    found.close()
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [0, 1])
def test_a_pair_of_two_sizes_is_reported_without_a_traceback(tmp_path: Path, workers: int) -> None:
    """The error of a worker process is raised unchanged, without the traceback of that process."""
    for name, size in (("clean", (80, 90)), ("small", (40, 45))):
        images.write(images.Image(pixels_HWC=photo(*size), depth="uint8", format="png"), tmp_path / f"{name}.png")
    pair = Pair(target=tmp_path / "clean.png", degraded=tmp_path / "small.png", prompt="upscale")
    with pytest.raises(UsageError) as refused:
        list(batches(PairSamples([pair], recipe()), recipe(workers=workers), first_step=0))
    assert str(refused.value).startswith(
        f"{tmp_path / 'small.png'}: its size is not that of {tmp_path / 'clean.png'}: "
    )
    assert "45 x 40 and 90 x 80. Enlarge the smaller one first" in str(refused.value)
    assert "Traceback" not in str(refused.value)
    with pytest.raises(UsageError, match="its size is not that of"):
        pair_validation([pair])


def test_processes_and_parts_take_the_samples_of_a_batch_in_order(photos: list[Path]) -> None:
    samples, whole = PhotoSamples(photos, recipe(batch=4)), recipe(batch=4)
    both = [next(batches(samples, whole, 2, rank=rank, count=2)) for rank in range(2)]
    assert [batch.numbers for batch in both] == [range(8, 10), range(10, 12)]
    everything = batch_at(samples, whole, 2)
    assert torch.equal(torch.cat([batch.degraded_BCHW for batch in both]), everything.degraded_BCHW)
    parts = list(everything.parts(2))
    assert [part.numbers for part in parts] == [range(8, 10), range(10, 12)]
    assert [part.prompts for part in parts] == [batch.prompts for batch in both]
    assert torch.equal(parts[1].target_BCHW, both[1].target_BCHW)
