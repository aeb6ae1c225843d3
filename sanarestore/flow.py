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

SOLVERS: tuple[Solver, ...] = ("euler", "dpm", "consistency")

Field = Callable[[Tensor, Tensor], Tensor]
"""(x [B,C,H,W], s [B]) -> v [B,C,H,W], in training."""

Predict = Callable[[Tensor, float], Tensor]
"""(x [B,C,H,W], s) -> v [B,C,H,W]."""

Noise = Callable[[int], Tensor]
"""Draw number -> noise [B,C,H,W]; sampling starts from draw 0."""

LARGEST_ANGLE, MIDDLE_ANGLE = 1.57080, 1.3
"""Sprint's starting angle, and the intermediate angle of its two-step schedule, in radians (Chen et al. 2025)."""

SIGMA_DATA = 0.5
"""Standard deviation of the latents in the units of the consistency papers; here it is 1, and so is that of noise."""

ANGLE_MEAN, ANGLE_SPREAD = 0.2, 1.6
"""Mean and standard deviation of log(`SIGMA_DATA` tan(t)) in training, as in Sprint (Chen et al. 2025)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """Flow-matching settings of a base model, read from its scheduler's configuration."""

    shift: float = 3.0
    """Shift of times towards noise (`shift_times`)."""
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


def solver_of(value: object) -> Solver:
    """Check a solver from a configuration; ValueError if it is unknown."""
    for solver in SOLVERS:
        if value == solver:
            return solver
    raise ValueError(f"'{value}' is not a solver; they are {', '.join(SOLVERS)}")


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


def training_angles(count: int, generator: torch.Generator) -> Tensor:
    """Draw training angles t between 0 and pi/2, [B] on the CPU: log-normal in tan(t), the ratio of noise to signal."""
    logarithm_B = ANGLE_MEAN + ANGLE_SPREAD * torch.randn(count, generator=generator)
    return torch.atan(logarithm_B.exp() / SIGMA_DATA)


def trigonometric(field: Field) -> Field:
    """The field of the trigonometric path, (x', t) -> dx'/dt, from that of the straight path.

    As x' = (cos(t) + sin(t)) x, both paths visit the same points, and dx'/dt = ((cos(t) - sin(t)) x' + v) / (cos(t) +
    sin(t)). The clean latent cos(t) x' - sin(t) dx'/dt is x - s v, the same on both.
    """

    def predicted(latent_BCHW: Tensor, angle_B: Tensor) -> Tensor:
        cosine_B111, sine_B111 = (each[:, None, None, None] for each in (angle_B.cos(), angle_B.sin()))
        length_B111 = cosine_B111 + sine_B111
        velocity_BCHW = field(latent_BCHW / length_B111, (sine_B111 / length_B111).flatten())
        return ((cosine_B111 - sine_B111) * latent_BCHW + velocity_BCHW) / length_B111

    return predicted


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
