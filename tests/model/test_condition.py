"""Conditions: each leaves the pretrained transformer unchanged bit for bit until it is trained."""

import copy

import pytest
import torch
from torch import Tensor

from sanarestore.model.condition import KINDS, ConditionKind, new_condition
from sanarestore.model.transformer import ConditionedTransformer, Tokens
from tests.published import CHANNELS, SPRINT, WIDTH, tiny_transformer


def inputs() -> tuple[Tensor, Tensor, Tokens, Tensor]:
    generator = torch.Generator().manual_seed(0)
    latent, condition = torch.randn(2, 2, CHANNELS, 5, 7, generator=generator)
    rows = [torch.randn(length, WIDTH, generator=generator) for length in (6, 3)]
    return latent, condition, Tokens.of(rows), torch.tensor([0.3, 1.0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changes", [{}, {"interpolation_scale": 1.0}, {"qk_norm": "rms_norm_across_heads"}, SPRINT])
def test_an_untrained_condition_keeps_the_published_forward_bit_for_bit(
    kind: ConditionKind, changes: dict[str, object]
) -> None:
    published = tiny_transformer(**changes)
    latent, condition, tokens, time = inputs()
    sprint = "guidance_embeds" in changes
    with torch.inference_mode():
        expected = published(
            latent, encoder_hidden_states=tokens.token_BLD, encoder_attention_mask=tokens.mask_BL,
            timestep=time if sprint else 1000 * time, return_dict=False,
            guidance=torch.full((2,), 0.45) if sprint else None,
        )[0]  # fmt: skip
        model = ConditionedTransformer(copy.deepcopy(published), new_condition(kind, published))
        if kind == "patch-embed":
            model = ConditionedTransformer(published, model.condition)
        assert torch.equal(model(latent, condition, tokens, time), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_condition_gets_gradients_and_then_affects_the_result(kind: ConditionKind) -> None:
    transformer = tiny_transformer()
    model = ConditionedTransformer(transformer, new_condition(kind, transformer))
    latent, condition, tokens, time = inputs()
    model(latent, condition, tokens, time).square().mean().backward()
    gradients = [parameter.grad for parameter in model.condition.parameters()]
    assert len(gradients) == 1
    assert gradients[0].abs().max() > 0
    before = model(latent, condition, tokens, time)
    with torch.no_grad():
        for parameter in model.condition.parameters():
            parameter.add_(0.1)
    assert (model(latent, condition, tokens, time) - before).abs().max() > 1e-3
    assert (model(latent, condition + 1, tokens, time) - model(latent, condition, tokens, time)).abs().max() > 1e-3


def test_patch_embedding_columns_can_represent_a_projection() -> None:
    """proj(x + W c) equals proj(x) + (proj W) c, so the wider kind includes the narrower one."""
    transformer = tiny_transformer()
    mixed = torch.randn(CHANNELS, CHANNELS, generator=torch.Generator().manual_seed(1))
    narrow = ConditionedTransformer(transformer, new_condition("projection", transformer))
    latent, condition, tokens, time = inputs()
    with torch.no_grad():
        narrow.condition.project.weight[:, CHANNELS:, 0, 0] = mixed
        expected = narrow(latent, condition, tokens, time)
        wide = ConditionedTransformer(transformer, new_condition("patch-embed", transformer))
        wide.condition.columns.weight.copy_(torch.einsum("dcxy,ck->dkxy", transformer.patch_embed.proj.weight, mixed))
        assert torch.allclose(wide(latent, condition, tokens, time), expected, atol=1e-5)


def test_the_transformer_keeps_its_published_tensor_names() -> None:
    transformer = tiny_transformer()
    names = set(transformer.state_dict())
    condition = new_condition("patch-embed", transformer)
    assert set(transformer.state_dict()) == names
    assert set(condition.state_dict()) == {"columns.weight"}


def test_a_deep_copy_has_its_own_columns() -> None:
    transformer = tiny_transformer()
    model = ConditionedTransformer(transformer, new_condition("patch-embed", transformer))
    copied = copy.deepcopy(model)
    with torch.no_grad():
        copied.condition.columns.weight.add_(1)
    latent, condition, tokens, time = inputs()
    difference = copied(latent, condition, tokens, time) - model(latent, condition, tokens, time)
    assert difference.abs().max() > 1e-3


def test_padding_of_prompts_does_not_change_the_result() -> None:
    transformer = tiny_transformer()
    model = ConditionedTransformer(transformer, new_condition("projection", transformer))
    latent, condition, tokens, time = inputs()
    alone = Tokens.of([tokens.token_BLD[1, :3]])
    both = model(latent, condition, tokens, time)[1:]
    assert torch.allclose(model(latent[1:], condition[1:], alone, time[1:]), both, atol=1e-5)


def test_an_unknown_kind_of_condition_is_refused() -> None:
    with pytest.raises(ValueError, match="not a kind of condition"):
        new_condition("cross", tiny_transformer())  # type: ignore[arg-type]


def test_a_widened_transformer_cannot_be_widened_again() -> None:
    transformer = tiny_transformer()
    new_condition("patch-embed", transformer)
    with pytest.raises(ValueError, match="not one that can be widened"):
        new_condition("patch-embed", transformer)
