"""The feed-forward kernel on maps of odd sizes, against float64, without access out of bounds."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.kernels.guards import Guarded, assert_close, some


def exact(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    hidden, weight, bias = (given.double().cpu() for given in (hidden, weight, bias))
    mixed = F.conv2d(F.silu(hidden).permute(0, 3, 1, 2), weight, bias, padding=1, groups=len(bias))
    value, gate = mixed.permute(0, 2, 3, 1).chunk(2, dim=3)
    return value * F.silu(gate)


@pytest.mark.parametrize(
    ("height", "width", "channels", "dtype"),
    [
        (1, 1, 5, torch.float32), (1, 19, 8, torch.bfloat16), (9, 3, 70, torch.float32),
        (8, 16, 64, torch.bfloat16), (11, 17, 3, torch.float32),
    ],
)  # fmt: skip
def test_maps_of_odd_sizes(guarded: Guarded, height: int, width: int, channels: int, dtype: torch.dtype) -> None:
    from sanarestore.kernels.on_cuda.feed_forward import depthwise_glu

    hidden = guarded(2 * some(1 + (height == 1), height, width, 2 * channels, seed=0), dtype)
    weight, bias = guarded(some(2 * channels, 1, 3, 3, seed=1), dtype), guarded(some(2 * channels, seed=2), dtype)
    found = depthwise_glu(hidden, weight, bias)
    assert found.dtype == dtype
    assert_close(found, exact(hidden, weight, bias), dtype)
    guarded.check()


def test_a_view_into_a_wider_map_ignores_its_surroundings(guarded: Guarded) -> None:
    """The convolution pads at the edges of the view instead of reading the memory beyond them."""
    from sanarestore.kernels.on_cuda.feed_forward import depthwise_glu

    wide = guarded(torch.full((1, 12, 30, 16), float("nan")))
    hidden = wide[:, 2:9, 3:23, :12].copy_(some(1, 7, 20, 12, seed=0))
    weight, bias = guarded(some(12, 1, 3, 3, seed=1)), guarded(some(12, seed=2))
    assert_close(depthwise_glu(hidden, weight, bias), exact(hidden, weight, bias), torch.float32)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")
def test_large_values_do_not_overflow(guarded: Guarded) -> None:
    from sanarestore.kernels.on_cuda.feed_forward import depthwise_glu

    hidden = guarded(some(1, 4, 4, 8, seed=0, scale=300.0))
    weight, bias = guarded(some(8, 1, 3, 3, seed=1)), guarded(torch.zeros(8))
    assert_close(depthwise_glu(hidden, weight, bias), exact(hidden, weight, bias), torch.float32)
