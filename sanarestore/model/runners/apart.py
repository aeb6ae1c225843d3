"""The forward pass of diffusers' SANA transformer in separate steps, with the same arithmetic, for tiled runners.

Shape suffixes: B batch, C latent channels, H W latent positions, N tokens, D features, L prompt tokens, h heads,
d features of a head, e = d + 1.

All steps work on single tokens, except two: linear attention needs sums over all tokens that are attended to, and the
feed-forward's depthwise convolution reads one token on each side.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sanarestore.kernels.linear_attention import Norm, attend, key_sums
from sanarestore.model.blocks import across_heads, gated_feed
from sanarestore.model.runners.prompt import Prompt
from sanarestore.model.transformer import ConditionedTransformer

FEED_RADIUS = 1
"""Receptive field of the feed-forward: tokens on each side."""

LARGEST_HALF = 65504.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Shared:
    """Inputs that all tokens share at one time and prompt; a batch of one serves any number of windows."""

    modulation_BKD: Tensor
    """Modulation that all blocks share, before each adds its own table; K = 6."""
    embedded_BD: Tensor
    """Time embedding for the last norm."""
    prompt: Prompt


def shared(model: ConditionedTransformer, prompt: Prompt, time_B: Tensor) -> Shared:
    """Compute the shared inputs at `time_B` in [0, 1]."""
    transformer: Any = model.transformer
    timestep_B, guidance_B = model.timing(time_B)
    context = {"batch_size": len(time_B)} if guidance_B is None else {"guidance": guidance_B}
    modulation_BF, embedded_BD = transformer.time_embed(timestep_B, hidden_dtype=model.dtype, **context)
    return Shared(modulation_BKD=modulation_BF.unflatten(1, (6, -1)), embedded_BD=embedded_BD, prompt=prompt)


def embed(model: ConditionedTransformer, latent_BCHW: Tensor, condition_BCHW: Tensor) -> Tensor:
    """Embed a whole latent and condition as tokens in raster order, [B,N,D], with positions if the base has them."""
    dtype = model.dtype
    transformer: Any = model.transformer
    hidden_BND: Tensor = transformer.patch_embed(model.condition(latent_BCHW.to(dtype), condition_BCHW.to(dtype)))
    return hidden_BND


class BlockPass:
    """One transformer block at one time and prompt."""

    def __init__(self, block: Any, context: Shared) -> None:
        self._block = block
        self._context = context
        table_1KD = block.scale_shift_table[None]
        rows = (table_1KD + context.modulation_BKD).chunk(6, dim=1)
        self._shift, self._scale, self._gate, self._feed_shift, self._feed_scale, self._feed_gate = rows

    def key_sums(
        self, hidden_BND: Tensor, counted_BN1: Tensor | None = None, state_Bhed: Tensor | None = None
    ) -> Tensor:
        """Linear-attention sums over these tokens, [B,h,e,d] in float32, added to a state if given.

        `counted_BN1` is 1 for tokens that count and 0 for the others; None counts all.
        """
        attention, given_BND = self._block.attn1, self._normed(hidden_BND)
        key_BND, norm = _ready(attention.to_k(given_BND), attention.norm_k)
        key_BNhd, value_BNhd = _by_head(key_BND, attention), _by_head(attention.to_v(given_BND), attention)
        return key_sums(key_BNhd, value_BNhd, norm=norm, counted_BN1=counted_BN1, state_BHED=state_Bhed)

    def attend(self, hidden_BND: Tensor, sums_Bhed: Tensor) -> Tensor:
        """These tokens after attention to the summed tokens and cross-attention to the prompt, [B,N,D]."""
        attention, given_BND = self._block.attn1, self._normed(hidden_BND)
        query_BND, norm = _ready(attention.to_q(given_BND), attention.norm_q)
        mean_BND = attend(_by_head(query_BND, attention), sums_Bhed, norm=norm).flatten(2)
        for layer in attention.to_out:
            mean_BND = layer(mean_BND)
        if mean_BND.dtype == torch.float16:
            mean_BND = mean_BND.clip(-LARGEST_HALF, LARGEST_HALF)
        attended_BND: Tensor = hidden_BND + self._gate * mean_BND
        if self._block.attn2 is None:
            return attended_BND
        return self._context.prompt.cross_attend(self._block.attn2, attended_BND) + attended_BND

    def feed(self, hidden_BHWD: Tensor) -> Tensor:
        """Residual of the feed-forward for a rectangle of tokens, [B,H,W,D].

        It is wrong within `FEED_RADIUS` of the rectangle's edges, except where they are edges of the image.
        """
        normed = self._block.norm2(hidden_BHWD) * (1 + self._feed_scale[:, None]) + self._feed_shift[:, None]
        gated_BHWD: Tensor = self._feed_gate[:, None] * gated_feed(self._block.ff, normed)
        return gated_BHWD

    def _normed(self, hidden_BND: Tensor) -> Tensor:
        normed_BND: Tensor = self._block.norm1(hidden_BND) * (1 + self._scale) + self._shift
        return normed_BND.to(hidden_BND.dtype)


def velocity(model: ConditionedTransformer, hidden_BND: Tensor, context: Shared, *, columns: int) -> Tensor:
    """Velocity [B,C,H,W] in float32, from rows of `columns` tokens after the last block."""
    transformer: Any = model.transformer
    normed_BND = transformer.norm_out(hidden_BND, context.embedded_BD, transformer.scale_shift_table)
    patch = int(model.config.patch_size)
    batch = len(hidden_BND)
    pieces = transformer.proj_out(normed_BND).reshape(batch, -1, columns, patch, patch, int(model.config.out_channels))
    whole_BCHW: Tensor = pieces.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
    return whole_BCHW.float()


def _ready(features_BND: Tensor, norm: Any) -> tuple[Tensor, Norm | None]:
    """Queries or keys, and their norm if the attention kernel can apply it; any other norm is applied here."""
    left = across_heads(norm)
    return (features_BND if norm is None or left is not None else norm(features_BND)), left


def _by_head(features_BND: Tensor, attention: Any) -> Tensor:
    return features_BND.reshape(*features_BND.shape[:2], attention.heads, -1)
