"""The blending kernel: sums of overlapping windows, against float64."""

import pytest
import torch

from sanarestore.kernels import reference
from sanarestore.tiling import overlapping
from tests.kernels.guards import Guarded, assert_close, some


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("height", "width", "tile"), [(1, 1, 4), (63, 5, 9), (21, 23, 10)])
def test_overlapping_windows_are_all_added(
    guarded: Guarded, height: int, width: int, tile: int, dtype: torch.dtype
) -> None:
    from sanarestore.kernels.on_cuda.blend import add_windows

    windows = overlapping(height, width, tile=tile, overlap=4 if tile > 4 else 0)
    weight = guarded(torch.stack([window.weight_hw for window in windows]), dtype)
    given = guarded(some(len(windows), 3, *weight.shape[1:], seed=0), dtype)
    before = guarded(some(3, height, width, seed=1), dtype)
    corners = [(window.box[0], window.box[2]) for window in windows]
    found = guarded(before, dtype)
    add_windows(found, given, weight, corners)
    expected = before.double().cpu()
    reference.add_windows(expected, given.double().cpu(), weight.double().cpu(), corners)
    assert_close(found, expected, dtype)
    repeated = guarded(before, dtype)
    add_windows(repeated, given, weight, corners)
    assert torch.equal(found, repeated), "results are deterministic"
    guarded.check()


def test_places_outside_all_windows_stay_unchanged(guarded: Guarded) -> None:
    from sanarestore.kernels.on_cuda.blend import add_windows

    map_CHW = guarded(some(2, 9, 11, seed=0))
    before = map_CHW.clone()
    add_windows(map_CHW, guarded(torch.ones(1, 2, 3, 4)), guarded(torch.ones(1, 3, 4)), [(5, 6)])
    changed = torch.zeros(2, 9, 11, dtype=torch.bool, device=map_CHW.device)
    changed[:, 5:8, 6:10] = True
    assert torch.equal(map_CHW != before, changed)
    assert torch.equal(map_CHW[changed], before[changed] + 1)
    guarded.check()
