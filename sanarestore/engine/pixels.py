"""An image's pixels prepared for the stages: resampled, separated from alpha, as a tensor, and checked to be finite.

A fully transparent pixel has an invisible colour, often black. Resampling and restoring must not let it bleed into
visible pixels, so networks get only visible colours (`visible`), and their result replaces only those
(`with_visible`).
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sanarestore import images
from sanarestore.engine.nearest import nearest
from sanarestore.errors import ImageError, UnreadableImage
from sanarestore.images import Pixels, resize

LEAST_COVER = 1 / 64
"""Alpha up to which a resampled colour comes from its visible neighbours: dividing by so little is inaccurate."""

_ROWS = 256
"""Rows checked at a time, so that temporaries do not grow with the image."""


def resized(image: images.Image, width: int, height: int) -> images.Image:
    """Resample pixels, alpha and extra channels bicubically to a size; returns the image itself if it has this size.

    Colours are resampled premultiplied by alpha (Porter and Duff 1984), extra channels each by itself. Metadata is
    fitted to the new size.
    """
    if (width, height) == (image.width, image.height):
        return image
    extra = image.extra if image.extra is None else _resized_extra(image.extra, width, height)
    result = replace(_resized(image, width, height), extra=extra)
    metadata, notes = images.fitted(image.metadata, (image.width, image.height), (width, height))
    return replace(result, metadata=metadata, notes=(*image.notes, *notes))


def _resized(image: images.Image, width: int, height: int) -> images.Image:
    """Resample pixels and alpha."""
    if image.alpha_HW is None:
        return replace(image, pixels_HWC=resize(image.pixels_HWC, width, height))
    cover_HW1 = resize(_alpha(image), width, height)
    alpha_HW = images.from_float(np.clip(cover_HW1[..., 0], 0, 1), _alpha_depth(image))
    if image.alpha_kind == "unspecified":
        return replace(image, pixels_HWC=resize(image.pixels_HWC, width, height), alpha_HW=alpha_HW)
    colours_HWC = visible(image)
    seen_HWC: Pixels = resize(colours_HWC * _alpha(image), width, height)
    other_HWC = resize(colours_HWC, width, height)
    np.divide(seen_HWC, cover_HW1, out=other_HWC, where=cover_HW1 > LEAST_COVER)
    result = replace(image, pixels_HWC=other_HWC, alpha_HW=alpha_HW)
    if image.alpha_kind == "associated":
        multiplied_HWC = other_HWC * _alpha(result)
        return replace(result, pixels_HWC=multiplied_HWC if _exceeds(image) else _limited(multiplied_HWC, result))
    # Fully transparent pixels take the colour of the pixel that they lie on.
    rows_H, columns_W = _places(image.height, height), _places(image.width, width)
    hidden_HWC = image.pixels_HWC[rows_H][:, columns_W]
    np.copyto(other_HWC, hidden_HWC, where=_alpha(result) == 0)
    return result


def _places(before: int, after: int) -> npt.NDArray[np.intp]:
    """Index of the row or column that each of `after` ones lies on, out of `before`."""
    return (2 * np.arange(after) + 1) * before // (2 * after)


def _resized_extra(extra: images.Extra, width: int, height: int) -> images.Extra:
    """Extra channels resampled to a size, one after the other; integer codes are clipped to their range."""
    depth: images.Depth = extra.codes_HWS.dtype.name  # type: ignore[assignment]
    other_HWS = np.empty((height, width, extra.count), extra.codes_HWS.dtype)
    for at in range(extra.count):
        other_HW1 = resize(images.to_float(extra.codes_HWS[..., at : at + 1], depth), width, height)
        other_HWS[..., at : at + 1] = images.from_float(other_HW1, depth)
    return replace(extra, codes_HWS=other_HWS)


def visible(image: images.Image) -> Pixels:
    """Colours of an image, not premultiplied, [H,W,C]; fully transparent pixels get the nearest visible colour.

    Returns the image's own array if its alpha is absent or unspecified, or unassociated and hides nothing.
    """
    if image.alpha_HW is None or image.alpha_kind == "unspecified":
        return image.pixels_HWC
    alpha_HW1 = _alpha(image)
    hidden_HW = alpha_HW1[..., 0] <= 0
    if image.alpha_kind == "associated":
        colours_HWC = np.zeros_like(image.pixels_HWC)
        np.divide(image.pixels_HWC, alpha_HW1, out=colours_HWC, where=alpha_HW1 > 0)
    elif hidden_HW.any():
        colours_HWC = image.pixels_HWC.copy()
    else:
        return image.pixels_HWC
    if hidden_HW.any() and not hidden_HW.all():
        row_HW, column_HW = nearest(~hidden_HW)
        colours_HWC[hidden_HW] = colours_HWC[row_HW[hidden_HW], column_HW[hidden_HW]]
    return colours_HWC


def with_visible(image: images.Image, before_HWC: Pixels, after_HWC: Pixels) -> Pixels:
    """Pixels of an image whose visible colours changed from `before_HWC`, the result of `visible`, to `after_HWC`.

    Fully transparent pixels stay as they were. Premultiplied colours stay in [0, alpha] if they were in it before.
    """
    if image.alpha_HW is None or image.alpha_kind == "unspecified":
        return after_HWC
    alpha_HW1 = _alpha(image)
    if image.alpha_kind == "associated":
        # Add the change, so that unchanged pixels stay exactly as they were.
        changed_HWC = image.pixels_HWC + alpha_HW1 * (after_HWC - before_HWC)
        return changed_HWC if _exceeds(image) else _limited(changed_HWC, image)
    return np.where(alpha_HW1 > 0, after_HWC, image.pixels_HWC)


def mixed(before_HWC: Pixels, after_HWC: Pixels, strength: float) -> Pixels:
    """Interpolate from `before_HWC` to `after_HWC`, in proportion to `strength`; exactly one of them at 0 and 1."""
    if strength in (0, 1):
        return after_HWC if strength else before_HWC
    return before_HWC + np.float32(strength) * (after_HWC - before_HWC)


def finished(before_HWC: Pixels, after_HWC: Pixels, *, is_gray: bool, strength: float) -> Pixels:
    """Finish restored pixels `after_HWC`, [H,W,3], which may be changed; ImageError if they are not finite.

    `is_gray` says that red, green and blue were equal everywhere in the photograph, before; they stay so.
    """
    if not is_finite(after_HWC):
        raise ImageError("the model's result has values that are not finite", next_step="Try --dtype float32.")
    if is_gray:
        # Average the changes, not the channels: the mean of three equal floats does not always equal them.
        after_HWC -= before_HWC
        after_HWC = before_HWC + after_HWC.mean(axis=2, keepdims=True)
    return mixed(before_HWC, after_HWC, strength)


def is_gray(pixels_HWC: images.Stored) -> bool:
    """Return whether there is one channel, or red, green and blue, as values or codes, are equal everywhere."""
    if pixels_HWC.shape[2] == 1:
        return True
    strips = (pixels_HWC[top : top + _ROWS] for top in range(0, len(pixels_HWC), _ROWS))
    return all(bool((strip[..., 1:] == strip[..., :1]).all()) for strip in strips)


def host_tensor(pixels_HWC: Pixels) -> Tensor:
    """The pixels as a [3,H,W] view, no copy; gray is repeated three times."""
    pixels_CHW = torch.from_numpy(pixels_HWC).permute(2, 0, 1)
    return pixels_CHW.expand(3, -1, -1)


def is_finite(pixels_HWC: npt.NDArray[np.float32]) -> bool:
    """Return whether no value is NaN or infinite, found from minimum and maximum alone, without a map of the image's
    size."""
    return bool(np.isfinite(pixels_HWC.min()) and np.isfinite(pixels_HWC.max()))


def check_finite(pixels_HWC: npt.NDArray[np.float32]) -> None:
    """Raise UnreadableImage for a photograph with values that are NaN or infinite."""
    if not is_finite(pixels_HWC):
        raise UnreadableImage("it holds values that are not finite numbers", next_step="Replace them by numbers first.")


def _alpha(image: images.Image) -> Pixels:
    """Alpha as float32, [H,W,1], in [0,1]."""
    assert image.alpha_HW is not None
    return images.to_float(image.alpha_HW[..., None], _alpha_depth(image))


def _alpha_depth(image: images.Image) -> images.Depth:
    assert image.alpha_HW is not None
    depth: images.Depth = image.alpha_HW.dtype.name  # type: ignore[assignment]
    return depth


def _exceeds(image: images.Image) -> bool:
    """Return whether some premultiplied colours are below 0 or above alpha, as may happen in float files."""
    return bool(((image.pixels_HWC < 0) | (image.pixels_HWC > _alpha(image))).any())


def _limited(premultiplied_HWC: Pixels, image: images.Image) -> Pixels:
    """Premultiplied colours clipped to [0, alpha]."""
    limited_HWC: Pixels = np.clip(premultiplied_HWC, 0, _alpha(image))
    return limited_HWC
