"""Growing a refiner: results stay the same, and new weights can learn."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from sanarestore.model.colour_correction import COLOUR_STATISTICS, WholePhoto
from sanarestore.model.refiner import Refiner
from sanarestore.training.growing import grow, renew_colour_correction
from tests.conftest import random_refiner


def statistics_of(value: float, *asked: tuple[float, float]) -> WholePhoto:
    """Make photographs whose statistics all have one value, with or without a request for light and colour."""
    return WholePhoto(
        statistics_BK=torch.full((len(asked), COLOUR_STATISTICS), value),
        asked_B2=torch.tensor(asked, dtype=torch.float32),
    )


def inputs(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    degraded, generated = torch.rand(2, 2, 3, height, width, generator=generator)
    return degraded, generated, torch.randn(2, 8, generator=generator)


@pytest.mark.parametrize(
    "more",
    [
        {"spectrum": 5},
        {"colour_correction": 4},
        {"spectrum": 5, "colour_correction": 4},
        {"colour_correction": 4, "colour_statistics": 52},
        {"widths": (12, 8, 24, 16)},
        {"widths": (8, 12, 16, 20)},
    ],
)
def test_growing_does_not_change_the_result(more: dict[str, Any]) -> None:
    refiner = random_refiner()
    grown = grow(refiner, **more)
    assert {name: getattr(grown.config, name) for name in more} == more
    whole = statistics_of(0.3, (1, 0), (1, 1))
    assert torch.allclose(grown(*inputs(32, 48), whole), refiner(*inputs(32, 48)), atol=1e-6, rtol=0)
    assert grow(grown, **more) is grown
    assert grow(grown, spectrum=9, colour_correction=9).config.to_dict() == {
        **refiner.config.to_dict(),
        "spectrum": 9,
        "colour_correction": 9,
        **more,
    }


def test_a_colour_correction_that_reads_more_does_the_same() -> None:
    refiner = grow(random_refiner(), colour_correction=4)
    assert refiner.colour_correction
    torch.nn.init.normal_(refiner.colour_correction.curve.weight, std=0.1)
    grown, whole = grow(refiner, colour_statistics=52), statistics_of(0.3, (0, 1), (1, 1))
    assert torch.equal(grown(*inputs(32, 48), whole), refiner(*inputs(32, 48), whole))
    assert not torch.equal(grown(*inputs(32, 48), whole), refiner(*inputs(32, 48)))


def test_a_renewed_colour_correction_begins_as_the_identity_beside_the_same_weights() -> None:
    refiner = random_refiner(colour_correction=4)
    before = copy.deepcopy(refiner)
    renewed, whole = renew_colour_correction(refiner, 6, 52), statistics_of(0.3, (1, 0), (1, 1))
    assert refiner.config == replace(
        before.config, colour_correction=6, colour_statistics=52, colour_normalised=True
    )  # fmt: skip
    assert refiner.colour_correction is renewed
    assert torch.equal(refiner(*inputs(32, 48), whole), before(*inputs(32, 48)))
    kept = {name: tensor for name, tensor in refiner.state_dict().items() if not name.startswith("colour_correction.")}
    assert all(torch.equal(before.state_dict()[name], tensor) for name, tensor in kept.items())
    Refiner(refiner.config).load_state_dict(refiner.state_dict(), strict=True)


def test_grown_weights_can_learn() -> None:
    grown = grow(random_refiner(), widths=(12, 12, 24, 24)).requires_grad_(True)
    before = {name: parameter.detach().clone() for name, parameter in grown.named_parameters()}
    optimizer = torch.optim.SGD(grown.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        grown(*inputs(32, 32)).square().mean().backward()
        optimizer.step()
    for name, parameter in grown.named_parameters():
        moved = (parameter - before[name]).abs().flatten(1) if parameter.ndim > 1 else parameter - before[name]
        assert moved[-1].any(), name


def test_growing_never_removes_channels_or_levels() -> None:
    refiner = random_refiner()
    assert grow(refiner, widths=(4, 4, 4, 4)) is refiner
    with pytest.raises(ValueError, match="levels"):
        grow(refiner, widths=(8, 8, 16))
