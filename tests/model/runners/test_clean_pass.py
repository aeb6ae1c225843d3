"""Windows that are finished one after another: what they see, how they join, and that one window is the whole."""

from typing import Any

import pytest
import torch
from torch import Tensor

from sanarestore.flow import Flow, Noise, noise_field
from sanarestore.model.runners.apart import BlockPass, embed, embed_part, positions, shared, velocity
from sanarestore.model.runners.clean_pass import clean_pass
from sanarestore.model.runners.prompt import Prompt
from sanarestore.model.runners.whole import whole
from sanarestore.model.transformer import Tokens
from sanarestore.tiling import Window, overlapping
from tests.model.runners.test_exact import BASES, conditioned, given
from tests.published import CHANNELS

TILE, OVERLAP = 8, 2

FLOWS = {"euler": Flow(solver="euler"), "dpm": Flow(solver="dpm"), "sprint": Flow(solver="consistency")}


def sampled(
    model: Any, condition: Tensor, tokens: Tokens, flow: Flow = FLOWS["euler"], noise: Noise | None = None,
    **chosen: Any,
) -> Tensor:  # fmt: skip
    """The latent that comes of noise, and nothing of what lay there before."""
    latent = torch.full_like(condition, torch.nan)
    noise = noise or noise_field(0, *condition.shape)
    options = {"steps": 3, "tile": TILE, "overlap": OVERLAP, **chosen}
    for _ in clean_pass(model, condition, tokens, latent, flow, noise, **options):
        pass
    return latent


@pytest.mark.parametrize("solver", FLOWS)
@pytest.mark.parametrize("base", BASES)
def test_one_window_is_the_whole(base: str, solver: str) -> None:
    model, flow = conditioned(**BASES[base]), FLOWS[solver]
    _, condition, tokens = given(6, 8, batch=1)
    noise = noise_field(3, *condition.shape)
    expected = flow.sample(whole(model, condition, tokens), noise, 3)
    assert expected.std() > 0.1
    assert torch.allclose(sampled(model, condition, tokens, flow, noise), expected, atol=1e-5)


def by_definition(model: Any, condition: Tensor, prompts: dict[float, Tokens], steps: int) -> Tensor:
    """Euler's steps of each window with lists of all clean tokens before it, each once, and no state at all.

    `prompts` are added up by their weights.
    """
    _, _, height, width = condition.shape
    noise = noise_field(0, *condition.shape)(0)
    windows = overlapping(height, width, tile=TILE, overlap=OVERLAP)
    clean: dict[float, list[list[Tensor]]] = {weight: [[] for _ in model.blocks] for weight in prompts}
    total = torch.zeros_like(condition)

    def forward(latent: Tensor, time: float, window: Window, weight: float, *, keep: bool) -> Tensor:
        """The window is cut from the embedding of the whole, so that it knows where it lies."""
        top, bottom, left, right = window.box
        first, last, begin, end = window.owned
        canvas = torch.zeros_like(condition)
        canvas[:, :, top:bottom, left:right] = latent
        told = shared(model, Prompt(model, prompts[weight]), torch.full((1,), time))
        hidden = embed(model, canvas, condition).view(1, height, width, -1)[:, top:bottom, left:right]
        for layer, parts in enumerate(model.blocks):
            block = BlockPass(parts, told)
            own = hidden[:, first - top : last - top, begin - left : end - left].flatten(1, 2)
            # Keys of the clean tokens were made at time 0, when their block was told of no noise.
            then = BlockPass(parts, shared(model, Prompt(model, prompts[weight]), torch.zeros(1)))
            sums = sum((then.key_sums(each) for each in clean[weight][layer]), start=block.key_sums(own))
            if keep:
                clean[weight][layer].append(own)
            hidden = block.attend(hidden.flatten(1, 2), sums).view_as(hidden)
            hidden = hidden + block.feed(hidden)
        return velocity(model, hidden.flatten(1, 2), told, columns=right - left)

    times = torch.linspace(1, 0, steps + 1)
    times = 3 * times / (1 + 2 * times)
    for window in windows:
        top, bottom, left, right = window.box
        latent = noise[:, :, top:bottom, left:right]
        for time, following in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
            found = [weight * forward(latent, time, window, weight, keep=False) for weight in prompts]
            latent = latent + (following - time) * sum(found)
        for weight in prompts:
            forward(latent, 0.0, window, weight, keep=True)
        total[:, :, top:bottom, left:right] += window.weight_hw * latent
    return total


@torch.no_grad()
@pytest.mark.parametrize("base", ["sana", "sana1.5", "sprint", "4k"])
def test_every_clean_token_before_is_seen_once(base: str) -> None:
    model = conditioned(**BASES[base])
    _, condition, tokens = given(14, 22, batch=1)
    expected = by_definition(model, condition, {1.0: tokens}, steps=2)
    assert torch.allclose(sampled(model, condition, tokens, steps=2), expected, atol=1e-5)
    assert (expected - sampled(model, condition, tokens, steps=2, tile=22)).abs().max() > 1e-2


