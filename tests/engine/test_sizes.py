"""Tests of awkward image sizes, tiled and untiled, and of the largest input that a layer sees."""

from functools import partial

import pytest
from torch import Tensor, nn

from sanarestore.engine.restorer import Restorer
from sanarestore.model.loading import RestorationModel
from sanarestore.model.runners.deep import decoder_passes, encoder_passes
from sanarestore.options import RestoreOptions
from tests.engine.test_generation import ROUNDING, image_of, ran

TILES = (8, 64)
"""The first is smaller than a position of the latent, so that a tile is one position."""

SIZES = (1, 2, 31, 32, 33, 63, 64, 65, 70, 200)
"""Sizes around both tiles, and one that is larger than any window."""


@pytest.mark.usefixtures("tiny_tiles")
@pytest.mark.parametrize("fidelity", [0.0, 1.0])
@pytest.mark.parametrize("height", SIZES)
def test_tiled_results_equal_untiled_ones_for_every_size(height: int, fidelity: float, model: RestorationModel) -> None:
    """Every size occurs on either axis, each time beside two other sizes."""
    place = SIZES.index(height)
    for apart in (3, 8):
        image = image_of(height, SIZES[(place + apart) % len(SIZES)])
        untiled = ran(model, image, tiling="off", fidelity=fidelity)
        assert untiled.shape == (3, image.height, image.width)
        for tile in TILES:
            found = ran(model, image, tile=tile, fidelity=fidelity)
            assert (found - untiled).abs().max() < ROUNDING, (image.width, tile)


def convolutions(restorer: Restorer) -> dict[str, nn.Module]:
    """Collect the convolutions of refiner and autoencoder, as the engine runs them."""
    assert restorer.latent is not None
    parts = nn.ModuleDict({"refiner": restorer._refinement.refiners[None], "autoencoder": restorer.latent.autoencoder})
    return {name: module for name, module in parts.named_modules() if isinstance(module, nn.Conv2d)}


def halos(restorer: Restorer) -> dict[nn.Module, int]:
    """Collect, for every module, the pixels that are added to each side of a tile before it."""
    assert restorer.latent is not None
    refiner, radii = restorer._refinement.refiners[None], restorer.model.refiner.config.decoder_radii
    autoencoder = restorer.latent.autoencoder
    encoder, decoder = autoencoder.encoder, autoencoder.decoder
    found = dict.fromkeys(refiner.modules(), restorer.model.refiner.halo)
    # Around the core, the refiner's decoder computes only what the core depends on.
    for level, radius in enumerate(radii):
        found |= dict.fromkeys([*refiner._up[level].modules(), *refiner._decoder[level].modules()], radius)
    found[refiner._head] = radii[0]
    found |= dict.fromkeys(encoder.modules(), whole_positions(autoencoder.encoder_radius))
    found |= dict.fromkeys(decoder.modules(), whole_positions(autoencoder.decoder_radius))
    for blocks, passes in (
        ([*autoencoder.deep_encoder, encoder.conv_out], encoder_passes(autoencoder)),
        ([decoder.conv_in, *autoencoder.deep_decoder], decoder_passes(autoencoder)),
    ):
        for block, each in zip(blocks, passes, strict=True):
            found |= dict.fromkeys(block.modules(), whole_positions(each.halo))
    return found


def whole_positions(pixels: int) -> int:
    return -(-pixels // 32) * 32


def sides_seen(restorer: Restorer, height: int, width: int) -> dict[str, list[tuple[int, int]]]:
    """Collect the heights and widths that every convolution sees while an image of this size is restored."""
    seen: dict[str, list[tuple[int, int]]] = {}

    def note(name: str, _module: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.setdefault(name, []).append((given[0].shape[2], given[0].shape[3]))

    for name, module in convolutions(restorer).items():
        module.register_forward_pre_hook(partial(note, name))
    restorer(image_of(height, width))
    expected = convolutions(restorer).keys() - {"refiner._stem_of_one"}  # where nothing is generated
    assert seen.keys() == expected, "every convolution runs"
    return seen


@pytest.mark.parametrize(("height", "width"), [(64, 512), (512, 64)])
def test_no_convolution_sees_more_than_a_tile_and_its_halo(height: int, width: int, model: RestorationModel) -> None:
    """Every convolution has its own resolution, which follows from its input for the untiled image."""
    restorer = Restorer(RestoreOptions(tile=64, steps=1), device="cpu", model=model)
    halo_of, modules = halos(restorer), convolutions(restorer)
    tiled = sides_seen(restorer, height, width)
    whole = sides_seen(Restorer(RestoreOptions(tiling="off", steps=1), device="cpu", model=model), height, width)
    for name, ((rows, columns),) in whole.items():
        # The refiner sees the image continued beyond its border.
        beyond = 2 * model.refiner.margin
        seen = next(
            each for each in ((height, width), (height + beyond, width + beyond)) if each[0] * columns == each[1] * rows
        )
        downsample = seen[0] // rows
        assert (downsample * rows, downsample * columns) == seen
        largest = 64 + 2 * halo_of[modules[name]]
        assert max(max(sides) for sides in tiled[name]) * downsample == largest < max(height, width), name
        assert len(tiled[name]) >= 8, name
