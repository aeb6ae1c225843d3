"""The pixel refiner: a small fully convolutional U-Net that keeps the generated image faithful to the photograph.

Shape suffixes: B batch, C channels, H W full-resolution pixels, D prompt features.

Nothing here pools over the image (no channel attention, no group or instance norm), so a pixel of the result depends
on pixels at most `Refiner.halo` away, and tiling with that halo changes nothing.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STATISTICS = 2
"""Channels of `local_statistics`."""

STATISTICS_RADIUS = 5
"""Pixels that they look around: two positions of half the resolution, and one pixel."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RefinerConfig:
    """What a refiner's weights need to be built again; saved beside them."""

    widths: tuple[int, ...] = (32, 64, 128, 256)
    """Channels at 1/2, 1/4, 1/8 ... of the resolution; the last is the bottleneck."""
    encoder_blocks: tuple[int, ...] = (2, 2, 1)
    """Residual blocks per level on the way down, bottleneck excluded."""
    decoder_blocks: tuple[int, ...] = (2, 1, 1)
    """Residual blocks per level on the way up, in the same order (finest first)."""
    prompt_width: int = 128
    """Features of the pooled prompt embedding."""

    def __post_init__(self) -> None:
        levels = len(self.widths) - 1
        if len(self.encoder_blocks) != levels or len(self.decoder_blocks) != levels:
            raise ValueError(f"{len(self.widths)} widths need {levels} encoder and decoder block counts")

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "RefinerConfig":
        """Rebuild from JSON, where tuples are lists."""
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
        }
        return cls(**plain)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @property
    def stride(self) -> int:
        """Tile origins must be multiples of this many pixels: one bottleneck position."""
        return 1 << len(self.widths)

    @property
    def receptive_radius(self) -> int:
        """Pixels to each side of a bottleneck-aligned block that its result depends on.

        Followed backwards through the network; at each upsampling the interval grows to whole coarse positions.
        """
        radius = 0
        for level, blocks in enumerate(self.decoder_blocks):
            pixel = 2 ** (level + 1)
            radius = -(-(radius + 2 * blocks * pixel) // (2 * pixel)) * (2 * pixel)
        radius += self.stride  # the bottleneck's one 3x3 convolution
        for level, blocks in enumerate(self.encoder_blocks):
            radius += 2 * blocks * 2 ** (level + 1)
        return radius + 2 + STATISTICS_RADIUS  # the stem and what it is given


def local_statistics(image_BCHW: Tensor) -> Tensor:
    """Logarithms of noise and of detail around each pixel, [B,2,H/2,W/2]: what tells noise, blur and sharpness apart.

    Noise is the mean absolute response to the mask that edges and planes leave near zero, scaled to the standard
    deviation of white noise (Immerkaer 1996); detail is the mean absolute difference of neighbours. A network without
    normalisation finds both by itself, but only after a long time in which it takes every faint detail for noise.
    """
    padded = F.pad(image_BCHW.float(), (1, 1, 1, 1), mode="replicate")
    across = padded[..., 2:] - 2 * padded[..., 1:-1] + padded[..., :-2]
    noise = (across[..., 2:, :] - 2 * across[..., 1:-1, :] + across[..., :-2, :]).abs() * (math.pi / 2) ** 0.5 / 6
    middle = padded[..., 1:-1, 1:-1]
    detail = (padded[..., 2:, 1:-1] - middle).abs() + (padded[..., 1:-1, 2:] - middle).abs()
    both = torch.stack([noise.mean(dim=1), detail.mean(dim=1)], dim=1)
    around = F.avg_pool2d(F.pad(F.avg_pool2d(both, 2), (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    return torch.log2(around * 255 + 0.5) / 4


class Modulation(nn.Module):
    """FiLM: per-channel scale and shift from the prompt (Perez et al. 2018, eq. 1), the identity when zero."""

    def __init__(self, prompt_width: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(prompt_width, 2 * channels)

    def forward(self, hidden_BCHW: Tensor, prompt_BD: Tensor) -> Tensor:
        scale_BC, shift_BC = self.project(prompt_BD).chunk(2, dim=1)
        return torch.addcmul(shift_BC[:, :, None, None], hidden_BCHW, 1 + scale_BC[:, :, None, None])


class Block(nn.Module):
    """Residual block: convolution, modulation, ReLU, convolution, added to its input."""

    def __init__(self, channels: int, prompt_width: int, last_kernel: int = 3) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = Modulation(prompt_width, channels)
        self.conv_out = nn.Conv2d(channels, channels, last_kernel, padding=last_kernel // 2)

    def forward(self, hidden_BCHW: Tensor, prompt_BD: Tensor) -> Tensor:
        inner_BCHW = F.relu(self.modulation(self.conv_in(hidden_BCHW), prompt_BD), inplace=True)
        branch_BCHW: Tensor = self.conv_out(inner_BCHW)
        return hidden_BCHW + branch_BCHW


class Level(nn.ModuleList):
    """Blocks in a row at one resolution."""

    def __init__(self, count: int, channels: int, prompt_width: int) -> None:
        super().__init__(Block(channels, prompt_width) for _ in range(count))

    def forward(self, hidden_BCHW: Tensor, prompt_BD: Tensor) -> Tensor:
        for block in self:
            hidden_BCHW = block(hidden_BCHW, prompt_BD)
        return hidden_BCHW


class Refiner(nn.Module):
    """R(degraded, generated, prompt): what to add to `generated` so that it agrees with the photograph.

    The last layer starts at zero, so an untrained refiner returns `generated` bit for bit.
    """

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.config = config
        *widths, bottleneck = config.widths
        prompt = config.prompt_width
        self.stem = nn.Conv2d(6 * 4 + STATISTICS, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(Level(n, w, prompt) for n, w in zip(config.encoder_blocks, widths, strict=True))
        self.down = nn.ModuleList(
            nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in zip(widths, config.widths[1:], strict=True)
        )
        self.middle = Block(bottleneck, prompt, last_kernel=1)
        self.up = nn.ModuleList(
            nn.Conv2d(coarse, 4 * fine, 1) for fine, coarse in zip(widths, config.widths[1:], strict=True)
        )
        self.decoder = nn.ModuleList(Level(n, w, prompt) for n, w in zip(config.decoder_blocks, widths, strict=True))
        self.head = nn.Conv2d(widths[0], 3 * 4, 1)
        self._initialise()

    def _initialise(self) -> None:
        """Quiet residual branches and prompts at first, and a head of zeros: the identity."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
            if isinstance(module, Modulation):
                nn.init.normal_(module.project.weight, std=0.02)
                nn.init.zeros_(module.project.bias)
        for module in self.modules():
            if isinstance(module, Block):
                module.conv_out.weight.data.mul_(0.2)
        nn.init.zeros_(self.head.weight)

    @property
    def halo(self) -> int:
        """Context that a tile needs on each side, in pixels, a multiple of `stride`."""
        stride = self.config.stride
        return -(-self.config.receptive_radius // stride) * stride

    @property
    def stride(self) -> int:
        """Sizes and tile origins must be multiples of this, in pixels."""
        return self.config.stride

    @property
    def dtype(self) -> torch.dtype:
        """Arithmetic between the ends."""
        return self.middle.conv_in.weight.dtype

    def with_dtype(self, dtype: torch.dtype) -> "Refiner":
        """Cast all but the stem and the head, which stay float32; in place, returns itself."""
        for part in (self.encoder, self.down, self.middle, self.up, self.decoder):
            part.to(dtype)
        return self

    def forward(self, degraded_BCHW: Tensor, generated_BCHW: Tensor, prompt_BD: Tensor) -> Tensor:
        """Two images [B,3,H,W] in [0,1], H and W multiples of `stride`, and the pooled prompt [B,D] -> [B,3,H,W].

        Not clipped. The residual is added in float32 whatever autocast is in force, so that 16-bit codes survive.
        """
        # Centred on zero: convolutions pad with zeros, and mid-gray is the least surprising border.
        inputs = F.pixel_unshuffle(torch.cat([degraded_BCHW, generated_BCHW], dim=1) - 0.5, 2)
        inputs = torch.cat([inputs, local_statistics(degraded_BCHW)], dim=1)
        hidden = self.stem(inputs).to(self.dtype)
        prompt_BD = prompt_BD.to(self.dtype)
        skips = []
        for level, down in zip(self.encoder, self.down, strict=True):
            hidden = level(hidden, prompt_BD)
            skips.append(hidden)
            hidden = down(hidden)
        hidden = self.middle(hidden, prompt_BD)
        for level, up, skip in zip(reversed(self.decoder), reversed(self.up), reversed(skips), strict=True):
            hidden = level(F.pixel_shuffle(up(hidden), 2) + skip, prompt_BD)
        return generated_BCHW.float() + F.pixel_shuffle(self.head(hidden.float()), 2).float()
