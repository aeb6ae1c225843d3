"""Linear attention: the reference on a CPU, and the kernel on a GPU."""

import pytest
import torch

from sanarestore.kernels import reference
from sanarestore.kernels.linear_attention import Norm, attend, key_sums
from tests.kernels.guards import assert_close, needs_kernels, some


def test_attention_on_a_cpu_uses_the_reference() -> None:
    query, key, value = (some(2, 9, 3, 16, seed=seed) for seed in range(3))
    norm = Norm(some(48, seed=4), 1e-5)
    sums = key_sums(key, value, norm=norm, state_BHED=key_sums(key, value))
    expected = reference.key_sums(key, value, norm=norm, state_BHED=reference.key_sums(key, value))
    assert torch.equal(sums, expected)
    assert torch.equal(attend(query, sums, norm=norm), reference.attend(query, sums, norm=norm))


def test_attention_on_a_cpu_has_gradients() -> None:
    query, key, value = (some(1, 5, 2, 16, seed=seed).requires_grad_() for seed in range(3))
    attend(query, key_sums(key, value)).sum().backward()
    assert all(given.grad is not None and given.grad.abs().sum() > 0 for given in (query, key, value))


@needs_kernels
@pytest.mark.parametrize("size", [8, 32])
def test_attention_on_a_gpu_matches_the_reference_up_to_rounding(size: int) -> None:
    """Heads of 8 features are too small for the kernel and use the reference."""
    query, key, value = (some(2, 70, 3, size, seed=seed).cuda().bfloat16() for seed in range(3))
    norm = Norm(some(3 * size, seed=4).cuda().bfloat16(), 1e-5)
    sums = key_sums(key, value, norm=norm)
    assert_close(sums, reference.key_sums(key, value, norm=norm).double(), torch.bfloat16)
    assert_close(attend(query, sums, norm=norm), reference.attend(query, sums, norm=norm).double(), torch.bfloat16)
