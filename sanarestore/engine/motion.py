"""Motion between two frames of a clip: where each pixel of a frame was in the frame before.

Shape suffixes: H W pixels, h w positions of a smaller map, C channels; 2 in front is a displacement (x, y) in pixels.

The motion is one translation of the whole frame, found by phase correlation (Kuglin & Hines 1975), and a dense flow
that starts from it: blocks are matched in quarter resolution. Lucas & Kanade (1981) refine both.
"""

import math
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

_REDUCTION = 2
"""Downsampling factor of the finest map on which motion is estimated: a frame's finest detail is mostly noise."""

_SEARCH = 6
"""Positions searched on each side in quarter resolution: 24 pixels, added to the motion of the whole frame."""

_BLOCK = 7
"""Side of the blocks that are compared in quarter resolution."""

_MARGIN = 0.25
"""Fraction by which a block must match better elsewhere before it counts as moved, so that noise moves nothing."""

_WINDOW = 11
"""Side of the window in which motion counts as one translation; larger windows blur edges of moving things."""

_ITERATIONS = 3
"""Number of rounds of warping and correcting."""

_FULL_ITERATIONS = 2
"""The same for the motion of the whole frame in full resolution, after the rounds in half of it."""

_TEXTURED = 0.75
"""Quantile of squared gradients above which a pixel is textured."""

_PRIOR = 2e-3
"""Weight, in squared gradients, of the block's motion: windows without texture follow their block."""

_TINY = 1e-9
"""Added to a divisor, which is zero for a frame without texture."""


def global_motion(now_HW: Tensor, before_HW: Tensor) -> Tensor:
    """The translation [2] of most of the frame: what lies at p now was at p + translation before."""
    now_hw, before_hw = _halved(now_HW), _halved(before_HW)
    # A textured object in front of a smooth background can have the highest peak, so no motion is a candidate too.
    peak_2 = _phase_shift(now_hw, before_hw)
    starts = [peak_2, torch.zeros_like(peak_2)] if peak_2.any() else [peak_2]
    found = [_refined(now_hw, before_hw, start_2, 2 * _ITERATIONS) for start_2 in starts]
    shift_2 = min(found, key=lambda each_2: _misfit(now_hw, before_hw, each_2))
    return _refined(now_HW, before_HW, shift_2 * _REDUCTION, _FULL_ITERATIONS)


def local_motion(now_HW: Tensor, before_HW: Tensor, start_2: Tensor) -> Tensor:
    """The displacement of each pixel, [2,H,W], in a search around one translation [2]."""
    now_hw, before_hw = _halved(now_HW), _halved(before_HW)
    start_2 = start_2 / _REDUCTION
    coarse_2hw = _matched(_halved(now_hw), _halved(before_hw), start_2 / 2)
    start_2hw = 2 * _resized(coarse_2hw, now_hw.shape)
    flow_2hw = start_2hw
    for _ in range(_ITERATIONS):
        flow_2hw = _smooth(flow_2hw + _local_step(now_hw, before_hw, flow_2hw, start_2hw), 3)
    return _REDUCTION * _resized(flow_2hw, now_HW.shape)


def _matched(now_hw: Tensor, before_hw: Tensor, start_2: Tensor) -> Tensor:
    """The displacement by which the window around each position differs least, [2,h,w]; `start_2` unless clearly
    worse."""
    height, width = now_hw.shape
    moved_hw = warped(before_hw[None], start_2[:, None, None].expand(2, height, width), mode="bilinear")[0]
    around = F.pad(moved_hw[None], (_SEARCH,) * 4, mode="replicate")[0]
    least_hw = _smooth((now_hw - moved_hw).abs()[None], _BLOCK)[0]
    least_hw = least_hw - torch.maximum(_MARGIN * least_hw, least_hw.median())
    found_2hw = torch.zeros(2, height, width, dtype=now_hw.dtype, device=now_hw.device)
    for y, x in product(range(-_SEARCH, _SEARCH + 1), repeat=2):
        other_hw = around[_SEARCH + y : _SEARCH + y + height, _SEARCH + x : _SEARCH + x + width]
        cost_hw = _smooth((now_hw - other_hw).abs()[None], _BLOCK)[0]
        is_less_hw = cost_hw < least_hw
        least_hw = torch.where(is_less_hw, cost_hw, least_hw)
        found_2hw = torch.where(is_less_hw, now_hw.new_tensor([x, y])[:, None, None], found_2hw)
    return start_2[:, None, None] + found_2hw


