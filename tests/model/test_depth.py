"""Transformers with another number of blocks: growth changes no result before training, and files hold the depth."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sanarestore import weights
from sanarestore.model.base import load_transformer, write_module
from sanarestore.model.condition import KINDS, ConditionKind, new_condition
from sanarestore.model.depth import append_blocks, depth_of, remove_blocks, tuned_to_output
from sanarestore.model.loading import load_model
from sanarestore.model.transformer import ConditionedTransformer, Tokens
from tests.published import CHANNELS, SPRINT, WIDTH, tiny_transformer

LAYOUTS: list[dict[str, Any]] = [{}, {"qk_norm": "rms_norm_across_heads"}, SPRINT, {"interpolation_scale": 1}]
"""Published layouts: 1.0, 1.5, Sprint, and with a position embedding."""


def conditioned(kind: ConditionKind, layers: int, **changes: Any) -> ConditionedTransformer:
    """A random transformer with a random condition; the first blocks are the same for any number of layers."""
    transformer = tiny_transformer(num_layers=5, **changes)
    with torch.no_grad():
        for number, parameter in enumerate(transformer.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    condition = new_condition(kind, transformer)
    with torch.no_grad():
        for parameter in condition.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    transformer.transformer_blocks = transformer.transformer_blocks[:layers]
    return ConditionedTransformer(transformer, condition).eval()


@torch.no_grad()
def predicted(model: ConditionedTransformer, *, channels: int = CHANNELS, width: int = WIDTH) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    latent, condition = (torch.randn(2, channels, 8, 8, generator=generator) for _ in "12")
    tokens = Tokens.of([torch.randn(length, width, generator=generator) for length in (3, 5)])
    return model(latent, condition, tokens, torch.tensor([1.0, 0.3]))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_grown_transformer_equals_the_one_without_its_last_two_blocks(
    kind: ConditionKind, layout: dict[str, Any]
) -> None:
    expected = predicted(conditioned(kind, 3, **layout))
    model = conditioned(kind, 5, **layout)
    whole = predicted(model)
    remove_blocks(model.transformer, tuned_to_output(model.transformer))
    append_blocks(model.transformer, 4)
    assert depth_of(model.transformer) == model.config.num_layers == 7
    assert torch.equal(predicted(model), expected)
    assert not torch.equal(whole, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_transformer_that_keeps_all_its_blocks_is_grown_without_a_change(
    kind: ConditionKind, layout: dict[str, Any]
) -> None:
    model = conditioned(kind, 5, **layout)
    whole = predicted(model)
    append_blocks(model.transformer, 1)
    assert model.config.num_layers == 6
    assert torch.equal(predicted(model), whole)


@pytest.mark.parametrize("keeps_all", [False, True])
def test_the_embedded_transformer_is_grown_to_the_bit(keeps_all: bool) -> None:
    model, shorter = (load_model(weights.EMBEDDED).load_latent for _ in "12")
    assert model is not None
    assert shorter is not None
    grown, expected = model().transformer, shorter().transformer
    size = {"channels": grown.config.in_channels, "width": grown.config.caption_channels}
    for each in () if keeps_all else (grown, expected):
        remove_blocks(each.transformer, tuned_to_output(each.transformer))
    append_blocks(grown.transformer, 3)
    assert (depth_of(expected.transformer), depth_of(grown.transformer)) == ((5, 8) if keeps_all else (3, 6))
    assert torch.equal(predicted(grown, **size), predicted(expected, **size))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_new_blocks_learn(layout: dict[str, Any]) -> None:
    """Zero output projections receive gradients, and after one step everything inside the block does."""
    model = conditioned("patch-embed", 2, **layout)
    append_blocks(model.transformer, 1)
    block = model.transformer.transformer_blocks[-1]  # type: ignore[index]
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        latent = torch.randn(1, CHANNELS, 8, 8, generator=torch.Generator().manual_seed(0))
        tokens = Tokens.of([torch.ones(3, WIDTH) * torch.arange(3)[:, None]])
        model(latent, latent, tokens, torch.tensor([0.5])).square().mean().backward()
        optimizer.step()
    still = [name for name, each in block.named_parameters() if each.grad is None or not each.grad.any()]
    # Norms of queries and keys of a zero-bias attention aside, softmax ignores a shift of all keys.
    assert [name for name in still if name != "attn2.to_k.bias"] == []


def test_a_new_block_has_the_norms_type_and_mode_of_the_others() -> None:
    transformer = tiny_transformer(qk_norm="rms_norm_across_heads").to(torch.bfloat16)
    append_blocks(transformer, 1)
    old, new = transformer.transformer_blocks[0], transformer.transformer_blocks[-1]
    assert old.state_dict().keys() == new.state_dict().keys()
    assert "attn1.norm_q.weight" in new.state_dict()
    assert {each.dtype for each in new.parameters()} == {torch.bfloat16}
    assert new.training == old.training == transformer.training


def test_removing_blocks_keeps_the_others_in_their_order() -> None:
    transformer = tiny_transformer(num_layers=5)
    first, *_, fourth, last = transformer.transformer_blocks
    remove_blocks(transformer, (1, 2))
    assert [*transformer.transformer_blocks] == [first, fourth, last]
    assert transformer.config.num_layers == 3


def test_a_changed_depth_survives_its_files(tmp_path: Path) -> None:
    transformer = tiny_transformer(num_layers=4)
    remove_blocks(transformer, (2,))
    append_blocks(transformer, 3)
    write_module(tmp_path / "transformer", transformer)
    again = load_transformer(tmp_path / "transformer", torch.float32)
    assert depth_of(again) == again.config.num_layers == 6
    assert all(torch.equal(each, transformer.half().state_dict()[name]) for name, each in again.state_dict().items())


def test_a_depth_that_leaves_nothing_is_refused() -> None:
    transformer = tiny_transformer(num_layers=2)
    with pytest.raises(ValueError, match="of 2 blocks, the last 2 cannot be dropped"):
        tuned_to_output(transformer)
    for numbers in ((0, 1), (2,), (-1,)):
        with pytest.raises(ValueError, match="cannot be removed from 2"):
            remove_blocks(transformer, numbers)
    with pytest.raises(ValueError, match="0 blocks cannot be appended"):
        append_blocks(transformer, 0)
    assert depth_of(transformer) == 2
