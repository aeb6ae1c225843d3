"""DC-AE split for tiling: convolutional stages with a finite receptive field, deep stages with global attention.

Shape suffixes: B batch, C channels, H W pixels, h w positions of the map between shallow and deep stages,
Z latent channels.

    encode   image -> shallow (in tiles) -> map -> deep (whole) -> latent
    decode   latent -> deep (whole) -> map -> shallow (in tiles) -> image

The map lies between the plain ResBlock stages at the finest resolutions and all other stages: at an eighth of the
resolution in the published configurations. This is the only module that converts [0, 1] to [-1, 1].
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from sanarestore.model.blocks import recomputed, run_blocks


class Autoencoder(nn.Module):
    """diffusers' `AutoencoderDC` of any configuration, with its scaling factor applied and its ends in float32.

    The first and last convolutions stay float32 whatever type `with_dtype` sets: near white, a bfloat16 step is half an
    8-bit code.
    """

    def __init__(self, dc: Any) -> None:
        super().__init__()
        self.encoder: Any = dc.encoder
        self.decoder: Any = dc.decoder
        self.config: Any = dc.config
        self.gradient_checkpointing = False
        """Whether the backward pass computes each block again, so that training keeps fewer activations."""
        stages = len(dc.config.encoder_block_out_channels)
        self._encoder_depth = _leading(dc.config.encoder_block_types, stages)
        self._decoder_depth = _leading(dc.config.decoder_block_types, stages)

    @property
    def latent_channels(self) -> int:
        """Latent channels Z."""
        return int(self.config.latent_channels)

    @property
    def stride(self) -> int:
        """Pixels per latent position; images are padded to multiples of it."""
        return int(2 ** (len(self.config.encoder_block_out_channels) - 1))

    @property
    def encoder_channels(self) -> int:
        """Channels C of the map that `encode_shallow` returns."""
        widths = self.config.encoder_block_out_channels
        return int(widths[min(self._encoder_depth, len(widths) - 1)])

    @property
    def encoder_downsample(self) -> int:
        """Downsampling factor of the map that `encode_shallow` returns."""
        return _downsample_and_radius(_encoder_part(self.encoder, self._encoder_depth))[0]

    @property
    def decoder_downsample(self) -> int:
        """Downsampling factor of the map that `decode_shallow` takes."""
        return _downsample_and_radius(_decoder_part(self.decoder, self._decoder_depth))[0]

    @property
    def encoder_radius(self) -> int:
        """Receptive field of `encode_shallow`: pixels on each side of a map position that the position depends on."""
        return _downsample_and_radius(_encoder_part(self.encoder, self._encoder_depth))[1]

    @property
    def decoder_radius(self) -> int:
        """Receptive field of `decode_shallow`: pixels on each side of a block aligned with map positions."""
        return _downsample_and_radius(_decoder_part(self.decoder, self._decoder_depth))[1]

    @property
    def dtype(self) -> torch.dtype:
        """Type of all arithmetic except at the ends."""
        weight: Tensor = self.decoder.conv_in.weight
        return weight.dtype

    def with_dtype(self, dtype: torch.dtype) -> "Autoencoder":
        """Cast all but the ends (first convolution, last norm and convolution) in place; returns itself."""
        # Casting everything and the ends back to float32 would leave their weights rounded.
        ends = (self.encoder.conv_in, self.decoder.norm_out, self.decoder.conv_out)
        for part in (*self.encoder.children(), *self.decoder.children()):
            if part not in ends:
                part.to(dtype)
        return self

    def encode(self, image_BCHW: Tensor) -> Tensor:
        """Encode [B,3,H,W] in [0,1], sides multiples of `stride` -> float32 scaled latent [B,Z,H/stride,W/stride]."""
        return self.encode_deep(self.encode_shallow(image_BCHW))

    def decode(self, latent_BZHW: Tensor) -> Tensor:
        """Decode a scaled latent to [B,3,H,W] around [0,1], not clipped, in float32."""
        return self.decode_shallow(self.decode_deep(latent_BZHW))

    def encode_shallow(self, image_BCHW: Tensor) -> Tensor:
        """Run the convolutional stages: [B,3,H,W] in [0,1] -> map [B,C,h,w], downsampled by `encoder_downsample`."""
        with _exactly(image_BCHW.device):
            hidden: Tensor = self.encoder.conv_in(image_BCHW.float() * 2 - 1)
        return self._run(self.encoder.down_blocks[: self._encoder_depth], hidden.to(self.dtype))

    def encode_deep(self, map_BChw: Tensor) -> Tensor:
        """Run the attention stages: map -> scaled latent in float32."""
        return self.to_latent(self._run(self.deep_encoder, map_BChw))

    def decode_deep(self, latent_BZHW: Tensor) -> Tensor:
        """Run the attention stages: scaled latent -> map [B,C,h,w], downsampled by `decoder_downsample`."""
        return self._run(self.deep_decoder, self.from_latent(latent_BZHW))

    @property
    def deep_encoder(self) -> list[nn.Module]:
        """The blocks between the map and `to_latent`, in order."""
        return [block for stage in self.encoder.down_blocks[self._encoder_depth :] for block in stage]

    @property
    def deep_decoder(self) -> list[nn.Module]:
        """The blocks between `from_latent` and the map, in order."""
        return [block for stage in reversed(self.decoder.up_blocks[self._decoder_depth :]) for block in stage]

    @property
    def shallow_parts(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """The modules that `encode_shallow` and `decode_shallow` use."""
        encoder = _encoder_part(self.encoder, self._encoder_depth)
        return encoder, [*_decoder_part(self.decoder, self._decoder_depth), self.decoder.norm_out]

    @property
    def deep_parts(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """The modules that `encode_deep` and `decode_deep` use."""
        return [*self.deep_encoder, self.encoder.conv_out], [self.decoder.conv_in, *self.deep_decoder]

    def to_latent(self, hidden_BCHW: Tensor) -> Tensor:
        """Apply the encoder's last convolution (3x3) and the scaling factor; float32."""
        latent = self.encoder.conv_out(hidden_BCHW)
        if self.encoder.out_shortcut:
            latent = latent + hidden_BCHW.unflatten(1, (-1, self.encoder.out_shortcut_average_group_size)).mean(dim=2)  # type: ignore[no-untyped-call]
        scaled: Tensor = latent.float() * self.config.scaling_factor
        return scaled

    def from_latent(self, latent_BZHW: Tensor) -> Tensor:
        """Undo the scaling factor and apply the decoder's first convolution (3x3)."""
        latent = (latent_BZHW.float() / self.config.scaling_factor).to(self.dtype)
        hidden: Tensor = self.decoder.conv_in(latent)
        if self.decoder.in_shortcut:
            hidden = hidden + latent.repeat_interleave(self.decoder.in_shortcut_repeats, dim=1)
        return hidden

    def decode_shallow(self, map_BChw: Tensor) -> Tensor:
        """Run the convolutional stages: map -> [B,3,H,W] around [0,1], in float32."""
        hidden = self._run(reversed(self.decoder.up_blocks[: self._decoder_depth]), map_BChw)
        image: Tensor = recomputed(self._to_image, hidden) if self.gradient_checkpointing else self._to_image(hidden)
        return image

    def _to_image(self, hidden_BCHW: Tensor) -> Tensor:
        """Apply the decoder's last norm and convolution."""
        hidden = hidden_BCHW.float()
        with _exactly(hidden.device):
            hidden = self.decoder.norm_out(hidden.movedim(1, -1)).movedim(-1, 1)
            image: Tensor = self.decoder.conv_out(self.decoder.conv_act(hidden))
        return image / 2 + 0.5

    def _run(self, blocks: Iterable[nn.Module], hidden_BCHW: Tensor) -> Tensor:
        return run_blocks(blocks, hidden_BCHW, checkpointed=self.gradient_checkpointing)


