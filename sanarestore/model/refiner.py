"""The pixel refiner: a small fully convolutional U-Net that keeps the generated image faithful to the photograph.

Shape suffixes: B batch, C channels, H W full-resolution pixels, D prompt features.

Nothing here pools over the image (no channel attention, no group or instance norm), so a pixel of the result depends
on pixels at most `Refiner.halo` away, and tiling with that halo changes nothing. What is to be known of the whole
photograph comes in as an argument: its tone.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sanarestore.model.statistics import (
    CELL,
    LOCAL_RADIUS,
    LOCAL_STATISTICS,
    SPECTRUM_RADIUS,
    WIDE_RADIUS,
    WIDE_STATISTICS,
    Statistics,
    spectrum,
)
from sanarestore.model.tone import Tone, WholePhoto

LEAST_VARIATION = 0.1
"""Mean difference of neighbours, in 8-bit codes, at which half of the residual counts: a tenth of a code is less than
any fault that shows, and what does not vary at all holds no evidence of one."""


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
    steering: int = 24
    """Features that the wide statistics and the prompt steer the decoder by."""
    spectrum: int = 0
    """Bands of the local power spectrum among those statistics: blur and low resolution differ in it."""
    tone: int = 0
    """Features that the tone of the whole photograph is corrected by; 0: it is left to what is near each pixel."""

    def __post_init__(self) -> None:
        levels = len(self.widths) - 1
        if self.stride < CELL:
            raise ValueError(f"{len(self.widths)} widths are too few: a stride of {CELL} pixels takes three")
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
        radius, steered = 0, 0
        for level, blocks in enumerate(self.decoder_blocks):
            pixel = 2 ** (level + 1)
            if blocks:
                # It joins behind the first block's first convolution.
                steered = max(steered, _cells_beyond(radius + (2 * blocks - 1) * pixel, pixel) * CELL)
            radius = -(-(radius + 2 * blocks * pixel) // (2 * pixel)) * (2 * pixel)
        steered += SPECTRUM_RADIUS if self.spectrum else WIDE_RADIUS
        radius += self.stride  # the bottleneck's one 3x3 convolution
        for level, blocks in enumerate(self.encoder_blocks):
            radius += 2 * blocks * 2 ** (level + 1)
        evident = _cells_beyond(0, 2) * CELL + WIDE_RADIUS
        return max(radius + 2 + LOCAL_RADIUS, steered, evident)  # the stem and what it is given


def _cells_beyond(radius: int, pixel: int) -> int:
    """Cells beyond a block's edge that are interpolated for the positions, `pixel` wide, up to `radius` from it."""
    if pixel >= CELL:
        return radius // CELL
    outermost = radius - pixel / 2
    return math.ceil(outermost / CELL + 0.5)


class Modulation(nn.Module):
    """FiLM: per-channel scale and shift from the prompt (Perez et al. 2018, eq. 1), the identity when zero."""

    def __init__(self, prompt_width: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(prompt_width, 2 * channels)

    def forward(self, hidden_BCHW: Tensor, prompt_BD: Tensor) -> Tensor:
        scale_BC11, shift_BC11 = self.project(prompt_BD)[:, :, None, None].chunk(2, dim=1)
        return _modulated(hidden_BCHW, 1 + scale_BC11, shift_BC11)


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
        return branch_BCHW.add_(hidden_BCHW)


class SteeredBlock(Block):
    """A block whose modulation also varies over the image, with the steering."""

    def __init__(self, channels: int, prompt_width: int, steering: int) -> None:
        super().__init__(channels, prompt_width)
        self.gate = nn.Conv2d(steering, channels, 1)

    def forward(self, hidden_BCHW: Tensor, prompt_BD: Tensor, steering_BSHW: Tensor) -> Tensor:  # type: ignore[override]
        scale_BC11, shift_BC11 = self.modulation.project(prompt_BD)[:, :, None, None].chunk(2, dim=1)
        scale_BCHW = self.gate(steering_BSHW).add_(1 + scale_BC11)
        inner_BCHW = F.relu(_modulated(self.conv_in(hidden_BCHW), scale_BCHW, shift_BC11), inplace=True)
        del scale_BCHW  # at the finest level as large as anything
        branch_BCHW: Tensor = self.conv_out(inner_BCHW)
        return branch_BCHW.add_(hidden_BCHW)


class Steering(nn.Module):
    """From the wide statistics and the prompt, what to do where: noise is smoothed, blur is sharpened."""

    def __init__(self, prompt_width: int, channels: int, statistics: int) -> None:
        super().__init__()
        self.statistics = nn.Conv2d(statistics, channels, 1)
        self.prompt = nn.Linear(prompt_width, channels)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, wide_BKHW: Tensor, prompt_BD: Tensor) -> Tensor:
        """[B,K,H/8,W/8] and [B,D] -> [B,S,H/8,W/8]."""
        both = F.relu(self.statistics(wide_BKHW) + self.prompt(prompt_BD)[:, :, None, None])
        return F.relu(self.mix(both))


