"""Tests of the latent path in the engine against its parts put together by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sanarestore import images
from sanarestore.engine.restorer import Restorer
from sanarestore.errors import OutOfMemory, UsageError
from sanarestore.flow import Flow, noise_field
from sanarestore.model.loading import RestorationModel
from sanarestore.model.runners.whole import whole
from sanarestore.model.transformer import Tokens
from sanarestore.options import RestoreOptions
from sanarestore.tiling import cut
from tests.conftest import photo

ROUNDING = 1e-5
"""The rounding of two networks in a row."""


def image_of(height: int, width: int, seed: int = 0) -> images.Image:
    return images.Image(pixels_HWC=photo(height, width, seed), depth="float32", format="tiff")


def ran(model: RestorationModel, image: images.Image, **chosen: Any) -> Tensor:
    restored = Restorer(RestoreOptions(**chosen), device="cpu", model=model)(image)
    return torch.from_numpy(restored.pixels_HWC).permute(2, 0, 1)


def by_hand(
    model: RestorationModel, image: images.Image, *, steps: int, guidance: float = 1.0, seed: int = 0
) -> Tensor:
    """Generate the image without the engine."""
    latent = model.latent
    assert latent is not None
    height, width = image.height, image.width
    padded = (0, -(-height // 32) * 32, 0, -(-width // 32) * 32)
    pixels = cut(torch.from_numpy(image.pixels_HWC).permute(2, 0, 1), padded)[None]
    tokens, negative = (Tokens.of([model.prompts.tokens(prompt)]) for prompt in ("Restore this image", ""))
    with torch.inference_mode():
        condition = latent.autoencoder.encode(pixels)
        predict = whole(latent.transformer, condition, tokens, negative=negative, guidance=guidance)
        generated = latent.autoencoder.decode(latent.flow.sample(predict, noise_field(seed, *condition.shape), steps))
    return generated[0, :, :height, :width]


@pytest.mark.parametrize("chosen", [{"steps": 1}, {"steps": 3}, {"steps": 2, "guidance": 2.0}, {"steps": 2, "seed": 5}])
def test_generation_encodes_samples_and_decodes(chosen: dict[str, Any], model: RestorationModel) -> None:
    image = image_of(70, 45)
    generated = ran(model, image, fidelity=0, **chosen)
    assert generated.shape == (3, 70, 45)
    assert torch.allclose(generated, by_hand(model, image, **chosen), atol=ROUNDING, rtol=0)
    assert (generated - torch.from_numpy(image.pixels_HWC).permute(2, 0, 1)).abs().mean() > 0.01


def test_the_refiner_refines_the_generated_image(model: RestorationModel) -> None:
    image = image_of(64, 64)
    degraded = torch.from_numpy(image.pixels_HWC).permute(2, 0, 1)[None]
    generated = by_hand(model, image, steps=2)[None]
    margin = model.refiner.margin
    around = [(0, 0), (0, 0), (margin, margin), (margin, margin)]
    beyond = [torch.from_numpy(np.pad(each.numpy(), around, mode="symmetric")) for each in (degraded, generated)]
    refined = model.refiner(*beyond, model.prompts.pooled("Restore this image")[None])[
        ..., margin:-margin, margin:-margin
    ]
    assert torch.allclose(ran(model, image), refined[0], atol=ROUNDING, rtol=0)
    assert torch.allclose(
        ran(model, image, fidelity=0.25), (0.75 * generated + 0.25 * refined)[0], atol=ROUNDING, rtol=0
    )


def test_progress_counts_every_stage(model: RestorationModel) -> None:
    restorer = Restorer(RestoreOptions(tile=64, steps=3), device="cpu", model=model)
    steps = list(restorer.stages(image_of(100, 130)))
    # Each of 6 tiles is refined, encoded and decoded, with six passes each way, three of them with sums; then 3 steps.
    total = 2 * 3 * (3 + 2 * (6 + 3)) + 3
    assert steps == [(done, total) for done in range(1, total + 1)]
    whole = list(Restorer(RestoreOptions(steps=3), device="cpu", model=model).stages(image_of(100, 130)))
    assert whole == [(done, 3 + 2 + 3) for done in range(1, 3 + 2 + 3 + 1)]


def test_a_seed_repeats_its_result_and_another_seed_differs(model: RestorationModel) -> None:
    image = image_of(40, 50)
    assert torch.equal(ran(model, image, seed=1), ran(model, image, seed=1))
    assert not torch.equal(ran(model, image, seed=1), ran(model, image, seed=2))


@pytest.mark.parametrize(("chosen", "runs"), [({}, False), ({"fidelity": 0.9}, True)])
def test_a_model_may_skip_the_latent_path_at_full_fidelity(
    chosen: dict[str, Any], runs: bool, model: RestorationModel, tiny_model: RestorationModel
) -> None:
    sparing = replace(model, defaults={**model.defaults, "latent": False})
    restorer = Restorer(RestoreOptions(**chosen), device="cpu", model=sparing)
    assert (restorer._generation is not None) == runs
    if not runs:
        image = image_of(40, 50)
        assert np.array_equal(restorer(image).pixels_HWC.transpose(2, 0, 1), ran(tiny_model, image))


def test_fidelity_mixes_evenly_for_refiners_without_the_generated_image(model: RestorationModel) -> None:
    """The result moves from the generated image to the refined photograph without a jump."""
    sparing = replace(model, defaults={**model.defaults, "latent": False})
    image = image_of(40, 50)
    generated, half, full = (ran(sparing, image, fidelity=fidelity) for fidelity in (0.0, 0.5, 1.0))
    assert torch.allclose(torch.as_tensor(half), (torch.as_tensor(generated) + torch.as_tensor(full)) / 2, atol=1e-5)


@pytest.mark.parametrize("chosen", [{"steps": 1}, {"guidance": 2.0}, {"tiling": "causal"}])
def test_options_without_effect_at_full_fidelity_are_refused(chosen: dict[str, Any], model: RestorationModel) -> None:
    sparing = replace(model, defaults={**model.defaults, "latent": False})
    with pytest.raises(UsageError, match="fidelity is below 1"):
        Restorer(RestoreOptions(**chosen), device="cpu", model=sparing)
    Restorer(RestoreOptions(fidelity=0.5, **chosen), device="cpu", model=sparing)


@pytest.mark.parametrize("chosen", [{"steps": 2}, {"guidance": 1.5}, {"tiling": "multidiffusion"}])
def test_latent_path_options_are_refused_by_models_without_one(
    chosen: dict[str, Any], tiny_model: RestorationModel
) -> None:
    with pytest.raises(UsageError, match="no latent path"):
        Restorer(RestoreOptions(**chosen), device="cpu", model=tiny_model)


def test_the_given_model_is_not_changed(model: RestorationModel) -> None:
    assert model.latent is not None
    before = {name: tensor.clone() for name, tensor in model.latent.transformer.state_dict().items()}
    restorer = Restorer(RestoreOptions(dtype="bfloat16", steps=1), device="cpu", model=model)
    near, exact = restorer(image_of(64, 64)), ran(model, image_of(64, 64), steps=1)
    assert (torch.from_numpy(near.pixels_HWC).permute(2, 0, 1) - exact).abs().mean() < 0.02
    after = model.latent.transformer.state_dict()
    assert all(torch.equal(after[name], before[name]) and after[name].dtype == torch.float32 for name in before)


@pytest.mark.parametrize("part", ["encode_deep", "decode_deep"])
def test_an_autoencoder_that_does_not_fit_untiled_runs_in_passes(
    part: str, model: RestorationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = image_of(200, 300)
    expected = ran(model, image, tiling="off")
    restorer = Restorer(RestoreOptions(), device="cpu", model=model)
    assert restorer._generation is not None

    def refuse(_: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(restorer._generation.latent.autoencoder, part, refuse, raising=False)
    restored = torch.from_numpy(restorer(image).pixels_HWC).permute(2, 0, 1)
    assert restorer.tile == 160, "half of the image in whole latent positions"
    assert (restored - expected).abs().max() < ROUNDING
    with pytest.raises(OutOfMemory, match="even with tiles of"):
        restorer(image_of(40, 50))


def test_strips_of_tokens_are_halved_when_memory_runs_out(
    model: RestorationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = image_of(256, 192)
    expected = ran(model, image, tiling="off")
    restorer = Restorer(RestoreOptions(tile=192), device="cpu", model=model)
    assert restorer._generation is not None
    feed: Any = restorer._generation._transformer.transformer.transformer_blocks[1].ff
    forward = feed.forward

    def small(given_BDHW: Tensor) -> Tensor:
        if given_BDHW.shape[2] > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        result: Tensor = forward(given_BDHW)
        return result

    monkeypatch.setattr(feed, "forward", small)
    restored = torch.from_numpy(restorer(image).pixels_HWC).permute(2, 0, 1)
    assert restorer.tile == 96
    assert (restored - expected).abs().max() < ROUNDING
    off: Any = Restorer(RestoreOptions(tiling="off"), device="cpu", model=model)
    monkeypatch.setattr(off._generation._transformer.transformer.transformer_blocks[1].ff, "forward", small)
    with pytest.raises(OutOfMemory, match=r"untiled.*Leave out tiling='off'"):
        off(image)


def test_blended_windows_keep_their_size_when_memory_runs_out(
    model: RestorationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their size shows in the result, so they run one by one, or else the error names the flag that helps."""
    image = image_of(96, 160)
    chosen = RestoreOptions(tiling="causal", tile=96, overlap=32, steps=2)
    expected = Restorer(chosen, device="cpu", model=model)(image).pixels_HWC
    restorer = Restorer(chosen, device="cpu", model=model)
    generation: Any = restorer._generation
    monkeypatch.setattr(generation, "_at_once", 4)
    feed = generation._transformer.transformer.transformer_blocks[1].ff
    forward, most = feed.forward, 1

    def small(given_BDHW: Tensor) -> Tensor:
        if len(given_BDHW) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        result: Tensor = forward(given_BDHW)
        return result

    monkeypatch.setattr(feed, "forward", small)
    assert np.abs(restorer(image).pixels_HWC - expected).max() < ROUNDING
    assert restorer.tile == 96
    most = 0
    with pytest.raises(OutOfMemory, match=r"with windows of 96 px.*smaller tile"):
        restorer(image)


def test_the_prompt_is_projected_once_for_all_images(model: RestorationModel) -> None:
    restorer = Restorer(RestoreOptions(fidelity=0, steps=2), device="cpu", model=model)
    assert restorer.generation is not None
    made: list[int] = []
    caption: Any = restorer.generation.latent.transformer.transformer
    caption.caption_projection.register_forward_hook(lambda *_: made.append(1))
    for _ in range(2):
        restorer(image_of(64, 64))
    assert len(made) == 1


@pytest.mark.parametrize("solver", ["euler", "dpm", "consistency"])
def test_every_solver_equals_the_flow_run_by_hand(solver: Any, model: RestorationModel) -> None:
    assert model.latent is not None
    path = replace(model.latent, flow=Flow(solver=solver))
    flowing = replace(model, load_latent=lambda: path)
    image = image_of(64, 64)
    assert torch.allclose(ran(flowing, image, fidelity=0, steps=3), by_hand(flowing, image, steps=3), atol=ROUNDING)
