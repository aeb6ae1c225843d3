"""Several processes: the same steps as one, sharded weights, and what launchers say."""

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from torch import Tensor
from torch.distributed.tensor import DTensor

from sanarestore import images
from sanarestore.errors import UsageError
from sanarestore.model.prompts import PromptEncoder
from sanarestore.training.data import PhotoSamples
from sanarestore.training.loop import Trainer
from sanarestore.training.objectives import new_objective
from sanarestore.training.progress import Schedule
from sanarestore.training.ranks import Ranks
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.starting import Start
from tests.conftest import photo
from tests.published import TINY_RECIPE, write_published

RECIPE = replace(
    TINY_RECIPE, steps=3, batch=4, learning_rate=1e-3, warmup=1, workers=0, validation_photos=0, draws=2,
    checkpoint_every=0, degradations={"noise:30": 1.0, "lowlight:2": 1.0},
)  # fmt: skip
"""Some prompts ask for light and others do not, so that one process may lack gradients that another one has."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{index}.png" for index in range(3)]
    for index, path in enumerate(paths):
        images.write(images.Image(pixels_HWC=photo(96, 96, seed=index), depth="uint8", format="png"), path)
    return paths


def trained(
    folder: Path, photos: list[Path], recipe: TrainingRecipe, ranks: Ranks, *, base: str | None = None,
    sharded: bool = False, steps: int = 3,
) -> Trainer:  # fmt: skip
    """Train by a recipe, from the folder's checkpoint on if there is one."""
    objective = new_objective(recipe, Start(base=base))
    trainer = Trainer(folder, objective, recipe, Schedule(sharded=sharded), ranks=ranks)
    if (folder / "checkpoint").exists():
        trainer.resume()
    trainer.begin()
    running = trainer.run(PhotoSamples(photos, recipe))
    for progress in running:
        if progress.step == steps:
            running.close()
    return trainer


