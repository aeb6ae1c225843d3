"""Motion between two frames is found to a fraction of a pixel."""

import numpy as np
import pytest
import torch

from sanarestore.engine.motion import global_motion, inside, local_motion, shifted, warped
from tests.engine.clips_made import moved, panned, sky_over_texture, texture, with_noise


@pytest.mark.parametrize("step", [(0.0, 0.0), (1.37, 0.61), (-0.43, 2.25), (7.5, -3.25)])
def test_a_pan_is_found_to_a_fraction_of_a_pixel(step: tuple[float, float]) -> None:
    before, now = with_noise(panned(2, step)).restored.mean(axis=3)
    found = global_motion(torch.from_numpy(now), torch.from_numpy(before))
    assert found.tolist() == pytest.approx(step, abs=0.15)


def test_a_pan_is_found_from_the_edges_under_a_smooth_sky() -> None:
    clean = moved(sky_over_texture(160, 92), 2, (0.8, 0.3))
    before, now = with_noise(clean, left=2 / 255).restored.mean(axis=3)
    found = global_motion(torch.from_numpy(now), torch.from_numpy(before))
    assert found.tolist() == pytest.approx((0.8, 0.3), abs=0.05)


def test_a_textured_object_is_not_taken_for_the_frame() -> None:
    frames = np.repeat(sky_over_texture(96, 64)[None], 2, axis=0)
    frames[0, 20:60, 20:60] = frames[1, 20:60, 30:70] = texture(40, seed=3)
    before, now = with_noise(frames, left=2 / 255).restored.mean(axis=3)
    found = global_motion(torch.from_numpy(now), torch.from_numpy(before))
    assert found.tolist() == pytest.approx((0, 0), abs=0.5)


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


def test_shifting_by_a_fraction_keeps_more_detail_than_cubic_warping() -> None:
    image_CHW = torch.from_numpy(texture(64)).permute(2, 0, 1)
    shift_2 = torch.tensor([0.4, -1.3])
    there = image_CHW
    for _ in range(4):
        there = shifted(shifted(there, shift_2), -shift_2)
    cubic = image_CHW
    for _ in range(4):
        for each_2 in (shift_2, -shift_2):
            cubic = warped(cubic, each_2[:, None, None].expand(2, 64, 64))
    inner = np.s_[:, 16:-16, 16:-16]
    error, cubic_error = ((each - image_CHW)[inner].square().mean().sqrt() for each in (there, cubic))
    assert error < 0.7 * cubic_error
    whole_2 = torch.tensor([2.0, -1.0])
    flow_2HW = whole_2[:, None, None].expand(2, 64, 64)
    torch.testing.assert_close(shifted(image_CHW, whole_2), warped(image_CHW, flow_2HW), atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (17, 33)])
def test_small_and_odd_sizes_are_taken(size: tuple[int, int]) -> None:
    one_HW, other_HW = torch.rand(2, *size, generator=torch.Generator().manual_seed(0))
    shift_2 = global_motion(one_HW, other_HW)
    assert torch.isfinite(local_motion(one_HW, other_HW, shift_2)).all()
    assert torch.isfinite(shifted(one_HW[None], shift_2)).all()
