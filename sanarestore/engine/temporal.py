"""A temporal filter for restored clips: each frame is blended with the frames before it, where motion explains them.

Shape suffixes: C channels (1 or 3), H W pixels, h w positions of a smaller map; 2 in front is a displacement (x, y).

Frames that are restored one by one flicker, because each keeps other traces of its own noise. The filter keeps the last
result and warps it along the motion (`engine.motion`). A pixel that agrees with it is averaged with it, as a Kalman
filter of a constant would: the n-th agreeing frame counts 1 / n, down to a limit. A pixel agrees if its difference is
usual for its texture. One that does not agree stays as it was restored, so nothing that moves leaves a trail. The state
is one frame, whatever the clip's length.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sanarestore.engine import motion
from sanarestore.images import Pixels

MOST_FRAMES = 12.0
"""Largest number of frames that the last result counts for, at strength 1."""

CUT = 0.3
"""Difference of structure (`difference`) above which a frame belongs to another scene. Forty photographs panned by up
to 28 pixels, with noise, reached 0.05; pairs of different ones began at 0.43."""

_BOX, _WIDE_BOX = 5, 7
"""Sides of the windows over which squared differences and mean differences are averaged."""

_LOW, _HIGH = 1.5, 4.0
"""Mean squared differences, as multiples of the usual one, below which a pixel agrees fully and above which it does
not."""

_OFFSET_LOW, _OFFSET_HIGH = 4.0, 12.0
"""The same for the square of the mean difference, which detects faint shapes that noise would hide."""

_LEVELS = 8
"""Number of levels of texture, each with a usual difference of its own: texture keeps more noise than smooth areas."""

_SHARE, _OFFSET_SHARE = 0.45, 0.15
"""Largest usual difference and mean difference, as fractions of the noise that was removed. Without them, an object
that is most of a level's texture would decide what is usual."""

_ROUND_TRIP = 0.5
"""Distance in pixels from where a pixel began, after its motion back and forth, above which the motion is wrong."""

_FLOOR = 0.25 / 255
"""Smallest usual difference, since even clean frames differ by rounding."""

_REDUCTION = 8
"""Downsampling factor of the maps on which scenes are compared."""


@dataclass(frozen=True, slots=True)
class State:
    """The filter's state after a frame."""

    result_CHW: Tensor
    """The last result."""
    frames_HW: Tensor
    """Number of frames that each of its pixels averages."""


class TemporalFilter:
    """The filter of one clip; frames are given in order."""

    def __init__(self, strength: float = 1.0) -> None:
        """`strength` is in [0,1]: 0 leaves frames unchanged, 1 averages up to the largest number of frames."""
        self._most = 1 + strength * (MOST_FRAMES - 1)
        self.state: State | None = None
        """None before the first frame; set it to continue a clip."""
        self.is_cut = False
        """Whether the last frame begins another scene."""

    @torch.inference_mode()
    def __call__(self, degraded_HWC: Pixels, restored_HWC: Pixels) -> Pixels:
        """Return the filtered frame, of the restored one's shape; `degraded_HWC` is the frame before restoration."""
        restored_CHW = torch.from_numpy(np.ascontiguousarray(restored_HWC)).permute(2, 0, 1)
        known = self.state if self.state is not None and self.state.result_CHW.shape == restored_CHW.shape else None
        self.is_cut = False
        if known is not None:
            now_HW, before_HW = _luma(restored_CHW), _luma(known.result_CHW)
            shift_2 = motion.global_motion(now_HW, before_HW)
            self.is_cut = difference(now_HW, before_HW, shift_2) > CUT
        if known is None or self.is_cut:
            self.state = State(restored_CHW.clone(), torch.ones(restored_CHW.shape[1:]))
            return restored_HWC
        removed_CHW = torch.from_numpy(np.ascontiguousarray(degraded_HWC)).permute(2, 0, 1) - restored_CHW
        moved_CHW, frames_HW, agreement_HW = _explained(restored_CHW, known, shift_2, _noise(removed_CHW))
        frames_HW = 1 + frames_HW.clamp(max=self._most - 1)
        weight_HW = agreement_HW * (1 - 1 / frames_HW)
        result_CHW = restored_CHW + weight_HW * (moved_CHW - restored_CHW)
        # A frame without any explained pixel counts as the first one.
        frames_HW = 1 / (1 - weight_HW)
        self.state = State(result_CHW, frames_HW)
        return result_CHW.permute(1, 2, 0).contiguous().numpy()