@torch.no_grad()
def test_each_prompt_has_what_it_saw_itself() -> None:
    model = conditioned(qk_norm="rms_norm_across_heads")
    _, condition, tokens = given(14, 22, batch=1)
    negative = Tokens(token_BLD=-tokens.token_BLD, mask_BL=tokens.mask_BL)
    expected = by_definition(model, condition, {2.5: tokens, -1.5: negative}, steps=2)
    found = sampled(model, condition, tokens, steps=2, negative=negative, guidance=2.5)
    assert torch.allclose(found, expected, atol=3e-5)
    assert not torch.allclose(found, sampled(model, condition, tokens, steps=2), atol=1e-2)
    with pytest.raises(ValueError, match="negative prompt"):
        sampled(model, condition, tokens, guidance=2.5)


@pytest.mark.parametrize("base", BASES)
def test_a_part_of_the_embedding(base: str) -> None:
    model = conditioned(**BASES[base])
    patch = model.config.patch_size
    for rows, columns in ((8, 8), (6, 10)):
        latent, condition, _ = given(rows * patch, columns * patch)
        expected = embed(model, latent, condition).view(2, rows, columns, -1)[:, 2:5, 1:]
        place = (..., slice(2 * patch, 5 * patch), slice(patch, None))
        position = positions(model, rows, columns)
        if position is not None:
            position = position.view(1, rows, columns, -1)[:, 2:5, 1:].flatten(1, 2)
        found = embed_part(model, latent[place], condition[place], position)
        assert torch.allclose(found, expected.flatten(1, 2), atol=1e-6)


def test_the_first_window_knows_nothing_of_the_last_which_knows_of_it() -> None:
    model = conditioned()
    _, condition, tokens = given(8, 26, batch=1)
    for changed, kept, told in ((-1, slice(0, 6), slice(18, None)), (0, slice(0, 0), slice(20, None))):
        other = condition.clone()
        other[..., changed] += 1
        one, another = (sampled(model, each, tokens) for each in (condition, other))
        assert torch.equal(one[..., kept], another[..., kept])
        assert not torch.equal(one[..., told], another[..., told])


def test_two_windows_join_linearly(monkeypatch: pytest.MonkeyPatch) -> None:
    """In closed form: each window comes out as a constant, its number, and they cross over in a straight line."""
    model = conditioned()
    _, condition, tokens = given(8, 14, batch=1)
    seen: list[Any] = []

    def numbered(_model: Any, hidden: Tensor, windows: Any, _told: Any, carried: Any) -> Tensor:
        if windows[0] not in seen:
            seen.append(windows[0])
        return torch.full((1, CHANNELS, *hidden.shape[1:3]), float(-len(seen)))

    monkeypatch.setattr("sanarestore.model.runners.clean_pass.velocities", numbered)
    found = sampled(model, condition, tokens, noise=lambda _: torch.zeros_like(condition), steps=1)
    line = torch.tensor([1.0] * 6 + [4 / 3, 5 / 3] + [2.0] * 6)
    assert torch.allclose(found, line.expand_as(found))


@pytest.mark.parametrize("solver", FLOWS)
def test_all_noise_is_cut_from_one_field(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a velocity of nothing, what comes out is the noise that went in: of every draw, wherever windows lie."""
    model, flow = conditioned(), FLOWS[solver]
    _, condition, tokens = given(14, 22, batch=1)
    monkeypatch.setattr(
        "sanarestore.model.runners.clean_pass.velocities",
        lambda _model, hidden, *_: torch.zeros(1, CHANNELS, *hidden.shape[1:3]),
    )
    field = noise_field(0, *condition.shape)
    expected = flow.sample(lambda latent, _: torch.zeros_like(latent), field, 4)
    assert torch.allclose(sampled(model, condition, tokens, flow, field, steps=4), expected, atol=1e-5)


def test_bits_depend_on_what_is_given_alone() -> None:
    model = conditioned()
    _, condition, tokens = given(14, 22, batch=1)
    one = sampled(model, condition, tokens)
    other, _, _ = given(14, 22, batch=1)
    sampled(model, other, tokens)
    assert torch.equal(sampled(model, condition, tokens), one)
    assert not torch.equal(sampled(model, condition, tokens, shift=4), one)


def test_every_step_of_every_window_is_counted_and_the_last_clean_pass_saved() -> None:
    model = conditioned()
    _, condition, tokens = given(8, 26, batch=1)
    forwards = []
    model.transformer.proj_out.register_forward_hook(lambda *_: forwards.append(1))
    steps = clean_pass(
        model, condition, tokens, torch.empty_like(condition), FLOWS["dpm"], noise_field(0, *condition.shape),
        steps=3, tile=TILE, overlap=OVERLAP,
    )  # fmt: skip
    assert list(steps) == [(done, 12) for done in range(1, 13)]
    assert len(forwards) == 4 * 3 + 3
