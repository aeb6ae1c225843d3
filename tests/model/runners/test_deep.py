"""Tiled passes through an autoencoder's deep half match the untiled result, for published and our own topologies."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from sanarestore import tiling
from sanarestore.model.autoencoder import Autoencoder
from sanarestore.model.runners.deep import Core, Pass, decoder_passes, encoder_passes
from sanarestore.training.latent_path import new_latent_path
from tests.published import TINY_RECIPE, tiny_autoencoder

KINDS: dict[str, dict[str, Any]] = {
    "published": {},
    "unshuffling": {"upsample_block_type": "pixel_shuffle", "downsample_block_type": "pixel_unshuffle"},
    "deep residual blocks": {
        "encoder_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock", "ResBlock", "EfficientViTBlock"],
        "decoder_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock", "ResBlock", "EfficientViTBlock"],
    },
    "two scales": {
        "encoder_qkv_multiscales": [[], [], [], [3, 5], [5], []],
        "decoder_qkv_multiscales": [[], [], [], [5, 7], [5], []],
    },
}


def autoencoders() -> dict[str, Autoencoder]:
    found = {name: Autoencoder(tiny_autoencoder(**changes)) for name, changes in KINDS.items()}
    own = new_latent_path(TINY_RECIPE.latent, prompt_width=8, shift=3.0).autoencoder
    with torch.no_grad():
        # A new autoencoder starts with zero-initialised branches; noise makes every branch contribute.
        for parameter in own.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return {**found, "ours": own}


def passed(passes: Sequence[Pass], given_CHW: Tensor, tile: int) -> Tensor:
    """Run all passes in tiles."""
    for each in passes:
        halo = -(-each.halo // 32) * 32
        factors = {"input_downsample": each.input_downsample, "output_downsample": each.output_downsample}
        sums = None
        if each.key_sums is not None:
            sums = summed(each, given_CHW, tile, halo)
        shape = [side * each.input_downsample // each.output_downsample for side in given_CHW.shape[1:]]
        result = torch.empty(each.channels, *shape)

        def run(window: Tensor, each: Pass = each, sums: Tensor | None = sums) -> Tensor:
            return each.run(window[None], sums)[0]

        for _ in tiling.map_with_halo(run, (given_CHW,), result, tile=tile, halo=halo, stride=32, **factors):
            pass
        given_CHW = result
    return given_CHW


def summed(each: Pass, given_CHW: Tensor, tile: int, halo: int) -> Tensor:
    def function(window: Tensor, core: Core) -> Tensor:
        assert each.key_sums is not None
        return each.key_sums(window[None], core)

    steps = tiling.sum_with_halo(function, given_CHW, tile=tile, halo=halo, stride=32, downsample=each.input_downsample)
    while True:
        try:
            next(steps)
        except StopIteration as finished:
            total: Tensor = finished.value
            return total


@pytest.mark.parametrize("name", [*KINDS, "ours"])
@torch.no_grad()
def test_tiled_passes_match_the_untiled_autoencoder(name: str) -> None:
    autoencoder = autoencoders()[name].eval()
    image = torch.rand(1, 3, 160, 224, generator=torch.Generator().manual_seed(0))
    map_BChw = autoencoder.encode_shallow(image)
    latent = autoencoder.encode_deep(map_BChw)
    decoded = autoencoder.decode_deep(latent)
    for tile in (32, 96, 512):
        for found, expected in (
            (passed(encoder_passes(autoencoder), map_BChw[0], tile), latent[0]),
            (passed(decoder_passes(autoencoder), latent[0], tile), decoded[0]),
        ):
            assert found.shape == expected.shape
            assert (found - expected).abs().max() < 1e-5 * expected.abs().max(), tile


@torch.no_grad()
def test_a_tile_needs_the_key_sums_of_the_whole_image() -> None:
    """Show that key sums of one corner give another result than those of the whole image."""
    autoencoder = autoencoders()["published"].eval()
    image = torch.rand(1, 3, 160, 224, generator=torch.Generator().manual_seed(0))
    map_CHW = autoencoder.encode_shallow(image)[0]
    first = encoder_passes(autoencoder)[0]
    assert first.key_sums is not None
    everything = summed(first, map_CHW, 32, 32)
    corner = first.key_sums(map_CHW[None], (slice(0, 4), slice(0, 4)))
    difference = (first.run(map_CHW[None], everything) - first.run(map_CHW[None], corner)).abs().max()
    assert difference > 1e-2


def test_an_unknown_block_is_refused() -> None:
    autoencoder = Autoencoder(tiny_autoencoder())
    autoencoder.encoder.down_blocks[4] = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3))
    with pytest.raises(ValueError, match="how far a Conv2d looks is not known"):
        encoder_passes(autoencoder)
