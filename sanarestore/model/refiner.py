"""The pixel refiner: a small fully convolutional U-Net that keeps the generated image faithful to the photograph.

Shape suffixes: B batch, C channels, H W full-resolution pixels, D prompt features,
S features of the spatial modulation, K statistics.

Nothing here pools over the image (no channel attention, no group or instance norm), so a pixel of the result depends
on pixels at most `Refiner.halo` away, and tiling with that halo changes nothing. Statistics of the whole
photograph, for global colour correction, come in as an argument (`WholePhoto`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sanarestore.model.colour_correction import ColourCorrection, WholePhoto
from sanarestore.model.refiner_config import RefinerConfig
from sanarestore.model.statistics import LOCAL_STATISTICS, WIDE_STATISTICS, Statistics, spectrum

LEAST_VARIATION = 0.1
"""`Statistics.variation`, in 8-bit codes, at which the residual is halved: a tenth of a code is less than any visible
fault, and an area without any variation shows no fault to correct."""


class Refiner(nn.Module):
    """R(degraded, generated, prompt): `generated` plus a residual that makes it agree with the photograph.

    The last layer starts at zero, so an untrained refiner returns `generated` bit for bit.
    """

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.config = config
        *widths, bottleneck = config.widths
        prompt, modulation = config.prompt_width, config.modulation_width
        self.stem = nn.Conv2d(6 * 4 + LOCAL_STATISTICS, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(
            nn.ModuleList(ResidualBlock(width, prompt) for _ in range(count))
            for count, width in zip(config.encoder_blocks, widths, strict=True)
        )
        self.down = nn.ModuleList(
            nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in zip(widths, config.widths[1:], strict=True)
        )
        self.bottleneck = ResidualBlock(bottleneck, prompt, last_kernel=1)
        self.up = nn.ModuleList(
            nn.Conv2d(coarse, 4 * fine, 1) for fine, coarse in zip(widths, config.widths[1:], strict=True)
        )
        self.spatial_modulation = SpatialModulation(prompt, modulation, WIDE_STATISTICS + config.spectrum)
        self.decoder = nn.ModuleList(
            nn.ModuleList(ModulatedBlock(width, prompt, modulation) for _ in range(count))
            for count, width in zip(config.decoder_blocks, widths, strict=True)
        )
        self.head = nn.Conv2d(widths[0], 3 * 4, 1)
        # Not on the meta device, where weights are loaded later: normal distributions there import torch's compiler.
        if not self.stem.weight.is_meta:
            self._initialise()
        self.colour_correction = (
            ColourCorrection(
                prompt, config.colour_correction, config.colour_statistics, normalised=config.colour_normalised
            )
            if config.colour_correction
            else None
        )

    def forward(
        self, degraded_BCHW: Tensor, generated_BCHW: Tensor, prompt_BD: Tensor, whole: WholePhoto | None = None
    ) -> Tensor:
        """Two images [B,3,H,W] in [0,1], H and W multiples of `stride`, and the pooled prompt [B,D] -> [B,3,H,W].

        Light and colour are corrected where `whole` asks for it. No residual is added where `degraded` is constant in a
        neighbourhood. The result is not clipped. The residual is added in float32 even under autocast, so that 16-bit
        codes survive.
        """
        measures = self.measure(degraded_BCHW, prompt_BD)
        hidden = self._enter(degraded_BCHW, generated_BCHW, measures.local_BKHW)
        modulation, body_prompt_BD = measures.modulation_BSHW, prompt_BD.to(self.dtype)
        # Levels are not modules of their own, which would hold tensors for longer: memory limits the tile size.
        skips = []
        for level, down in zip(self.encoder, self.down, strict=True):
            for block in level.children():
                hidden = block(hidden, body_prompt_BD)
            skips.append(hidden)
            hidden = down(hidden)
        hidden = self.bottleneck(hidden, body_prompt_BD)
        for level, up in zip(reversed(self.decoder), reversed(self.up), strict=True):
            hidden = F.pixel_shuffle(up(hidden), 2).add_(skips.pop())
            for block in level.children():
                hidden = block(hidden, body_prompt_BD, modulation)
        residual_BCHW = self.head(hidden.float()).float()
        return self.finish(residual_BCHW, measures.weight_B1HW, generated_BCHW, prompt_BD, whole)

    def measure(self, degraded_BCHW: Tensor, prompt_BD: Tensor) -> "Measures":
        """Measure a photograph [B,3,H,W] for the prompt [B,D]."""
        statistics = Statistics.of(degraded_BCHW)
        wide = statistics.wide
        if self.config.spectrum:
            wide = torch.cat([wide, self.spectrum(degraded_BCHW)], dim=1)
        energy_B1HW = statistics.variation.square()
        return Measures(
            statistics.local,
            self.spatial_modulation(wide, prompt_BD).to(self.dtype),
            energy_B1HW / (energy_B1HW + LEAST_VARIATION**2),
        )

    def finish(
        self, residual_BCHW: Tensor, weight_B1HW: Tensor, generated_BCHW: Tensor, prompt_BD: Tensor,
        whole: WholePhoto | None,
    ) -> Tensor:  # fmt: skip
        """Add the head's result [B,12,H/2,W/2], which is changed, by its weight; then correct light and colour."""
        residual_BCHW.mul_(resize(weight_B1HW, residual_BCHW.shape[2:]))
        restored_BCHW = generated_BCHW.float() + F.pixel_shuffle(residual_BCHW, 2)
        if self.colour_correction is None or whole is None:
            return restored_BCHW
        corrected_BCHW: Tensor = self.colour_correction(restored_BCHW, whole, prompt_BD)
        return corrected_BCHW

    def _enter(self, degraded_BCHW: Tensor, generated_BCHW: Tensor, local_BKHW: Tensor) -> Tensor:
        """The encoder's input [B,C,H/2,W/2]."""
        both_BCHW = torch.cat([degraded_BCHW, generated_BCHW], dim=1)
        hidden: Tensor = self.stem(stem_input(both_BCHW, local_BKHW))
        return hidden.to(self.dtype)

    def spectrum(self, degraded_BCHW: Tensor) -> Tensor:
        """The power spectrum among the wide statistics, [B, bands, H/8, W/8]."""
        return spectrum(degraded_BCHW, self.config.spectrum)

    @property
    def halo(self) -> int:
        """Context that a tile needs on each side, in pixels, a multiple of `stride`."""
        stride = self.config.stride
        return -(-self.config.receptive_radius // stride) * stride

    @property
    def margin(self) -> int:
        """Width of the mirrored margin to add around a photograph, in pixels, a multiple of `stride`.

        Convolutions pad with zeros, which darkens the outermost pixels of a bright backdrop; a mirrored margin prevents
        this. One stride removes nearly all of the effect, at a few percent of the time.
        """
        return self.config.stride

    @property
    def stride(self) -> int:
        """Sizes and tile origins must be multiples of this, in pixels."""
        return self.config.stride

    @property
    def dtype(self) -> torch.dtype:
        """Type of the arithmetic between stem and head."""
        return self.bottleneck.conv_in.weight.dtype

    def with_dtype(self, dtype: torch.dtype) -> "Refiner":
        """Cast in place and return itself; stem, spatial modulation, head and colour correction stay float32."""
        for part in (self.encoder, self.down, self.bottleneck, self.up, self.decoder):
            part.to(dtype)
        return self

    def _initialise(self) -> None:
        """Initialise residual branches and modulation small and the head to zero: the refiner is then the identity."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
            if isinstance(module, Modulation):
                nn.init.normal_(module.project.weight, std=0.02)
                nn.init.zeros_(module.project.bias)
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                module.conv_out.weight.data.mul_(0.2)
            if isinstance(module, ModulatedBlock):
                nn.init.normal_(module.gate.weight, std=0.3)
            if isinstance(module, SpatialModulation):
                nn.init.normal_(module.prompt.weight, std=0.1)
        nn.init.zeros_(self.head.weight)


class Measures(NamedTuple):
    """What a refiner measures in a photograph by formula, before its network."""

    local_BKHW: Tensor
    """Statistics of each place, [B,2,H/2,W/2]."""
    modulation_BSHW: Tensor
    """Features of the spatial modulation, [B,S,H/8,W/8]."""
    weight_B1HW: Tensor
    """Weight of the residual, [B,1,H/8,W/8]: 0 where nothing varies, up to 1."""


def stem_input(images_BCHW: Tensor, local_BKHW: Tensor) -> Tensor:
    """Input of the stem, [B,4C+2,H/2,W/2], from one image or two, [B,3,H,W] or [B,6,H,W], and local statistics.

    Images are centred on zero, so that the zero padding of convolutions is mid-gray, the most neutral border.
    """
    return torch.cat([F.pixel_unshuffle(images_BCHW - 0.5, 2), local_BKHW], dim=1)


class SpatialModulation(nn.Module):
    """Features of the spatial modulation, from wide statistics and prompt: where to smooth noise or sharpen blur."""

    def __init__(self, prompt_width: int, channels: int, statistics: int) -> None:
        super().__init__()
        self.statistics = nn.Conv2d(statistics, channels, 1)
        self.prompt = nn.Linear(prompt_width, channels)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, wide_BKHW: Tensor, prompt_BD: Tensor) -> Tensor:
        """[B,K,H/8,W/8] and [B,D] -> [B,S,H/8,W/8]."""
        both = F.relu(self.statistics(wide_BKHW) + self.prompt(prompt_BD)[:, :, None, None])
        return F.relu(self.mix(both))


class ResidualBlock(nn.Module):
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


class ModulatedBlock(ResidualBlock):
    """A block with spatial modulation: its scale also varies over the image."""

    def __init__(self, channels: int, prompt_width: int, modulation: int) -> None:
        super().__init__(channels, prompt_width)
        self.gate = nn.Conv2d(modulation, channels, 1)

    def forward(self, hidden_BCHW: Tensor, prompt_BD: Tensor, modulation_BSHW: Tensor) -> Tensor:  # type: ignore[override]
        scale_BC11, shift_BC11 = self.modulation.project(prompt_BD)[:, :, None, None].chunk(2, dim=1)
        # Resized after the gate, because the modulation is coarser than all levels but the deepest.
        scale_BCHW = resize(self.gate(modulation_BSHW), hidden_BCHW.shape[2:]).add_(1 + scale_BC11)
        inner_BCHW = F.relu(_modulated(self.conv_in(hidden_BCHW), scale_BCHW, shift_BC11), inplace=True)
        del scale_BCHW  # one of the largest tensors at the finest level
        branch_BCHW: Tensor = self.conv_out(inner_BCHW)
        return branch_BCHW.add_(hidden_BCHW)


class Modulation(nn.Module):
    """FiLM: per-channel scale and shift from the prompt (Perez et al. 2018, eq. 1), the identity when zero."""

    def __init__(self, prompt_width: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(prompt_width, 2 * channels)

    def forward(self, hidden_BCHW: Tensor, prompt_BD: Tensor) -> Tensor:
        scale_BC11, shift_BC11 = self.project(prompt_BD)[:, :, None, None].chunk(2, dim=1)
        return _modulated(hidden_BCHW, 1 + scale_BC11, shift_BC11)


def _modulated(hidden_BCHW: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """hidden * scale + shift; in place without gradients, because page faults cost a CPU more than the product."""
    return torch.addcmul(shift, hidden_BCHW, scale, out=None if torch.is_grad_enabled() else hidden_BCHW)


def resize(map_BSHW: Tensor, size: Sequence[int]) -> Tensor:
    """Resample a map from cells of `DOWNSAMPLE` pixels to the height and width of a level; always a new tensor."""
    height, width = size
    if height < map_BSHW.shape[2]:
        return F.adaptive_avg_pool2d(map_BSHW, (height, width))
    if torch.is_grad_enabled():
        # The same as matrix products: compiled for a CPU, the gradient of interpolate writes one position at a time.
        down, across = (_ramps(*sizes, map_BSHW) for sizes in zip(map_BSHW.shape[2:], size, strict=True))
        return down.mT @ map_BSHW @ across
    return F.interpolate(map_BSHW, size=(height, width), mode="bilinear", align_corners=False)


def _ramps(coarse: int, fine: int, like: Tensor) -> Tensor:
    """Weights [coarse, fine] of linear interpolation from `coarse` to `fine` positions."""
    each = torch.eye(coarse, dtype=like.dtype, device=like.device)
    ramps: Tensor = F.interpolate(each[None], size=fine, mode="linear", align_corners=False)[0]
    return ramps
