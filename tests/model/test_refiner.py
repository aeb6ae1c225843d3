"""The refiner: the identity before training, local, and float32 at its ends."""

import math

import numpy as np
import pytest
import torch

from sanarestore.model.refiner import CELL, Refiner, RefinerConfig, Statistics, spectrum
from tests.conftest import random_refiner


def inputs(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    degraded, generated = torch.rand(2, 2, 3, height, width, generator=generator)
    return degraded, generated, torch.randn(2, 8, generator=generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_untrained_it_returns_generated_bit_for_bit(dtype: torch.dtype) -> None:
    refiner = Refiner(RefinerConfig(widths=(8, 8, 16, 16), prompt_width=8)).with_dtype(dtype)
    degraded, generated, prompt = inputs(32, 48)
    assert torch.equal(refiner(degraded, generated, prompt), generated)


def test_a_16_bit_ramp_is_code_exact_at_bfloat16() -> None:
    refiner = Refiner(RefinerConfig(widths=(8, 8, 16, 16), prompt_width=8)).with_dtype(torch.bfloat16)
    codes = np.arange(65536, dtype=np.uint16).reshape(1, 1, 256, 256).repeat(3, axis=1)
    ramp = torch.from_numpy(codes.astype(np.float32) / np.float32(65535))
    out = refiner(ramp, ramp, torch.zeros(1, 8)).detach().numpy()
    assert np.array_equal(np.rint(out * 65535).astype(np.uint16), codes)


def test_only_the_middle_takes_another_dtype() -> None:
    refiner = random_refiner().with_dtype(torch.bfloat16)
    assert refiner.stem.weight.dtype == refiner.head.weight.dtype == torch.float32
    assert {parameter.dtype for parameter in refiner.encoder.parameters()} == {torch.bfloat16}
    assert refiner(*inputs(32, 32)).dtype == torch.float32


def test_bfloat16_stays_near_float32() -> None:
    exact, rounded = random_refiner(), random_refiner().with_dtype(torch.bfloat16)
    difference = (exact(*inputs(32, 32)) - rounded(*inputs(32, 32))).abs().mean()
    assert 0 < difference < 0.02


@pytest.mark.parametrize(
    "config",
    [
        RefinerConfig(widths=(4, 4, 4, 4), prompt_width=4),
        RefinerConfig(widths=(4, 4, 4), encoder_blocks=(1, 2), decoder_blocks=(2, 1), prompt_width=4),
        RefinerConfig(widths=(4, 4, 4), encoder_blocks=(3, 2), decoder_blocks=(0, 1), prompt_width=4),
        RefinerConfig(widths=(4, 4, 4, 4), encoder_blocks=(2, 2, 1), decoder_blocks=(3, 2, 1), prompt_width=4),
        RefinerConfig(widths=(4, 4, 4), encoder_blocks=(0, 0), decoder_blocks=(1, 1), prompt_width=4, spectrum=5),
    ],
)
def test_the_halo_is_the_reach_of_the_gradient(config: RefinerConfig) -> None:
    """Gradient of one aligned block's sum: zero beyond the computed radius, not zero just inside it."""
    torch.manual_seed(0)
    refiner = Refiner(config)
    with torch.no_grad():
        for name, parameter in refiner.named_parameters():
            # Positive weights and biases keep every ReLU open, so that no path is hidden by chance.
            parameter.copy_(torch.rand_like(parameter) * 0.2 + (0.5 if name.endswith("bias") else 0.01))
    stride, radius = config.stride, config.receptive_radius
    side = stride * (2 * (radius // stride + 2) + 1)
    # Uneven, because an absolute difference has no gradient where neighbours are equal.
    image = (1 + 0.3 * torch.rand(1, 3, side, side)).requires_grad_()
    middle = (side - stride) // 2
    out = refiner(image, image.detach(), torch.zeros(1, config.prompt_width))
    out[..., middle : middle + stride, middle : middle + stride].sum().backward()
    touched = torch.nonzero(image.grad[0].abs().sum(0).sum(0)).flatten()
    assert middle - int(touched.min()) == radius
    assert int(touched.max()) - (middle + stride - 1) == radius
    assert refiner.halo >= radius
    assert refiner.halo % stride == 0


def test_the_statistics_measure_noise_and_ignore_planes() -> None:
    """The noise channel is the standard deviation in 8-bit codes, as a logarithm, for flat and tilted fields alike."""
    generator = torch.Generator().manual_seed(0)
    tilted = torch.linspace(0.2, 0.8, 256).expand(1, 3, 256, 256)
    for sigma in (5, 25, 50):
        noisy = tilted + sigma / 255 * torch.randn(1, 3, 256, 256, generator=generator)
        noise = 2 ** (4 * Statistics.of(noisy).local[:, 0]) - 0.5
        assert noise.shape == (1, 128, 128)
        assert noise[..., 4:-4, 4:-4].mean().item() == pytest.approx(sigma, rel=0.02)
        wide = 2 ** (2 * Statistics.of(noisy).wide[:, 2]) - 0.25
        assert wide.shape == (1, 32, 32)
        assert wide[..., 3:-3, 3:-3].mean().item() == pytest.approx(sigma, rel=0.02)
    calm = 2 ** (4 * Statistics.of(tilted).local) - 0.5
    assert calm[0, 0, 4:-4, 4:-4].abs().max() < 1e-3
    assert calm[0, 1, 4:-4, 4:-4].mean().item() == pytest.approx(0.6 / 255 * 255, rel=0.01)


def test_the_statistics_find_blocks_and_where_their_grid_lies() -> None:
    generator = torch.Generator().manual_seed(0)
    smooth = 0.02 * torch.randn(1, 3, 160, 160, generator=generator)
    blocks = smooth + torch.rand(1, 3, 20, 20, generator=generator).repeat_interleave(CELL, 2).repeat_interleave(
        CELL, 3
    )
    on_grid, on_any = Statistics.of(blocks).wide[0, :2].mean(dim=(1, 2))
    assert on_grid > 3
    assert on_any == pytest.approx(on_grid.item(), abs=0.1)
    on_grid, on_any = Statistics.of(blocks.roll((3, 5), dims=(2, 3))).wide[0, :2].mean(dim=(1, 2))
    assert on_grid < 0 < 3 < on_any
    on_grid, on_any = Statistics.of(smooth).wide[0, :2].mean(dim=(1, 2))
    assert abs(on_grid) < 0.2
    assert on_any < 1


def test_the_statistics_tell_blur_and_darkness() -> None:
    generator = torch.Generator().manual_seed(0)
    sharp = torch.rand(1, 3, 160, 160, generator=generator)
    soft = torch.nn.functional.avg_pool2d(sharp, 5, stride=1, padding=2)
    growth = [Statistics.of(image).wide[0, 4].mean().item() for image in (sharp, soft)]
    assert growth[0] == pytest.approx(0, abs=0.02)
    assert growth[1] > 0.3
    light = [Statistics.of(image).wide[0, 5].mean().item() for image in (sharp, sharp / 4)]
    assert light == pytest.approx([0, -1.5], abs=0.02)


def test_white_noise_has_the_same_power_in_every_band() -> None:
    generator = torch.Generator().manual_seed(0)
    for sigma in (2, 30):
        noise = sigma / 255 * torch.randn(1, 1, 256, 256, generator=generator).expand(-1, 3, -1, -1)
        bands = spectrum(0.5 + noise, 7)
        assert bands.shape == (1, 7, 32, 32)
        # A little less than log2(s^2), as the mean of each window is taken off and the mean of logs is below.
        assert bands[..., 4:-4, 4:-4].mean(dim=(0, 2, 3)).tolist() == pytest.approx(
            [math.log2(sigma**2 + 0.1) / 4 - 0.5] * 7, abs=0.05
        )
    assert spectrum(torch.full((1, 3, 64, 64), 0.3), 7).unique().numel() == 1, "nothing but the floor"


def test_the_spectrum_sees_where_a_resolution_ends_and_a_blur_does_not() -> None:
    generator = torch.Generator().manual_seed(0)
    sharp = torch.rand(1, 3, 256, 256, generator=generator)
    low = torch.nn.functional.interpolate(sharp, scale_factor=0.5, mode="bicubic", antialias=True)
    low = torch.nn.functional.interpolate(low, scale_factor=2, mode="bicubic", antialias=True)
    taps = torch.exp(-(torch.arange(-6.0, 7) ** 2) / 2)
    kernel = (taps[:, None] * taps / taps.sum() ** 2).expand(3, 1, 13, 13)
    blurred = torch.nn.functional.conv2d(sharp, kernel, padding=6, groups=3)
    slopes = []
    for image in (sharp, low, blurred):
        bands = spectrum(image, 8)[0, :, 8:-8, 8:-8].mean(dim=(1, 2))
        slopes.append((bands[1:] - bands[:-1]) * 4)  # octaves of power per band
    assert slopes[0].abs().max() < 0.3
    # From half the frequency on, the low resolution falls steeply; the blur falls evenly before that too.
    assert slopes[1][:2].abs().max() < 0.8
    assert slopes[1][4:6].max() < -1
    assert slopes[2][:3].max() < -0.3


def test_the_statistics_steer() -> None:
    """Noise in one corner changes what the decoder does there and nowhere far from it."""
    refiner = random_refiner()
    steering = refiner.steering
    degraded = torch.full((1, 3, 256, 256), 0.5)
    noisy = degraded.clone()
    noisy[..., :64, :64] += 0.1 * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0))
    calm, stirred = (steering(Statistics.of(image).wide, torch.zeros(1, 8)) for image in (degraded, noisy))
    assert (calm - stirred)[..., :8, :8].abs().max() > 0.1
    assert torch.equal(calm[..., 12:, 12:], stirred[..., 12:, 12:])


def test_the_default_reach_is_within_the_design() -> None:
    assert RefinerConfig().receptive_radius <= 96


def test_the_prompt_and_both_images_matter() -> None:
    refiner = random_refiner()
    degraded, generated, prompt = inputs(32, 32)
    base = refiner(degraded, generated, prompt)
    assert (refiner(degraded, generated, prompt + 1) - base).abs().max() > 1e-3
    assert (refiner(1 - degraded, generated, prompt) - base).abs().max() > 1e-3
    assert ((refiner(degraded, 1 - generated, prompt) - (1 - generated)) - (base - generated)).abs().max() > 1e-3


def test_images_of_a_batch_do_not_mix() -> None:
    refiner = random_refiner()
    degraded, generated, prompt = inputs(32, 32)
    both = refiner(degraded, generated, prompt)
    alone = refiner(degraded[1:], generated[1:], prompt[1:])
    assert torch.allclose(both[1:], alone, atol=1e-5)


def test_a_configuration_survives_json() -> None:
    import json

    config = RefinerConfig(widths=(4, 8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1))
    assert RefinerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_block_counts_must_fit_the_levels() -> None:
    with pytest.raises(ValueError, match="block counts"):
        RefinerConfig(widths=(4, 8, 8), encoder_blocks=(1,))


def test_a_stride_smaller_than_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match="takes three"):
        RefinerConfig(widths=(4, 8), encoder_blocks=(1,), decoder_blocks=(1,))
