"""Parts of a model in training: created from scratch or from a base, prompts in training, and saving."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sanarestore.degradations.requests import DEFAULT_PROMPT, Request, every_request
from sanarestore.model.condition import KINDS, ConditionKind
from sanarestore.model.loading import load_model
from sanarestore.model.prompts import PromptCache, PromptEncoder, Prompts
from sanarestore.model.reading import Reader, is_reader
from sanarestore.training.latent_path import new_latent_path
from sanarestore.training.parts import FrozenPrompts, plain_wordings, usual_prompts
from sanarestore.training.recipe_shapes import LATENT_STRIDE, LatentShape
from sanarestore.training.starting import Start, from_scratch
from tests.published import TINY_RECIPE as RECIPE


def test_there_are_a_few_dozen_distinct_usual_prompts() -> None:
    prompts = list(usual_prompts())
    assert 30 < len(set(prompts)) == len(prompts) < 100
    assert {"remove noise", "Denoise", "Restore this image"} <= set(prompts)


def test_plain_wordings_cover_every_request() -> None:
    wordings = plain_wordings()
    assert len(set(wordings)) == len(wordings) == 65
    assert set(wordings) == {"", *(request.plain for request in every_request())}


def test_parts_from_scratch_depend_on_the_seed() -> None:
    first, repeated, other = (from_scratch(replace(RECIPE, seed=seed)) for seed in (1, 1, 2))
    one, same, another = (parts.refiner.stem.weight for parts in (first, repeated, other))
    assert torch.equal(one, same)
    assert not torch.equal(one, another)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_latent_path_has_the_published_topology(kind: ConditionKind) -> None:
    torch.manual_seed(0)
    shape = LatentShape(
        channels=(8, 8, 8, 8, 8, 8), blocks=(0, 1, 1, 1, 1, 1), latent_channels=8, head_width=4, heads=2, layers=2,
        condition=kind,
    )  # fmt: skip
    path = new_latent_path(shape, prompt_width=8, shift=2.0)
    autoencoder = path.autoencoder
    assert (autoencoder.stride, autoencoder.encoder_downsample, autoencoder.decoder_downsample) == (LATENT_STRIDE, 8, 8)
    assert autoencoder.config.scaling_factor == 1
    assert (path.flow.shift, path.transformer.condition.kind) == (2.0, kind)
    with torch.no_grad():
        latent = autoencoder.encode(torch.rand(1, 3, 64, 96))
    assert latent.shape == (1, 8, 2, 3)


def test_the_default_latent_path_has_under_16_million_parameters() -> None:
    path = new_latent_path(LatentShape(), prompt_width=128, shift=3.0)
    with torch.no_grad():
        image = path.autoencoder.decode(path.autoencoder.encode(torch.rand(1, 3, 32, 64)))
    assert image.shape == (1, 3, 32, 64)
    modules = (path.autoencoder, path.transformer)
    assert sum(parameter.numel() for module in modules for parameter in module.parameters()) < 16e6


def test_the_flow_shift_follows_the_recipe_except_for_adapters() -> None:
    parts = from_scratch(RECIPE)
    begun = parts.with_latent_path(RECIPE)
    moved = begun.with_latent_path(replace(RECIPE, flow_shift=1.0))
    kept = moved.with_latent_path(RECIPE)
    assert [each.latent and each.latent.flow.shift for each in (begun, moved, kept)] == [3.0, 1.0, 1.0]
    assert moved.latent is not None
    assert begun.latent is not None
    assert moved.latent.transformer is begun.latent.transformer
    adapted = replace(begun, base="somebody/else")
    assert adapted.with_latent_path(replace(RECIPE, flow_shift=1.0)) is adapted


def test_a_latent_path_is_added_once() -> None:
    parts = from_scratch(RECIPE)
    assert parts.latent is None
    with_path = parts.with_latent_path(RECIPE)
    assert with_path.latent is not None
    assert with_path.with_latent_path(replace(RECIPE, seed=9)) is with_path
    assert with_path.defaults["latent"] is False, "the latent path is off until the refiner has learnt to use it"


def test_a_base_grows_to_the_shape_of_the_recipe(tmp_path: Path) -> None:
    more = replace(RECIPE, model=replace(RECIPE.model, spectrum=5, colour_correction=4))
    plain = replace(RECIPE, model=replace(RECIPE.model, colour_correction=0))
    from_scratch(plain).save(tmp_path / "base", "tiny", {})
    refiner = Start(base=str(tmp_path / "base")).parts(more).refiner
    assert (refiner.config.spectrum, refiner.config.colour_correction) == (5, 4)
    assert Start(base=str(tmp_path / "base")).parts(plain).refiner.config.colour_correction == 0
    repeated = Start(base=str(tmp_path / "base")).parts(more).refiner
    assert repeated.colour_correction is not None
    assert refiner.colour_correction is not None
    assert torch.equal(repeated.colour_correction.mix.weight, refiner.colour_correction.mix.weight), (
        "new weights depend on the seed only"
    )


CAPTION = "a cat on a mat"


class Half:
    """A reader that understands a few words."""

    def read(self, prompts: Sequence[str]) -> list[Request]:
        known = {"so grainy": Request.of("noise"), "go on": Request()}
        return [known.get(prompt, Request(None, understood=False)) for prompt in prompts]


def frozen_prompts(encoder: PromptEncoder, **options: Any) -> FrozenPrompts:
    return FrozenPrompts(Prompts(encoder.table([""]), lambda: encoder, Half, **options), encoder.width)


def test_embeddings_kept_from_a_published_encoder_are_bounded(
    tmp_path: Path, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sanarestore.training.parts.KEPT_PROMPTS", 3)
    cache = PromptCache("0" * 64, tmp_path)
    prompts = Prompts(encoder.table(["known"]), lambda: encoder, Half, cache=cache, as_typed=True)
    frozen = FrozenPrompts(prompts, encoder.width)
    asked = Request.of("noise")
    given = frozen(["known", " a b c ", "known", "d"], [asked] * 4)
    tokens, mask = given.token_BLD, given.mask_BL
    assert tokens.shape[0] == mask.shape[0] == 4
    assert torch.equal(tokens[0], tokens[2])
    expected = encoder.table(["a b c"])["a b c"]
    assert torch.equal(tokens[1, mask[1] > 0], expected)
    for number in range(5):
        frozen([f"prompt {number}"], [asked])
    assert list(frozen._recent) == ["prompt 2", "prompt 3", "prompt 4"]
    assert list(prompts.known) == ["known"]
    assert not list(tmp_path.iterdir())
    many = [f"prompt {number}" for number in range(6)]
    assert len(frozen(many, [asked] * 6).mask_BL) == 6, "one batch may hold more prompts than are kept"


def test_only_prompts_without_a_known_request_are_read(encoder: PromptEncoder) -> None:
    frozen = frozen_prompts(encoder)
    known = [Request.of("jpeg"), None, None, None]
    found = frozen.requests(["so grainy", "So grainy!", "go on", CAPTION], known)
    assert found == [Request.of("jpeg"), Request.of("noise"), Request(), Request(None, understood=False)]


def test_prompts_with_the_same_request_share_an_embedding_in_training(encoder: PromptEncoder) -> None:
    frozen, asked = frozen_prompts(encoder), Request.of("noise")
    given = frozen(["so grainy", "GRAIN!!", "whatever"], [asked, asked, Request()])
    tokens, mask = given.token_BLD, given.mask_BL
    plain = encoder.table([asked.plain, DEFAULT_PROMPT])
    for place, wording in enumerate((asked.plain, asked.plain, DEFAULT_PROMPT)):
        assert torch.equal(tokens[place, mask[place] > 0], plain[wording])
    assert not frozen.captions


def test_captions_that_are_not_understood_keep_their_own_embedding(encoder: PromptEncoder) -> None:
    frozen = frozen_prompts(encoder)
    requests = frozen.requests([f" {CAPTION} ", "so grainy", CAPTION], [None] * 3)
    given = frozen([f" {CAPTION} ", "so grainy", CAPTION], requests)
    tokens, mask = given.token_BLD, given.mask_BL
    assert torch.equal(tokens[0, mask[0] > 0], encoder.table([CAPTION])[CAPTION])
    assert torch.equal(tokens[0], tokens[2])
    assert list(frozen.captions) == [CAPTION]
    assert set(frozen.table(["", "deblur"])) == {"", "deblur", CAPTION}


def test_a_saved_model_knows_the_captions_from_training(tmp_path: Path) -> None:
    parts = from_scratch(RECIPE)
    strange = Request(None, understood=False)
    expected = parts.prompts([CAPTION], [strange]).token_BLD[0]
    parts.save(tmp_path / "model", "tiny", {})
    prompts = load_model(str(tmp_path / "model")).prompts
    assert torch.equal(prompts.tokens(prompts.wording(f"{CAPTION} ", strange)), expected)
    assert set(prompts.known) == {*plain_wordings(), CAPTION}
    assert prompts.wording("a dog on a mat", strange) == DEFAULT_PROMPT


def test_fresh_parts_have_no_reader_and_keep_their_encoder(tmp_path: Path) -> None:
    parts = from_scratch(RECIPE)
    assert parts.reader is None
    assert parts.encoder is not None
    parts.save(tmp_path / "model", "tiny", {})
    assert not is_reader(tmp_path / "model")
    loaded = Start(base=str(tmp_path / "model")).parts(RECIPE)
    assert loaded.reader is None
    assert loaded.encoder is not None
    for key, tensor in parts.encoder.state_dict().items():
        assert torch.equal(loaded.encoder.state_dict()[key], tensor.half().float()), key


def test_a_trained_reader_is_saved_with_the_parts(tmp_path: Path) -> None:
    """The saved model uses the reader, and its embeddings stay unchanged."""
    parts = from_scratch(RECIPE)
    before = parts.prompts.table(plain_wordings())
    reader = Reader().eval()
    with torch.no_grad():
        for parameter in reader.parameters():
            parameter.copy_((5 * parameter).half())
    replace(parts, reader=reader).save(tmp_path / "model", "tiny", {})
    assert is_reader(tmp_path / "model")
    loaded = Start(base=str(tmp_path / "model")).parts(RECIPE)
    assert loaded.reader is not None
    prompts = ["remove noise", "a cat"]
    assert loaded.reader.read(prompts) == reader.read(prompts)
    assert all(torch.equal(loaded.prompts.prompts.known[text], tensor) for text, tensor in before.items())
