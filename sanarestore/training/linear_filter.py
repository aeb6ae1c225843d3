"""Initialise a new transformer as the linear filter of its condition, so that training only has to improve on it.

Shape suffixes: B batch, N latent channels, D hidden channels, T times, K time features.

Suppose that the condition c is the clean latent z with Gaussian errors of variance V (`DOUBT`). Then the mean velocity
at time s is linear in the transformer's inputs, x = (1 - s) z + s e and c:

    v = a(s) x + b(s) c        a = (s - (1 - s) V) / ((1 - s)^2 V + s^2)        b = -1 - (1 - s) a

One step then returns the condition, and many steps sample latents around it with variance V. A transformer with random
weights takes long to learn even that; this one starts there, and only has to learn what z really is.

Hidden channels hold x and c in pairs of opposite sign, so that the shift of the last modulation, equal for both signs,
cancels. Its scale, which is the time embedding itself, holds a and b. The other channels hold a constant so large that
norms act almost as a fixed factor. Blocks read x and c alone, at their original scale, and output zero at first.
"""

from typing import Any

import torch
from torch import Tensor

from sanarestore.model.condition import PatchEmbedCondition
from sanarestore.model.transformer import TIMESTEPS, ConditionedTransformer

DOUBT = 0.1
"""Variance V of the condition's error: 0.11 at noise of sigma 25 for an autoencoder initialised as a transform code."""

CONSTANT = 16.0
"""Value of the constant channels: norms shrink tokens of four times the usual energy by only 1%."""

FASTEST = 10.0
"""Highest frequency of the time features that a and b use, in radians per unit time; higher ones only add ripple."""

RIDGE = 1e-6
"""Ridge penalty of the least-squares fit, relative to the time features' mean square; keeps the weights bounded."""


def has_room(model: ConditionedTransformer) -> bool:
    """Return whether the transformer can hold latent and condition in separate channels; a projection condition mixes
    them."""
    config = model.config
    width = config.num_attention_heads * config.attention_head_dim
    wide = isinstance(model.condition, PatchEmbedCondition) and width >= 4 * config.in_channels + 2
    return wide and config.patch_size == 1 and not config.guidance_embeds


@torch.no_grad()
def begin_as_linear_filter(model: ConditionedTransformer) -> None:
    """Initialise a new transformer as the linear filter, in place. ValueError unless it `has_room`."""
    if not has_room(model):
        raise ValueError("a linear filter takes a patch-embed condition and a width of four times the latent's and two")
    transformer: Any = model.transformer
    condition: Any = model.condition
    count = int(model.config.in_channels)
    width = int(transformer.proj_out.in_features)
    # Constants alternate in sign, and an odd last channel stays zero, so that the mean that norms subtract is zero.
    constant_D = torch.zeros(width)
    ends = (width - 4 * count) // 2 * 2
    constant_D[4 * count : 4 * count + ends] = CONSTANT * torch.tensor([1.0, -1.0]).repeat(ends // 2)
    signs_DN = torch.cat([torch.eye(count), -torch.eye(count)])
    scale = float(((4 * count + constant_D.square().sum()) / width).sqrt())

    for convolution, first in ((transformer.patch_embed.proj, 0), (condition.columns, 2 * count)):
        convolution.weight.zero_()
        convolution.weight[first : first + 2 * count, :, 0, 0] = signs_DN
    transformer.patch_embed.proj.bias.copy_(constant_D)
    for block in transformer.transformer_blocks:
        _listen(block, constant_D, scale)
    transformer.scale_shift_table.copy_(torch.stack([torch.zeros(width), -torch.ones(width)]))
    transformer.proj_out.weight.zero_()
    transformer.proj_out.bias.zero_()
    transformer.proj_out.weight[:, : 4 * count] = torch.cat([signs_DN, signs_DN]).T * scale / 2
    _time(transformer.time_embed.emb, count)


def coefficients(time_T: Tensor) -> tuple[Tensor, Tensor]:
    """The filter's coefficients a and b at times in [0, 1]."""
    rest_T = 1 - time_T
    latent_T = (time_T - rest_T * DOUBT) / (rest_T.square() * DOUBT + time_T.square())
    return latent_T, -1 - rest_T * latent_T


def _listen(block: Any, constant_D: Tensor, scale: float) -> None:
    """Let a block read all but the constant channels, at their original scale, and output zero."""
    at_scale_D = torch.full_like(constant_D, scale - 1)
    open_D = torch.ones_like(constant_D)
    block.scale_shift_table.copy_(torch.stack([-constant_D, at_scale_D, open_D] * 2))
    # Cross-attention reads the stream without norm or modulation, so its query has to ignore the constants.
    block.attn2.to_q.weight[:, constant_D != 0] = 0
    block.ff.conv_point.weight.zero_()
    for attention in (block.attn1, block.attn2):
        attention.to_out[0].weight.zero_()
        attention.to_out[0].bias.zero_()


def _time(embedding: Any, count: int) -> None:
    """Fit a and b as the first features of the time embedding, by least squares; the other features stay random."""
    timestep_T = torch.arange(TIMESTEPS + 1, dtype=torch.float32)
    first, last = embedding.timestep_embedder.linear_1, embedding.timestep_embedder.linear_2
    waves_TK = embedding.time_proj(timestep_T)
    half = waves_TK.shape[1] // 2
    frequency_K = 10_000.0 ** (-torch.arange(half) / half)
    first.weight[:, (frequency_K * TIMESTEPS > FASTEST).repeat(2)] = 0
    features_TK = embedding.timestep_embedder.act(first(waves_TK)).double()
    features_TK = torch.cat([features_TK, torch.ones(len(features_TK), 1, dtype=torch.float64)], dim=1)
    wanted_TN = torch.stack(coefficients(timestep_T.double() / TIMESTEPS), dim=1)
    gram_KK = features_TK.T @ features_TK / len(features_TK)
    gram_KK += RIDGE * gram_KK.diagonal().mean() * torch.eye(len(gram_KK), dtype=torch.float64)
    found_KN = torch.linalg.solve(gram_KK, features_TK.T @ wanted_TN / len(features_TK))
    weights_ND = found_KN.T.float().repeat_interleave(2 * count, dim=0)
    last.weight[: 4 * count] = weights_ND[:, :-1]
    last.bias[: 4 * count] = weights_ND[:, -1]
