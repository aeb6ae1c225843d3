"""The temporal filter: less flicker, no trails, a new start at a cut, and a state of one frame."""

import numpy as np
import pytest
import torch

from sanarestore.engine.motion import global_motion
from sanarestore.engine.temporal import CUT, TemporalFilter, difference
from sanarestore.images import Pixels
from tests.engine.clips_made import Made, moved, panned, psnr, sky_over_texture, texture, with_noise


def filtered(clip: Made, strength: float = 1.0) -> Pixels:
    temporal = TemporalFilter(strength)
    return np.stack([temporal(*frames) for frames in zip(clip.degraded, clip.restored, strict=True)])


def flicker(result: Pixels, clean: Pixels) -> float:
    """Temporal standard deviation of the error, without the first frames and the edges."""
    return float((result - clean)[4:, 16:-16, 16:-16].std(axis=0).mean())


def apart(now_HW: torch.Tensor, before_HW: torch.Tensor) -> float:
    return difference(now_HW, before_HW, global_motion(now_HW, before_HW))


@pytest.mark.parametrize("step", [(0.0, 0.0), (1.37, 0.61)])
def test_flicker_is_halved_and_frames_come_closer_to_the_truth(step: tuple[float, float]) -> None:
    clip = with_noise(panned(12, step))
    result = filtered(clip)
    assert flicker(result, clip.clean) < 0.5 * flicker(clip.restored, clip.clean)
    assert psnr(result, clip.clean) > psnr(clip.restored, clip.clean) + 2


def test_a_moving_thing_leaves_no_trail() -> None:
    clean = np.repeat(panned(1, (0, 0)), 10, axis=0)
    thing = 1 - clean[0, :24, :24]
    where = np.zeros(clean.shape[:3], bool)
    for number in range(len(clean)):
        clean[number, 30:54, 6 * number : 6 * number + 24] = thing
        where[number, 30:54, 6 * number : 6 * number + 24] = True
    clip = with_noise(clean)
    result = filtered(clip)
    left = np.roll(where, 1, axis=0) & ~where  # where the object was one frame ago
    left[0] = False
    for region in (where, left):
        assert psnr(result[region], clean[region]) > psnr(clip.restored[region], clean[region]) - 0.05


def test_texture_under_a_smooth_sky_no_longer_flickers() -> None:
    clean = moved(sky_over_texture(160, 70), 12, (0.6, 0))
    left = np.full((96, 96, 1), 7 / 255, np.float32)
    left[:62] = 1 / 255  # a restoration leaves more noise in texture than in a sky
    clip = with_noise(clean, left=left)
    result = filtered(clip)
    ground = np.s_[:, 50:]  # `flicker` leaves out 16 rows more
    assert flicker(result[ground], clean[ground]) < 0.5 * flicker(clip.restored[ground], clean[ground])
    assert psnr(result[:, 66:], clean[:, 66:]) > psnr(clip.restored[:, 66:], clean[:, 66:]) + 2


def test_a_smooth_object_in_front_of_texture_is_not_averaged_with_what_it_covered() -> None:
    clean = np.repeat(texture(96)[None], 10, axis=0)
    left = np.full((10, 96, 96, 1), 7 / 255, np.float32)
    shade = 0.5 + 0.04 * np.sin(np.arange(32) / 3)[:, None]
    where = np.zeros(clean.shape[:3], bool)
    for number in range(10):
        where[number, 32:64, 6 * number : 6 * number + 32] = True
        clean[number, 32:64, 6 * number : 6 * number + 32] = shade[:, None]
        left[number, 32:64, 6 * number : 6 * number + 32] = 1.5 / 255
    clip = with_noise(clean, left=left)
    result = filtered(clip)
    uncovered = np.roll(where, 1, axis=0) & ~where
    uncovered[0] = False
    for region in (where, uncovered):
        assert psnr(result[region], clean[region]) > psnr(clip.restored[region], clean[region]) - 0.1
    for number in range(10):
        assert psnr(result[number], clean[number]) > psnr(clip.restored[number], clean[number]) - 0.01


def test_a_textured_object_that_moves_irregularly_harms_no_frame() -> None:
    clean = np.repeat(texture(96)[None], 10, axis=0)
    thing = texture(40, seed=5)
    places = [(4, 10), (11, 40), (30, 20), (44, 46), (20, 52), (50, 8), (8, 30), (36, 36), (52, 54), (16, 6)]
    where = np.zeros(clean.shape[:3], bool)
    for number, (y, x) in enumerate(places):
        where[number, y : y + 40, x : x + 40] = True
        clean[number, y : y + 40, x : x + 40] = 0.5 + 0.4 * (thing - 0.5)
    clip = with_noise(clean, left=9 / 255)
    result = filtered(clip)
    uncovered = np.roll(where, 1, axis=0) & ~where
    for region in (where[1:], uncovered[1:]):
        assert psnr(result[1:][region], clean[1:][region]) > psnr(clip.restored[1:][region], clean[1:][region]) - 0.1


def test_a_cut_begins_anew_and_nothing_else_is_one() -> None:
    clip = with_noise(np.concatenate([panned(5, (1.5, 0.5)), panned(5, (-1.0, 0.5), seed=9)]))
    temporal = TemporalFilter()
    cuts = []
    for number, frames in enumerate(zip(clip.degraded, clip.restored, strict=True)):
        result = temporal(*frames)
        cuts += [number] * temporal.is_cut
        if temporal.is_cut:
            assert np.array_equal(result, clip.restored[number])
    assert cuts == [5]


def test_light_that_changes_everywhere_is_no_cut_and_leaves_no_trace() -> None:
    clip = with_noise(panned(2, (0, 0)))
    temporal = TemporalFilter()
    temporal(clip.degraded[0], clip.restored[0])
    brighter = clip.restored[1] + np.float32(0.3)
    result = temporal(clip.degraded[1] + np.float32(0.3), brighter)
    assert not temporal.is_cut
    assert np.array_equal(result, brighter)


def test_the_threshold_of_a_cut_lies_between_scenes_and_pans() -> None:
    scenes = [torch.from_numpy(panned(2, (3.0, 1.0), seed=seed).mean(axis=3)) for seed in range(6)]
    same = [apart(scene[1], scene[0]) for scene in scenes]
    other = [apart(scenes[seed][0], scenes[seed - 1][0]) for seed in range(6)]
    assert max(same) < CUT / 2
    assert min(other) > CUT


def test_strength_0_leaves_frames_as_they_are_and_state_does_not_grow() -> None:
    clip = with_noise(panned(4, (0.5, 0)))
    assert np.array_equal(filtered(clip, 0.0), clip.restored)
    temporal = TemporalFilter()
    for frames in zip(clip.degraded, clip.restored, strict=True):
        temporal(*frames)
        assert temporal.state is not None
        assert temporal.state.result_CHW.shape == (3, 96, 96)
        assert temporal.state.frames_HW.shape == (96, 96)


def test_a_clean_still_clip_is_not_changed() -> None:
    clean = np.repeat(panned(1, (0, 0)), 3, axis=0)
    assert np.abs(filtered(Made(clean, clean, clean)) - clean).max() < 1e-6


def test_gray_frames_and_a_change_of_size_are_taken() -> None:
    temporal = TemporalFilter()
    gray = with_noise(panned(2, (0, 0))).restored[..., :1]
    temporal(gray[0], gray[0])
    assert temporal(gray[1], gray[1]).shape == (96, 96, 1)
    small = gray[1, :40, :50]
    assert np.array_equal(temporal(small, small), small)
