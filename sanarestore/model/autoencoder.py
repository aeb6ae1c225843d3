"""DC-AE, cut where tiling needs it: convolutional stages that see finitely far, deep stages that attend to everything.

Shape suffixes: B batch, C channels, H W pixels, h w positions of the map between the two parts, Z latent channels.

    encode   image -> shallow (in tiles) -> map -> deep (whole) -> latent
    decode   latent -> deep (whole) -> map -> shallow (in tiles) -> image

The map is that before the first, or after the last, stage that is no plain ResBlock: an eighth of the resolution in the
published configurations. [0, 1] becomes [-1, 1] here and nowhere else.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sanarestore.model.blocks import through


class Autoencoder(nn.Module):
    """diffusers' `AutoencoderDC` of any configuration, with its scaling factor applied and its ends in float32.

    Its first and last convolution stay float32 whatever `with_dtype` says: half steps of bfloat16 near white are as
    large as half a step of 8 bits.
    """

    def __init__(self, dc: Any) -> None:
        super().__init__()
        self.encoder: Any = dc.encoder
        self.decoder: Any = dc.decoder
        self.config: Any = dc.config
        stages = len(dc.config.encoder_block_out_channels)
        self._encoder_depth = _leading(dc.config.encoder_block_types, stages)
        self._decoder_depth = _leading(dc.config.decoder_block_types, stages)

    @property
    def latent_channels(self) -> int:
        """Z."""
        return int(self.config.latent_channels)

    @property
    def stride(self) -> int:
        """Pixels per latent position; images are padded to multiples of it."""
        return int(2 ** (len(self.config.encoder_block_out_channels) - 1))

    @property
    def encoder_channels(self) -> int:
        """C of the map that `encode_shallow` makes."""
        widths = self.config.encoder_block_out_channels
        return int(widths[min(self._encoder_depth, len(widths) - 1)])

    @property
    def encoder_cell(self) -> int:
        """Pixels per position of the map that `encode_shallow` makes."""
        return _cell_and_reach(_way_in(self.encoder, self._encoder_depth))[0]

    @property
    def decoder_cell(self) -> int:
        """Pixels per position of the map that `decode_shallow` takes."""
        return _cell_and_reach(_way_out(self.decoder, self._decoder_depth))[0]

    @property
    def encoder_radius(self) -> int:
        """Pixels to each side of a position of the map that it depends on."""
        return _cell_and_reach(_way_in(self.encoder, self._encoder_depth))[1]

    @property
    def decoder_radius(self) -> int:
        """Pixels to each side of a block of pixels, aligned with the map, up to the map's positions it depends on."""
        return _cell_and_reach(_way_out(self.decoder, self._decoder_depth))[1]

    @property
    def dtype(self) -> torch.dtype:
        """Arithmetic between the ends."""
        weight: Tensor = self.decoder.conv_in.weight
        return weight.dtype

    def with_dtype(self, dtype: torch.dtype) -> "Autoencoder":
        """Cast all but the first and the last convolution; in place, returns itself."""
        # Not all to and the ends back again: what was rounded once stays rounded.
        ends = (self.encoder.conv_in, self.decoder.norm_out, self.decoder.conv_out)
        for part in (*self.encoder.children(), *self.decoder.children()):
            if part not in ends:
                part.to(dtype)
        return self

    def encode(self, image_BCHW: Tensor) -> Tensor:
        """[B,3,H,W] in [0,1], sides multiples of `stride` -> scaled latent [B,Z,H/stride,W/stride] in float32."""
        return self.encode_deep(self.encode_shallow(image_BCHW))

    def decode(self, latent_BZHW: Tensor) -> Tensor:
        """Scaled latent -> [B,3,H,W] around [0,1], not clipped, in float32."""
        return self.decode_shallow(self.decode_deep(latent_BZHW))

    def encode_shallow(self, image_BCHW: Tensor) -> Tensor:
        """The convolutional stages: [B,3,H,W] in [0,1] -> map [B,C,H/cell,W/cell]."""
        with _exactly(image_BCHW.device):
            hidden: Tensor = self.encoder.conv_in(image_BCHW.float() * 2 - 1)
        return through(self.encoder.down_blocks[: self._encoder_depth], hidden.to(self.dtype))

    def encode_deep(self, map_BChw: Tensor) -> Tensor:
        """The stages that attend: map -> scaled latent in float32."""
        return self.to_latent(through(self.deep_encoder, map_BChw))

    def decode_deep(self, latent_BZHW: Tensor) -> Tensor:
        """The stages that attend: scaled latent -> map [B,C,H/cell,W/cell]."""
        return through(self.deep_decoder, self.from_latent(latent_BZHW))

    @property
    def deep_encoder(self) -> list[nn.Module]:
        """The blocks between the map and `to_latent`, in order."""
        return [block for stage in self.encoder.down_blocks[self._encoder_depth :] for block in stage]

    @property
    def deep_decoder(self) -> list[nn.Module]:
        """The blocks between `from_latent` and the map, in order."""
        return [block for stage in reversed(self.decoder.up_blocks[self._decoder_depth :]) for block in stage]

    def to_latent(self, hidden_BCHW: Tensor) -> Tensor:
        """The encoder's last convolution and the scaling factor, to float32; one position is looked at around."""
        latent = self.encoder.conv_out(hidden_BCHW)
        if self.encoder.out_shortcut:
            latent = latent + hidden_BCHW.unflatten(1, (-1, self.encoder.out_shortcut_average_group_size)).mean(dim=2)  # type: ignore[no-untyped-call]
        scaled: Tensor = latent.float() * self.config.scaling_factor
        return scaled

    def from_latent(self, latent_BZHW: Tensor) -> Tensor:
        """The decoder's first convolution, of what `to_latent` gave; one position is looked at around."""
        latent = (latent_BZHW.float() / self.config.scaling_factor).to(self.dtype)
        hidden: Tensor = self.decoder.conv_in(latent)
        if self.decoder.in_shortcut:
            hidden = hidden + latent.repeat_interleave(self.decoder.in_shortcut_repeats, dim=1)
        return hidden

    def decode_shallow(self, map_BChw: Tensor) -> Tensor:
        """The convolutional stages: map -> [B,3,H,W] around [0,1], in float32."""
        hidden = through(reversed(self.decoder.up_blocks[: self._decoder_depth]), map_BChw).float()
        with _exactly(map_BChw.device):
            hidden = self.decoder.norm_out(hidden.movedim(1, -1)).movedim(-1, 1)
            image: Tensor = self.decoder.conv_out(self.decoder.conv_act(hidden))
        return image / 2 + 0.5


