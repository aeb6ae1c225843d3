"""Tests of every tiling scheme in the engine: its reference result, the shared noise field, and Sprint models."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from sanarestore.engine.restorer import Restorer
from sanarestore.flow import noise_field
from sanarestore.model.loading import LatentPath, RestorationModel
from sanarestore.model.runners.windowed import causal, multidiffusion
from sanarestore.model.transformer import Tokens
from sanarestore.options import BLENDING, LATENT, RestoreOptions, Tiling
from sanarestore.tiling import cut, overlapping
from tests.engine.test_generation import ROUNDING, image_of, ran
from tests.published import SPRINT, latent_path


@pytest.mark.parametrize(("scheme", "runner"), [("causal", causal), ("multidiffusion", multidiffusion)])
def test_schemes_that_blend_latents_equal_their_runners(scheme: Any, runner: Any, model: RestorationModel) -> None:
    """The engine encodes, samples windows of the latent and decodes; only the sampling differs from untiled work."""
    image = image_of(200, 300)
    latent = model.latent
    assert latent is not None
    pixels = cut(torch.from_numpy(image.pixels_HWC).permute(2, 0, 1), (0, 224, 0, 320))[None]
    tokens = Tokens.of([model.prompts.tokens("Restore this image")])
    with torch.inference_mode():
        condition = latent.autoencoder.encode(pixels)
        predict = runner(latent.transformer, condition, tokens, tile=4, overlap=1)
        expected = latent.autoencoder.decode(latent.flow.sample(predict, noise_field(0, *condition.shape), 2))
    found = ran(model, image, tiling=scheme, tile=128, overlap=32, fidelity=0)
    assert (found - expected[0, :, :200, :300]).abs().max() < ROUNDING
    assert (found - ran(model, image, tiling="off", fidelity=0)).abs().max() > 1e-3
    assert (
        ran(model, image, tiling=scheme, tile=512, fidelity=0) - ran(model, image, fidelity=0)
    ).abs().max() < ROUNDING


def test_independent_tiles_are_restored_as_separate_images(model: RestorationModel) -> None:
    """Each tile is an image of its own, except that it uses its part of the shared noise field."""
    image = image_of(100, 300)
    found = ran(model, image, tiling="independent", tile=128, overlap=32)
    expected = torch.zeros(3, 100, 300)
    windows = overlapping(100, 300, tile=128, overlap=32, stride=32)
    assert len(windows) == 3
    whole_field = noise_field(0, 1, 8, 4, 10)
    for window in windows:
        top, bottom, left, right = window.box
        part = replace(image, pixels_HWC=image.pixels_HWC[top:bottom, left:right])

        def field(seed: int, *shape: int, start: int = left // 32) -> Any:
            return lambda number: whole_field(number)[..., : shape[2], start : start + shape[3]]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sanarestore.engine.generation.noise_field", field)
            expected[:, top:bottom, left:right] += window.weight_hw * ran(model, part, tiling="off")
    assert (found - expected).abs().max() < ROUNDING
    assert (found - ran(model, image, tiling="off")).abs().max() > 1e-3
    assert (ran(model, image, tiling="independent") - ran(model, image, tiling="off")).abs().max() < ROUNDING


def test_progress_counts_every_independent_tile(model: RestorationModel) -> None:
    restorer = Restorer(RestoreOptions(tiling="independent", tile=128, overlap=32), device="cpu", model=model)
    steps = list(restorer.stages(image_of(100, 300)))
    total = 3 * (1 + 1 + 2 + 1 + 1 + 1)
    assert steps == [(done, total) for done in range(1, total + 1)]


@pytest.mark.parametrize("scheme", LATENT)
def test_sampling_starts_over_when_memory_runs_out(scheme: Any, model: RestorationModel) -> None:
    """Windows run together, as on a GPU; what was carried and blended before is dropped."""
    image = image_of(100, 300)
    chosen: dict[str, Any] = {"tiling": scheme, "tile": 128, "overlap": 32, "fidelity": 0}
    restorer = Restorer(RestoreOptions(**chosen), device="cpu", model=model)
    assert restorer.latent is not None
    restorer.generation._at_once = 2  # type: ignore[union-attr]
    left = iter([False] * 2 + [True])

    def refuse(*_: Any) -> None:
        if next(left, False):
            raise torch.OutOfMemoryError

    restorer.latent.transformer.transformer.proj_out.register_forward_pre_hook(refuse)
    found = torch.from_numpy(restorer(image).pixels_HWC).permute(2, 0, 1)
    assert next(left, None) is None, "memory ran out"
    assert restorer.tile == 128, "the windows keep their size"
    assert (found - ran(model, image, **chosen)).abs().max() < ROUNDING


# Sprint.


def with_path(model: RestorationModel, path: LatentPath) -> RestorationModel:
    return replace(model, load_latent=lambda: path)


@pytest.fixture
def sprint(tiny_model: RestorationModel) -> RestorationModel:
    return with_path(tiny_model, latent_path(prompt_width=8, **SPRINT))


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_sprint_models_work_with_every_scheme(steps: int, sprint: RestorationModel) -> None:
    """The latent path alone is compared: a refiner would blur the differences between schemes."""
    image = image_of(90, 150)
    assert sprint.latent is not None
    assert sprint.latent.flow.solver == "consistency"
    off = ran(sprint, image, tiling="off", fidelity=0, steps=steps)
    for tile in (64, 96):
        assert (ran(sprint, image, tile=tile, fidelity=0, steps=steps) - off).abs().max() < ROUNDING
    found = {}
    for name in BLENDING:
        chosen: dict[str, Any] = {"tiling": name, "fidelity": 0, "steps": steps}
        found[name] = ran(sprint, image, tile=96, overlap=32, **chosen)
        assert (ran(sprint, image, tile=160, overlap=32, **chosen) - off).abs().max() < ROUNDING, name
    results = [off, *found.values()]
    apart = [(one - other).abs().max() for index, one in enumerate(results) for other in results[:index]]
    assert min(apart) > 1e-4, "no two schemes give the same result"


def latents(restorer: Restorer, image: Any) -> list[Tensor]:
    """Return the latent of the image, or those of its tiles."""
    seen: list[Tensor] = []
    restorer.watch(lambda stage, found: seen.append(found.clone()) if stage == "latent" else None)
    restorer(image)
    return seen


def still(path: LatentPath) -> LatentPath:
    """Set the velocity to zero everywhere, so that the flow returns the noise that it was given."""
    for parameter in path.transformer.transformer.proj_out.parameters():
        parameter.zero_()
    return path


@pytest.mark.parametrize("changes", [{}, SPRINT], ids=["sana", "sprint"])
def test_every_scheme_uses_the_noise_field_of_the_whole_image(
    changes: dict[str, Any], tiny_model: RestorationModel
) -> None:
    """Sprint models need new noise before every step but the first."""
    model = with_path(tiny_model, still(latent_path(prompt_width=8, **changes)))
    image = image_of(90, 150)
    assert model.latent is not None
    field = noise_field(7, 1, 8, 3, 5)
    expected = model.latent.flow.sample(lambda latent, _: torch.zeros_like(latent), field, 4)[0]
    assert torch.allclose(expected, field(0)[0]) == (not changes), "only Sprint models use the later draws"
    for name in get_args(Tiling):
        tiled = {"tile": 96} if name != "off" else {}
        tiled |= {"overlap": 32} if name in BLENDING else {}
        restorer = Restorer(RestoreOptions(tiling=name, seed=7, steps=4, **tiled), device="cpu", model=model)  # type: ignore[arg-type]
        for found, place in zip(latents(restorer, image), places(name), strict=True):
            assert torch.allclose(found, expected[:, *place], atol=1e-5), name


def places(name: str) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of the latents of a 90 by 150 px image: one pair, or one per independent tile."""
    windows = overlapping(90, 150, tile=96, overlap=32, stride=32) if name == "independent" else []
    for window in windows:
        top, _, left, _ = window.box
        yield slice(top // 32, top // 32 + 3), slice(left // 32, left // 32 + 3)
    if not windows:
        yield slice(None), slice(None)
