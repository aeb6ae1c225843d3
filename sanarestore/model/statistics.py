"""Local image statistics, computed by formula, that distinguish noise, blur, compression and darkness.

Shape suffixes: B batch, C channels, H W full-resolution pixels.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LOCAL_STATISTICS = 2
"""Channels of `Statistics.local`."""

LOCAL_RADIUS = 5
"""Receptive field of `Statistics.local` on each side: two positions at half resolution and one pixel, in pixels."""

WIDE_STATISTICS = 6
"""Channels of `Statistics.wide`."""

DOWNSAMPLE = 8
"""Side in pixels of a position of `Statistics.wide`: that of a JPEG block."""

WIDE_RADIUS = 2 * DOWNSAMPLE + 2
"""Receptive field of `Statistics.wide` on each side: two cells and two pixels, in pixels."""

WINDOW = 32
"""Side in pixels of the windows that `spectrum` transforms: large enough to locate a resolution's cut-off frequency."""

WINDOWS_AT_ONCE = {"cpu": 2**11, "cuda": 2**16}
"""Windows of 4 KiB that `spectrum` transforms at once, by device: they fit a CPU's cache, or keep a GPU busy."""

SPECTRUM_RADIUS = 4 * DOWNSAMPLE + (WINDOW - DOWNSAMPLE) // 2
"""Receptive field of `spectrum` on each side: four cells, and a window's margin around its cell, in pixels."""

LOWEST_FREQUENCY = 0.04
"""Lowest frequency of the spectrum, in cycles per pixel; below it lies the content of the photograph."""

LOWEST_POWER = 0.1
"""Power that is added before the logarithm, in squared 8-bit codes: about that of rounding."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Measures of an image for a refiner.

    A network without normalisation learns such measures by itself only after long training, in which it mistakes every
    faint detail for noise and every block for blur.
    """

    local: Tensor
    """[B, 2, H/2, W/2]: logarithms of noise and of detail around each pixel."""
    wide: Tensor
    """[B, 6, H/8, W/8]: blocking on the JPEG grid of the image, blocking on any 8-pixel grid, noise, detail relative to
    noise, growth of detail with distance, lightness; over 40 pixels a side, each about -3 to 3."""
    variation: Tensor
    """[B, 1, H/8, W/8]: mean of horizontal plus vertical absolute difference of neighbours over 40 pixels a side, in
    8-bit codes; exactly 0 where nothing varies."""

    @classmethod
    def of(cls, image_BCHW: Tensor) -> "Statistics":
        """Measure an image [B,3,H,W] in [0,1], H and W multiples of `DOWNSAMPLE`; in float32."""
        padded = F.pad(image_BCHW.float(), (2, 2, 2, 2), mode="replicate")
        near = padded[..., 1:-1, 1:-1]
        middle = near[..., 1:-1, 1:-1]
        detail = (near[..., 2:, 1:-1] - middle).abs() + (near[..., 1:-1, 2:] - middle).abs()
        across = padded[..., 2:-2, 4:] - padded[..., 2:-2, :-4]
        down = padded[..., 4:, 2:-2] - padded[..., :-4, 2:-2]
        detail_far = across.abs() + down.abs()
        maps = torch.stack([each.mean(dim=1) for each in (_noise(near), detail, detail_far)], dim=1)

        local = mean_around(F.avg_pool2d(maps[:, :2], 2))
        around = mean_around(F.avg_pool2d(maps, DOWNSAMPLE)) * 255
        noise, fine, far = torch.log2(around + 0.25).div(2).unbind(dim=1)
        gray = image_BCHW.float().mean(dim=1, keepdim=True)
        on_grid, on_any = _blocks(gray)
        light = mean_around(F.avg_pool2d(gray, DOWNSAMPLE))[:, 0] * 4 - 2
        wide = torch.stack([on_grid, on_any, noise, fine - noise, far - fine, light], dim=1)
        return cls(local=torch.log2(local * 255 + 0.5) / 4, wide=wide, variation=around[:, 1:2])


