"""Motion between two frames is found to a fraction of a pixel."""

import pytest
import torch

from sanarestore.engine.motion import global_motion, inside, local_motion, warped
from tests.engine.clips_made import panned, with_noise


@pytest.mark.parametrize("step", [(0.0, 0.0), (1.37, 0.61), (-0.43, 2.25), (7.5, -3.25)])
def test_a_pan_is_found_to_a_fraction_of_a_pixel(step: tuple[float, float]) -> None:
    before, now = with_noise(panned(2, step)).restored.mean(axis=3)
    found = global_motion(torch.from_numpy(now), torch.from_numpy(before))
    assert found.tolist() == pytest.approx(step, abs=0.15)


def test_a_thing_that_moves_otherwise_than_the_frame_is_followed() -> None:
    before, now = torch.from_numpy(panned(2, (0, 0)).mean(axis=3))
    thing = torch.from_numpy(panned(1, (0, 0), seed=4, size=40)[0].mean(axis=2))
    before[20:60, 20:60], now[20:60, 28:68] = thing, thing
    flow_2HW = local_motion(now, before, torch.zeros(2))
    inner_2HW = flow_2HW[:, 28:52, 36:60]
    assert inner_2HW[0].median().item() == pytest.approx(-8, abs=0.5)
    assert inner_2HW[1].median().item() == pytest.approx(0, abs=0.5)
    assert flow_2HW[:, 72:, :].abs().median() < 0.1


def test_warping_by_whole_pixels_moves_them_exactly() -> None:
    image_CHW = torch.rand(3, 9, 11, generator=torch.Generator().manual_seed(0))
    flow_2HW = torch.tensor([2.0, -1.0])[:, None, None].expand(2, 9, 11)
    torch.testing.assert_close(warped(image_CHW, flow_2HW)[:, 1:, :-2], image_CHW[:, :-1, 2:])
    assert inside(flow_2HW).sum() == 8 * 9


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (17, 33)])
def test_small_and_odd_sizes_are_taken(size: tuple[int, int]) -> None:
    one_HW, other_HW = torch.rand(2, *size, generator=torch.Generator().manual_seed(0))
    shift_2 = global_motion(one_HW, other_HW)
    assert torch.isfinite(local_motion(one_HW, other_HW, shift_2)).all()
