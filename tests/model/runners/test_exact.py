"""Strips match the untiled transformer up to rounding for every kind of base, and see only what they need."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sanarestore.model.condition import KINDS, ConditionKind, new_condition
from sanarestore.model.runners.exact import exact
from sanarestore.model.runners.whole import whole
from sanarestore.model.transformer import ConditionedTransformer, Tokens
from tests.published import CHANNELS, SPRINT, WIDTH, tiny_transformer

BASES: dict[str, dict[str, Any]] = {
    "sana": {},
    "sana1.5": {"qk_norm": "rms_norm_across_heads"},
    "sprint": SPRINT,
    "4k": {"interpolation_scale": 2.0},
    "patches": {"patch_size": 2},
}


def conditioned(kind: ConditionKind = "projection", **changes: Any) -> ConditionedTransformer:
    transformer = tiny_transformer(**changes)
    condition = new_condition(kind, transformer)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in condition.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return ConditionedTransformer(transformer, condition).eval().requires_grad_(False)


def given(height: int, width: int, batch: int = 2) -> tuple[Tensor, Tensor, Tokens]:
    generator = torch.Generator().manual_seed(0)
    latent, condition = torch.randn(2, batch, CHANNELS, height, width, generator=generator)
    prompts = [torch.randn(length, WIDTH, generator=generator) for length in range(3, 3 + batch)]
    return latent, condition, Tokens.of(prompts)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(("height", "width"), [(2, 2), (6, 10), (14, 4)])
def test_strips_match_the_untiled_transformer(base: str, kind: ConditionKind, height: int, width: int) -> None:
    model = conditioned(kind, **BASES[base])
    latent, condition, tokens = given(height, width)
    expected = whole(model, condition, tokens)(latent, 0.7)
    assert expected.std() > 0.1
    for largest in (1, 3 * width, 10_000):
        found = exact(model, condition, tokens, largest=largest)(latent, 0.7)
        assert found.dtype == torch.float32
        assert torch.allclose(found, expected, atol=2e-6), largest


def test_a_row_with_a_prime_number_of_tokens_matches_untiled() -> None:
    model = conditioned()
    latent, condition, tokens = given(1, 7)
    expected = whole(model, condition, tokens)(latent, 1.0)
    assert torch.allclose(exact(model, condition, tokens, largest=2)(latent, 1.0), expected, atol=2e-6)


def test_guidance_leads_away_from_the_negative_prompt() -> None:
    model = conditioned()
    latent, condition, tokens = given(5, 4)
    _, _, other = given(5, 4)
    negative = Tokens(token_BLD=other.token_BLD.flip(0), mask_BL=other.mask_BL)
    guided: dict[str, Any] = {"negative": negative, "guidance": 3.0}
    expected = whole(model, condition, tokens, **guided)(latent, 0.5)
    assert torch.allclose(exact(model, condition, tokens, largest=8, **guided)(latent, 0.5), expected, atol=1e-5)
    towards, away = (whole(model, condition, each)(latent, 0.5) for each in (tokens, negative))
    assert torch.allclose(expected, away + 3 * (towards - away), atol=1e-5)
    with pytest.raises(ValueError, match="negative prompt"):
        exact(model, condition, tokens, largest=8, guidance=2.0)


def test_half_precision_differs_only_by_rounding() -> None:
    model = conditioned(qk_norm="rms_norm_across_heads")
    latent, condition, tokens = given(6, 5)
    expected = whole(model, condition, tokens)(latent, 0.7)
    half = model.to(torch.bfloat16)
    theirs, ours = whole(half, condition, tokens)(latent, 0.7), exact(half, condition, tokens, largest=10)(latent, 0.7)
    assert (ours - expected).abs().max() < 2 * (theirs - expected).abs().max()


def test_no_layer_sees_more_than_a_strip_and_its_halo_rows() -> None:
    model = conditioned()
    latent, condition, tokens = given(12, 4, batch=1)
    seen: dict[str, int] = {}

    def note(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], *_: Any) -> None:
            size = inputs[0].shape[2] * inputs[0].shape[3] if inputs[0].dim() == 4 else inputs[0].shape[1]
            seen[name] = max(seen.get(name, 0), size)

        return hook

    for name, module in model.transformer.transformer_blocks.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) and "attn2.to_k" not in name and "attn2.to_v" not in name:
            module.register_forward_hook(note(name))
    exact(model, condition, tokens, largest=12)(latent, 0.5)
    assert {size for name, size in seen.items() if ".ff." in name} == {(3 + 2) * 4}
    assert {size for name, size in seen.items() if ".ff." not in name} == {3 * 4}