def spectrum(image_BCHW: Tensor, bands: int) -> Tensor:
    """Log power in `bands` frequency rings from `LOWEST_FREQUENCY` to 1/2, [B, bands, H/8, W/8], scaled to about zero.

    Mean periodogram of 32-pixel Hann windows at every cell (Welch 1967), over nine by nine cells. White noise of
    standard deviation s codes gives log2(s^2) / 4 - 1/2 in every band; the floor is about the rounding of 8 bits.
    """
    gray = image_BCHW.float().mean(dim=1, keepdim=True) * 255
    margin = (WINDOW - DOWNSAMPLE) // 2
    padded = F.pad(gray, (margin,) * 4, mode="replicate")[:, 0]
    windows = padded.unfold(1, WINDOW, DOWNSAMPLE).unfold(2, WINDOW, DOWNSAMPLE)  # [B, H/8, W/8, 32, 32]
    taper = hann().to(gray.device)
    rings = (band_weights(bands) / taper.square().sum().cpu()).repeat_interleave(2, dim=0).to(gray.device)
    # Windows hold every pixel sixteen times; strips of them bound memory and stay in the cache.
    rows = max(WINDOWS_AT_ONCE.get(gray.device.type, 2**14) // (len(windows) * windows.shape[2]), 1)
    power = torch.cat([_power(strip, taper) @ rings for strip in torch.split(windows, rows, dim=1)], dim=1)
    octaves: Tensor = torch.log2(mean_around(power.movedim(3, 1), 4) + LOWEST_POWER)
    return octaves / 4 - 0.5


def hann() -> Tensor:
    """Taper of a window, [32, 32]."""
    taper = torch.hann_window(WINDOW, periodic=False)
    return taper[:, None] * taper


def _power(windows_BHWww: Tensor, taper_ww: Tensor) -> Tensor:
    """Squared Fourier coefficients of tapered windows without their means, [B, H/8, W/8, 32 * 17 * 2].

    Real and imaginary parts alternate, and the product with the rings adds them: complex absolute values are slow on
    CPUs.
    """
    tapered = (windows_BHWww - windows_BHWww.mean(dim=(-1, -2), keepdim=True)).mul_(taper_ww)
    return torch.view_as_real(torch.fft.rfft2(tapered)).square_().flatten(3)


def band_weights(bands: int) -> Tensor:
    """Weights [32 x 17, bands] that average the coefficients of `rfft2` in each band."""
    down, across = torch.fft.fftfreq(WINDOW)[:, None], torch.fft.rfftfreq(WINDOW)[None]
    frequency = (down.square() + across.square()).sqrt().flatten()
    edges = torch.linspace(LOWEST_FREQUENCY, 0.5, bands + 1)
    inside = (frequency[:, None] >= edges[:-1]) & (frequency[:, None] < edges[1:])
    means: Tensor = inside.float() / inside.sum(dim=0).clamp(min=1)
    return means


def _noise(padded_BCHW: Tensor) -> Tensor:
    """Noise by Immerkaer's mask (1996), which responds little to edges and planes; one pixel less on each side.

    Absolute response, scaled so that its mean is the standard deviation of white noise.
    """
    across = padded_BCHW[..., 2:] - 2 * padded_BCHW[..., 1:-1] + padded_BCHW[..., :-2]
    both = across[..., 2:, :] - 2 * across[..., 1:-1, :] + across[..., :-2, :]
    response: Tensor = both.abs() * ((math.pi / 2) ** 0.5 / 6)
    return response


def _blocks(gray_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Blocking on the image's own grid of `DOWNSAMPLE` pixels, and on the strongest grid, both [B, H/8, W/8].

    Ratio of the steps between blocks to the mean step, in octaves, rows and columns added.
    """
    on_grid, on_any = [], []
    for image in (gray_BCHW, gray_BCHW.transpose(2, 3)):
        padded = F.pad(image, (1, 2, 0, 0), mode="replicate")
        steps = padded[..., 1:] - padded[..., :-1]
        # Subtract the mean slope on both sides from each step, because gradients are not block borders.
        jumps = (steps[..., 1:-1] - (steps[..., :-2] + steps[..., 2:]) / 2).abs()
        batch, _, height, width = jumps.shape
        jumps = (
            jumps.view(batch, height // DOWNSAMPLE, DOWNSAMPLE, width // DOWNSAMPLE, DOWNSAMPLE)
            .mean(dim=2)
            .movedim(-1, 1)
        )
        jumps = mean_around(jumps) + 0.1 / 255
        octaves = torch.log2(jumps / jumps.mean(dim=1, keepdim=True))
        octaves = octaves if image is gray_BCHW else octaves.transpose(2, 3)
        on_grid.append(octaves[:, DOWNSAMPLE - 1])
        on_any.append(octaves.amax(dim=1))
    return on_grid[0] + on_grid[1], on_any[0] + on_any[1]


def mean_around(map_BCHW: Tensor, radius: int = 2) -> Tensor:
    """Mean over the positions within `radius` along both axes, borders replicated."""
    return F.avg_pool2d(F.pad(map_BCHW, (radius,) * 4, mode="replicate"), 2 * radius + 1, stride=1)
