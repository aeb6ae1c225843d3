"""What a model in training is made of."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sanarestore.errors import UsageError
from sanarestore.model.condition import KINDS, ConditionKind
from sanarestore.model.prompts import PromptCache, PromptEncoder, Prompts
from sanarestore.training.latent_path import new_latent_path
from sanarestore.training.parts import FrozenPrompts, Parts, usual_prompts
from sanarestore.training.recipe import LATENT_STRIDE, LatentShape
from tests.published import TINY_RECIPE as RECIPE


def test_the_usual_prompts_are_a_few_dozen() -> None:
    prompts = list(usual_prompts())
    assert 30 < len(set(prompts)) == len(prompts) < 100
    assert {"", "remove noise", "Denoise", "Restore this image"} <= set(prompts)


def test_parts_from_scratch_are_named_by_the_seed() -> None:
    first, again, other = (Parts.from_scratch(replace(RECIPE, seed=seed)) for seed in (1, 1, 2))
    one, same, another = (parts.refiner.stem.weight for parts in (first, again, other))
    assert torch.equal(one, same)
    assert not torch.equal(one, another)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_latent_path_is_of_the_published_topology(kind: ConditionKind) -> None:
    torch.manual_seed(0)
    shape = LatentShape(
        channels=(8, 8, 8, 8, 8, 8), blocks=(0, 1, 1, 1, 1, 1), latent_channels=8, head_width=4, heads=2, layers=2,
        condition=kind,
    )  # fmt: skip
    path = new_latent_path(shape, prompt_width=8, shift=2.0)
    autoencoder = path.autoencoder
    assert (autoencoder.stride, autoencoder.encoder_cell, autoencoder.decoder_cell) == (LATENT_STRIDE, 8, 8)
    assert autoencoder.config.scaling_factor == 1
    assert (path.flow.shift, path.transformer.condition.kind) == (2.0, kind)
    with torch.no_grad():
        latent = autoencoder.encode(torch.rand(1, 3, 64, 96))
    assert latent.shape == (1, 8, 2, 3)


def test_the_default_latent_path_runs_and_fits_beside_the_refiner() -> None:
    path = new_latent_path(LatentShape(), prompt_width=128, shift=3.0)
    with torch.no_grad():
        image = path.autoencoder.decode(path.autoencoder.encode(torch.rand(1, 3, 32, 64)))
    assert image.shape == (1, 3, 32, 64)
    modules = (path.autoencoder, path.transformer)
    assert sum(parameter.numel() for module in modules for parameter in module.parameters()) < 16e6


def test_times_are_moved_as_the_recipe_says() -> None:
    parts = Parts.from_scratch(RECIPE)
    begun = parts.with_latent_path(RECIPE)
    moved = begun.with_latent_path(replace(RECIPE, flow_shift=1.0))
    kept = moved.with_latent_path(RECIPE)
    assert [each.latent and each.latent.flow.shift for each in (begun, moved, kept)] == [3.0, 1.0, 1.0]
    assert moved.latent is not None
    assert begun.latent is not None
    assert moved.latent.transformer is begun.latent.transformer
    adapted = replace(begun, base="somebody/else")
    assert adapted.with_latent_path(replace(RECIPE, flow_shift=1.0)) is adapted


def test_another_transformer_is_begun_on_the_same_autoencoder() -> None:
    first = Parts.from_scratch(RECIPE).with_latent_path(RECIPE)
    other = replace(RECIPE, fresh_flow=True, flow_shift=1.0, latent=replace(RECIPE.latent, condition="patch-embed"))
    again = first.with_latent_path(other)
    assert first.latent is not None
    assert again.latent is not None
    assert again.latent.autoencoder is first.latent.autoencoder
    assert (again.latent.transformer.condition.kind, again.latent.flow.shift) == ("patch-embed", 1.0)
    with pytest.raises(UsageError, match="fresh_flow: an adapter goes on from its base's transformer"):
        replace(first, base="somebody/else").with_latent_path(other)


def test_a_latent_path_is_added_once() -> None:
    parts = Parts.from_scratch(RECIPE)
    assert parts.latent is None
    with_path = parts.with_latent_path(RECIPE)
    assert with_path.latent is not None
    assert with_path.with_latent_path(replace(RECIPE, seed=9)) is with_path
    assert with_path.defaults["latent"] is False, "not before the refiner has learnt to use it"


def test_a_base_grows_what_the_recipe_asks_for(tmp_path: Path) -> None:
    more = replace(RECIPE, model=replace(RECIPE.model, spectrum=5, tone=4))
    plain = replace(RECIPE, model=replace(RECIPE.model, tone=0))
    Parts.from_scratch(plain).save(tmp_path / "base", "tiny", {})
    refiner = Parts.from_base(str(tmp_path / "base"), more).refiner
    assert (refiner.config.spectrum, refiner.config.tone) == (5, 4)
    assert Parts.from_base(str(tmp_path / "base"), plain).refiner.config.tone == 0
    again = Parts.from_base(str(tmp_path / "base"), more).refiner
    assert again.tone is not None
    assert refiner.tone is not None
    assert torch.equal(again.tone.mix.weight, refiner.tone.mix.weight), "named by the seed"


def test_a_published_encoder_s_embeddings_do_not_pile_up(
    tmp_path: Path, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sanarestore.training.parts.KEPT_PROMPTS", 3)
    cache = PromptCache("0" * 64, tmp_path)
    prompts = Prompts(encoder.table(["known"]), lambda: encoder, cache)
    frozen = FrozenPrompts(prompts, encoder.width)
    tokens, mask = frozen(["known", " a b c ", "known", "d"])
    assert tokens.shape[0] == mask.shape[0] == 4
    assert torch.equal(tokens[0], tokens[2])
    expected = encoder.table(["a b c"])["a b c"]
    assert torch.equal(tokens[1, mask[1] > 0], expected)
    for number in range(5):
        frozen([f"prompt {number}"])
    assert list(frozen._recent) == ["prompt 2", "prompt 3", "prompt 4"]
    assert list(prompts.known) == ["known"]
    assert not list(tmp_path.iterdir())
    assert len(frozen([f"prompt {number}" for number in range(6)])[0]) == 6, "more at once than are kept"
