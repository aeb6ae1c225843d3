"""Architecture of a refiner, and the receptive field that follows from it."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from sanarestore.model.statistics import DOWNSAMPLE, LOCAL_RADIUS, SPECTRUM_RADIUS, WIDE_RADIUS
from sanarestore.old_names import REFINER, renamed


@dataclass(frozen=True, kw_only=True, slots=True)
class RefinerConfig:
    """Architecture of a refiner, saved beside its weights."""

    widths: tuple[int, ...] = (32, 64, 128, 256)
    """Channels at 1/2, 1/4, 1/8 ... of the resolution; the last is the bottleneck."""
    encoder_blocks: tuple[int, ...] = (2, 2, 1)
    """Residual blocks per encoder level, finest first, without the bottleneck."""
    decoder_blocks: tuple[int, ...] = (2, 1, 1)
    """Residual blocks per decoder level, in the same order."""
    prompt_width: int = 128
    """Features of the pooled prompt embedding."""
    modulation_width: int = 24
    """Features of the decoder's spatial modulation, computed from the wide statistics and the prompt."""
    spectrum: int = 0
    """Bands of the local power spectrum among those statistics, which tell blur from low resolution; 0: none."""
    colour_correction: int = 0
    """Hidden features of the global colour correction; 0: none, each pixel is corrected from its surroundings only."""
    colour_statistics: int = 28
    """Statistics that it reads: 28, which are quantiles, or 52, with the extremes of each channel."""
    colour_normalised: bool = False
    """Whether it normalises them, by means and deviations that are saved with its weights."""

    def __post_init__(self) -> None:
        levels = len(self.widths) - 1
        if self.stride < DOWNSAMPLE:
            raise ValueError(f"{len(self.widths)} widths are too few: a stride of {DOWNSAMPLE} pixels takes three")
        if len(self.encoder_blocks) != levels or len(self.decoder_blocks) != levels:
            raise ValueError(f"{len(self.widths)} widths need {levels} encoder and decoder block counts")

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "RefinerConfig":
        """Rebuild from JSON, where tuples are lists."""
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
        }
        return cls(**renamed(plain, REFINER))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @property
    def stride(self) -> int:
        """Tile origins must be multiples of this many pixels: one bottleneck position."""
        return 1 << len(self.widths)

    @property
    def receptive_radius(self) -> int:
        """Receptive field: pixels on each side of a bottleneck-aligned block that its result depends on.

        Traced backwards through the network; at each upsampling the interval grows to whole coarse positions.
        """
        radius, modulated = 0, 0
        for level, blocks in enumerate(self.decoder_blocks):
            pixel = 2 ** (level + 1)
            if blocks:
                # Spatial modulation enters after the first convolution of the level's first block.
                modulated = max(modulated, _cells_beyond(radius + (2 * blocks - 1) * pixel, pixel) * DOWNSAMPLE)
            radius = -(-(radius + 2 * blocks * pixel) // (2 * pixel)) * (2 * pixel)
        modulated += SPECTRUM_RADIUS if self.spectrum else WIDE_RADIUS
        radius += self.stride  # the bottleneck's one 3x3 convolution
        for level, blocks in enumerate(self.encoder_blocks):
            radius += 2 * blocks * 2 ** (level + 1)
        weighted = _cells_beyond(0, 2) * DOWNSAMPLE + WIDE_RADIUS
        return max(radius + 2 + LOCAL_RADIUS, modulated, weighted)  # + 2 for the stem

    @property
    def decoder_radii(self) -> list[int]:
        """By level, finest first: pixels around a core of which the decoder's input makes the core's result exact.

        Cut off there, convolutions pad with zeros, and neither the spatial modulation nor the residual's weight is
        interpolated in the outer half of a cell. Multiples of the next coarser level's position and of `DOWNSAMPLE`.
        """
        radii: list[int] = []
        radius = 0
        for level, blocks in enumerate(self.decoder_blocks):
            pixel = 2 ** (level + 1)
            unit = max(2 * pixel, DOWNSAMPLE)
            radius += 2 * blocks * pixel + (DOWNSAMPLE // 2 if blocks and pixel < DOWNSAMPLE else 0)
            radius = -(-max(radius, DOWNSAMPLE // 2) // unit) * unit
            radii.append(radius)
        return radii


def _cells_beyond(radius: int, pixel: int) -> int:
    """Cells beyond a block's edge that interpolation reads for positions, `pixel` wide, up to `radius` away from it."""
    if pixel >= DOWNSAMPLE:
        return radius // DOWNSAMPLE
    outermost = radius - pixel / 2
    return math.ceil(outermost / DOWNSAMPLE + 0.5)
