"""DC-AE cut in two: equal to diffusers' own, and its convolutional half equal in tiles and whole."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sanarestore.model.autoencoder import Autoencoder
from sanarestore.tiling import map_with_halo
from tests.published import CHANNELS, tiny_autoencoder

LITE = {
    "encoder_layers_per_block": [0, 2, 1, 1, 1, 1], "decoder_layers_per_block": [0, 1, 2, 1, 1, 1],
    "upsample_block_type": "pixel_shuffle", "downsample_block_type": "pixel_unshuffle",
}  # fmt: skip
"""As the autoencoders are that SANA does not use: no layers at full resolution, and the other resampling."""

PLAIN = {"encoder_block_types": "ResBlock", "decoder_block_types": "ResBlock"}


def image(height: int, width: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("changes", [{}, LITE, PLAIN, {"encoder_out_shortcut": False, "decoder_in_shortcut": False}])
def test_it_is_the_published_autoencoder(changes: dict[str, Any]) -> None:
    dc = tiny_autoencoder(**changes)
    autoencoder = Autoencoder(dc)
    photo = image(64, 96)
    with torch.inference_mode():
        latent = autoencoder.encode(photo)
        assert latent.shape == (1, CHANNELS, 2, 3)
        assert torch.allclose(latent, dc.encode(photo * 2 - 1).latent * 0.41407, atol=1e-6)
        assert torch.allclose(autoencoder.decode(latent), dc.decode(latent / 0.41407).sample / 2 + 0.5, atol=1e-5)


def test_the_radii_of_the_published_configuration() -> None:
    """Blocks per stage are the published ones; the decoder's 56 px are where its error vanishes altogether."""
    autoencoder = Autoencoder(tiny_autoencoder())
    assert (autoencoder.encoder_downsample, autoencoder.encoder_radius) == (8, 36)
    assert (autoencoder.decoder_downsample, autoencoder.decoder_radius) == (8, 56)


@pytest.mark.parametrize("changes", [{}, LITE, {"upsample_block_type": "pixel_shuffle"}])
def test_the_radii_are_the_reach_of_the_gradient(changes: dict[str, Any]) -> None:
    autoencoder = Autoencoder(tiny_autoencoder(**changes)).double()
    cell, radius = autoencoder.encoder_downsample, autoencoder.encoder_radius
    photo = image(192, 192).double().requires_grad_()
    # float32 is asked for inside; double shows every path that there is.
    hidden = autoencoder.encoder.conv_in(photo)
    for block in autoencoder.encoder.down_blocks[: autoencoder._encoder_depth]:
        hidden = block(hidden)
    first = 96 // cell
    hidden[..., first, first].sum().backward()
    assert reach(photo.grad, 96, cell) == radius

    cell, radius = autoencoder.decoder_downsample, autoencoder.decoder_radius
    side = 192 // cell
    given = torch.rand(1, 8, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    given.requires_grad_()
    hidden = given
    for block in reversed(autoencoder.decoder.up_blocks[: autoencoder._decoder_depth]):
        hidden = block(hidden)
    hidden = autoencoder.decoder.norm_out(hidden.movedim(1, -1)).movedim(-1, 1)
    autoencoder.decoder.conv_out(hidden)[..., 96 : 96 + cell, 96 : 96 + cell].sum().backward()
    assert reach(given.grad.repeat_interleave(cell, 2).repeat_interleave(cell, 3), 96, cell) == radius


def reach(gradient: Tensor, start: int, length: int) -> int:
    """How far nonzero gradients lie beyond rows [start, start + length)."""
    rows = torch.nonzero(gradient.abs().sum(dim=(0, 1, 3))).flatten()
    return max(start - int(rows.min()), int(rows.max()) - (start + length - 1))


@pytest.mark.parametrize("changes", [{}, LITE])
def test_in_tiles_it_is_what_it_is_whole(changes: dict[str, Any]) -> None:
    autoencoder = Autoencoder(tiny_autoencoder(**changes))
    stride = autoencoder.stride
    height, width, halo = 224, 320, 64
    photo = image(height - 5, width - 9)[0]
    padded = torch.from_numpy(np.pad(photo[None].numpy(), ((0, 0), (0, 0), (0, 5), (0, 9)), mode="symmetric"))
    with torch.inference_mode():
        cell = autoencoder.encoder_downsample
        whole = autoencoder.encode_shallow(padded)[0]
        tiled = torch.full_like(whole, float("nan"))
        encode = map_with_halo(
            lambda window: autoencoder.encode_shallow(window[None])[0], (photo,), tiled,
            tile=64, halo=halo, stride=stride, output_downsample=cell,
        )  # fmt: skip
        assert len(list(encode)) > 4
        assert torch.allclose(tiled, whole, atol=1e-5)

        cell = autoencoder.decoder_downsample
        hidden = autoencoder.decode_deep(autoencoder.encode_deep(whole[None]))[0]
        whole = autoencoder.decode_shallow(hidden[None])[0][:, : height - 5, : width - 9]
        tiled = torch.full_like(whole, float("nan"))
        decode = map_with_halo(
            lambda window: autoencoder.decode_shallow(window[None])[0], (hidden,), tiled,
            tile=64, halo=halo, stride=stride, input_downsample=cell,
        )  # fmt: skip
        assert len(list(decode)) > 4
        assert torch.allclose(tiled, whole, atol=1e-5)


def test_the_ends_stay_float32() -> None:
    autoencoder = Autoencoder(tiny_autoencoder()).with_dtype(torch.bfloat16)
    assert autoencoder.dtype == torch.bfloat16
    assert autoencoder.encoder.conv_in.weight.dtype == autoencoder.decoder.conv_out.weight.dtype == torch.float32
    with torch.inference_mode():
        latent = autoencoder.encode(image(32, 32))
        decoded = autoencoder.decode(latent)
    assert latent.dtype == decoded.dtype == torch.float32
    exact = Autoencoder(tiny_autoencoder())
    for ours, theirs in (
        (autoencoder.encoder.conv_in, exact.encoder.conv_in),
        (autoencoder.decoder.conv_out, exact.decoder.conv_out),
    ):
        assert torch.equal(ours.weight, theirs.weight), "not rounded on the way"
    assert 0 < (exact.decode(latent) - decoded).abs().max() < 0.05


def test_autocast_in_training_leaves_the_ends_alone() -> None:
    autoencoder = Autoencoder(tiny_autoencoder())
    ends: list[torch.dtype] = []
    for end in (autoencoder.encoder.conv_in, autoencoder.decoder.conv_out):
        end.register_forward_hook(lambda _module, _given, result: ends.append(result.dtype))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        decoded = autoencoder.decode(autoencoder.encode(image(32, 32)))
    assert ends == [torch.float32] * 2
    assert decoded.dtype == torch.float32


def test_an_unknown_module_is_not_guessed() -> None:
    autoencoder = Autoencoder(tiny_autoencoder())
    autoencoder.encoder.down_blocks[0][0] = torch.nn.MaxPool2d(3)
    with pytest.raises(ValueError, match="MaxPool2d"):
        _ = autoencoder.encoder_radius
