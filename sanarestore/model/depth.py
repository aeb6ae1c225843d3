"""Change the number of blocks of a SANA transformer: append blocks that are identities at first, or remove blocks.

A transformer is grown as SANA-1.5 does ("partial preservation", Xie et al. 2025, section 2.1): its last two blocks,
which are tuned to the output, are dropped, and new blocks of random weights follow the others. The output projections
of a new block are zero, so that it passes its input on unchanged until it is trained.

Everything here changes a diffusers `SanaTransformer2DModel` in place, its configuration included.
"""

from collections.abc import Collection
from typing import Any

import torch
from torch import nn

TUNED_TO_OUTPUT = 2
"""Blocks at the end of a transformer that growth drops."""


def depth_of(transformer: Any) -> int:
    """Number of blocks."""
    return len(transformer.transformer_blocks)


def tuned_to_output(transformer: Any) -> tuple[int, ...]:
    """Numbers of the blocks that growth drops, from 0; ValueError if no block would be left."""
    depth = depth_of(transformer)
    if depth <= TUNED_TO_OUTPUT:
        raise ValueError(f"of {depth} blocks, the last {TUNED_TO_OUTPUT} cannot be dropped")
    return tuple(range(depth - TUNED_TO_OUTPUT, depth))


def remove_blocks(transformer: Any, numbers: Collection[int]) -> None:
    """Remove blocks by their numbers, from 0; ValueError if there is no such block, or none would be left."""
    depth = depth_of(transformer)
    if not set(numbers) < set(range(depth)):
        raise ValueError(f"blocks {sorted(numbers)} cannot be removed from {depth}")
    kept = [block for number, block in enumerate(transformer.transformer_blocks) if number not in numbers]
    transformer.transformer_blocks = nn.ModuleList(kept)
    transformer.register_to_config(num_layers=len(kept))


def append_blocks(transformer: Any, count: int) -> None:
    """Append `count` blocks without effect, random but for their output projections; ValueError if it is below 1.

    They have the configuration of the others, norms of queries and keys included, and their type and device. Random
    weights come from PyTorch's generator.
    """
    if count < 1:
        raise ValueError(f"{count} blocks cannot be appended")
    blocks = transformer.transformer_blocks
    like = next(blocks.parameters())
    # diffusers builds the blocks, so that every field of the configuration holds for the new ones too.
    new = type(transformer).from_config({**transformer.config, "num_layers": count}).transformer_blocks
    for block in new:
        _silence(block)
    new.to(device=like.device, dtype=like.dtype).train(transformer.training)
    blocks.extend(new)
    transformer.register_to_config(num_layers=len(blocks))


@torch.no_grad()
def _silence(block: Any) -> None:
    """Set the output projections of attention, cross-attention and feed-forward to zero."""
    for layer in (block.attn1.to_out[0], block.attn2.to_out[0], block.ff.conv_point):
        for parameter in layer.parameters():
            parameter.zero_()