def difference(now_HW: Tensor, before_HW: Tensor, shift_2: Tensor) -> float:
    """Measure how much the structure of two frames differs after their common motion [2]: 0 for equal, about 1 for
    unrelated ones.

    The mean squared difference of coarse maps, each around its mean, over the sum of their variances. A uniform change
    of light does not count.
    """
    moved_HW = motion.warped(before_HW[None], shift_2[:, None, None].expand(2, *now_HW.shape), mode="bilinear")[0]
    side = max(min(min(now_HW.shape) // _REDUCTION, _REDUCTION), 1)
    maps = [F.avg_pool2d(each_HW[None], side)[0] for each_HW in (now_HW, moved_HW)]
    now_hw, before_hw = (each_hw - each_hw.mean() for each_hw in maps)
    spread = now_hw.square().mean() + before_hw.square().mean() + (2 / 255) ** 2
    return float((now_hw - before_hw).square().mean() / spread)


def _explained(restored_CHW: Tensor, known: State, shift_2: Tensor, noise: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the last result and its numbers of frames, warped to this frame, and the agreement of each pixel,
    [0,1]; `shift_2` is the motion of the whole frame."""
    moved_CHW = motion.shifted(known.result_CHW, shift_2)
    flow_2HW, is_sure_HW = _local_flow(_luma(restored_CHW), _luma(known.result_CHW), shift_2)
    local_CHW = motion.warped(known.result_CHW, flow_2HW)
    error_HW, local_HW = (_error(restored_CHW, each_CHW) for each_CHW in (moved_CHW, local_CHW))
    by_texture_N = _texture(restored_CHW).flatten().argsort()
    usual_HW = _usual(torch.minimum(error_HW, local_HW), by_texture_N, (_SHARE * noise) ** 2)
    # Local motion follows noise too, so it must explain clearly more than the motion of the whole frame.
    is_local_HW = is_sure_HW & (local_HW + usual_HW < error_HW)
    flow_2HW = torch.where(is_local_HW, flow_2HW, shift_2[:, None, None])
    error_HW = torch.where(is_local_HW, local_HW, error_HW)
    moved_CHW = torch.where(is_local_HW, local_CHW, moved_CHW)
    offset_HW = _box(restored_CHW - moved_CHW, _WIDE_BOX).square().mean(dim=0)
    usual_offset_HW = _usual(offset_HW, by_texture_N, (_OFFSET_SHARE * noise) ** 2)
    agreement_HW = torch.minimum(
        _agreement(error_HW / usual_HW, _LOW, _HIGH),
        _agreement(offset_HW / usual_offset_HW, _OFFSET_LOW, _OFFSET_HIGH),
    )
    agreement_HW = agreement_HW * motion.inside(flow_2HW)
    frames_HW = motion.warped(known.frames_HW[None], flow_2HW, mode="bilinear")[0]
    return moved_CHW, frames_HW, agreement_HW


def _local_flow(now_HW: Tensor, before_HW: Tensor, shift_2: Tensor) -> tuple[Tensor, Tensor]:
    """Return the displacement of each pixel, [2,H,W], and whether the motion in the other direction confirms it.

    What an object uncovers was not in the previous frame. Some block there may match it by chance, but that block's own
    best match is elsewhere.
    """
    flow_2HW = motion.local_motion(now_HW, before_HW, shift_2)
    back_2HW = motion.local_motion(before_HW, now_HW, -shift_2)
    trip_2HW = flow_2HW + motion.warped(back_2HW, flow_2HW, mode="bilinear")
    return flow_2HW, trip_2HW.square().sum(dim=0) < _ROUND_TRIP**2


def _error(one_CHW: Tensor, other_CHW: Tensor) -> Tensor:
    """Mean squared difference in a window around each pixel, [H,W]."""
    return _box((one_CHW - other_CHW).square().mean(dim=0)[None], _BOX)[0]


def _texture(image_CHW: Tensor) -> Tensor:
    """Mean square of the finest detail around each pixel, [H,W]."""
    return _box((image_CHW - _box(image_CHW, 3)).square().mean(dim=0)[None], _WIDE_BOX)[0]


def _usual(error_HW: Tensor, by_texture_N: Tensor, most: float) -> Tensor:
    """The median error, up to `most`, among pixels of similar texture, [H,W]; `by_texture_N` sorts pixels by texture.

    One median for the whole frame would be that of its smooth areas, so that texture would never agree, or that of
    its texture, which an object in front of smooth areas passes.
    """
    sorted_N = error_HW.flatten()[by_texture_N]
    levels = sorted_N.tensor_split(min(_LEVELS, len(sorted_N)))
    medians = torch.stack([each.median() for each in levels]).clamp(max=most) + _FLOOR**2
    usual_N = torch.empty_like(sorted_N)
    usual_N[by_texture_N] = F.interpolate(medians[None, None], size=len(sorted_N), mode="linear")[0, 0]
    return usual_N.view_as(error_HW)


def _agreement(multiple_HW: Tensor, low: float, high: float) -> Tensor:
    """Agreement of pixels, [0,1], by their difference as a multiple of the usual one."""
    return ((high - multiple_HW) / (high - low)).clamp(0, 1)


def _noise(removed_CHW: Tensor) -> float:
    """Root mean square of the fine part of the change by restoration; changes of light and colour are smooth."""
    fine_CHW = removed_CHW - _box(removed_CHW, _BOX)
    return float(fine_CHW.square().mean().sqrt())


def _luma(image_CHW: Tensor) -> Tensor:
    return image_CHW.mean(dim=0)


def _box(map_CHW: Tensor, side: int) -> Tensor:
    """Mean over a window, [C,H,W]; the edge is repeated."""
    padded = F.pad(map_CHW[None], (side // 2,) * 4, mode="replicate")
    return F.avg_pool2d(F.avg_pool2d(padded, (1, side), stride=1), (side, 1), stride=1)[0]
