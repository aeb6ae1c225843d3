"""Tests of the conversion between integer codes and floats."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanarestore.images import from_float, quantize, to_float


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_every_code_survives_a_round_trip(depth):
    every = np.arange(np.iinfo(depth).max + 1, dtype=depth).reshape(-1, 16, 1)
    values = to_float(every, depth)
    assert values.dtype == np.float32
    assert values.max() == 1.0
    assert np.array_equal(from_float(values, depth), every)


def test_values_out_of_range_are_clipped():
    values = np.array([[-1.0, 0.5, 2.0, np.nan, np.inf, -np.inf]], np.float32)
    assert from_float(values, "uint8").tolist() == [[0, 128, 255, 0, 255, 0]]


@given(st.floats(width=32))
def test_float32_is_stored_unchanged(value):
    values = np.full((1, 1, 1), value, np.float32)
    assert from_float(values, "float32").tobytes() == values.tobytes()


def test_converting_in_strips_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(0.5, 1, (33, 7, 3)).astype(np.float32)
    whole = from_float(values, "uint16")
    monkeypatch.setattr("sanarestore.images.codes._AT_ONCE", 50)
    assert np.array_equal(from_float(values, "uint16"), whole)


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
@given(st.lists(st.floats(allow_nan=False, width=32), min_size=1, max_size=9))
def test_quantized_values_equal_the_floats_of_their_codes(depth, numbers):
    values = np.array(numbers, np.float32)
    assert np.array_equal(quantize(values, depth), to_float(from_float(values, depth), depth))


def test_quantizing_keeps_precision_and_nan():
    # In float32, this value times 255 is 0.5, which rounds to even; the exact product is slightly above.
    value = np.float32(0.5 / 255)
    assert float(value) * 255 > 0.5
    assert quantize(np.array([value])).tolist() == [0.0]
    exact = quantize(np.array([value], np.float64))
    assert (exact.dtype, exact.tolist()) == (np.float64, [1 / 255])
    assert np.isnan(quantize(np.array([np.nan, 0.5], np.float32))).tolist() == [True, False]
