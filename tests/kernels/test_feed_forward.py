"""The reference wherever a kernel would not fit, and the kernel on a GPU."""

import pytest
import torch

from sanarestore.kernels import reference
from sanarestore.kernels.feed_forward import depthwise_glu
from tests.kernels.guards import assert_close, needs_kernels, some


def test_on_a_cpu_it_is_the_reference() -> None:
    given = some(2, 5, 7, 12, seed=0), some(12, 1, 3, 3, seed=1), some(12, seed=2)
    assert torch.equal(depthwise_glu(*given), reference.depthwise_glu(*given))


@needs_kernels
@pytest.mark.parametrize("last", [True, False], ids=["channels last", "channels first"])
def test_on_a_gpu_it_is_the_reference_up_to_rounding(last: bool) -> None:
    hidden = some(2, 5, 7, 12, seed=0) if last else some(2, 12, 5, 7, seed=0).permute(0, 2, 3, 1)
    given = [each.cuda().bfloat16() for each in (hidden, some(12, 1, 3, 3, seed=1), some(12, seed=2))]
    expected = reference.depthwise_glu(*(each.double() for each in given))
    assert_close(depthwise_glu(*given), expected, torch.bfloat16)
