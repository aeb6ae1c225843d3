"""Run the transformer on overlapping windows of a latent: the common part of all blended schemes.

Shape suffixes: C latent channels, H W latent positions, h w those of a window, T windows, N tokens of a window,
D features, h heads, d features of a head, e = d + 1.

Windows overlap, in raster order. Each token counts once, in the first window that covers it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sanarestore.kernels.blend import add_windows
from sanarestore.model.runners.apart import BlockPass, Shared, velocity
from sanarestore.model.transformer import ConditionedTransformer
from sanarestore.tiling import Window, overlapping

Carried = dict[int, Tensor]
"""Layer -> attention sums [1,h,e,d] of all windows so far, in float32; empty before the first window."""


def windows_of(model: ConditionedTransformer, rows: int, columns: int, *, tile: int, overlap: int) -> list[Window]:
    """Windows of a latent of this size, in tokens; all arguments are in latent positions."""
    patch = int(model.config.patch_size)
    tile = max(tile // patch, 1)
    overlap = min(-(-overlap // patch), tile - 1)
    return overlapping(rows // patch, columns // patch, tile=tile, overlap=overlap)


def velocities(
    model: ConditionedTransformer, hidden_THWD: Tensor, windows: Sequence[Window], context: Shared,
    carried: Carried | None = None,
) -> Tensor:  # fmt: skip
    """Velocities [T,C,h,w] of windows of one size.

    With `carried`, each window attends to itself, to the windows summed in `carried` and to those before it in
    `windows`; the sums of `windows` are then added to `carried`. Without it, each attends only to itself.
    """
    shape = hidden_THWD.shape[:3]
    counted_TN1 = torch.stack([_owned(window) for window in windows]).flatten(1)[..., None].to(hidden_THWD)
    hidden_TND = hidden_THWD.flatten(1, 2)
    for layer, parts in enumerate(model.blocks):
        block = BlockPass(parts, context)
        sums_Thed = block.key_sums(hidden_TND, None if carried is None else counted_TN1)
        if carried is not None:
            sums_Thed = sums_Thed.cumsum(dim=0)
            sums_Thed = sums_Thed + carried[layer] if layer in carried else sums_Thed
            carried[layer] = sums_Thed[-1:]
        hidden_TND = block.attend(hidden_TND, sums_Thed)
        hidden_TND = hidden_TND + block.feed(hidden_TND.view(*shape, -1)).flatten(1, 2)
    return velocity(model, hidden_TND, context, columns=shape[2])


def place_of(window: Window, patch: int) -> tuple[slice, slice]:
    """Rows and columns of a window in the latent."""
    top, bottom, left, right = (patch * side for side in window.box)
    return slice(top, bottom), slice(left, right)


def add(blended_1CHW: Tensor, part_TChw: Tensor, windows: Sequence[Window], patch: int) -> None:
    """Add windows of one size, times their blending weights, to the latent, in place."""
    weight_Thw = torch.stack([window.weight_hw for window in windows]).to(part_TChw)
    weight_Thw = weight_Thw.repeat_interleave(patch, 1).repeat_interleave(patch, 2)
    corners = [(patch * window.box[0], patch * window.box[2]) for window in windows]
    add_windows(blended_1CHW[0], part_TChw, weight_Thw, corners)


def _owned(window: Window) -> Tensor:
    """Mask [h,w]: 1 where the window is the first to cover a token."""
    top, bottom, left, right = window.box
    first, last, begin, end = window.owned
    mask_hw = torch.zeros(bottom - top, right - left)
    mask_hw[first - top : last - top, begin - left : end - left] = 1
    return mask_hw