def warped(image_CHW: Tensor, flow_2HW: Tensor, *, mode: str = "bicubic") -> Tensor:
    """Move the previous frame, [C,H,W], to where its pixels are now; pixels from outside repeat the edge."""
    grid_HW2 = _grid(flow_2HW)
    moved_1CHW = F.grid_sample(image_CHW[None], grid_HW2[None], mode=mode, padding_mode="border", align_corners=False)
    return moved_1CHW[0]


def shifted(image_CHW: Tensor, shift_2: Tensor) -> Tensor:
    """Move the previous frame, [C,H,W], by one translation [2], as `warped` does, with Lanczos' kernel of three lobes.

    It keeps more of the finest detail than a cubic kernel, which matters where a result is moved again and again.
    """
    whole_2 = shift_2.round()
    x_taps, y_taps = (_lanczos(fraction) for fraction in shift_2 - whole_2)
    (x, y), side = whole_2.long().tolist(), len(x_taps) // 2
    height, width = image_CHW.shape[1:]
    columns = (torch.arange(-side, width + side, device=image_CHW.device) + x).clamp(0, width - 1)
    rows = (torch.arange(-side, height + side, device=image_CHW.device) + y).clamp(0, height - 1)
    padded_C1yx = image_CHW[:, rows][:, :, columns][:, None]
    return F.conv2d(F.conv2d(padded_C1yx, x_taps.view(1, 1, 1, -1)), y_taps.view(1, 1, -1, 1))[:, 0]


def _lanczos(fraction: Tensor) -> Tensor:
    """Weights [7] of the pixels around a position between two of them; `fraction` is in [-0.5, 0.5]."""
    away = torch.arange(-3, 4, dtype=fraction.dtype, device=fraction.device) - fraction
    weights = torch.sinc(away) * torch.sinc(away / 3) * (away.abs() < 3)
    return weights / weights.sum()


def inside(flow_2HW: Tensor) -> Tensor:
    """Return whether each pixel was inside the previous frame, [H,W] of bool."""
    return (_grid(flow_2HW).abs() <= 1).all(dim=2)


def _grid(flow_2HW: Tensor) -> Tensor:
    """Positions for `grid_sample`, [H,W,2] in [-1, 1]."""
    _, height, width = flow_2HW.shape
    column_W = torch.arange(width, dtype=flow_2HW.dtype, device=flow_2HW.device) + 0.5
    row_H = torch.arange(height, dtype=flow_2HW.dtype, device=flow_2HW.device) + 0.5
    x_HW = (column_W + flow_2HW[0]) * (2 / width) - 1
    y_HW = (row_H[:, None] + flow_2HW[1]) * (2 / height) - 1
    return torch.stack([x_HW, y_HW], dim=2)


