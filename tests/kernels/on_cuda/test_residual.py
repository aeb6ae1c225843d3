"""Residual block kernels on maps of odd sizes, against float64, without access out of bounds."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sanarestore.kernels.reference import Norm
from tests.kernels.guards import Guarded, assert_close, some

SHAPES = [(2, 5, 1, 1), (1, 8, 63, 1), (1, 100, 7, 9), (2, 128, 5, 7), (1, 1024, 3, 5), (1, 1500, 2, 3)]


def exact(given: Tensor) -> Tensor:
    return given.double().cpu()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_norm_add_matches_float64(guarded: Guarded, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    from sanarestore.kernels.on_cuda.residual import norm_add

    hidden, residual = (
        guarded(some(*shape, seed=seed, scale=3.0).to(memory_format=torch.channels_last), dtype) for seed in range(2)
    )
    weight, bias = guarded(some(shape[1], seed=2), dtype), guarded(some(shape[1], seed=3), dtype)
    found = norm_add(hidden, residual, Norm(weight, 1e-5), bias)
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    factor = (exact(hidden).square().mean(dim=1, keepdim=True) + 1e-5).rsqrt()
    expected = exact(hidden) * factor * exact(weight)[:, None, None] + exact(bias)[:, None, None] + exact(residual)
    assert_close(found, expected, dtype)
    guarded.check()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")
def test_bias_silu_matches_float64(guarded: Guarded, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    from sanarestore.kernels.on_cuda.residual import bias_silu

    hidden = guarded(some(*shape, seed=0, scale=30.0).to(memory_format=torch.channels_last), dtype)
    bias = guarded(some(shape[1], seed=2), dtype)
    found = bias_silu(hidden, bias)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert_close(found, F.silu(exact(hidden) + exact(bias)[:, None, None]), dtype)
    guarded.check()
