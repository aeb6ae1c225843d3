"""Convolutions of 8-bit codes: equal to the reference, whatever the values."""

import pytest
import torch

from sanarestore.kernels import int8_convolution, reference
from sanarestore.kernels.int8_convolution import PAIR, Int8Convolution

pytestmark = pytest.mark.skipif(not int8_convolution.available(), reason="this processor has no 8-bit convolutions")


def weights(outputs: int, inputs: int, kernel: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(-64, 65, (outputs, inputs, kernel, kernel), generator=draw).to(torch.int8)


def given(inputs: int, height: int = 13, width: int = 18) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    values = torch.randint(0, 256, (2, inputs, height, width), generator=draw).to(torch.uint8)
    return values.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("outputs", "inputs", "kernel", "stride", "padding", "zero"),
    [(48, 48, 3, 1, 1, 128), (7, 5, 3, 1, 1, 0), (33, 64, 1, 1, 0, 0), (20, 12, 2, 2, 0, 128), (160, 160, 3, 1, 1, 0)],
)
def test_it_equals_the_reference(outputs: int, inputs: int, kernel: int, stride: int, padding: int, zero: int) -> None:
    code, weight = given(inputs), weights(outputs, inputs, kernel)
    scale, bias = torch.rand(outputs) / 1000, torch.randn(outputs)
    places = {"zero": zero, "stride": stride, "padding": padding}
    expected = reference.int8_convolution(code, weight, scale, bias, **places)
    convolution = Int8Convolution.packing(weight, scale, bias, **places)
    torch.testing.assert_close(convolution(code), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    rounded = convolution.positive_codes(code).int()
    assert (rounded - expected.clamp(0, 255).round().int()).abs().max() <= 1  # halves may round either way
    assert (rounded == expected.clamp(0, 255).round().int()).float().mean() > 0.999
    start = torch.randn_like(expected)
    total = start.clone()
    assert convolution.added_to(total, code) is total
    torch.testing.assert_close(total, start + expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("zero", [0, 128])
def test_the_largest_sums_do_not_overflow(zero: int) -> None:
    """Processors without VNNI add pairs in 16 bits."""
    code = torch.full((1, 32, 8, 8), 255, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    weight = torch.full((16, 32, 3, 3), PAIR // 2, dtype=torch.int8)
    weight[:, 0], weight[:, 1] = 127, 1
    one, none = torch.ones(16), torch.zeros(16)
    found = Int8Convolution.packing(weight, one, none, zero=zero, padding=1)(code)
    assert torch.equal(found, reference.int8_convolution(code, weight, one, none, zero=zero, padding=1))


def test_weights_that_could_overflow_are_refused() -> None:
    weight = weights(4, 6, 3)
    weight[2, 4, 1, 1], weight[2, 5, 1, 1] = 100, -29
    with pytest.raises(ValueError, match="more than 128"):
        Int8Convolution.packing(weight, torch.ones(4), torch.zeros(4), zero=0)


@pytest.mark.parametrize(("scale", "zero"), [(0.03, 128), (1.0, 0)])
def test_codes_equal_the_reference_and_keep_the_layout(scale: float, zero: int) -> None:
    value = (torch.randn(2, 6, 9, 11) * 300 * scale).contiguous(memory_format=torch.channels_last)
    value[0, 0, 0, :3] = torch.tensor([-1e9, 1e9, 0])
    found = int8_convolution.codes(value, scale, zero)
    assert found.is_contiguous(memory_format=torch.channels_last)
    difference = (found.int() - reference.codes(value, scale, zero).int()).abs()
    assert difference.max() <= 1
    assert (difference == 0).float().mean() > 0.999
    assert found[0, 0, 0, :3].tolist() == [0, 255, zero]


def test_the_number_of_threads_changes_no_bit() -> None:
    code, weight = given(48, 40, 56), weights(48, 48, 3)
    convolution = Int8Convolution.packing(weight, torch.rand(48), torch.randn(48), zero=128, padding=1)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(convolution(code))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)