def _exactly(device: torch.device) -> AbstractContextManager[object]:
    """Disable autocast where the device has it, so that the first and last layers are float32 in training too."""
    has_autocast = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if has_autocast else nullcontext()


def _leading(kinds: str | Sequence[str], stages: int) -> int:
    """Number of plain ResBlock stages, counted from full resolution."""
    kinds = [kinds] * stages if isinstance(kinds, str) else list(kinds)
    return next((depth for depth, kind in enumerate(kinds) if kind != "ResBlock"), stages)


def _encoder_part(encoder: Any, depth: int) -> list[nn.Module]:
    """List the encoder's modules before the map, from full resolution down."""
    return [encoder.conv_in, *(block for stage in encoder.down_blocks[:depth] for block in stage)]


def _decoder_part(decoder: Any, depth: int) -> list[nn.Module]:
    """List the decoder's modules after the map in reverse, from full resolution down."""
    stages = decoder.up_blocks[:depth]
    return [decoder.conv_out, *(block for stage in stages for block in reversed(stage))]


def _downsample_and_radius(modules: Sequence[nn.Module]) -> tuple[int, int]:
    """Downsampling factor at the coarse end, and receptive field in pixels beyond an aligned block."""
    pixel, radius = 1, 0
    for module in modules:
        kind = type(module).__name__
        if kind == "Conv2d":
            radius += pixel
        elif kind == "ResBlock":
            radius += 2 * pixel
        elif kind == "DCDownBlock2d":
            radius, pixel = radius + pixel, 2 * pixel
        elif kind == "DCUpBlock2d" and module.interpolate:
            # The convolution follows the interpolation, so its receptive field grows to whole coarse positions.
            radius, pixel = _whole(radius + pixel, 2 * pixel), 2 * pixel
        elif kind == "DCUpBlock2d":
            radius, pixel = _whole(radius, 2 * pixel) + 2 * pixel, 2 * pixel
        else:
            raise ValueError(f"how far a {kind} looks is not known")
    return pixel, radius


def _whole(radius: int, pixel: int) -> int:
    return -(-radius // pixel) * pixel
