"""Tests of flow matching against closed-form fields and the pipelines of diffusers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sanarestore.flow import (
    Flow,
    euler_times,
    interpolate,
    noise_field,
    shift_times,
    solver_of,
    sprint_angles,
    training_angles,
    training_times,
    trigonometric,
    velocity,
)
from sanarestore.model.condition import new_condition
from sanarestore.model.runners.whole import whole
from sanarestore.model.transformer import ConditionedTransformer, Tokens
from tests.published import CHANNELS, SPRINT, WIDTH, tiny_autoencoder, tiny_transformer

SHAPE = (1, CHANNELS, 4, 6)


def towards(clean: Tensor) -> Callable[[Tensor, float], Tensor]:
    """Return the field whose lines all end at one clean latent."""
    return lambda latent, time: (latent - clean) / time


def spread(sigma: float) -> Callable[[Tensor, float], Tensor]:
    """Return the field of clean latents N(0, sigma^2), which carries noise e to sigma e."""

    def predict(latent: Tensor, time: float) -> Tensor:
        variance = (1 - time) ** 2 * sigma**2 + time**2
        return latent * (time - (1 - time) * sigma**2) / variance

    return predict


def test_interpolation_goes_from_the_clean_latent_to_noise() -> None:
    clean, noise = torch.randn(2, 3, *SHAPE[1:], generator=torch.Generator().manual_seed(0))
    assert torch.equal(interpolate(clean, noise, torch.zeros(3)), clean)
    assert torch.equal(interpolate(clean, noise, torch.ones(3)), noise)
    middle = interpolate(clean, noise, torch.tensor([0.2, 0.5, 0.9]))
    assert torch.allclose(middle[1], (clean[1] + noise[1]) / 2)
    time = torch.tensor([0.2, 0.5, 0.9])[:, None, None, None]
    assert torch.allclose(middle - time * velocity(clean, noise), clean, atol=1e-6)


def test_both_paths_have_the_same_field_and_end() -> None:
    """On the trigonometric path, the derivative is cos(t) e - sin(t) z; its end is the same clean latent."""
    clean, noise = torch.randn(2, 4, *SHAPE[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    angle = torch.tensor([0.01, 0.6, 1.2, torch.pi / 2], dtype=torch.float64)
    cosine, sine = angle.cos()[:, None, None, None], angle.sin()[:, None, None, None]
    asked = []

    def straight(latent: Tensor, time: Tensor) -> Tensor:
        asked.append((latent, time))
        return (latent - clean) / time[:, None, None, None]

    point = cosine * clean + sine * noise
    found = trigonometric(straight)(point, angle)
    assert torch.allclose(found, cosine * noise - sine * clean, atol=1e-12)
    assert torch.allclose(cosine * point - sine * found, clean, atol=1e-12)
    ((latent, time),) = asked
    assert torch.allclose(latent, interpolate(clean, noise, time))
    assert float(time[3]) == pytest.approx(1)


def test_training_angles_are_log_normal_in_the_ratio_of_noise() -> None:
    angle = training_angles(20_000, torch.Generator().manual_seed(0))
    assert 0 < float(angle.min()) < 0.02 < 1.56 < float(angle.max()) < torch.pi / 2
    logarithm = (0.5 * angle.tan()).log()
    assert float(logarithm.mean()) == pytest.approx(0.2, abs=0.05)
    assert float(logarithm.std()) == pytest.approx(1.6, abs=0.05)


def test_an_unknown_solver_is_an_error() -> None:
    assert solver_of("consistency") == "consistency"
    with pytest.raises(ValueError, match="'heun' is not a solver; they are euler, dpm, consistency"):
        solver_of("heun")


@pytest.mark.parametrize("solver", ["euler", "dpm", "consistency"])
@pytest.mark.parametrize("steps", [1, 2, 3, 20])
def test_every_solver_reaches_the_clean_latent(solver: Any, steps: int) -> None:
    clean = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    found = Flow(solver=solver).sample(towards(clean), noise_field(0, *SHAPE), steps)
    # The published DPM-Solver rounds time to thousandths for the model, an error of up to 1e-3.
    assert torch.allclose(found, clean, atol=5e-3 if solver == "dpm" and steps > 1 else 1e-5)


def test_more_steps_and_a_higher_order_reduce_the_error() -> None:
    noise = noise_field(0, *SHAPE)
    wanted = 0.3 * noise(0)

    def error(solver: Any, steps: int) -> float:
        found = Flow(solver=solver, shift=3.0).sample(spread(0.3), noise, steps)
        return float((found - wanted).abs().max() / wanted.abs().max())

    assert error("euler", 40) < error("euler", 10) < error("euler", 3)
    assert error("dpm", 20) < 0.7 * error("euler", 20)
    assert error("dpm", 40) < 0.02 < error("euler", 40)


@pytest.mark.parametrize("solver", ["euler", "dpm"])
def test_one_step_uses_the_velocity_at_time_one(solver: Any) -> None:
    asked = []

    def predict(latent: Tensor, time: float) -> Tensor:
        asked.append(time)
        return 0.25 * latent

    noise = noise_field(3, *SHAPE)
    found = Flow(solver=solver).sample(predict, noise, 1)
    assert asked == [1.0]
    assert torch.allclose(found, 0.75 * noise(0))


def test_zero_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        Flow().sample(spread(1.0), noise_field(0, *SHAPE), 0)


def test_sampling_times_are_shifted_towards_noise() -> None:
    assert shift_times(torch.tensor([0.0, 0.5, 1.0]), 3.0).tolist() == pytest.approx([0, 0.75, 1])
    times = euler_times(4, 3.0)
    assert times[0] == 1
    assert times[-1] == 0
    assert times == sorted(times, reverse=True)
    assert sprint_angles(2) == [1.5708, 1.3, 0]
    assert sprint_angles(4)[2] == pytest.approx(1.5708 / 2)


def test_training_samples_time_one_with_the_given_probability() -> None:
    times = training_times(20_000, torch.Generator().manual_seed(0), shift=3.0, p_one=0.5)
    assert (times == 1).float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert times.min() > 0
    rest = times[times < 1]
    # The median of a logit-normal is 1/2, which a shift of 3 moves to 3/4.
    assert rest.median().item() == pytest.approx(0.75, abs=0.01)
    assert (training_times(1000, torch.Generator().manual_seed(0), shift=3.0, p_one=0.0) == 1).sum() == 0


def test_seed_and_draw_decide_the_noise() -> None:
    noise = noise_field(5, *SHAPE)
    assert torch.equal(noise(0), noise_field(5, *SHAPE)(0))
    assert not torch.equal(noise(0), noise(1))
    assert not torch.equal(noise(0), noise_field(6, *SHAPE)(0))
    assert noise(0).std().item() == pytest.approx(1, abs=0.15)


def sampled(transformer: Any, flow: Flow, tokens: Tokens, noises: list[Tensor], steps: int) -> Tensor:
    model = ConditionedTransformer(transformer, new_condition("projection", transformer))
    predict = whole(model, torch.zeros(SHAPE), tokens)
    return flow.sample(predict, lambda number: noises[number], steps)


def some_tokens() -> Tokens:
    return Tokens.of([torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(2))])


@pytest.mark.parametrize("steps", [2, 5])
def test_sampling_equals_the_published_pipeline(steps: int) -> None:
    from diffusers import DPMSolverMultistepScheduler, SanaPipeline

    transformer, tokens = tiny_transformer(), some_tokens()
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    pipeline = SanaPipeline(None, None, tiny_autoencoder(), transformer, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(7))
    expected = pipeline(
        prompt_embeds=tokens.token_BLD, prompt_attention_mask=tokens.mask_BL, latents=noise, guidance_scale=1.0,
        height=128, width=192, num_inference_steps=steps, output_type="latent", use_resolution_binning=False,
    ).images  # fmt: skip
    found = sampled(transformer, Flow(shift=3.0, solver="dpm"), tokens, [noise], steps)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_sampling_equals_the_published_sprint_pipeline(steps: int) -> None:
    from diffusers import SanaSprintPipeline, SCMScheduler

    transformer, tokens = tiny_transformer(**SPRINT), some_tokens()
    pipeline = SanaSprintPipeline(None, None, tiny_autoencoder(), transformer, SCMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(7)
    noises = [torch.randn(SHAPE, generator=generator) for _ in range(steps + 1)]
    generator.manual_seed(7)
    torch.randn(SHAPE, generator=generator)  # the first draw is passed as `latents`
    expected = pipeline(
        prompt_embeds=tokens.token_BLD, prompt_attention_mask=tokens.mask_BL, latents=noises[0], generator=generator,
        height=128, width=192, num_inference_steps=steps, guidance_scale=4.5, output_type="latent",
        intermediate_timesteps=1.3 if steps == 2 else None, use_resolution_binning=False,
    ).images  # fmt: skip
    found = sampled(transformer, Flow(solver="consistency"), tokens, noises, steps)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
