"""States in 8 bits: codes by their definition, precision, odd sizes, and loading bit for bit."""

import pytest
import torch
from torch import Tensor, nn

from sanarestore.training.adamw8bit import AdamW8bit
from sanarestore.training.blockwise import BLOCK, dequantize, quantize


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Values of both signs whose magnitudes span many orders."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator) * torch.randn(shape, generator=generator).mul(2).exp()


def round_trip(values: Tensor, *, signed: bool = True) -> Tensor:
    return dequantize(*quantize(values, signed=signed), values.shape)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("count", [1, 63, BLOCK - 1, BLOCK, BLOCK + 1, 5000])
def test_codes_are_the_nearest_fourth_roots(count: int, signed: bool) -> None:
    values, levels = drawn(count) if signed else drawn(count).abs(), 127 if signed else 255
    codes, scales = quantize(values, signed=signed)
    assert codes.dtype == (torch.int8 if signed else torch.uint8)
    assert (codes.shape, scales.shape) == ((-(-count // BLOCK), BLOCK), (-(-count // BLOCK), 1))
    assert codes.flatten()[count:].count_nonzero() == 0
    restored = dequantize(codes, scales, values.shape)
    for number, part in enumerate(values.double().split(BLOCK)):
        largest = part.abs().max()
        exact = (part.abs() / largest) ** 0.25 * levels
        found = codes[number, : len(part)]
        assert scales[number] == largest
        assert (found.double().abs() - exact).abs().max() <= 0.5 + 1e-4
        expected = (found.double() / levels).abs() ** 4 * largest * part.sign()
        assert torch.allclose(restored.split(BLOCK)[number].double(), expected, rtol=1e-5, atol=0)


def test_large_and_small_values_of_a_block_keep_their_digits() -> None:
    normal = torch.randn(64 * BLOCK, generator=torch.Generator().manual_seed(0))
    assert (round_trip(normal) - normal).norm() < 0.013 * normal.norm()
    magnitudes = torch.logspace(-4, 0, BLOCK)
    assert (round_trip(magnitudes) / magnitudes - 1).abs().max() < 0.18
    assert (round_trip(magnitudes, signed=False) / magnitudes - 1).abs().max() < 0.09


def test_stored_values_are_stored_exactly_again() -> None:
    codes, scales = quantize(drawn(5, 1000))
    again = quantize(dequantize(codes, scales, torch.Size((5, 1000))))
    assert torch.equal(again[0], codes)
    assert torch.equal(again[1], scales)


def test_an_outlier_affects_its_block_only() -> None:
    values = drawn(3 * BLOCK)
    raised = values.clone()
    raised[0] = 1e9
    assert torch.equal(round_trip(raised)[BLOCK:], round_trip(values)[BLOCK:])


def test_zeros_and_nothing_stay_what_they_are() -> None:
    values = torch.zeros(2 * BLOCK)
    values[0] = 1e-40  # less than the smallest normal number
    assert round_trip(values)[1:].count_nonzero() == 0
    assert round_trip(values).isfinite().all()
    assert round_trip(torch.zeros(0, 7)).shape == (0, 7)
    assert round_trip(torch.tensor(-3.0)) == -3.0


def test_values_are_stored_in_their_order_whatever_the_memory_format() -> None:
    values = drawn(8, 6, 5, 3)
    assert torch.equal(round_trip(values.to(memory_format=torch.channels_last)), round_trip(values))


def test_states_load_as_they_were_saved_for_weights_in_bfloat16() -> None:
    """torch would turn codes and scales into bfloat16."""
    optimizers = []
    for _ in range(2):
        parameter = nn.Parameter(torch.zeros(3, BLOCK, dtype=torch.bfloat16))
        parameter.grad = drawn(3, BLOCK).bfloat16()
        optimizers.append(AdamW8bit([parameter], lr=1e-3))
    first, second = optimizers
    first.step()
    second.load_state_dict(first.state_dict())
    (saved,), (loaded,) = first.state.values(), second.state.values()
    assert {key: value.dtype for key, value in loaded.items()} == {
        "step": torch.float32,
        "mean": torch.int8,
        "mean_scale": torch.float32,
        "root": torch.uint8,
        "root_scale": torch.float32,
    }
    assert all(torch.equal(saved[key], loaded[key]) for key in saved)
