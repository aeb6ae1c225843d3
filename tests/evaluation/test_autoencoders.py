"""Tests of loading the autoencoders of diffusers by class name."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sanarestore import weights
from sanarestore.errors import WeightsError
from sanarestore.evaluation.autoencoders import load_autoencoder
from tests.conftest import photo
from tests.published import tiny_autoencoder, tiny_transformer


def tiny_kl() -> Any:
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    make: Any = AutoencoderKL
    return make(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=2, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).eval()  # fmt: skip


def tiny_video() -> Any:
    from diffusers import AutoencoderKLWan

    make: Any = AutoencoderKLWan
    return make(base_dim=4, z_dim=2, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False])


def tiny_taesd() -> Any:
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    make: Any = AutoencoderTiny
    channels = {"encoder_block_out_channels": (8, 8, 8), "decoder_block_out_channels": (8, 8, 8)}
    return make(latent_channels=2, num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1), **channels).eval()


@pytest.mark.parametrize(("make", "stride"), [(tiny_autoencoder, 32), (tiny_kl, 2), (tiny_taesd, 4)])
def test_a_reconstruction_equals_that_of_diffusers(tmp_path: Path, make: Any, stride: int) -> None:
    theirs = make()
    theirs.save_pretrained(tmp_path / "whole/vae")
    folder = weights.autoencoder_folder(str(tmp_path / "whole"))
    ours = load_autoencoder(folder)
    assert ours.stride == stride
    image = torch.from_numpy(photo(64, 32)).permute(2, 0, 1)[None]
    with torch.no_grad():
        found = ours.decode(ours.encode(image))
        encoded = theirs.encode(image * 2 - 1)
        latent = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded[0]
        expected = theirs.decode(latent).sample / 2 + 0.5
    assert found.shape == image.shape
    # Results may differ in the last bits: a library may split sums by the memory addresses of weights.
    assert torch.allclose(found, expected, atol=1e-6, rtol=0)
    assert torch.equal(ours.decode(ours.encode(image)), found), "a reconstruction is not random"


def test_folders_without_a_usable_autoencoder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no autoencoder in diffusers' layout"):
        load_autoencoder(tmp_path)
    tiny_transformer().save_pretrained(tmp_path / "transformer")
    with pytest.raises(WeightsError, match="SanaTransformer2DModel is not an autoencoder"):
        load_autoencoder(tmp_path / "transformer")
    tiny_video().save_pretrained(tmp_path / "video")
    with pytest.raises(WeightsError, match="not an autoencoder of still images"):
        load_autoencoder(tmp_path / "video")
    tiny_kl().save_pretrained(tmp_path / "kl")
    (tmp_path / "kl/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(WeightsError, match="cannot be loaded"):
        load_autoencoder(tmp_path / "kl")
