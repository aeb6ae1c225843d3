"""DC-AE split into a shallow and a deep half: it matches diffusers, and its shallow half can be tiled."""

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
"""The DC-AE variants that SANA does not use: no layers at full resolution, and pixel-shuffle resampling."""

PLAIN = {"encoder_block_types": "ResBlock", "decoder_block_types": "ResBlock"}


def image(height: int, width: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("changes", [{}, LITE, PLAIN, {"encoder_out_shortcut": False, "decoder_in_shortcut": False}])
def test_the_autoencoder_matches_diffusers(changes: dict[str, Any]) -> None:
    dc = tiny_autoencoder(**changes)
    autoencoder = Autoencoder(dc)
    photo = image(64, 96)
    with torch.inference_mode():
        latent = autoencoder.encode(photo)
        assert latent.shape == (1, CHANNELS, 2, 3)
        assert torch.allclose(latent, dc.encode(photo * 2 - 1).latent * 0.41407, atol=1e-6)
        assert torch.allclose(autoencoder.decode(latent), dc.decode(latent / 0.41407).sample / 2 + 0.5, atol=1e-5)


def test_radii_of_the_published_configuration() -> None:
    """Check radii for the published blocks per stage; at 56 px the decoder's tiling error is zero."""
    autoencoder = Autoencoder(tiny_autoencoder())
    assert (autoencoder.encoder_downsample, autoencoder.encoder_radius) == (8, 36)
    assert (autoencoder.decoder_downsample, autoencoder.decoder_radius) == (8, 56)


@pytest.mark.parametrize("changes", [{}, LITE, {"upsample_block_type": "pixel_shuffle"}])
def test_the_radii_equal_the_receptive_field_of_the_gradient(changes: dict[str, Any]) -> None:
    autoencoder = Autoencoder(tiny_autoencoder(**changes)).double()
    factor, radius = autoencoder.encoder_downsample, autoencoder.encoder_radius
    photo = image(192, 192).double().requires_grad_()
    # Encoding casts to float32; calling the blocks directly in double precision shows every path of the gradient.
    hidden = autoencoder.encoder.conv_in(photo)
    for block in autoencoder.encoder.down_blocks[: autoencoder._encoder_depth]:
        hidden = block(hidden)
    first = 96 // factor
    hidden[..., first, first].sum().backward()
    assert extent(photo.grad, 96, factor) == radius

    factor, radius = autoencoder.decoder_downsample, autoencoder.decoder_radius
    side = 192 // factor
    given = torch.rand(1, 8, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    given.requires_grad_()
    hidden = given
    for block in reversed(autoencoder.decoder.up_blocks[: autoencoder._decoder_depth]):
        hidden = block(hidden)
    hidden = autoencoder.decoder.norm_out(hidden.movedim(1, -1)).movedim(-1, 1)
    autoencoder.decoder.conv_out(hidden)[..., 96 : 96 + factor, 96 : 96 + factor].sum().backward()
    assert extent(given.grad.repeat_interleave(factor, 2).repeat_interleave(factor, 3), 96, factor) == radius


def extent(gradient: Tensor, start: int, length: int) -> int:
    """Measure how far nonzero gradients extend beyond rows [start, start + length)."""
    rows = torch.nonzero(gradient.abs().sum(dim=(0, 1, 3))).flatten()
    return max(start - int(rows.min()), int(rows.max()) - (start + length - 1))


@pytest.mark.parametrize("changes", [{}, LITE])
def test_the_tiled_shallow_half_matches_untiled(changes: dict[str, Any]) -> None:
    autoencoder = Autoencoder(tiny_autoencoder(**changes))
    stride = autoencoder.stride
    height, width, halo = 224, 320, 64
    photo = image(height - 5, width - 9)[0]
    padded = torch.from_numpy(np.pad(photo[None].numpy(), ((0, 0), (0, 0), (0, 5), (0, 9)), mode="symmetric"))
    with torch.inference_mode():
        factor = autoencoder.encoder_downsample
        whole = autoencoder.encode_shallow(padded)[0]
        tiled = torch.full_like(whole, float("nan"))
        encode = map_with_halo(
            lambda window: autoencoder.encode_shallow(window[None])[0], (photo,), tiled,
            tile=64, halo=halo, stride=stride, output_downsample=factor,
        )  # fmt: skip
        assert len(list(encode)) > 4
        assert torch.allclose(tiled, whole, atol=1e-5)

        factor = autoencoder.decoder_downsample
        hidden = autoencoder.decode_deep(autoencoder.encode_deep(whole[None]))[0]
        whole = autoencoder.decode_shallow(hidden[None])[0][:, : height - 5, : width - 9]
        tiled = torch.full_like(whole, float("nan"))
        decode = map_with_halo(
            lambda window: autoencoder.decode_shallow(window[None])[0], (hidden,), tiled,
            tile=64, halo=halo, stride=stride, input_downsample=factor,
        )  # fmt: skip
        assert len(list(decode)) > 4
        assert torch.allclose(tiled, whole, atol=1e-5)


def test_first_and_last_convolutions_stay_float32() -> None:
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
        assert torch.equal(ours.weight, theirs.weight), "float32 weights are never rounded to bfloat16"
    assert 0 < (exact.decode(latent) - decoded).abs().max() < 0.05


def test_autocast_keeps_first_and_last_convolutions_in_float32() -> None:
    autoencoder = Autoencoder(tiny_autoencoder())
    ends: list[torch.dtype] = []
    for end in (autoencoder.encoder.conv_in, autoencoder.decoder.conv_out):
        end.register_forward_hook(lambda _module, _given, result: ends.append(result.dtype))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        decoded = autoencoder.decode(autoencoder.encode(image(32, 32)))
    assert ends == [torch.float32] * 2
    assert decoded.dtype == torch.float32


def test_a_module_of_unknown_radius_is_refused() -> None:
    autoencoder = Autoencoder(tiny_autoencoder())
    autoencoder.encoder.down_blocks[0][0] = torch.nn.MaxPool2d(3)
    with pytest.raises(ValueError, match="MaxPool2d"):
        _ = autoencoder.encoder_radius
