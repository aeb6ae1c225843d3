"""The gated feed-forward: the reference on a CPU, and the kernel on a GPU."""

import pytest
import torch

from sanarestore.kernels import reference
from sanarestore.kernels.feed_forward import depthwise_glu
from tests.kernels.guards import assert_close, needs_kernels, some


def test_the_feed_forward_on_a_cpu_uses_the_reference() -> None:
    given = some(2, 5, 7, 12, seed=0), some(12, 1, 3, 3, seed=1), some(12, seed=2)
    assert torch.equal(depthwise_glu(*given), reference.depthwise_glu(*given))


@needs_kernels
@pytest.mark.parametrize("last", [True, False], ids=["channels last", "channels first"])
def test_the_feed_forward_on_a_gpu_matches_the_reference(last: bool) -> None:
    hidden = some(2, 5, 7, 12, seed=0) if last else some(2, 12, 5, 7, seed=0).permute(0, 2, 3, 1)
    given = [each.cuda().bfloat16() for each in (hidden, some(12, 1, 3, 3, seed=1), some(12, seed=2))]
    expected = reference.depthwise_glu(*(each.double() for each in given))
    assert_close(depthwise_glu(*given), expected, torch.bfloat16)
