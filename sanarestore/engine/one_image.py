"""`sanarestore.restore`: one image, of any kind that Python programs hold, in this process."""

from collections.abc import Callable
from os import PathLike
from typing import Any, Unpack, overload

from PIL import Image as Pillow
from torch import Tensor

from sanarestore import images
from sanarestore.engine.keywords import OF_ONE_IMAGE, CallKeywords, Keywords, WriteKeywords
from sanarestore.engine.python_words import keywords_named
from sanarestore.engine.restorer import Restorer
from sanarestore.images.arrays import Array
from sanarestore.options import RestoreOptions


class _All(CallKeywords, Keywords):
    """Keywords of `restore`."""


@overload
def restore(
    image: str | PathLike[str] | images.Image, prompt: str | None = ..., *, device: str = ..., **chosen: Unpack[_All]
) -> images.Image: ...
@overload
def restore(image: Array, prompt: str | None = ..., *, device: str = ..., **chosen: Unpack[_All]) -> Array: ...
@overload
def restore(
    image: Pillow.Image, prompt: str | None = ..., *, device: str = ..., **chosen: Unpack[_All]
) -> Pillow.Image: ...
@overload
def restore(image: Tensor, prompt: str | None = ..., *, device: str = ..., **chosen: Unpack[_All]) -> Tensor: ...
def restore(
    image: Any,
    prompt: str | None = None,
    *,
    output: str | PathLike[str] | None = None,
    overwrite: bool = False,
    accept_damaged: bool = False,
    progress: Callable[[float], object] | None = None,
    device: str = "auto",
    **options: Any,
) -> Any:
    """Restore one image in this process, and return the result as the same kind of object.

    `image` is one of these; it is not changed:

    - the path of a file; the result is an `images.Image`, which has pixels, depth, profile, metadata and notes
    - a NumPy array [H, W] or [H, W, C] of uint8, uint16, float16 or float32, floats in [0,1], alpha last
    - a Pillow image of mode L, LA, RGB, RGBA or I;16
    - a torch tensor [C, H, W] or [B, C, H, W] of uint8 or of floats in [0,1]; the result has no gradient
    - an `images.Image`

    Alpha passes unchanged, unless `scale` enlarges it. `output` is a file that the result is written to as well, in the
    format that its suffix names; a file that exists is replaced only with `overwrite`. `format`, `quality`,
    `bit_depth`, `strip`, `keep_dates` and `provenance` say how that file is written, as the command's options do; they
    do not change what is returned. `accept_damaged` restores what can be decoded of a damaged file. `progress` is
    called with the fraction that is done, from 0 to 1. The other `options` are the fields of `RestoreOptions`, such as
    `adapter` or `scale`. The model is loaded for each call: keep a `Restorer` for several images.

    Errors are those of `sanarestore.errors`, and name keywords: UsageError for options that are wrong
    and for other kinds of objects, UnreadableImage for images that are not restored, such as empty arrays, arrays of
    float64 and NaN, UnwritableImage, WeightsError, OutOfMemory. A note on an array, a Pillow image or a tensor is a
    warning.

    >>> noisy = np.random.default_rng(0).integers(100, 156, (32, 48), dtype=np.uint8)
    >>> smooth = restore(noisy, "remove noise")
    >>> smooth.shape, smooth.dtype.name, bool(smooth.std() < noisy.std() / 2)
    ((32, 48), 'uint8', True)
    """
    written: Any = {name: options.pop(name) for name in WriteKeywords.__annotations__ if name in options}
    with keywords_named(OF_ONE_IMAGE):
        restorer = Restorer(RestoreOptions(prompt=prompt, **options), device=device)
    return restorer(
        image, output=output, overwrite=overwrite, accept_damaged=accept_damaged, progress=progress, **written
    )
