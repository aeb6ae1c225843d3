"""Cross-attention to a prompt matches that of diffusers."""

from typing import Any

import pytest
import torch

from sanarestore.model.runners.prompt import MASKED, Prompt
from sanarestore.model.transformer import Tokens
from tests.model.runners.test_exact import conditioned, given


def published(model: Any, tokens: Tokens, attention: Any, hidden_BND: torch.Tensor) -> torch.Tensor:
    projected = model.transformer.caption_norm(model.transformer.caption_projection(tokens.token_BLD))
    bias = ((1 - tokens.mask_BL) * MASKED)[:, None]
    found: torch.Tensor = attention(hidden_BND, encoder_hidden_states=projected, attention_mask=bias)
    return found


@pytest.mark.parametrize("padded", [False, True])
def test_cross_attention_matches_diffusers(padded: bool) -> None:
    model, tokens = conditioned(), given(2, 2, batch=2)[2]
    mask_BL = torch.ones_like(tokens.mask_BL)
    if padded:
        mask_BL[0, 1:] = 0
    tokens = Tokens(token_BLD=tokens.token_BLD, mask_BL=mask_BL)
    prompt = Prompt(model, tokens)
    for block in model.blocks:
        attention: Any = block.attn2
        hidden_BND = torch.randn(2, 7, attention.to_q.in_features, generator=torch.Generator().manual_seed(1))
        expected = published(model, tokens, attention, hidden_BND)
        for _ in range(2):
            assert torch.allclose(prompt.cross_attend(attention, hidden_BND), expected, atol=1e-5, rtol=0)


def test_one_prompt_row_serves_any_number_of_windows() -> None:
    model, tokens = conditioned(), given(2, 2, batch=1)[2]
    attention: Any = next(iter(model.blocks)).attn2
    prompt = Prompt(model, tokens)
    hidden_BND = torch.randn(3, 5, attention.to_q.in_features, generator=torch.Generator().manual_seed(1))
    together = prompt.cross_attend(attention, hidden_BND)
    separately = torch.cat([Prompt(model, tokens).cross_attend(attention, each[None]) for each in hidden_BND])
    assert torch.allclose(together, separately, atol=1e-6, rtol=0)