def in_processes(count: int, work: Callable[..., None], *arguments: Any) -> None:
    """Run `work(ranks, *arguments)` in several processes that exchange tensors on the CPU."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_one_of, (count, port, work, arguments), nprocs=count)  # type: ignore[no-untyped-call]


def _one_of(rank: int, count: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)
    }  # fmt: skip
    ranks = Ranks.joined(torch.device("cpu"))
    try:
        work(ranks, *arguments)
    finally:
        ranks.leave()


REPLICATED = {
    name: replace(RECIPE, objective=name, teacher=True, tangent_warmup=2) for name in ("refiner", "distillation")
}
"""Recipes that are trained with the same weights in every process."""

SHARDED = replace(RECIPE, objective="flow", optimizer="adamw")


def train_everything(ranks: Ranks, folder: Path, photos: list[Path]) -> None:
    """Train by every recipe, each in a folder of its own, from the base beside it."""
    for name, recipe in REPLICATED.items():
        trained(folder / name / "two", photos, recipe, ranks, base=str(folder / name / "base"))
    # Blocks are gathered again in the backward pass.
    sparing = replace(SHARDED, gradient_checkpointing=True)
    train_sharded(ranks, folder / "sharded/two", photos, sparing, str(folder / "sharded/base"))


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory, photos: list[Path], encoder: PromptEncoder) -> Iterator[Path]:
    """The folder of everything that two processes have trained; they are started once, since each imports torch."""
    folder = tmp_path_factory.mktemp("together")
    for name in REPLICATED:
        before = replace(RECIPE, objective="flow") if name == "distillation" else RECIPE
        new_objective(before).save(folder / name / "base", before, {})
    write_published(folder / "sharded/base", encoder)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        in_processes(2, train_everything, folder, photos)
        yield folder


@pytest.mark.parametrize("objective", REPLICATED)
def test_two_processes_equal_one(objective: str, tmp_path: Path, photos: list[Path], together: Path) -> None:
    base, recipe = str(together / objective / "base"), REPLICATED[objective]
    one = trained(tmp_path / "one", photos, recipe, Ranks(), base=base)
    two = resumed(together / objective / "two", recipe, base)
    assert two.step == one.step == 3
    assert_close(weights_of(one), weights_of(two), beginning(recipe, base))


def resumed(folder: Path, recipe: TrainingRecipe, base: str | None = None) -> Trainer:
    """One process that has loaded the checkpoint of several."""
    trainer = Trainer(folder, new_objective(recipe, Start(base=base)), recipe, Schedule())
    trainer.resume()
    return trainer


def beginning(recipe: TrainingRecipe, base: str | None = None) -> dict[str, Tensor]:
    """The trained weights before training."""
    return dict(new_objective(recipe, Start(base=base)).modules.state_dict())


def weights_of(trainer: Trainer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.objective.modules.state_dict().items()}


def assert_close(some: dict[str, Tensor], others: dict[str, Tensor], start: dict[str, Tensor]) -> None:
    """The ways that two trainings have gone differ by less than a hundredth of their length.

    Not every weight: where a gradient is 0 up to rounding, AdamW's first steps follow its sign.
    """
    assert some.keys() == others.keys() <= start.keys()
    apart, gone = (
        torch.cat([(one[name] - other[name]).flatten() for name in some]).norm()
        for one, other in ((some, others), (some, start))
    )
    assert apart < 0.01 * gone, float(apart / gone)


def train_sharded(ranks: Ranks, folder: Path, photos: list[Path], recipe: TrainingRecipe, base: str) -> None:
    trainer = trained(folder, photos, recipe, ranks, base=base, sharded=True, steps=2)
    modules: Any = trainer.objective.modules
    transformer = modules["transformer"].transformer
    parameters = dict(transformer.named_parameters())
    assert all(isinstance(parameter, DTensor) for parameter in parameters.values())
    held = sum(parameter.to_local().numel() for parameter in parameters.values())  # type: ignore[attr-defined]
    whole = sum(parameter.numel() for parameter in parameters.values())
    # The first dimension is divided, so that a norm of one number stays whole with one process.
    assert 0.45 * whole < held < 0.55 * whole
    moments = [
        value for state in trainer.learner.optimizers[0].state.values() for value in state.values()
        if isinstance(value, DTensor)
    ]  # fmt: skip
    assert sum(moment.to_local().numel() for moment in moments) < 1.1 * whole, "two moments, half of each"
    trainer.finish({})


def test_sharded_weights_train_like_whole_ones_and_go_on_in_one_process(
    tmp_path: Path, photos: list[Path], together: Path
) -> None:
    base, recipe, folder = str(together / "sharded/base"), SHARDED, together / "sharded/two"
    assert (folder / "model/adapter.json").is_file()
    one = trained(tmp_path / "one", photos, recipe, Ranks(), base=base, steps=2)
    two = resumed(folder, recipe, base)
    assert two.step == 2
    begun = beginning(recipe, base)
    assert_close(weights_of(one), weights_of(two), begun)
    assert_close(one.learner.ema.state(), two.learner.ema.state(), begun)
    on_one = trained(folder, photos, recipe, Ranks(), base=base)
    whole = trained(tmp_path / "one", photos, recipe, Ranks(), base=base)
    assert_close(weights_of(whole), weights_of(on_one), begun)


def test_an_optimizer_that_needs_whole_weights_is_refused_with_sharding(tmp_path: Path) -> None:
    recipe = replace(RECIPE, objective="flow", optimizer="came8bit")
    with pytest.raises(UsageError, match="'came8bit' does not train sharded weights"):
        Trainer(tmp_path, new_objective(recipe), recipe, Schedule(sharded=True))


def test_sharding_what_is_not_a_transformer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only a transformer that is trained whole"):
        Trainer(tmp_path, new_objective(RECIPE), replace(RECIPE, optimizer="adamw"), Schedule(sharded=True))


@pytest.mark.parametrize(
    ("environment", "fact"),
    [
        ({"WORLD_SIZE": "two"}, "'two' is not a number of processes"),
        ({"WORLD_SIZE": "0"}, "'0' is not a number of processes"),
        ({"WORLD_SIZE": "2"}, "2 processes are announced, but RANK is not set"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "MASTER_ADDR is not set"),
        (
            {"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"},
            "'2' is not the number of one of 2 processes",
        ),
    ],
)
def test_an_environment_that_is_not_understood_is_an_error(
    environment: dict[str, str], fact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=fact):
        Ranks.joined(torch.device("cpu"))


def test_a_world_of_one_is_a_single_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert Ranks.joined(torch.device("cpu")) == Ranks(0, 1)


def test_a_batch_that_cannot_be_divided_among_processes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a batch of 4 cannot be divided equally into 3 processes"):
        Trainer(tmp_path, new_objective(RECIPE), RECIPE, Schedule(), ranks=Ranks(0, 3))
