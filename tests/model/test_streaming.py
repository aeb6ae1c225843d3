"""Tests of weights that are on the device only while they are used."""

import torch
from torch import nn

from sanarestore.engine.live_bytes import LiveBytes, held_by
from sanarestore.model.streaming import HostWeights, Streamed, weights_of

CPU = torch.device("cpu")
"""Stand-in for a device to which weights are copied."""


def layers(count: int = 4) -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Linear(32, 32) for _ in range(count)]


def test_weights_are_copies_while_they_are_placed_and_the_hosts_afterwards() -> None:
    layer = nn.Linear(4, 4)
    own = layer.weight.data_ptr()
    held = HostWeights(weights_of(layer), CPU)
    held.place(held.copies())
    assert layer.weight.data_ptr() != own
    held.restore()
    assert layer.weight.data_ptr() == own


def test_at_most_two_modules_are_on_the_device_at_once() -> None:
    modules = layers()
    one = held_by(weights_of(modules[0]))
    given = torch.randn(8, 32)
    expected = given
    for each in modules:
        expected = each(expected)
    streamed = Streamed(modules, CPU)
    with torch.inference_mode(), LiveBytes() as live:
        found = given
        for each in streamed:
            found = each(found)
            assert live.bytes < 2 * one + 3 * held_by([given])
        assert live.most < 2 * one + 3 * held_by([given])
        assert live.most >= 2 * one
    assert torch.equal(found, expected)


def test_a_loop_that_is_left_early_gives_the_weights_back() -> None:
    modules = layers(2)
    own = [each.weight.data_ptr() for each in modules]
    for _ in Streamed(modules, CPU):
        break
    assert [each.weight.data_ptr() for each in modules] == own


def test_a_weight_that_two_modules_share_is_copied_once() -> None:
    first, second = layers(2)
    second.weight = first.weight
    held = HostWeights(weights_of(first, second), CPU)
    held.place(held.copies())
    assert first.weight is second.weight
    assert len(held.copies()) == 3
