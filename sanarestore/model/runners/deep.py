"""Run the attention stages of a DC-AE window by window, equal to untiled processing up to rounding.

Shape suffixes: B batch, C channels, h w positions of a window, N positions in a row, G groups of D features.

Attention takes two passes over a map: one sums keys and values over all positions, the other applies the sums.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sanarestore.kernels.linear_attention import attend, key_sums
from sanarestore.model.autoencoder import Autoencoder
from sanarestore.model.blocks import gated_feed, run_blocks

Core = tuple[slice, slice]
"""Rows and columns of the core within a window."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One operation on a whole map, run window by window."""

    run: Callable[[Tensor, Tensor | None], Tensor]
    """Window [B,C,h,w] and the attention sums -> window of the next map."""
    radius: int
    """Receptive field: positions of the input on each side."""
    channels: int
    """Channels of the next map."""
    input_downsample: int
    """Downsampling factor of the input."""
    output_downsample: int
    """Downsampling factor of the next map."""
    key_sums: Callable[[Tensor, Core], Tensor] | None = None
    """Window and core -> attention sums of the core; None for a pass without attention."""

    @property
    def halo(self) -> int:
        """Receptive field in pixels on each side."""
        return self.radius * self.input_downsample


def encoder_passes(autoencoder: Autoencoder) -> list[Pass]:
    """List the passes from the map that `encode_shallow` returns to the scaled latent."""
    passes, downsample = _passes(autoencoder.deep_encoder, autoencoder.encoder_downsample, autoencoder.encoder_channels)
    channels = autoencoder.latent_channels
    return [
        *passes,
        _local(
            autoencoder.to_latent,
            radius=1,
            channels=channels,
            input_downsample=downsample,
            output_downsample=downsample,
        ),
    ]


def decoder_passes(autoencoder: Autoencoder) -> list[Pass]:
    """List the passes from the scaled latent to the map that `decode_shallow` takes."""
    downsample, width = autoencoder.stride, int(autoencoder.decoder.conv_in.out_channels)
    first = _local(
        autoencoder.from_latent, radius=1, channels=width, input_downsample=downsample, output_downsample=downsample
    )
    return [first, *_passes(autoencoder.deep_decoder, downsample, width)[0]]


def _passes(blocks: list[nn.Module], downsample: int, channels: int) -> tuple[list[Pass], int]:
    """One pass for each block, and the downsampling factor after the last."""
    passes = []
    for block in blocks:
        kind, known = type(block).__name__, downsample
        module: Any = block
        if kind == "EfficientViTBlock":
            passes.append(_attending(module, channels, downsample))
            continue
        if kind == "ResBlock":
            radius = 2
        elif kind == "DCDownBlock2d":
            radius, downsample = 1, 2 * downsample
            channels = int(module.conv.out_channels) * (4 if module.downsample else 1)
        elif kind == "DCUpBlock2d":
            radius, downsample = 1, downsample // 2
            channels = int(module.conv.out_channels) // (1 if module.interpolate else 4)
        else:
            raise ValueError(f"how far a {kind} looks is not known")
        passes.append(
            _local(
                partial(run_blocks, [block]),
                radius=radius,
                channels=channels,
                input_downsample=known,
                output_downsample=downsample,
            )
        )
    return passes, downsample


def _local(
    function: Callable[[Tensor], Tensor], *, radius: int, channels: int, input_downsample: int, output_downsample: int
) -> Pass:
    return Pass(
        run=lambda window_BChw, _: function(window_BChw),
        radius=radius, channels=channels, input_downsample=input_downsample, output_downsample=output_downsample,
    )  # fmt: skip


def _attending(block: Any, channels: int, downsample: int) -> Pass:
    attention = block.attn
    scale_radius = max(
        (projection.proj_in.kernel_size[0] // 2 for projection in attention.to_qkv_multiscale), default=0
    )

    def sums(window_BChw: Tensor, core: Core) -> Tensor:
        _, key_BNGD, value_BNGD = _queries_keys_values(attention, window_BChw, core)
        return key_sums(key_BNGD, value_BNGD)

    def run(window_BChw: Tensor, sums_BGED: Tensor | None) -> Tensor:
        assert sums_BGED is not None, "a pass that sums is given its sums"
        everywhere = (slice(None), slice(None))
        query_BNGD, _, _ = _queries_keys_values(attention, window_BChw, everywhere)
        mean_BhwF = attend(query_BNGD, sums_BGED).unflatten(1, window_BChw.shape[2:]).flatten(3)  # type: ignore[no-untyped-call]
        attended = attention.to_out(mean_BhwF)
        if attention.norm_type == "rms_norm":
            attended = attention.norm_out(attended).movedim(-1, 1)
        else:
            attended = attention.norm_out(attended.movedim(-1, 1))
        if attention.residual_connection:
            attended = attended + window_BChw
        return gated_feed(block.conv_out, attended.movedim(1, -1)).movedim(-1, 1)

    # + 1 for the depthwise convolution of the feed-forward.
    return Pass(
        run=run, radius=scale_radius + 1, channels=channels, input_downsample=downsample, output_downsample=downsample,
        key_sums=sums,
    )  # fmt: skip


def _queries_keys_values(attention: Any, window_BChw: Tensor, core: Core) -> tuple[Tensor, ...]:
    """Queries, keys and values at the core's positions, [B,N,G,D] each; groups are the heads of all scales."""
    last = window_BChw.movedim(1, -1)
    alone = torch.cat([attention.to_q(last), attention.to_k(last), attention.to_v(last)], dim=3).movedim(-1, 1)
    scales = torch.cat([alone, *(projection(alone) for projection in attention.to_qkv_multiscale)], dim=1)
    chosen = scales[:, :, core[0], core[1]]
    size = int(attention.attention_head_dim)
    return chosen.flatten(2).unflatten(1, (-1, 3 * size)).permute(0, 3, 1, 2).chunk(3, dim=3)  # type: ignore[no-untyped-call, no-any-return]
