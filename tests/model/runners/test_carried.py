"""Frames with carried state: to the bit frame by frame without decay, with a state that does not grow."""

from typing import Any

import pytest
import torch
from torch import Tensor

from sanarestore.flow import Flow, noise_field
from sanarestore.model.runners.carried import Carried, TemporalFeed, carried
from sanarestore.model.runners.exact import exact
from sanarestore.model.transformer import ConditionedTransformer
from tests.model.runners.test_exact import BASES, conditioned, given
from tests.published import CHANNELS

FLOW = Flow(solver="euler")
SIZE = (6, 10)


def clip(frames: int) -> list[Tensor]:
    """Conditions of the frames of a clip, which differ a little."""
    generator = torch.Generator().manual_seed(5)
    first = torch.randn(1, CHANNELS, *SIZE, generator=generator)
    return [first + 0.1 * torch.randn(first.shape, generator=generator) for _ in range(frames)]


def latents(
    model: ConditionedTransformer, conditions: list[Tensor], state: Carried, *, decay: float,
    feed: TemporalFeed | None = None, steps: int = 2, **led: Any,
) -> list[Tensor]:  # fmt: skip
    tokens = given(*SIZE, batch=1)[2]
    noise = noise_field(0, 1, CHANNELS, *SIZE)
    return [
        FLOW.sample(carried(model, each, tokens, state, decay=decay, feed=feed, **led), noise, steps)
        for each in conditions
    ]


def frame_by_frame(model: ConditionedTransformer, conditions: list[Tensor]) -> list[Tensor]:
    tokens = given(*SIZE, batch=1)[2]
    noise = noise_field(0, 1, CHANNELS, *SIZE)
    return [FLOW.sample(exact(model, each, tokens, largest=10**6), noise, 2) for each in conditions]


def new_feed(model: ConditionedTransformer, scale: float = 0.0) -> TemporalFeed:
    width = int(model.config.num_attention_heads * model.config.attention_head_dim)
    feed = TemporalFeed(width, int(model.config.num_layers))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight_FDD in feed.weights_FDD:
            weight_FDD.copy_(scale * torch.randn(weight_FDD.shape, generator=generator))
    return feed.requires_grad_(False)


@pytest.mark.parametrize("base", BASES)
def test_without_decay_frames_are_restored_by_themselves_to_the_bit(base: str) -> None:
    model = conditioned(**BASES[base])
    conditions = clip(3)
    for feed in (None, new_feed(model)):
        found = latents(model, conditions, Carried(), decay=0, feed=feed)
        for one, other in zip(found, frame_by_frame(model, conditions), strict=True):
            assert torch.equal(one, other)


def test_frames_before_are_attended_to_and_frames_after_are_not() -> None:
    model, conditions = conditioned(), clip(3)
    found = latents(model, conditions, Carried(), decay=0.9)
    alone = frame_by_frame(model, conditions)
    assert torch.equal(found[0], alone[0])
    assert not torch.allclose(found[1], alone[1])
    assert torch.equal(latents(model, conditions[:2], Carried(), decay=0.9)[1], found[1])


def test_a_frame_that_is_repeated_gives_the_same_result_whatever_the_decay() -> None:
    """Sums of equal frames are multiples of each other, and attention divides by their weight."""
    model = conditioned()
    found = latents(model, [clip(1)[0]] * 4, Carried(), decay=1.0)
    for each in found[1:]:
        torch.testing.assert_close(each, found[0], rtol=1e-4, atol=1e-5)


def test_the_convolution_over_time_looks_back_and_not_beyond_its_frames() -> None:
    model, conditions = conditioned(), clip(6)
    feed = new_feed(model, 0.05)
    found = latents(model, conditions, Carried(), decay=0, feed=feed, steps=1)
    changed = [conditions[0] + 1, *conditions[1:]]
    other = latents(model, changed, Carried(), decay=0, feed=feed, steps=1)
    # Two blocks, each of which reads two frames before.
    assert [torch.equal(one, two) for one, two in zip(found, other, strict=True)] == [False] * 5 + [True]
    single = TemporalFeed(16, 2, frames_before=0)
    assert torch.equal(latents(model, changed, Carried(), decay=0, feed=single)[4], frame_by_frame(model, changed)[4])


def test_the_state_does_not_grow_and_a_reset_begins_anew() -> None:
    model, conditions = conditioned(), clip(6)
    state, feed = Carried(), new_feed(model, 0.05)
    sizes = []
    for each in conditions:
        latents(model, [each], state, decay=0.9, feed=feed)
        sums = [tensor.shape for call in state.sums.values() for tensor in call]
        fed = [len(layer) for call in state.fed.values() for layer in call]
        sizes.append((sums, max(fed)))
    assert [sums for sums, _ in sizes] == [sizes[0][0]] * 6
    assert [held for _, held in sizes] == [1, 2, 2, 2, 2, 2]
    state.reset()
    after = latents(model, conditions[3:4], state, decay=0.9, feed=feed)[0]
    assert torch.equal(after, latents(model, conditions[3:4], Carried(), decay=0.9, feed=feed)[0])


def test_guidance_carries_a_state_for_each_prompt() -> None:
    model, conditions = conditioned(), clip(2)
    negative = given(*SIZE, batch=2)[2][slice(1, 2)]
    state = Carried()
    latents(model, conditions, state, decay=0.5, negative=negative, guidance=2.0)
    assert {is_negative for _, is_negative in state.sums} == {False, True}
    assert len(state.sums) == 4
