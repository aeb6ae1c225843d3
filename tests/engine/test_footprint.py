"""Tests of the estimated memory of a restoration against the measured memory."""

from dataclasses import replace

import pytest
import torch

from sanarestore.degradations.requests import Request
from sanarestore.engine.footprint import footprint
from sanarestore.engine.generation import Region, new_generation
from sanarestore.engine.live_bytes import LiveBytes, held_by
from sanarestore.engine.refinement import Refinement
from sanarestore.engine.tiles import Tiles
from sanarestore.model.loading import RestorationModel, load_model
from sanarestore.model.streaming import weights_of
from sanarestore.options import RestoreOptions

PROMPT = "Restore this image"

CPU = torch.device("cpu")


def estimated(model: RestorationModel, tile: int, size: tuple[int, int], **chosen: str) -> dict[str, int]:
    options = RestoreOptions(fidelity=0.5, **chosen)  # type: ignore[arg-type]
    found = footprint(model, options, PROMPT, tile=tile, dtype=torch.float32, size=size, is_generated=True)
    return {**found.activations, "refinement": found.refinement}


def measured(model: RestorationModel, tile: int, size: tuple[int, int], **chosen: str) -> dict[str, int]:
    """Peaks of the bytes alive in each stage, without those of the host if the device is another one."""
    options = RestoreOptions(fidelity=0.5, **chosen)  # type: ignore[arg-type]
    made = new_generation(model, options, prompt=PROMPT, tiles=Tiles(CPU, tile), dtype=torch.float32, shared=True)
    image, result = torch.rand(3, *size), torch.empty(3, *size)
    condition, latent = made.empty_latent(*size), made.empty_latent(*size)
    stages = {"sample": made.sample(condition, latent, Region(0, 0, *size), 0)}
    peaks = {}
    for name, steps in stages.items():
        with LiveBytes() as live:
            for _ in steps:
                pass
        peaks[name] = live.most + held_by([condition, latent])
    refinement = Refinement(
        replace(model, experts=None), model.prompts.pooled(PROMPT)[None], Request(), fidelity=0.5,
        tiles=Tiles(CPU, tile), dtype=torch.float32, shared=True,
    )  # fmt: skip
    with LiveBytes() as live:
        for _ in refinement(image, image, result):
            pass
    peaks["refinement"] = live.most + held_by(weights_of(*refinement.refiners.values()))
    return peaks


@pytest.fixture(scope="module")
def embedded() -> RestorationModel:
    return load_model()


@pytest.fixture(scope="module")
def of_embedded(embedded: RestorationModel) -> dict[str, int]:
    return estimated(embedded, 256, (512, 768))


def test_the_estimate_is_what_is_alive(embedded: RestorationModel, of_embedded: dict[str, int]) -> None:
    expected = measured(embedded, 256, (512, 768))
    # If the host computes, its copies of windows and its noise count too.
    assert 0.9 < of_embedded["sample"] / expected["sample"] < 1.1
    assert 0.88 < of_embedded["refinement"] / expected["refinement"] < 1


def test_the_estimate_of_a_decoder_is_what_a_window_takes(
    embedded: RestorationModel, of_embedded: dict[str, int]
) -> None:
    latent = embedded.latent
    assert latent is not None
    model = latent.autoencoder
    halo = -(-model.decoder_radius // model.stride) * model.stride
    height, width = ((256 + count * halo) // model.decoder_downsample for count in (1, 2))
    with torch.inference_mode():
        map_1Chw = torch.zeros(
            1, model.decode_deep(torch.zeros(1, model.latent_channels, 1, 1)).shape[1], height, width
        )
    with torch.inference_mode(), LiveBytes() as live:
        model.decode_shallow(map_1Chw)
    assert of_embedded["decode shallow"] == pytest.approx(live.most + held_by([map_1Chw]), rel=0.02)


def test_memory_grows_with_the_tile_and_hardly_with_the_image(model: RestorationModel) -> None:
    small, large = estimated(model, 64, (512, 512)), estimated(model, 256, (1024, 512))
    for name in ("encode shallow", "encode deep", "decode deep", "decode shallow", "refinement"):
        assert 2 < large[name] / small[name] < 16.5, name
    wide = estimated(model, 64, (1024, 512))
    for name in ("encode shallow", "decode shallow"):
        # Condition and latent cover the whole image.
        assert wide[name] - small[name] <= 2 * 4 * 8 * 16 * 16, name


def test_a_model_is_not_changed_by_an_estimate(model: RestorationModel) -> None:
    latent = model.latent
    assert latent is not None
    before = {name: each.clone() for name, each in latent.transformer.state_dict().items()}
    estimated(model, 64, (64, 64), quantize="int8")
    assert latent.transformer.state_dict().keys() == before.keys()
    assert all(torch.equal(each, before[name]) for name, each in latent.transformer.state_dict().items())
