"""A new transformer starts as the linear filter of its condition: one step returns it, many steps sample around it."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sanarestore.flow import Flow, interpolate, velocity
from sanarestore.model.condition import new_condition
from sanarestore.model.transformer import ConditionedTransformer, Tokens
from sanarestore.training.latent_path import new_transformer
from sanarestore.training.linear_filter import DOUBT, begin_as_linear_filter, coefficients, has_room
from sanarestore.training.recipe_shapes import LatentShape
from tests.published import SPRINT, tiny_transformer

SHAPE = LatentShape(latent_channels=8, head_width=16, heads=4, layers=2, condition="patch-embed")


def begun(shape: LatentShape = SHAPE) -> ConditionedTransformer:
    torch.manual_seed(5)
    return new_transformer(shape, prompt_width=12)


def tokens(count: int) -> Tokens:
    generator = torch.Generator().manual_seed(1)
    return Tokens(token_BLD=torch.randn(count, 5, 12, generator=generator), mask_BL=torch.ones(count, 5))


def latents(seed: int, count: int = 4) -> Tensor:
    return torch.randn(count, 8, 6, 6, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("heads", [3, 4, 5])
@torch.no_grad()
def test_the_velocity_is_linear_in_latent_and_condition(heads: int) -> None:
    """Head counts vary the spare width for constants; scales of the condition cover flat and busy places."""
    model = begun(replace(SHAPE, heads=heads))
    given, condition = latents(1), latents(2) * torch.tensor([0.3, 0.7, 1.0, 1.5])[:, None, None, None]
    for time in torch.linspace(0, 1, 21):
        a, b = coefficients(time)
        expected = a * given + b * condition
        found = model(given, condition, tokens(4), time.expand(4))
        assert float((found - expected).square().mean().sqrt()) < 0.02 * float(expected.square().mean().sqrt())


def test_the_filter_is_the_mean_velocity_for_gaussian_errors() -> None:
    """Least squares on random latents find the coefficients of the formula."""
    generator = torch.Generator().manual_seed(0)
    condition, error, noise = (torch.randn(200_000, generator=generator, dtype=torch.float64) for _ in range(3))
    clean = condition + math.sqrt(DOUBT) * error
    for time in (0.05, 0.3, 0.7, 1.0):
        given = (1 - time) * clean + time * noise
        fitted = torch.linalg.lstsq(torch.stack([given, condition], dim=1), (noise - clean)[:, None]).solution[:, 0]
        formula = torch.stack(coefficients(torch.tensor(time, dtype=torch.float64)))
        torch.testing.assert_close(fitted, formula, atol=0.03, rtol=0)


@torch.no_grad()
def test_one_step_returns_the_condition_and_many_sample_around_it() -> None:
    model, condition = begun(), latents(3)

    def sampled(steps: int, seed: int) -> Tensor:
        return Flow(shift=1.0).sample(
            lambda latent, time: model(latent, condition, tokens(4), torch.full((4,), time)),
            lambda _: latents(seed), steps,
        )  # fmt: skip

    once, repeated = sampled(1, 4), sampled(1, 5)
    torch.testing.assert_close(once, condition, atol=0.05, rtol=0)
    torch.testing.assert_close(once, repeated, atol=0.05, rtol=0)
    many, others = sampled(20, 4), sampled(20, 5)
    assert float((many - condition).square().mean()) == pytest.approx(DOUBT, rel=0.25)
    assert float((many - others).square().mean()) == pytest.approx(2 * DOUBT, rel=0.25)


def test_all_blocks_learn_from_the_first_step() -> None:
    """Blocks have no output at first but do get gradients, and they learn more than a linear filter can express."""
    model = begun()
    clean = latents(6, 8)
    condition = clean.roll(1, dims=1)  # only blocks can undo this shift of channels
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    losses = []
    for step in range(60):
        time, noise = torch.rand(8, generator=torch.Generator().manual_seed(step)), latents(100 + step, 8)
        predicted = model(interpolate(clean, noise, time), condition, tokens(8), time)
        loss = (predicted - velocity(clean, noise)).square().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    blocks: Any = model.blocks
    assert all(block.ff.conv_point.weight.any() and block.attn1.to_out[0].weight.any() for block in blocks)


def test_a_model_without_room_for_the_filter_is_refused() -> None:
    """A projection mixes latent and condition before the transformer; Sprint encodes time in another way."""
    narrow = begun(replace(SHAPE, heads=2))
    projected = begun(replace(SHAPE, condition="projection"))
    base = tiny_transformer(num_attention_heads=4, **SPRINT)
    sprint = ConditionedTransformer(base, new_condition("patch-embed", base))
    assert has_room(begun())
    for model in (narrow, projected, sprint):
        assert not has_room(model)
        with pytest.raises(ValueError, match="four times the latent's"):
            begin_as_linear_filter(model)
    assert all(parameter.any() for name, parameter in narrow.named_parameters() if name.endswith("to_out.0.weight"))
