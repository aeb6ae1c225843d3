"""Render a landscape: fractal mountains behind a lake. It is ours to publish, as photographs of others are not."""

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float64]


def landscape(height: int = 512, width: int = 768, seed: int = 11) -> npt.NDArray[np.float32]:
    """Return encoded values [height, width, 3] in [0, 1]; the same for the same arguments."""
    rng = np.random.default_rng(seed)
    horizon = round(height * 0.62)
    image = _sky(rng, horizon, width)
    for distance in (1.0, 0.55, 0.22):
        _add_ridge(image, rng, distance)
    # The lake mirrors what stands above it, darker and moved by ripples that grow towards the viewer.
    rows = np.arange(height - horizon)
    ripple = (0.5 + 0.08 * rows)[:, None] * _fractal(rng, height - horizon, width, 1.2)
    above = np.clip(horizon - 1 - (rows[:, None] * 1.35 + 2.2 * ripple), 0, horizon - 1).astype(int)
    lake = image[above, np.arange(width)] * np.array([0.52, 0.62, 0.68]) + 0.02
    lake *= 1 + 0.12 * ripple[..., None] / (1 + rows[:, None, None] / 40)
    linear = np.concatenate([image, lake])
    return np.clip(linear, 0, 1).astype(np.float32) ** np.float32(1 / 2.2)


def _sky(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Blue above, bright near the horizon, with clouds."""
    down = np.linspace(0, 1, height)[:, None, None]
    sky = (1 - down) * np.array([0.13, 0.28, 0.6]) + down * np.array([0.95, 0.72, 0.5])
    cloud = np.clip(_fractal(rng, height, width, 2.2)[..., None] * 0.9 - 0.25, 0, 1) * (1 - 0.6 * down)
    return sky * (1 - cloud) + cloud * np.array([1.0, 0.93, 0.88])


def _add_ridge(image: Plane, rng: np.random.Generator, distance: float) -> None:
    """Paint a ridge of mountains: rock and snow lit from the left, hazier the farther away it is."""
    height, width, _ = image.shape
    outline = _fractal(rng, 1, 2 * width, 1.45)[0, :width]
    top = height * (0.18 + 0.5 * (1 - distance)) - 0.13 * height * (0.4 + distance) * outline
    row = np.arange(height)[:, None]
    relief = _fractal(rng, height, width, 2.1) * (1.6 - distance)
    light = np.clip(0.6 + 9 * (np.roll(relief, 1, axis=1) - relief), 0.12, 1.25)
    depth = (row - top) / height
    snow = np.clip(6 * (0.16 * distance - depth) + 1.4 * relief, 0, 1)
    rock = np.array([0.26, 0.22, 0.19]) * (1 + 0.35 * _fractal(rng, height, width, 0.8)[..., None])
    grass = np.array([0.1, 0.16, 0.06]) * (1 + 0.4 * _fractal(rng, height, width, 1.0)[..., None])
    green = np.clip(9 * (depth - 0.1) + relief, 0, 1)[..., None] * (1 - distance)
    white = snow[..., None]
    ground = (rock * (1 - green) + grass * green) * (1 - white) + np.array([0.9, 0.92, 0.97]) * white
    haze = 0.75 * distance**1.5
    shaded = ground * light[..., None] * (1 - haze) + haze * np.array([0.62, 0.62, 0.7])
    covered = np.clip(row - top, 0, 1)[..., None]
    image[:] = image * (1 - covered) + shaded * covered


def _fractal(rng: np.random.Generator, height: int, width: int, slope: float) -> Plane:
    """Noise [height, width] of unit deviation whose amplitude falls as frequency to the power -slope."""
    rows, columns = np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width)[None] * width
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.standard_normal((height, width))) / frequency**slope
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, s=(height, width))
    return field / field.std()
