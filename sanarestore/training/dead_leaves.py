"""Synthetic training images by the dead leaves model: random shapes that occlude one another, sharp to the pixel.

Freely licensed photographs are few and mostly a little soft, and show hardly any lettering or drawings. A refiner
trained on them alone mistakes edges sharper than all of theirs for blurred ones. Dead leaves (A. B. Lee, D. Mumford and
J. Huang, "Occlusion Models for Natural Images", 2001) have the power spectrum and the edges of photographs; the leaves
here have several shapes, letters among them, and fractal or regular textures: fabric, mesh and print are the textures
that are most easily mistaken for noise.
"""

import string
from functools import cache
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from sanarestore.images import Pixels, from_float

Shape = Literal["disc", "polygon", "line", "letters"]

SHAPES: tuple[Shape, ...] = get_args(Shape)

LETTERS = np.array(list(string.ascii_letters + string.digits))

FINENESS = 3
"""Supersampling factor along each side: the coverage of border pixels is exact to a ninth."""

LAYERS = 4.0
"""Mean number of leaves over a pixel: exp(-4) = 2% of the image shows the ground colour."""

MOST_LEAVES = 800
"""Largest number of leaves in an image, to limit the drawing time; among tiny leaves more of the ground shows."""

GRAIN = 0.12
"""Greatest standard deviation of the texture on a leaf."""

REGULAR_SHARE = 0.4
"""Share of images whose texture is regular; the others have a fractal one."""

PERIODS = (2.2, 10.0)
"""Range of the periods of regular textures, in pixels."""


def dead_leaves(side: int, rng: np.random.Generator) -> Pixels:
    """Draw an image [side, side, 3] in [0, 1] with its own random mix of shapes, sizes, colours and texture."""
    finer = side * FINENESS
    weights = rng.dirichlet([0.6, 0.4, 0.2, 0.2])
    radii = _radii(finer, rng)
    *fills, ground = _fills(len(radii) + 1, rng).tolist()
    # CMYK serves as any mode of four channels: the colour, and the strength of the texture as the fourth.
    canvas = Image.new("CMYK", (finer, finer), tuple(ground))
    draw = ImageDraw.Draw(canvas)
    middles = rng.uniform(-0.05, 1.05, (len(radii), 2)) * finer
    for shape, middle, radius, fill in zip(
        rng.choice(SHAPES, len(radii), p=weights), middles.tolist(), radii.tolist(), fills, strict=True
    ):
        _draw(draw, shape, middle, radius, tuple(fill), rng)
    drawn = np.asarray(canvas.reduce(FINENESS), np.float32) / 255
    texture = (_regular if rng.random() < REGULAR_SHARE else _fractal)(side, rng)
    return np.clip(drawn[..., :3] + texture[..., None] * drawn[..., 3:] * GRAIN, 0, 1).astype(np.float32)


def _radii(finer: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw radii r of density r^-3, which is scale-invariant, between two limits: as many as cover the image."""
    least, most = FINENESS * float(rng.uniform(1.5, 6)), finer * float(rng.uniform(0.2, 0.8))
    mean_area = 2 * np.pi * least**2 * np.log(most / least)
    count = min(round(LAYERS * finer**2 / mean_area), MOST_LEAVES)
    largest_share = (least / most) ** 2
    radii: npt.NDArray[np.float64] = least / np.sqrt(rng.uniform(largest_share, 1, count))
    return radii


def _fills(count: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Draw colours around one of the image's own, and a texture strength for each, as 8-bit codes [count, 4]."""
    spread, saturation, textured = rng.uniform(0.15, 0.95), rng.uniform(0, 0.8), rng.uniform(0, 1)
    grays = rng.uniform(0, 1, (count, 1))
    colours = grays + saturation * (rng.uniform(0, 1, (count, 3)) - grays)
    colours += (1 - spread) * (rng.uniform(0.1, 0.9, 3) - colours)
    strengths = textured * rng.uniform(0, 1, (count, 1)) ** 2
    return from_float(np.concatenate([colours, strengths], axis=1), "uint8")


def _draw(
    draw: ImageDraw.ImageDraw,
    shape: Shape,
    middle: list[float],
    radius: float,
    fill: tuple[int, ...],
    rng: np.random.Generator,
) -> None:
    x, y = middle
    turn = float(rng.uniform(0, 2 * np.pi))
    if shape == "disc":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill)
    elif shape == "polygon":
        corners = turn + np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 6))))
        draw.polygon([(x + radius * np.cos(at), y + radius * np.sin(at)) for at in corners], fill)
    elif shape == "line":
        across, down = 4 * radius * np.cos(turn), 4 * radius * np.sin(turn)
        draw.line((x - across, y - down, x + across, y + down), fill, width=max(FINENESS, round(radius / 2)))
    else:
        letters = "".join(rng.choice(LETTERS, int(rng.integers(1, 12))))
        # An em of four radii makes letters about as large as discs.
        draw.text((x, y), letters, fill, font=_font().font_variant(size=min(4 * radius, 60 * FINENESS)), anchor="mm")


@cache
def _font() -> ImageFont.FreeTypeFont:
    """Pillow's own font, decoded once."""
    font = ImageFont.load_default(10)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _fractal(side: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Noise [side, side] with amplitudes that fall as a power of frequency, as in natural textures; std 1."""
    rows, columns = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) / frequency ** rng.uniform(0.6, 1.6)
    noise = np.fft.irfft2(spectrum, (side, side))
    unit: npt.NDArray[np.float32] = (noise / noise.std()).astype(np.float32)
    return unit


def _regular(side: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """One to three gratings [side, side], added or woven, warped as on an uneven surface; mean 0, std 1."""
    rows, columns = np.mgrid[:side, :side]
    warp = _fractal(side, rng) * rng.uniform(0, 1.5)
    waves = []
    for turn in rng.uniform(0, np.pi) + np.array([0, np.pi / 2, np.pi / 4])[: int(rng.integers(1, 4))]:
        # Periods are drawn by their logarithm: as many from 2.2 to 4.7 px as from 4.7 to 10.
        period = float(np.exp(rng.uniform(*np.log(PERIODS))))
        waves.append(np.sin((rows * np.sin(turn) + columns * np.cos(turn)) * (2 * np.pi / period) + warp))
    woven = np.prod(waves, axis=0) if rng.random() < 0.4 else np.sum(waves, axis=0)
    texture = np.tanh(woven * rng.uniform(0.3, 4))
    texture -= texture.mean()
    unit: npt.NDArray[np.float32] = (texture / max(texture.std(), 1e-3)).astype(np.float32)
    return unit
