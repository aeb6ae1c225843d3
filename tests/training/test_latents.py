"""Latents that are encoded once: content, encoding again, and training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sanarestore import images
from sanarestore.degradations.pairs import Pair
from sanarestore.training import latents
from sanarestore.training.batching import collate
from sanarestore.training.data import PairSamples, PhotoSamples
from sanarestore.training.latents import LatentPlan, LatentSamples, encode, plan_latents
from sanarestore.training.objectives import new_objective
from sanarestore.training.ranks import Ranks
from sanarestore.training.recipe import TrainingRecipe
from tests.conftest import photo
from tests.published import TINY_RECIPE

RECIPE = replace(
    TINY_RECIPE, objective="flow", steps=10, batch=3, workers=0, cached_passes=5, degradations={"noise:30": 1.0}
)  # fmt: skip


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{index}.png" for index in range(4)]
    for index, path in enumerate(paths):
        images.write(images.Image(pixels_HWC=photo(96, 96, seed=index), depth="uint8", format="png"), path)
    return paths


@pytest.fixture(scope="module")
def objective() -> Any:
    return new_objective(RECIPE)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents, "SHARD", 8)
    monkeypatch.setattr(latents, "AT_ONCE", 3)


def planned(photos: list[Path], objective: Any, root: Path, recipe: TrainingRecipe = RECIPE) -> LatentPlan:
    return plan_latents(recipe, [(path,) for path in photos], objective.parts.path.autoencoder, root)


def encoded(plan: LatentPlan, photos: list[Path], objective: Any, ranks: Ranks | None = None) -> list[int]:
    autoencoder = objective.parts.path.autoencoder
    samples = PhotoSamples(photos, RECIPE)
    return list(encode(plan, samples, autoencoder.encode, RECIPE, torch.device("cpu"), ranks))


def test_the_size_is_known_before_anything_is_encoded(photos: list[Path], objective: Any, tmp_path: Path) -> None:
    plan = planned(photos, objective, tmp_path / "cache")
    assert (plan.crops, plan.shards, plan.missing) == (20, 3, (0, 1, 2))
    assert f"latents of 20 crops, 0 MB, are kept in {plan.folder}" in plan.note
    encoded(plan, photos, objective)
    stored = sum(path.stat().st_size for path in plan.folder.iterdir())
    assert plan.bytes < stored < plan.bytes + 3 * 4096


def test_a_sample_holds_the_latents_and_words_of_its_crop(photos: list[Path], objective: Any, tmp_path: Path) -> None:
    plan = planned(photos, objective, tmp_path / "cache")
    assert encoded(plan, photos, objective)[-1] == 20
    samples, plain = LatentSamples(plan, RECIPE), PhotoSamples(photos, RECIPE)
    autoencoder = objective.parts.path.autoencoder
    assert len(samples) == 30
    for index in (0, 7, 8, 19, 20, 29):
        got, crop = samples[index], plain[index % 20]
        with torch.no_grad():
            whole = autoencoder.encode(torch.stack([crop["degraded"], crop["target"]]))
        assert torch.allclose(got["degraded_latent"], whole[0], atol=2e-3)
        assert torch.allclose(got["target_latent"], whole[1], atol=2e-3)
        assert (got["prompt"], got["request"]) == (crop["prompt"], crop["request"])


def test_an_interrupted_encoding_goes_on(photos: list[Path], objective: Any, tmp_path: Path) -> None:
    plan = planned(photos, objective, tmp_path / "cache")
    encoded(plan, photos, objective)
    bytes_of = {path.name: path.read_bytes() for path in plan.folder.iterdir()}
    next(path for path in plan.folder.iterdir() if path.name.startswith("000001")).unlink()
    again = planned(photos, objective, tmp_path / "cache")
    assert again.missing == (1,)
    assert "2 of 3 parts are cached already" in again.note
    assert encoded(again, photos, objective)[-1] == 8
    assert {path.name: path.read_bytes() for path in plan.folder.iterdir()} == bytes_of
    assert planned(photos, objective, tmp_path / "cache").missing == ()


def test_processes_encode_different_parts(photos: list[Path], objective: Any, tmp_path: Path) -> None:
    plan = planned(photos, objective, tmp_path / "cache")
    alone = planned(photos, objective, tmp_path / "alone")
    encoded(alone, photos, objective)
    counts = [encoded(plan, photos, objective, _apart(rank)) for rank in range(2)]
    assert [count[-1] for count in counts] == [12, 8]
    for path in alone.folder.iterdir():
        assert (plan.folder / path.name).read_bytes() == path.read_bytes()


def _apart(rank: int) -> Ranks:
    """One of two processes that do not wait for each other."""

    class Apart(Ranks):
        def wait(self) -> None: ...

    return Apart(rank, 2)


def test_what_shapes_a_crop_names_the_folder(photos: list[Path], objective: Any, tmp_path: Path) -> None:
    def folder(recipe: TrainingRecipe, paths: list[Path] = photos, made: Any = objective) -> Path:
        return planned(paths, made, tmp_path, recipe).folder

    usual = folder(RECIPE)
    assert folder(replace(RECIPE, learning_rate=1.0, steps=50)) == usual
    assert folder(replace(RECIPE, patch=128)) != usual
    assert folder(RECIPE, photos[1:]) != usual
    assert (
        folder(RECIPE, made=new_objective(replace(RECIPE, latent=replace(RECIPE.latent, latent_channels=4)))) != usual
    )
    data = bytearray(photos[0].read_bytes())
    data[-1] ^= 1
    photos[0].write_bytes(data)
    assert folder(RECIPE) != usual


def test_pairs_are_cached_with_captions_that_are_read_later(photos: list[Path], objective: Any, tmp_path: Path) -> None:
    pairs = [Pair(target=photos[0], degraded=photos[1], prompt="clean it")]
    recipe = replace(RECIPE, cached_passes=3)
    plan = plan_latents(recipe, [(photos[0], photos[1])], objective.parts.path.autoencoder, tmp_path)
    list(encode(plan, PairSamples(pairs, recipe), objective.parts.path.autoencoder.encode, recipe, torch.device("cpu")))
    sample = LatentSamples(plan, recipe)[4]
    assert (sample["prompt"], sample["request"]) == ("clean it", None)


def test_the_loss_is_that_of_the_images(photos: list[Path], objective: Any, tmp_path: Path) -> None:
    plan = planned(photos, objective, tmp_path / "cache")
    encoded(plan, photos, objective)
    kept, plain = LatentSamples(plan, RECIPE), PhotoSamples(photos, RECIPE)
    losses = [objective.loss(collate([each[index] for index in range(3)])).item() for each in (kept, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
