"""Clips for tests: a photograph that is panned, or stands still behind a moving object, with noise."""

from dataclasses import dataclass

import numpy as np
import torch

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
    whole_CHW = torch.from_numpy(photo(size + 64, size + 64, seed)).permute(2, 0, 1)
    shown = []
    for number in range(frames):
        shift = torch.tensor([step[0] * number + 8.0, step[1] * number + 8.0])
        moved = warped(whole_CHW, shift[:, None, None].expand(2, *whole_CHW.shape[1:]))
        shown.append(moved[:, :size, :size].permute(1, 2, 0).numpy())
    return np.stack(shown)


def with_noise(clean: Pixels, seed: int = 0) -> Made:
    """A clip with independent noise in every frame, before and after a restoration that leaves some noise."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1, clean.shape)
    return Made(
        clean, (clean + NOISE * noise).astype(np.float32),
        (clean + LEFT * rng.normal(0, 1, clean.shape)).astype(np.float32),
    )  # fmt: skip


def psnr(one: Pixels, other: Pixels) -> float:
    """Peak signal-to-noise ratio in dB, of values in [0,1]."""
    return float(-10 * np.log10(np.mean((one.astype(np.float64) - other) ** 2)))
