"""A new autoencoder as a transform code: its reconstruction, its bases, and zero-initialised residual branches."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sanarestore.training.latent_path import new_latent_path
from sanarestore.training.recipe_shapes import LatentShape
from sanarestore.training.transform_code import begin_as_transform_code, stages
from tests.conftest import photo

SMALL = LatentShape(channels=(8, 32, 32, 32, 32, 32), blocks=(0, 1, 1, 1, 1, 1), latent_channels=16, head_width=8)


def image_of(height: int = 64, width: int = 96) -> Tensor:
    return torch.from_numpy(photo(height, width)).permute(2, 0, 1)[None]


def fields(count: int) -> Tensor:
    """Make gray images with the spectrum that the components assume, [B,3,256,256] around 0.5."""
    rng = np.random.default_rng(0)
    frequency = np.fft.fftfreq(256) * 256
    amplitude = (1 + frequency[:, None] ** 2 + frequency**2) ** -0.55
    gray = np.fft.ifft2(np.fft.fft2(rng.normal(size=(count, 256, 256))) * amplitude).real
    gray *= 0.25 / gray.std()
    return torch.from_numpy(np.repeat((0.5 + gray)[:, None], 3, axis=1)).float()


def decibels(one: Tensor, other: Tensor) -> float:
    return -10 * float((one - other).square().mean().log10())


@pytest.mark.parametrize("first", [0, 1])
def test_reconstruction_is_the_projection_onto_the_basis(first: int) -> None:
    """Compare encoder and decoder with a direct projection of the image blocks."""
    shape = replace(SMALL, channels=(16, 32, 32, 32, 32, 32), blocks=(first, 1, 1, 1, 1, 1))
    autoencoder = new_latent_path(shape, prompt_width=8, shift=3.0).autoencoder
    found = stages(first == 0, *(shape.channels[0 if first else 1 :]))
    basis = torch.from_numpy(np.ascontiguousarray(found[-1].basis_NP[:16])).float()
    image = image_of()
    places = _places_of_a_block()
    blocks_BP = (2 * image[0] - 1).unfold(1, 32, 32).unfold(2, 32, 32).permute(1, 2, 3, 4, 0)[:, :, *places]
    projected = (blocks_BP.flatten(2) @ basis.T @ basis).unflatten(2, (1024, 3))
    expected = torch.zeros(2, 3, 32, 32, 3)
    expected[:, :, *places] = projected
    expected = expected.permute(4, 0, 2, 1, 3).flatten(1, 2).flatten(2)[None] / 2 + 0.5
    with torch.no_grad():
        reconstructed = autoencoder.decode(autoencoder.encode(image))
    assert decibels(reconstructed, expected) > 40, "only the last norm makes the code nonlinear"


def _places_of_a_block() -> tuple[Tensor, Tensor]:
    """Return rows and columns in Z-order: bits of row and column alternate, the most significant first."""
    index = torch.arange(1024)
    rows, columns = torch.zeros_like(index), torch.zeros_like(index)
    for bit in range(5):
        rows |= (index >> (2 * bit + 1) & 1) << bit
        columns |= (index >> (2 * bit) & 1) << bit
    return rows, columns


def test_bases_are_orthonormal_and_sorted() -> None:
    for stage in stages(True, 32, 32, 32, 32):
        count = len(stage.variance_N)
        assert np.allclose(stage.basis_NP @ stage.basis_NP.T, np.eye(count), atol=1e-9)
    last = stages(True, 32, 32, 32, 32)[-1].variance_N
    assert (np.diff(last) <= 1e-9).all()
    assert last.min() > 0


def test_the_first_component_is_brightness() -> None:
    first = stages(True, 32, 32, 32)[-1].basis_NP[0]
    assert np.abs(first).min() > 0.5 * np.abs(first).max()


def test_more_latent_channels_reconstruct_better() -> None:
    image = fields(1)
    kept = []
    for latents in (8, 16):
        autoencoder = new_latent_path(replace(SMALL, latent_channels=latents), prompt_width=8, shift=3.0).autoencoder
        with torch.no_grad():
            kept.append(decibels(autoencoder.decode(autoencoder.encode(image)), image))
    assert kept[1] > kept[0] + 0.5


def test_latents_have_about_unit_variance() -> None:
    autoencoder = new_latent_path(SMALL, prompt_width=8, shift=3.0).autoencoder
    with torch.no_grad():
        deviation = autoencoder.encode(fields(8)).std(dim=(0, 2, 3))
    # Latents of colour are near zero for gray images.
    active = deviation[deviation > 0.05]
    assert len(active) > 8
    assert active.min() > 0.5
    assert active.max() < 1.6


def test_residual_branches_start_at_zero() -> None:
    autoencoder = new_latent_path(LatentShape(), prompt_width=8, shift=3.0).autoencoder
    widths: set[int] = set()
    for block in autoencoder.modules():
        if type(block).__name__ in ("ResBlock", "EfficientViTBlock"):
            width = next(
                parameter.shape[0] for name, parameter in block.named_parameters() if name.endswith("norm.bias")
            )
            hidden = torch.randn(1, width, 4, 4, generator=torch.Generator().manual_seed(0))
            assert torch.equal(block(hidden), hidden)
            widths.add(width)
    assert widths == set(LatentShape().channels[1:])


def test_every_weight_moves_within_a_few_steps() -> None:
    """No weight has both zero input and zero output, which would block its gradient."""
    autoencoder = new_latent_path(SMALL, prompt_width=8, shift=3.0).autoencoder
    autoencoder.requires_grad_(True)
    before = [parameter.detach().clone() for parameter in autoencoder.parameters()]
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=1e-3)
    for seed in range(4):
        given = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        (autoencoder.decode(autoencoder.encode(given)) - given).square().mean().backward()
        optimizer.step()
    unchanged = [
        name for (name, parameter), old in zip(autoencoder.named_parameters(), before, strict=True)
        if torch.equal(parameter, old)
    ]  # fmt: skip
    assert not unchanged


def test_strided_resampling_blocks_are_refused() -> None:
    from diffusers import AutoencoderDC

    make: Any = AutoencoderDC
    other = make(
        latent_channels=8, encoder_block_out_channels=[8] * 6, decoder_block_out_channels=[8] * 6,
        encoder_layers_per_block=[1] * 6, decoder_layers_per_block=[1] * 6, attention_head_dim=8,
        encoder_block_types="ResBlock", decoder_block_types="ResBlock", encoder_qkv_multiscales=[[]] * 6,
        decoder_qkv_multiscales=[[]] * 6,
    )  # fmt: skip
    with pytest.raises(ValueError, match="strided"):
        begin_as_transform_code(other)
