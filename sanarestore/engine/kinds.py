"""Kinds of objects that hold an image in Python: opened as images, and results as the same kind again.

A path, an array, a Pillow image, a tensor or an `images.Image`. Shape suffixes: B batch, C channels, H rows, W columns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from sanarestore import images
from sanarestore.errors import UnreadableImage, UsageError
from sanarestore.images import arrays

TENSOR_DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32)
"""Types of tensors that are restored; float32 holds every value of the others exactly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """The images that an object holds."""

    held: tuple[images.Image, ...]
    """One, or those of a batch."""
    back: Callable[[Sequence[images.Image]], Any]
    """Makes the same kind of object of the results."""
    carries_notes: bool = False
    """Whether that object has a place for notes on the result."""
    source: Path | None = None
    """The file that was read, if the object is a path."""


def opened(given: Any, *, accept_damaged: bool = False) -> Opened:
    """Open a path, an array, a Pillow image, a tensor or an Image.

    `accept_damaged` lets a file be read of which only a part can be decoded. UsageError for other objects and for
    folders, UnreadableImage for images that are not restored.
    """
    if isinstance(given, images.Image):
        return Opened(held=(given,), back=_only, carries_notes=True)
    if isinstance(given, str | PathLike):
        return _read(Path(given), accept_damaged)
    if isinstance(given, np.ndarray):
        return Opened(held=(images.from_array(given),), back=lambda made: arrays.array_like(_only(made), given))
    if isinstance(given, Pillow.Image):
        return Opened(held=(arrays.from_pillow(given),), back=lambda made: arrays.pillow_like(_only(made), given))
    if isinstance(given, Tensor):
        return _of_tensor(given)
    raise UsageError(
        "it is not a path, an array, a Pillow image, a tensor or an Image",
        where=f"object of type {type(given).__name__}",
        next_step="Restore several images with restore_files or a Restorer."
        if isinstance(given, list | tuple) else "Convert it to one of these first.",
    )  # fmt: skip


def _read(path: Path, accept_damaged: bool) -> Opened:
    if path.is_dir():
        raise UsageError("it is a folder", where=path, next_step="Restore folders with restore_files.")
    image = images.read(path, accept_damaged=accept_damaged)
    return Opened(held=(image,), back=_only, carries_notes=True, source=path)


def _of_tensor(given: Tensor) -> Opened:
    """Open a tensor [C,H,W] or [B,C,H,W]; results have its device and dtype, and no gradient."""
    where = f"tensor of shape {tuple(given.shape)} and type {str(given.dtype).removeprefix('torch.')}"
    if given.dtype not in TENSOR_DTYPES:
        raise UnreadableImage(
            "uint8, float16, bfloat16 and float32 are restored", where=where,
            next_step="Convert it with tensor.float(), with values from 0 to 1.",
        )  # fmt: skip
    if given.ndim not in (3, 4) or not 1 <= given.shape[-3] <= 4:
        raise UnreadableImage(
            "1 to 4 channels come before height and width", where=where, next_step="Give [C, H, W] or [B, C, H, W]."
        )
    if given.numel() == 0:
        raise UnreadableImage("it is empty", where=where, next_step="Check how it was cut out.")
    host_BCHW = given.detach().cpu()
    host_BCHW = host_BCHW if given.dtype == torch.uint8 else host_BCHW.float()
    each_CHW = host_BCHW if given.ndim == 4 else host_BCHW[None]

    def back(made: Sequence[images.Image]) -> Tensor:
        arrays_HWC = [arrays.array_like(image, each.numpy()) for image, each in zip(made, each_CHW, strict=True)]
        result_BCHW = torch.stack([torch.from_numpy(array_HWC).permute(2, 0, 1) for array_HWC in arrays_HWC])
        result = result_BCHW if given.ndim == 4 else result_BCHW[0]
        return result.contiguous().to(device=given.device, dtype=given.dtype)

    return Opened(held=tuple(images.from_array(each.permute(1, 2, 0).numpy()) for each in each_CHW), back=back)


def _only(made: Sequence[images.Image]) -> images.Image:
    (image,) = made
    return image
