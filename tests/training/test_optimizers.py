"""The schedule, the averaged weights, and what is decayed."""

import pytest
import torch
from torch import nn

from sanarestore.training.optimizers import Average, adamw, learning_rate
from sanarestore.training.recipe import Recipe


def test_warm_up_then_cosine() -> None:
    recipe = Recipe(learning_rate=1.0, final_rate=0.1, warmup=10, steps=100)
    assert learning_rate(recipe, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(recipe, 9, 0.0) == pytest.approx(1.0)
    assert learning_rate(recipe, 50, 0.5) == pytest.approx(0.55)
    assert learning_rate(recipe, 99, 1.0) == pytest.approx(0.1)
    assert learning_rate(recipe, 99, 7.0) == pytest.approx(0.1)


def test_only_matrices_and_kernels_are_decayed() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(2, 2, bias=False), nn.LayerNorm(2))
    decayed, kept = adamw(module, Recipe(weight_decay=0.5)).param_groups
    assert [tuple(parameter.shape) for parameter in decayed["params"]] == [(2, 1, 3, 3), (2, 2)]
    assert decayed["weight_decay"] == 0.5
    assert len(kept["params"]) == 3
    assert kept["weight_decay"] == 0


def test_the_average_follows_and_swaps() -> None:
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(0.0)
    average = Average(module, decay=0.9)
    with torch.no_grad():
        module.weight.fill_(1.0)
    average.update(module, step=10**6)
    assert average.state()["weight"].item() == pytest.approx(0.1)
    average.swap(module)
    assert module.weight.item() == pytest.approx(0.1)
    average.swap(module)
    assert module.weight.item() == 1.0
    assert average.state()["weight"].item() == pytest.approx(0.1)


def test_the_average_is_quick_when_young() -> None:
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(0.0)
    average = Average(module, decay=0.999)
    with torch.no_grad():
        module.weight.fill_(1.0)
    average.update(module, step=0)
    assert average.state()["weight"].item() == pytest.approx(0.9)
