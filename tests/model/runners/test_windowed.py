"""Causal windows and MultiDiffusion: what a window sees, batching of windows, and the size of carried state."""

from typing import Any

import pytest
import torch
from torch import Tensor

from sanarestore.evaluation.speed.random_models import CHECKPOINTS
from sanarestore.model.condition import new_condition
from sanarestore.model.runners.apart import BlockPass, embed, shared, velocity
from sanarestore.model.runners.prompt import Prompt
from sanarestore.model.runners.whole import whole
from sanarestore.model.runners.windowed import causal, multidiffusion
from sanarestore.model.transformer import ConditionedTransformer
from sanarestore.tiling import overlapping
from tests.model.runners.test_exact import BASES, conditioned, given

TILE, OVERLAP = 8, 2


@pytest.mark.parametrize("scheme", [causal, multidiffusion])
@pytest.mark.parametrize("base", BASES)
def test_a_single_window_matches_untiled(scheme: Any, base: str) -> None:
    model = conditioned(**BASES[base])
    latent, condition, tokens = given(6, 8, batch=1)
    expected = whole(model, condition, tokens)(latent, 0.7)
    found = scheme(model, condition, tokens, tile=8, overlap=2)(latent, 0.7)
    assert torch.allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("scheme", [causal, multidiffusion])
@pytest.mark.parametrize("base", BASES)
def test_batched_windows_match_windows_run_one_by_one(scheme: Any, base: str) -> None:
    """Compare prefix sums with the loop, including groups that continue from one another."""
    model = conditioned(**BASES[base])
    latent, condition, tokens = given(14, 22, batch=1)
    one_by_one = scheme(model, condition, tokens, tile=TILE, overlap=OVERLAP)(latent, 0.7)
    for at_once in (2, 5, 100):
        together = scheme(model, condition, tokens, tile=TILE, overlap=OVERLAP, at_once=at_once)(latent, 0.7)
        assert torch.allclose(together, one_by_one, atol=2e-6), at_once


def by_definition(model: Any, latent: Tensor, condition: Tensor, tokens: Any, height: int, width: int) -> Tensor:
    """Compute causal attention from an explicit list of the tokens that each window sees, without carried state."""
    common = shared(model, Prompt(model, tokens), torch.full((1,), 0.7))
    stream = embed(model, latent, condition).view(1, height, width, -1)
    windows = overlapping(height, width, tile=TILE, overlap=OVERLAP)
    seen: list[list[Tensor]] = [[] for _ in model.blocks]
    total = torch.zeros_like(latent)
    for window in windows:
        top, bottom, left, right = window.box
        first, last, begin, end = window.owned
        hidden = stream[:, top:bottom, left:right]
        rows, columns = bottom - top, right - left
        for layer, parts in enumerate(model.blocks):
            block = BlockPass(parts, common)
            seen[layer].append(hidden[:, first - top : last - top, begin - left : end - left].flatten(1, 2))
            attended = block.attend(hidden.flatten(1, 2), block.key_sums(torch.cat(seen[layer], dim=1)))
            hidden = attended.view(1, rows, columns, -1)
            hidden = hidden + block.feed(hidden)
        predicted = velocity(model, hidden.flatten(1, 2), common, columns=columns)
        total[:, :, top:bottom, left:right] += window.weight_hw * predicted
    return total


@torch.no_grad()
def test_causal_windows_see_every_earlier_token_once() -> None:
    model = conditioned(qk_norm="rms_norm_across_heads")
    latent, condition, tokens = given(14, 22, batch=1)
    expected = by_definition(model, latent, condition, tokens, 14, 22)
    found = causal(model, condition, tokens, tile=TILE, overlap=OVERLAP, at_once=3)(latent, 0.7)
    assert torch.allclose(found, expected, atol=2e-6)
    assert (
        found - multidiffusion(model, condition, tokens, tile=TILE, overlap=OVERLAP)(latent, 0.7)
    ).abs().max() > 1e-3


def test_the_first_window_does_not_depend_on_the_last() -> None:
    model = conditioned()
    latent, condition, tokens = given(8, 26, batch=1)
    changed = condition.clone()
    changed[..., -1] += 1
    for scheme in (causal, multidiffusion):
        one, other = (scheme(model, each, tokens, tile=8, overlap=2)(latent, 0.7) for each in (condition, changed))
        assert torch.equal(one[..., :4], other[..., :4])
        assert not torch.equal(one, other)


def test_the_last_window_depends_on_the_first_only_if_causal() -> None:
    model = conditioned()
    latent, condition, tokens = given(8, 26, batch=1)
    changed = condition.clone()
    changed[..., 0] += 1
    for scheme, looks_back in ((causal, True), (multidiffusion, False)):
        one, other = (scheme(model, each, tokens, tile=8, overlap=2)(latent, 0.7) for each in (condition, changed))
        assert torch.equal(one[..., -4:], other[..., -4:]) != looks_back


def state_bytes(model: ConditionedTransformer) -> int:
    """Count the bytes carried for one prompt: float32 sums of (d + 1) x d for every layer and head."""
    config = model.config
    size = int(config.attention_head_dim)
    return int(config.num_layers) * int(config.num_attention_heads) * (size + 1) * size * 4


@pytest.mark.parametrize("name", ["Sana_1600M_1024px", "SANA1.5_1.6B_1024px", "Sana_Sprint_1.6B_1024px"])
def test_carried_state_at_the_published_size_is_under_6_mb(name: str) -> None:
    from diffusers import SanaTransformer2DModel

    with torch.device("meta"):
        make: Any = SanaTransformer2DModel
        transformer = make(**CHECKPOINTS[name].changes)
        model = ConditionedTransformer(transformer, new_condition("projection", transformer))
    assert state_bytes(model) == 5_913_600


def test_carried_state_is_as_large_as_the_key_sums_of_all_layers() -> None:
    model = conditioned()
    latent, condition, tokens = given(4, 4, batch=1)
    common = shared(model, Prompt(model, tokens), torch.ones(1))
    stream = embed(model, latent, condition)
    assert state_bytes(model) == sum(4 * BlockPass(block, common).key_sums(stream).numel() for block in model.blocks)
