"""Image statistics: noise, JPEG blocks, blur, darkness, spectrum and local variation."""

import math

import pytest
import torch

from sanarestore.model import statistics
from sanarestore.model.statistics import DOWNSAMPLE, Statistics, spectrum


def test_the_statistics_measure_noise_and_ignore_planes() -> None:
    """The noise channel is the log standard deviation in 8-bit codes, on flat and on tilted fields."""
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


def test_the_statistics_detect_blocks_and_their_grid_offset() -> None:
    generator = torch.Generator().manual_seed(0)
    smooth = 0.02 * torch.randn(1, 3, 160, 160, generator=generator)
    blocks = smooth + torch.rand(1, 3, 20, 20, generator=generator).repeat_interleave(DOWNSAMPLE, 2).repeat_interleave(
        DOWNSAMPLE, 3
    )
    on_grid, on_any = Statistics.of(blocks).wide[0, :2].mean(dim=(1, 2))
    assert on_grid > 3
    assert on_any == pytest.approx(on_grid.item(), abs=0.1)
    on_grid, on_any = Statistics.of(blocks.roll((3, 5), dims=(2, 3))).wide[0, :2].mean(dim=(1, 2))
    assert on_grid < 0 < 3 < on_any
    on_grid, on_any = Statistics.of(smooth).wide[0, :2].mean(dim=(1, 2))
    assert abs(on_grid) < 0.2
    assert on_any < 1


def test_the_statistics_measure_blur_and_darkness() -> None:
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
        # A little below log2(s^2): each window's mean is removed, and a mean of logs is below the log of the mean.
        assert bands[..., 4:-4, 4:-4].mean(dim=(0, 2, 3)).tolist() == pytest.approx(
            [math.log2(sigma**2 + 0.1) / 4 - 0.5] * 7, abs=0.05
        )
    assert spectrum(torch.full((1, 3, 64, 64), 0.3), 7).unique().numel() == 1, (
        "a flat field has only the floor in every band"
    )


def test_processing_windows_in_strips_does_not_change_the_spectrum(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.rand(2, 3, 72, 104, generator=torch.Generator().manual_seed(0))
    whole = spectrum(image, 7)
    monkeypatch.setitem(statistics.WINDOWS_AT_ONCE, "cpu", 30)
    assert torch.allclose(spectrum(image, 7), whole, atol=1e-6, rtol=0)


def test_the_spectrum_separates_low_resolution_from_blur() -> None:
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
    # Low resolution falls steeply from half the band on; blur falls evenly from the start.
    assert slopes[1][:2].abs().max() < 0.8
    assert slopes[1][4:6].max() < -1
    assert slopes[2][:3].max() < -0.3


@pytest.mark.parametrize("value", [0.0, 1.0, 1 / 3, 0.1, 12345 / 65535])
def test_variation_is_exactly_zero_in_a_flat_field(value: float) -> None:
    flat = torch.tensor([value, 1 - value, value / 7])[None, :, None, None].expand(1, 3, 64, 72)
    variation = Statistics.of(flat).variation
    assert variation.shape == (1, 1, 8, 9)
    assert torch.equal(variation, torch.zeros(1, 1, 8, 9))


def test_variation_is_the_mean_difference_of_neighbours_in_codes() -> None:
    ramp = (torch.arange(96) * 2 / 255).expand(1, 3, 64, 96)
    variation = Statistics.of(ramp).variation
    assert torch.allclose(variation[..., 3:-3], torch.tensor(2.0), atol=1e-4)


def test_variation_is_local() -> None:
    image = torch.full((1, 3, 160, 160), 0.25)
    image[..., 76:84, 76:84] = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    varied = Statistics.of(image).variation[0, 0] > 0
    # Cells 9 and 10 contain the varying pixels; variation is averaged over five by five cells.
    expected = torch.zeros(20, 20, dtype=torch.bool)
    expected[7:13, 7:13] = True
    assert torch.equal(varied, expected)