class Refiner(nn.Module):
    """R(degraded, generated, prompt): what to add to `generated` so that it agrees with the photograph.

    The last layer starts at zero, so an untrained refiner returns `generated` bit for bit.
    """

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.config = config
        *widths, bottleneck = config.widths
        prompt, steering = config.prompt_width, config.steering
        self.stem = nn.Conv2d(6 * 4 + LOCAL_STATISTICS, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(
            nn.ModuleList(Block(width, prompt) for _ in range(count))
            for count, width in zip(config.encoder_blocks, widths, strict=True)
        )
        self.down = nn.ModuleList(
            nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in zip(widths, config.widths[1:], strict=True)
        )
        self.middle = Block(bottleneck, prompt, last_kernel=1)
        self.up = nn.ModuleList(
            nn.Conv2d(coarse, 4 * fine, 1) for fine, coarse in zip(widths, config.widths[1:], strict=True)
        )
        self.steering = Steering(prompt, steering, WIDE_STATISTICS + config.spectrum)
        self.decoder = nn.ModuleList(
            nn.ModuleList(SteeredBlock(width, prompt, steering) for _ in range(count))
            for count, width in zip(config.decoder_blocks, widths, strict=True)
        )
        self.head = nn.Conv2d(widths[0], 3 * 4, 1)
        # Not where it is to be loaded, on the meta device: normal distributions there import torch's compiler.
        if not self.stem.weight.is_meta:
            self._initialise()
        self.tone = Tone(prompt, config.tone) if config.tone else None

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
            if isinstance(module, SteeredBlock):
                nn.init.normal_(module.gate.weight, std=0.3)
            if isinstance(module, Steering):
                nn.init.normal_(module.prompt.weight, std=0.1)
        nn.init.zeros_(self.head.weight)

    def grown(self, spectrum: int = 0, tone: int = 0, widths: tuple[int, ...] = ()) -> "Refiner":
        """The same function with a spectrum or a tone to learn with, where it has none, and with levels at least as
        wide; itself if there is nothing new. ValueError for another number of levels.

        What is new is not heard at first: every weight that listens to it starts at zero.
        """
        if widths and len(widths) != len(self.config.widths):
            raise ValueError(f"{len(widths)} widths do not fit a refiner of {len(self.config.widths)} levels")
        widest = tuple(map(max, self.config.widths, widths or self.config.widths))
        config = replace(
            self.config, spectrum=self.config.spectrum or spectrum, tone=self.config.tone or tone, widths=widest
        )
        if config == self.config:
            return self
        larger = Refiner(config).train(self.training)
        known = self.state_dict()
        grown = {name: _placed(name, known[name], new) for name, new in larger.state_dict().items() if name in known}
        larger.load_state_dict({**larger.state_dict(), **grown})
        return larger

    @property
    def halo(self) -> int:
        """Context that a tile needs on each side, in pixels, a multiple of `stride`."""
        stride = self.config.stride
        return -(-self.config.receptive_radius // stride) * stride

    @property
    def margin(self) -> int:
        """Pixels, mirrored, that a photograph is continued by beyond its border, a multiple of `stride`.

        Convolutions pad with zeros, which darkens the outermost pixels of a bright backdrop; the mirrored photograph
        keeps them. One stride takes away nearly all of it, at a few percent of the time.
        """
        return self.config.stride

    @property
    def stride(self) -> int:
        """Sizes and tile origins must be multiples of this, in pixels."""
        return self.config.stride

    @property
    def dtype(self) -> torch.dtype:
        """Arithmetic between the ends."""
        return self.middle.conv_in.weight.dtype

    def with_dtype(self, dtype: torch.dtype) -> "Refiner":
        """Cast all but stem, steering, head and tone, which stay float32; in place, returns itself."""
        for part in (self.encoder, self.down, self.middle, self.up, self.decoder):
            part.to(dtype)
        return self

    def forward(
        self, degraded_BCHW: Tensor, generated_BCHW: Tensor, prompt_BD: Tensor, whole: WholePhoto | None = None
    ) -> Tensor:
        """Two images [B,3,H,W] in [0,1], H and W multiples of `stride`, and the pooled prompt [B,D] -> [B,3,H,W].

        Light and colour are corrected where `whole` asks for it. Where nothing varies in a neighbourhood of
        `degraded`, nothing is added. Not clipped. The residual is added in float32 whatever autocast is in force, so
        that 16-bit codes survive.
        """
        hidden, steering, evidence_B1HW = self._measured(degraded_BCHW, generated_BCHW, prompt_BD)
        whole_prompt_BD, prompt_BD = prompt_BD, prompt_BD.to(self.dtype)
        # Nothing is held longer than it is needed, hence no level of its own: memory is what bounds a tile.
        skips = []
        for level, down in zip(self.encoder, self.down, strict=True):
            for block in level.children():
                hidden = block(hidden, prompt_BD)
            skips.append(hidden)
            hidden = down(hidden)
        hidden = self.middle(hidden, prompt_BD)
        for level, up in zip(reversed(self.decoder), reversed(self.up), strict=True):
            hidden = F.pixel_shuffle(up(hidden), 2).add_(skips.pop())
            finer_steering = _resize(steering, hidden)
            for block in level.children():
                hidden = block(hidden, prompt_BD, finer_steering)
        residual_BCHW = self.head(hidden.float()).float()
        residual_BCHW.mul_(_resize(evidence_B1HW, residual_BCHW))
        restored_BCHW = generated_BCHW.float() + F.pixel_shuffle(residual_BCHW, 2)
        if self.tone is None or whole is None:
            return restored_BCHW
        toned_BCHW: Tensor = self.tone(restored_BCHW, whole, whole_prompt_BD)
        return toned_BCHW

    def _measured(
        self, degraded_BCHW: Tensor, generated_BCHW: Tensor, prompt_BD: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What goes into the encoder [B,C,H/2,W/2], the steering [B,S,H/8,W/8], and how much there is to go by, from 0
        where nothing varies to 1, [B,1,H/8,W/8]."""
        statistics = Statistics.of(degraded_BCHW)
        wide = statistics.wide
        if self.config.spectrum:
            wide = torch.cat([wide, spectrum(degraded_BCHW, self.config.spectrum)], dim=1)
        # Centred on zero: convolutions pad with zeros, and mid-gray is the least surprising border.
        inputs = F.pixel_unshuffle(torch.cat([degraded_BCHW, generated_BCHW], dim=1) - 0.5, 2)
        hidden = self.stem(torch.cat([inputs, statistics.local], dim=1))
        energy_B1HW = statistics.variation.square()
        evidence_B1HW = energy_B1HW / (energy_B1HW + LEAST_VARIATION**2)
        return hidden.to(self.dtype), self.steering(wide, prompt_BD).to(self.dtype), evidence_B1HW


def _modulated(hidden_BCHW: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """hidden * scale + shift; in place where no gradient is asked for: fresh pages cost a CPU more than the product."""
    return torch.addcmul(shift, hidden_BCHW, scale, out=None if torch.is_grad_enabled() else hidden_BCHW)


def _placed(name: str, old: Tensor, new: Tensor) -> Tensor:
    """The old weights in a larger tensor: new outputs as they were made, deaf ends where the old ones listen."""
    # A modulation's rows are all scales, then all shifts.
    halves = 2 if ".modulation." in name else 1
    grown, known = (each.reshape(halves, -1, *each.shape[1:]) for each in (new.clone(), old))
    outputs = known.shape[1]
    if known.ndim > 2:
        grown[:, :, known.shape[2] :] = 0
        grown[:, :outputs, : known.shape[2]] = known
    else:
        grown[:, :outputs] = known
    return grown.flatten(0, 1)


def _resize(steering_BSHW: Tensor, hidden_BCHW: Tensor) -> Tensor:
    """From cells of `CELL` pixels to the resolution of a level."""
    height, width = hidden_BCHW.shape[2:]
    if height < steering_BSHW.shape[2]:
        return F.adaptive_avg_pool2d(steering_BSHW, (height, width))
    if torch.is_grad_enabled():
        # The same by products: compiled for a CPU, the gradient of an interpolation is written place by place.
        down, across = (
            _ramps(*sizes, steering_BSHW) for sizes in zip(steering_BSHW.shape[2:], hidden_BCHW.shape[2:], strict=True)
        )
        return down.mT @ steering_BSHW @ across
    return F.interpolate(steering_BSHW, size=(height, width), mode="bilinear", align_corners=False)


def _ramps(coarse: int, fine: int, like: Tensor) -> Tensor:
    """[coarse, fine]: what each of `fine` positions takes of each of `coarse` when interpolated linearly."""
    each = torch.eye(coarse, dtype=like.dtype, device=like.device)
    ramps: Tensor = F.interpolate(each[None], size=fine, mode="linear", align_corners=False)[0]
    return ramps
