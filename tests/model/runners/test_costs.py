"""What the transformer costs by its schemes: linear in tokens, strips as the whole, windows as their area."""

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


def told() -> tuple[ConditionedTransformer, Tokens]:
    return conditioned(), given(2, 2, batch=1)[2]


def flop(runner: object, height: int, width: int, **chosen: object) -> int:
    """Count the operations of one call of a runner."""
    model, tokens = told()
    latent, condition = torch.zeros(2, 1, int(model.config.in_channels), height, width)
    return cost(lambda: runner(model, condition, tokens, **chosen)(latent, 1.0)).flop  # type: ignore[operator]


@pytest.mark.parametrize("runner", [whole, lambda *given: exact(*given, largest=10**9)])
def test_every_token_costs_the_same(runner: object) -> None:
    """Were there a product of all tokens with all tokens, each doubling would cost more than the one before."""
    counts = [32 * 2**power for power in range(5, 12)]
    flops = [flop(runner, 32, count // 32) for count in counts]
    assert counts[-1] > 60_000
    grown = zip(pairwise(flops), pairwise(counts), strict=True)
    steps = [(after - before) / (more - fewer) for (before, after), (fewer, more) in grown]
    assert len(set(steps)) == 1, "exactly"
    assert exponent(counts[2:], flops[2:]) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("strips", [2, 4, 8])
def test_strips_cost_what_the_whole_does_but_for_rows_at_their_borders(strips: int) -> None:
    """A feed-forward looks at rows of the neighbours."""
    rows, columns = 64, 24
    model, tokens = told()
    block = BlockPass(next(iter(model.blocks)), shared(model, Prompt(model, tokens), torch.ones(1)))
    width = int(model.config.num_attention_heads) * int(model.config.attention_head_dim)
    row = cost(lambda: block.feed(torch.zeros(1, 1, columns, width))).flop
    extra = flop(exact, rows, columns, largest=rows // strips * columns) - flop(whole, rows, columns)
    assert extra == len(list(model.blocks)) * (strips - 1) * 2 * FEED_RADIUS * row


@pytest.mark.parametrize(("runner", "chosen"), [(exact, {"largest": 64}), (causal, {"tile": 16, "overlap": 4})])
def test_the_prompt_is_projected_once_for_all_steps(runner: object, chosen: dict[str, int]) -> None:
    model, tokens = told()
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
def test_windows_cost_their_area(runner: object, tile: int, overlap: int) -> None:
    rows, columns = 64, 96
    areas = [window.weight_hw.numel() for window in overlapping(rows, columns, tile=tile, overlap=overlap)]
    found = flop(runner, rows, columns, tile=tile, overlap=overlap)
    expected = sum(areas) / (rows * columns) * flop(whole, rows, columns)
    # Tokens are embedded but once.
    assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("runner", [causal, multidiffusion])
def test_windows_without_overlap_cost_the_same_at_every_size(runner: object) -> None:
    sides = (16, 32, 48, 64)
    flops = [flop(runner, side, side, tile=16, overlap=0) for side in sides]
    assert exponent([side**2 for side in sides], flops) == pytest.approx(1, abs=0.01)
