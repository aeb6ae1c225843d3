"""Blending of windows: the reference on a CPU, and the kernel on a GPU."""

import torch

from sanarestore.kernels import reference
from sanarestore.kernels.blend import add_windows
from tests.kernels.guards import assert_close, needs_kernels, some

CORNERS = [(0, 0), (2, 3), (2, 0)]


def test_blending_on_a_cpu_uses_the_reference() -> None:
    found, expected = torch.zeros(2, 6, 8), torch.zeros(2, 6, 8)
    given = some(3, 2, 4, 5, seed=0), some(3, 4, 5, seed=1), CORNERS
    add_windows(found, *given)
    reference.add_windows(expected, *given)
    assert torch.equal(found, expected)


@needs_kernels
def test_blending_on_a_gpu_matches_the_reference_up_to_rounding() -> None:
    found, expected = torch.zeros(2, 6, 8).cuda(), torch.zeros(2, 6, 8).double()
    window, weight = some(3, 2, 4, 5, seed=0), some(3, 4, 5, seed=1)
    add_windows(found, window.cuda(), weight.cuda(), CORNERS)
    reference.add_windows(expected, window.double(), weight.double(), CORNERS)
    assert_close(found, expected, torch.float32)
