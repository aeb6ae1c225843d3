"""Flow matching, for training and sampling alike.

Shape suffixes: B batch, C channels, H W latent positions.

Time s runs from the clean latent z at 0 to noise e at 1, in a straight line (Liu et al. 2023):

    x = (1 - s) z + s e        velocity v = dx/ds = e - z        hence z = x - s v

SANA's checkpoints predict v. Sprint's do too, after a change of variables: their trigonometric path
x' = cos(t) z + sin(t) e is this path times cos(t) + sin(t), at s = sin(t) / (sin(t) + cos(t)); only the sampler
differs.
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
"""Draw number -> noise [B,C,H,W]; sampling starts from draw 0."""

LARGEST_ANGLE, MIDDLE_ANGLE = 1.57080, 1.3
"""Sprint's starting angle, and the intermediate angle of its two-step schedule, in radians (Chen et al. 2025)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """Flow-matching settings of a base model, read from its scheduler's configuration."""

    shift: float = 3.0
    """How far times are moved towards noise (`shift_times`)."""
    solver: Solver = "dpm"
    """euler: first order; dpm: DPM-Solver++ (Lu et al. 2022), second order; consistency: predict the clean latent, then
    add new noise up to the next time, as Sprint does."""

    def sample(self, predict: Predict, noise: Noise, steps: int) -> Tensor:
        """Sample a clean latent [B,C,H,W] from noise in `steps` calls of `predict`.

        One step of euler or dpm gives z = e - v(e, 1), the posterior mean of the latent.
        """
        (latent_BCHW,) = deque(self.steps(predict, noise, steps), maxlen=1)
        return latent_BCHW

    def steps(self, predict: Predict, noise: Noise, steps: int) -> Iterator[Tensor]:
        """The latent [B,C,H,W] after each of the `steps` calls of `predict`; the last is clean."""
        if steps < 1:
            raise ValueError(f"sampling takes at least one step, not {steps}")
        if self.solver == "consistency":
            return _consistency(predict, noise, steps)
        # DPM-Solver's first sigma is slightly below 1; a single step must start at exactly 1, which training visits.
        if self.solver == "euler" or steps == 1:
            return _euler(predict, noise(0), euler_times(steps, self.shift))
        return _dpm(predict, noise(0), steps, self.shift)


def interpolate(clean_BCHW: Tensor, noise_BCHW: Tensor, time_B: Tensor) -> Tensor:
    """Interpolate linearly from clean latent to noise: x at time s, [B,C,H,W]."""
    time_B111 = time_B[:, None, None, None]
    return (1 - time_B111) * clean_BCHW + time_B111 * noise_BCHW


def velocity(clean_BCHW: Tensor, noise_BCHW: Tensor) -> Tensor:
    """Training target v = e - z, the same at every time."""
    return noise_BCHW - clean_BCHW


def shift_times(time: Tensor, shift: float) -> Tensor:
    """Move times in [0, 1] towards noise; larger images need a larger shift (Esser et al. 2024, eq. 23)."""
    return shift * time / (1 + (shift - 1) * time)


def training_times(count: int, generator: torch.Generator, *, shift: float, p_one: float) -> Tensor:
    """Draw training times, [B] on the CPU: logit-normal and shifted, but exactly 1 with probability `p_one`.

    One-step sampling needs the velocity at 1, and logit-normal times almost never come near it (P(s > 0.99) is 2e-4
    without a shift).
    """
    logits = torch.randn(count, generator=generator)
    one = torch.rand(count, generator=generator) < p_one
    return torch.where(one, torch.ones(()), shift_times(torch.sigmoid(logits), shift))


def noise_field(seed: int, *shape: int) -> Noise:
    """Noise of a whole image, drawn on the CPU from `seed` and draw number: the same for any device and any tiling."""

    def draw(number: int) -> Tensor:
        generator = torch.Generator().manual_seed((seed * 1_000_003 + number) % 2**63)
        return torch.randn(shape, generator=generator)

    return draw


def euler_times(steps: int, shift: float) -> list[float]:
    """`steps` + 1 times from 1 to 0, evenly spaced before the shift."""
    times: list[float] = shift_times(torch.linspace(1, 0, steps + 1, dtype=torch.float64), shift).tolist()
    return times


def sprint_angles(steps: int) -> list[float]:
    """`steps` + 1 angles t in radians, from noise (`LARGEST_ANGLE`) to 0."""
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
        # Keep the scheduler's timesteps, integers up to 1000, because the published models are sampled with them.
        predicted = predict(latent_BCHW, float(timestep) / scheduler.config.num_train_timesteps)
        latent_BCHW = scheduler.step(predicted, timestep, latent_BCHW, return_dict=False)[0]
        yield latent_BCHW


def _consistency(predict: Predict, noise: Noise, steps: int) -> Iterator[Tensor]:
    """Trigonometric consistency sampling (Lu & Song 2025), rewritten for the straight path."""
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
