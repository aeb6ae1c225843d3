"""Cost of the transformer under each scheme: linear in tokens, strips equal to untiled, windows by area."""

from itertools import pairwise

import pytest
import torch

from sanarestore.model.runners.apart import FEED_RADIUS, BlockPass, shared
from sanarestore.model.runners.exact import exact
from sanarestore.model.runners.prompt import Prompt
from sanarestore.model.runners.whole import whole
from sanarestore.model.runners.windowed import causal, multidiffusion
from sanarestore.model.transformer import ConditionedTransformer, Tokens
from sanarestore.tiling import overlapping
from tests.counting import cost, exponent
from tests.model.runners.test_exact import conditioned, given


def model_and_tokens() -> tuple[ConditionedTransformer, Tokens]:
    return conditioned(), given(2, 2, batch=1)[2]


def flop(runner: object, height: int, width: int, **chosen: object) -> int:
    """Count the operations of one call of a runner."""
    model, tokens = model_and_tokens()
    latent, condition = torch.zeros(2, 1, int(model.config.in_channels), height, width)
    return cost(lambda: runner(model, condition, tokens, **chosen)(latent, 1.0)).flop  # type: ignore[operator]


@pytest.mark.parametrize("runner", [whole, lambda *given: exact(*given, largest=10**9)])
def test_cost_is_linear_in_the_number_of_tokens(runner: object) -> None:
    """Catch any product of all tokens with all tokens: its cost would grow faster than the token count."""
    counts = [32 * 2**power for power in range(5, 12)]
    flops = [flop(runner, 32, count // 32) for count in counts]
    assert counts[-1] > 60_000
    grown = zip(pairwise(flops), pairwise(counts), strict=True)
    steps = [(after - before) / (more - fewer) for (before, after), (fewer, more) in grown]
    assert len(set(steps)) == 1, "the cost per token is exactly constant"
    assert exponent(counts[2:], flops[2:]) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("strips", [2, 4, 8])
def test_strips_cost_as_much_as_untiled_plus_their_border_rows(strips: int) -> None:
    """Count the rows of neighbouring strips that each feed-forward computes again."""
    rows, columns = 64, 24
    model, tokens = model_and_tokens()
    block = BlockPass(next(iter(model.blocks)), shared(model, Prompt(model, tokens), torch.ones(1)))
    width = int(model.config.num_attention_heads) * int(model.config.attention_head_dim)
    row = cost(lambda: block.feed(torch.zeros(1, 1, columns, width))).flop
    extra = flop(exact, rows, columns, largest=rows // strips * columns) - flop(whole, rows, columns)
    assert extra == len(list(model.blocks)) * (strips - 1) * 2 * FEED_RADIUS * row


@pytest.mark.parametrize(("runner", "chosen"), [(exact, {"largest": 64}), (causal, {"tile": 16, "overlap": 4})])
def test_the_prompt_is_projected_once_for_all_steps(runner: object, chosen: dict[str, int]) -> None:
    model, tokens = model_and_tokens()
    latent, condition = torch.zeros(2, 1, int(model.config.in_channels), 32, 32)
    predict = runner(model, condition, tokens, **chosen)  # type: ignore[operator]

    def step(time: float) -> int:
        return cost(lambda: predict(latent, time)).flop

    first, second, third = map(step, (1.0, 0.5, 0.2))
    width = int(model.config.num_attention_heads) * int(model.config.attention_head_dim)
    length, given_width = tokens.token_BLD.shape[1:]
    caption = 2 * length * width * (given_width + width)
    keys_values = 2 * (2 * length * width * width)
    assert first - second == caption + len(list(model.blocks)) * keys_values
    assert third == second


@pytest.mark.parametrize("runner", [causal, multidiffusion])
@pytest.mark.parametrize(("tile", "overlap"), [(16, 0), (16, 4), (24, 8)])
def test_windows_cost_in_proportion_to_their_area(runner: object, tile: int, overlap: int) -> None:
    rows, columns = 64, 96
    areas = [window.weight_hw.numel() for window in overlapping(rows, columns, tile=tile, overlap=overlap)]
    found = flop(runner, rows, columns, tile=tile, overlap=overlap)
    expected = sum(areas) / (rows * columns) * flop(whole, rows, columns)
    # The tolerance allows for the embedding, which is computed once for all windows.
    assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("runner", [causal, multidiffusion])
def test_windows_without_overlap_cost_the_same_at_every_size(runner: object) -> None:
    sides = (16, 32, 48, 64)
    flops = [flop(runner, side, side, tile=16, overlap=0) for side in sides]
    assert exponent([side**2 for side in sides], flops) == pytest.approx(1, abs=0.01)