def _exactly(device: torch.device) -> torch.autocast:
    """Whatever autocast is in force in training, the ends are float32 there too."""
    return torch.autocast(device.type, enabled=False)


def _leading(kinds: str | Sequence[str], stages: int) -> int:
    """How many stages, from full resolution on, are plain ResBlocks."""
    kinds = [kinds] * stages if isinstance(kinds, str) else list(kinds)
    return next((depth for depth, kind in enumerate(kinds) if kind != "ResBlock"), stages)


def _way_in(encoder: Any, depth: int) -> list[nn.Module]:
    """The encoder's modules before the map, in the order of `_cell_and_reach`: from full resolution down."""
    return [encoder.conv_in, *(block for stage in encoder.down_blocks[:depth] for block in stage)]


def _way_out(decoder: Any, depth: int) -> list[nn.Module]:
    """The decoder's modules after the map, from full resolution down: backwards."""
    stages = decoder.up_blocks[:depth]
    return [decoder.conv_out, *(block for stage in stages for block in reversed(stage))]


def _cell_and_reach(modules: Sequence[nn.Module]) -> tuple[int, int]:
    """Pixels per position at the coarse end, and the pixels that these modules look beyond an aligned block."""
    pixel, reach = 1, 0
    for module in modules:
        kind = type(module).__name__
        if kind == "Conv2d":
            reach += pixel
        elif kind == "ResBlock":
            reach += 2 * pixel
        elif kind == "DCDownBlock2d":
            reach, pixel = reach + pixel, 2 * pixel
        elif kind == "DCUpBlock2d" and module.interpolate:
            # Each coarse position becomes four, then they are convolved: whole coarse positions are looked at.
            reach, pixel = _whole(reach + pixel, 2 * pixel), 2 * pixel
        elif kind == "DCUpBlock2d":
            reach, pixel = _whole(reach, 2 * pixel) + 2 * pixel, 2 * pixel
        else:
            raise ValueError(f"how far a {kind} looks is not known")
    return pixel, reach


def _whole(reach: int, pixel: int) -> int:
    return -(-reach // pixel) * pixel
