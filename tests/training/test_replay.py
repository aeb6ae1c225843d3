"""The router's replay memory: keeps fields together, replaces the oldest samples, and can be checkpointed."""

import numpy as np
import pytest
import torch

from sanarestore.training.replay import Replay, Weighable


def samples(count: int, first: int = 0) -> Weighable:
    """Make samples whose number can be read from every field."""
    number_B = torch.arange(first, first + count, dtype=torch.float32)
    error_BEN = torch.randn(count, 2, 50, generator=torch.Generator().manual_seed(first))
    return Weighable(
        features_BK=number_B[:, None].expand(-1, 3), prompt_BD=-number_B[:, None].expand(-1, 4),
        asked_BE=torch.stack([number_B >= 0, number_B % 2 == 1], dim=1), errors_BEE=error_BEN @ error_BEN.mT / 50,
    )  # fmt: skip


def memory(capacity: int = 8) -> Replay:
    return Replay(features=3, prompt=4, refiners=2, capacity=capacity)


def sampled(replay: Replay, count: int = 200) -> Weighable:
    return replay.draw(count, np.random.default_rng(0))


def test_an_empty_memory_gives_no_samples() -> None:
    assert len(sampled(memory()).features_BK) == 0


def test_fields_of_a_sample_stay_together() -> None:
    replay, given = memory(), samples(6)
    replay.add(given)
    found = sampled(replay)
    number_B = found.features_BK[:, 0].long()
    assert set(number_B.tolist()) == set(range(6))
    assert torch.equal(found.prompt_BD[:, 0].long(), -number_B)
    assert torch.equal(found.asked_BE, given.asked_BE[number_B])
    assert torch.equal(found.errors_BEE, given.errors_BEE[number_B])


def test_new_samples_replace_the_oldest() -> None:
    replay = memory(capacity=8)
    for first in (0, 6, 12):
        replay.add(samples(6, first))
    assert len(replay) == 8
    assert set(sampled(replay).features_BK[:, 0].tolist()) == set(range(10, 18))


def test_a_restored_memory_gives_the_same_samples() -> None:
    replay, other = memory(), memory()
    replay.add(samples(5))
    other.load_state_dict(replay.state_dict(), strict=True)
    assert torch.equal(sampled(replay).errors_BEE, sampled(other).errors_BEE)
    assert len(other) == 5


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_squared_gives_the_squared_error_of_the_mixture(share: float) -> None:
    error_BEN = torch.randn(3, 2, 40, generator=torch.Generator().manual_seed(1))
    given = samples(3)
    given = Weighable(
        features_BK=given.features_BK, prompt_BD=given.prompt_BD, asked_BE=given.asked_BE,
        errors_BEE=error_BEN @ error_BEN.mT / 40,
    )  # fmt: skip
    share_BE = torch.tensor([[share, 1 - share]] * 3)
    mixed_BN = (share_BE[..., None] * error_BEN).sum(dim=1)
    torch.testing.assert_close(given.squared(share_BE), mixed_BN.square().mean(dim=1))
