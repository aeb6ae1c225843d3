"""Clips for tests: a photograph that is panned, or stands still behind a moving object, with noise."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from sanarestore.engine.motion import warped
from sanarestore.images import Pixels
from tests.conftest import photo

NOISE, LEFT = 25 / 255, 5 / 255
"""Standard deviations of the noise before and after a frame is restored."""


@dataclass(frozen=True)
class Made:
    """A clip: clean, degraded, and restored frame by frame, each [T,H,W,3]."""

    clean: Pixels
    degraded: Pixels
    restored: Pixels


def panned(frames: int, step: tuple[float, float], *, seed: int = 0, size: int = 96) -> Pixels:
    """A photograph that moves by `step` (x, y) pixels a frame."""
    return moved(photo(size + 64, size + 64, seed), frames, step, size)


def moved(whole_HWC: Pixels, frames: int, step: tuple[float, float], size: int = 96) -> Pixels:
    """A window of an image that is 64 pixels larger; what it shows moves by `step` (x, y) pixels a frame."""
    whole_CHW = torch.from_numpy(whole_HWC).permute(2, 0, 1)
    shown = []
    for number in range(frames):
        shift = torch.tensor([step[0] * number + 8.0, step[1] * number + 8.0])
        shifted_CHW = warped(whole_CHW, shift[:, None, None].expand(2, *whole_CHW.shape[1:]))
        shown.append(shifted_CHW[:, :size, :size].permute(1, 2, 0).numpy())
    return np.stack(shown)


def texture(size: int, seed: int = 0) -> Pixels:
    """Gray random texture that a subpixel motion can be applied to, [size,size,3]."""
    noise_1HW = torch.randn(1, size, size, generator=torch.Generator().manual_seed(seed))
    for _ in range(3):
        noise_1HW = F.avg_pool2d(F.pad(noise_1HW[None], (1,) * 4, mode="reflect"), 3, stride=1)[0]
    return (0.5 + 0.15 * noise_1HW / noise_1HW.std()).expand(3, -1, -1).permute(1, 2, 0).numpy()


def sky_over_texture(size: int, horizon: int) -> Pixels:
    """A smooth sky above a textured ground, [size,size,3]."""
    whole_HWC = texture(size).copy()
    whole_HWC[:horizon] = 0.8
    return whole_HWC


def with_noise(clean: Pixels, seed: int = 0, left: float | Pixels = LEFT) -> Made:
    """A clip with independent noise in every frame, before and after a restoration that leaves some noise: `left` is
    its standard deviation, one for all or one for each value."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1, clean.shape)
    return Made(
        clean, (clean + NOISE * noise).astype(np.float32),
        (clean + left * rng.normal(0, 1, clean.shape)).astype(np.float32),
    )  # fmt: skip


def psnr(one: Pixels, other: Pixels) -> float:
    """Peak signal-to-noise ratio in dB, of values in [0,1]."""
    return float(-10 * np.log10(np.mean((one.astype(np.float64) - other) ** 2)))