def _phase_shift(now_hw: Tensor, before_hw: Tensor) -> Tensor:
    """The translation in whole positions at which the phases of both spectra agree best, [2]."""
    height, width = now_hw.shape
    window_hw = torch.outer(torch.hann_window(height), torch.hann_window(width)).to(now_hw)
    spectra = [torch.fft.rfft2((map_hw - map_hw.mean()) * window_hw) for map_hw in (before_hw, now_hw)]
    cross = spectra[0] * spectra[1].conj()
    # The square root keeps weak frequencies, which are noise, from counting as much as strong ones.
    matched_hw = torch.fft.irfft2(cross / cross.abs().sqrt().clamp(min=1e-9), s=(height, width))
    peak = int(matched_hw.argmax())
    y, x = peak // width, peak % width
    signed = (x - width if x > width // 2 else x, y - height if y > height // 2 else y)
    return now_hw.new_tensor(signed)


def _refined(now_hw: Tensor, before_hw: Tensor, shift_2: Tensor, rounds: int) -> Tensor:
    """Correct a translation [2] from the pixels that agree with it, several times."""
    for _ in range(rounds):
        flow_2hw = shift_2[:, None, None].expand(2, *now_hw.shape)
        moved_hw = warped(before_hw[None], flow_2hw)[0]
        error_hw = now_hw - moved_hw
        xx, xy, yy, xe, ye = _products(moved_hw, now_hw, error_hw, inside(flow_2hw).to(now_hw.dtype))
        # Errors of smooth areas are small and say nothing about motion; edges decide what an error usually is.
        textured = (xx + yy).flatten() >= _quantile(xx + yy, _TEXTURED)
        scale = error_hw.abs().flatten()[textured].median().clamp(min=1e-4)
        weight_hw = 1 / (1 + (error_hw / (3 * scale)) ** 2)
        products = ((weight_hw * each).mean() for each in (xx, xy, yy, xe, ye))
        shift_2 = shift_2 + _solved(*products, prior=_TINY).clamp(-1, 1)
    return shift_2


def _misfit(now_hw: Tensor, before_hw: Tensor, shift_2: Tensor) -> float:
    """Mean root of the differences that a translation leaves; roots keep large ones from deciding."""
    flow_2hw = shift_2[:, None, None].expand(2, *now_hw.shape)
    error_hw = (now_hw - warped(before_hw[None], flow_2hw)[0]).abs()
    is_inside_hw = inside(flow_2hw)
    return float(error_hw.sqrt()[is_inside_hw].mean()) if is_inside_hw.any() else math.inf


def _quantile(map_hw: Tensor, share: float) -> Tensor:
    """Return a quantile; unlike `torch.quantile`, maps may be of any size."""
    return map_hw.flatten().kthvalue(1 + int(share * (map_hw.numel() - 1))).values


def _local_step(now_hw: Tensor, before_hw: Tensor, flow_2hw: Tensor, start_2hw: Tensor) -> Tensor:
    """Correction [2,h,w] of a flow, from a window around each pixel and the motion of blocks."""
    moved_hw = warped(before_hw[None], flow_2hw, mode="bilinear")[0]
    products = _products(moved_hw, now_hw, now_hw - moved_hw, inside(flow_2hw).to(now_hw.dtype))
    xx, xy, yy, xe, ye = _smooth(torch.stack(products), _WINDOW)
    away_2hw = flow_2hw - start_2hw
    return _solved(xx, xy, yy, xe - _PRIOR * away_2hw[0], ye - _PRIOR * away_2hw[1], prior=_PRIOR).clamp(-1, 1)


def _products(moved_hw: Tensor, now_hw: Tensor, error_hw: Tensor, weight_hw: Tensor) -> tuple[Tensor, ...]:
    """Terms of the normal equations of Lucas and Kanade: xx, xy, yy, xe, ye, each [h,w]."""
    # Gradients of the mean of both maps: those of one alone are biased by its noise.
    mean_hw = F.pad((0.5 * (moved_hw + now_hw))[None], (1, 1, 1, 1), mode="replicate")[0]
    x_hw = 0.5 * (mean_hw[1:-1, 2:] - mean_hw[1:-1, :-2])
    y_hw = 0.5 * (mean_hw[2:, 1:-1] - mean_hw[:-2, 1:-1])
    return tuple(weight_hw * each for each in (x_hw * x_hw, x_hw * y_hw, y_hw * y_hw, x_hw * error_hw, y_hw * error_hw))


def _solved(xx: Tensor, xy: Tensor, yy: Tensor, xe: Tensor, ye: Tensor, *, prior: float) -> Tensor:
    """Solve the normal equations, [2,...]."""
    xx, yy = xx + prior, yy + prior
    determinant = xx * yy - xy * xy
    return torch.stack([(yy * xe - xy * ye) / determinant, (xx * ye - xy * xe) / determinant])


def _halved(map_hw: Tensor) -> Tensor:
    """Halve a map by averages; odd sizes are rounded up."""
    height, width = map_hw.shape
    even_hw = F.pad(map_hw[None], (0, width % 2, 0, height % 2), mode="replicate")
    return F.avg_pool2d(even_hw, 2)[0]


def _resized(flow_2hw: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(flow_2hw[None], size=tuple(size), mode="bilinear", align_corners=False)[0]


def _smooth(map_Chw: Tensor, side: int) -> Tensor:
    """Mean over a square window, [C,h,w]; the edge is repeated."""
    radius = side // 2
    padded = F.pad(map_Chw[None], (radius, radius, radius, radius), mode="replicate")
    across = F.avg_pool2d(padded, (1, side), stride=1)
    return F.avg_pool2d(across, (side, 1), stride=1)[0]
