"""Grids of validation images: degraded, restored and target side by side, with captions.

Shape suffixes: B batch, C channels, H W pixels.
"""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont
from torch import Tensor

from sanarestore.files import write_atomically
from sanarestore.training.batching import Batch
from sanarestore.training.scores import decibels_of

FOLDER = "pictures"

ROWS = 4
"""Largest number of images in a grid."""

WIDTH = 1200
"""Largest width of a grid in pixels; small crops are enlarged by an integer factor."""

TITLES = ("degraded", "restored", "target")

_GAP, _LINE, _SIZE = 12, 26, 16
"""Pixels between images, per line of text, and of the font."""

_PAPER, _INK = (250, 250, 250), (40, 40, 40)
_QUALITY = 90


def chosen(batches: Sequence[Batch]) -> list[Batch]:
    """Choose up to `ROWS` images as batches of one: one from every batch, then a second one from each, and so on."""
    # Each batch starts at another image, because all batches of photographs show the same ones.
    singles = [_rotated(list(batch.parts(len(batch.prompts))), place) for place, batch in enumerate(batches)]
    found = [one for place in zip_longest(*singles) for one in place if one is not None]
    return found[:ROWS]


def write_pictures(folder: Path, step: int, samples: Sequence[tuple[Batch, Tensor]]) -> Path:
    """Write the grid of a step, given batches of one with their restored images; OSError if the disk refuses."""
    path = folder / FOLDER / f"step-{step:06d}.webp"
    with write_atomically(path, durable=False) as file:
        grid(samples).save(file, "WEBP", quality=_QUALITY, method=4)
    return path


def picture_of(folder: Path, step: int) -> npt.NDArray[np.uint8] | None:
    """Return the grid of a step as codes [H,W,3]; None if there is none."""
    path = folder / FOLDER / f"step-{step:06d}.webp"
    if not path.is_file():
        return None
    with PillowImage.open(path) as opened:
        return np.asarray(opened.convert("RGB"))


def pictures_in(folder: Path) -> list[tuple[int, Path]]:
    """List the grids of a run with their steps, oldest first."""
    found = sorted((folder / FOLDER).glob("step-*.webp"))
    return [(int(path.stem.removeprefix("step-")), path) for path in found if path.stem[5:].isdecimal()]


def grid(samples: Sequence[tuple[Batch, Tensor]]) -> PillowImage.Image:
    """Draw a row for each image: captions above, PSNR included, then degraded, restored and target."""
    height, width = samples[0][0].target_BCHW.shape[2:]
    factor = max(1, (WIDTH - 4 * _GAP) // (3 * width))
    # Crops that are wider than a third of the grid are reduced to that.
    wide = width * factor if 3 * width + 4 * _GAP <= WIDTH else (WIDTH - 4 * _GAP) // 3
    tall = round(height * wide / width)
    sheet = PillowImage.new("RGB", (3 * wide + 4 * _GAP, len(samples) * (tall + _LINE + _GAP) + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_SIZE)
    for row, (batch, restored_BCHW) in enumerate(samples):
        top = _GAP + row * (tall + _LINE + _GAP)
        images = (batch.degraded_BCHW, restored_BCHW, batch.target_BCHW)
        for column, (caption, image_BCHW) in enumerate(zip(_captions(batch, restored_BCHW), images, strict=True)):
            left = _GAP + column * (wide + _GAP)
            draw.text((left, top), _fitting(caption, font, wide), fill=_INK, font=font)
            resample = PillowImage.Resampling.NEAREST if wide >= width else PillowImage.Resampling.LANCZOS
            sheet.paste(_picture(image_BCHW).resize((wide, tall), resample), (left, top + _LINE))
    return sheet


def _rotated(batches: list[Batch], by: int) -> list[Batch]:
    by %= len(batches)
    return batches[by:] + batches[:by]


def _captions(batch: Batch, restored_BCHW: Tensor) -> Iterator[str]:
    degraded, restored, target = TITLES
    before, after = (
        float(decibels_of(each.float().clamp(0, 1), batch.target_BCHW)) for each in (batch.degraded_BCHW, restored_BCHW)
    )
    # The font has Latin letters only.
    label = batch.label if batch.label.isascii() else "another caption"
    yield f"{degraded}, {before:.1f} dB: {label}" if label else f"{degraded}, {before:.1f} dB"
    yield f"{restored}, {after:.1f} dB"
    yield target


def _fitting(text: str, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont", width: int) -> str:
    """A text cut to a width in pixels."""
    while len(text) > 1 and font.getlength(text) > width:
        text = f"{text.rstrip('.')[:-1].rstrip()}..."[: len(text) - 1]
    return text


def _picture(image_1CHW: Tensor) -> PillowImage.Image:
    values = image_1CHW[0].float().clamp(0, 1).permute(1, 2, 0).cpu().numpy()
    return PillowImage.fromarray(np.rint(values * 255).astype(np.uint8))
