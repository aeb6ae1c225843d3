"""Parts of residual blocks: the reference on a CPU, and the kernels on a GPU."""

import pytest
import torch

from sanarestore.kernels import reference
from sanarestore.kernels.residual import Norm, bias_silu, norm_add
from tests.kernels.guards import assert_close, needs_kernels, some


def test_residual_parts_on_a_cpu_use_the_reference() -> None:
    hidden, given = some(2, 12, 5, 7, seed=0), some(2, 12, 5, 7, seed=1)
    weight, bias = some(12, seed=2), some(12, seed=3)
    assert torch.equal(bias_silu(hidden, bias), reference.bias_silu(hidden, bias))
    norm = Norm(weight, 1e-5)
    assert torch.equal(norm_add(hidden, given, norm, bias), reference.norm_add(hidden, given, norm, bias))


@needs_kernels
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
def test_residual_parts_on_a_gpu_match_the_reference(layout: torch.memory_format) -> None:
    hidden, given = (some(2, 12, 5, 7, seed=seed).cuda().to(memory_format=layout).bfloat16() for seed in range(2))
    weight, bias = (some(12, seed=seed).cuda().bfloat16() for seed in (2, 3))
    assert_close(bias_silu(hidden, bias), reference.bias_silu(hidden, bias).double(), torch.bfloat16)
    expected = reference.norm_add(hidden, given, Norm(weight, 1e-5), bias).double()
    # The reference rounds intermediate results four times.
    assert_close(norm_add(hidden, given, Norm(weight, 1e-5), bias) / 4, expected / 4, torch.bfloat16)
