"""Flow matching, for training and sampling alike.

Shape suffixes: B batch, C channels, H W latent positions.

Time s runs from the clean latent z at 0 to noise e at 1, in a straight line (Liu et al. 2023):

    x = (1 - s) z + s e        velocity v = dx/ds = e - z        hence z = x - s v

SANA's checkpoints predict v. So do Sprint's, seen rightly: their trigonometric path x' = cos(t) z + sin(t) e is this
one times cos(t) + sin(t), at s = sin(t) / (sin(t) + cos(t)); only the way of stepping is another.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

Solver = Literal["euler", "dpm", "consistency"]

Predict = Callable[[Tensor, float], Tensor]
"""(x [B,C,H,W], s) -> v [B,C,H,W]."""

Noise = Callable[[int], Tensor]
"""Number of the draw -> noise [B,C,H,W]; 0 is what sampling starts from."""

LARGEST_ANGLE, MIDDLE_ANGLE = 1.57080, 1.3
"""Where Sprint starts, and its one stop when it makes two steps (Chen et al. 2025)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """How a base was trained to flow, read from its scheduler's configuration."""

    shift: float = 3.0
    """How far times are moved towards noise (`shift_times`)."""
    solver: Solver = "dpm"
    """euler: first order; dpm: DPM-Solver++ (Lu et al. 2022), second order; consistency: jump to the clean latent and
    go part of the way back with new noise, as Sprint does."""

    def sample(self, predict: Predict, noise: Noise, steps: int) -> Tensor:
        """From noise to a clean latent [B,C,H,W] in `steps` calls of `predict`.

        One step of euler or dpm is z = e - v(e, 1), the mean of all latents that the condition allows.
        """
        (latent_BCHW,) = deque(self.steps(predict, noise, steps), maxlen=1)
        return latent_BCHW

    def steps(self, predict: Predict, noise: Noise, steps: int) -> Iterator[Tensor]:
        """The latent [B,C,H,W] after each of the `steps` calls of `predict`; the last is clean."""
        if steps < 1:
            raise ValueError(f"sampling takes at least one step, not {steps}")
        if self.solver == "consistency":
            return _consistency(predict, noise, steps)
        # DPM-Solver's first sigma is a little less than 1; in a single step, 1 itself is what was trained for.
        if self.solver == "euler" or steps == 1:
            return _euler(predict, noise(0), euler_times(steps, self.shift))
        return _dpm(predict, noise(0), steps, self.shift)


def on_path(clean_BCHW: Tensor, noise_BCHW: Tensor, time_B: Tensor) -> Tensor:
    """x at time s of the straight line from clean to noise, [B,C,H,W]."""
    time_B111 = time_B[:, None, None, None]
    return (1 - time_B111) * clean_BCHW + time_B111 * noise_BCHW


def velocity(clean_BCHW: Tensor, noise_BCHW: Tensor) -> Tensor:
    """What a model learns to predict anywhere on the line: v = e - z."""
    return noise_BCHW - clean_BCHW


def shift_times(time: Tensor, shift: float) -> Tensor:
    """Move times in [0, 1] towards noise, the more so the larger the images (Esser et al. 2024, eq. 23)."""
    return shift * time / (1 + (shift - 1) * time)


def training_times(count: int, generator: torch.Generator, *, shift: float, p_one: float) -> Tensor:
    """Times to train at, [B] on the CPU: logit-normal and shifted, but exactly 1 with probability `p_one`.

    Sampling in one step asks for the velocity at 1, where a logit-normal draw almost never falls (P(s > 0.99) is 2e-4
    without a shift).
    """
    logits = torch.randn(count, generator=generator)
    one = torch.rand(count, generator=generator) < p_one
    return torch.where(one, torch.ones(()), shift_times(torch.sigmoid(logits), shift))


def noise_field(seed: int, *shape: int) -> Noise:
    """Noise of a whole image, the same on any device and for any tiling: drawn on the CPU, draw by draw from `seed`."""

    def draw(number: int) -> Tensor:
        generator = torch.Generator().manual_seed((seed * 1_000_003 + number) % 2**63)
        return torch.randn(shape, generator=generator)

    return draw


def euler_times(steps: int, shift: float) -> list[float]:
    """`steps` + 1 times from 1 to 0, evenly spaced before the shift."""
    times: list[float] = shift_times(torch.linspace(1, 0, steps + 1, dtype=torch.float64), shift).tolist()
    return times


def sprint_angles(steps: int) -> list[float]:
    """`steps` + 1 angles t from noise to 0."""
    if steps == 2:
        return [LARGEST_ANGLE, MIDDLE_ANGLE, 0.0]
    return [LARGEST_ANGLE * (1 - step / steps) for step in range(steps + 1)]


def _euler(predict: Predict, latent_BCHW: Tensor, times: list[float]) -> Iterator[Tensor]:
    for time, following in pairwise(times):
        latent_BCHW = latent_BCHW + (following - time) * predict(latent_BCHW, time)
        yield latent_BCHW


def _dpm(predict: Predict, latent_BCHW: Tensor, steps: int, shift: float) -> Iterator[Tensor]:
    from diffusers import DPMSolverMultistepScheduler

    make: Any = DPMSolverMultistepScheduler
    scheduler = make(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, algorithm_type="dpmsolver++"
    )
    scheduler.set_timesteps(steps)
    for timestep in scheduler.timesteps:
        # The scheduler's timesteps are whole numbers up to 1000, and models were sampled with those.
        predicted = predict(latent_BCHW, float(timestep) / scheduler.config.num_train_timesteps)
        latent_BCHW = scheduler.step(predicted, timestep, latent_BCHW, return_dict=False)[0]
        yield latent_BCHW


def _consistency(predict: Predict, noise: Noise, steps: int) -> Iterator[Tensor]:
    """Trigonometric consistency sampling (Lu & Song 2025), written on the straight path."""
    angles = sprint_angles(steps)
    stretch = [math.sin(angle) + math.cos(angle) for angle in angles]
    times = [math.sin(angle) / length for angle, length in zip(angles, stretch, strict=True)]
    latent_BCHW = noise(0) / stretch[0]
    clean_BCHW = latent_BCHW
    for step in range(steps):
        if step:
            latent_BCHW = (1 - times[step]) * clean_BCHW + times[step] * noise(step).to(clean_BCHW)
        clean_BCHW = latent_BCHW - times[step] * predict(latent_BCHW, times[step])
        yield clean_BCHW
