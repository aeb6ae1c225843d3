"""Kernels to be timed beside their references, eager and compiled, at the sizes that a model has.

Shape suffixes: B batch, N tokens, H heads, D features of a head; T windows; in maps H W positions, C channels, G = 2 C.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sanarestore.kernels import blend, feed_forward, linear_attention, reference, residual
from sanarestore.model.blocks import across_heads
from sanarestore.model.loading import LatentPath
from sanarestore.tiling import overlapping

LARGEST_MAP = 1024
"""Largest image side in pixels for which the autoencoder's wide maps are timed: it processes larger images in tiles."""


REPEATS = 20
"""Runs per reading of the clock: one run takes less time than waiting for the device does."""


class Arms(NamedTuple):
    """One operation in three implementations."""

    name: str
    ours: Callable[[], object]
    reference: Callable[[], object]
    compiled: Callable[[], object]
    """The reference through torch.compile, for this size alone."""


def kernel_arms(latent: LatentPath, size: int) -> Iterator[Arms]:
    """Yield every operation on random values, sized for a square image, on the device and in the dtype of `latent`."""
    yield from _attention(latent, size)
    yield _feed(latent, size)
    yield from _residual(latent, size)
    yield _blend(latent, size)


def _arms(name: str, kernel: Any, *given: Any, **options: Any) -> Arms:
    plain = getattr(reference, kernel.__name__)
    compiled: Any = torch.compile(plain, dynamic=False)
    return Arms(name, *(partial(function, *given, **options) for function in (kernel, plain, compiled)))


def _some(latent: LatentPath, *shape: int) -> Tensor:
    return torch.randn(shape, device=_first(latent).scale_shift_table.device, dtype=latent.transformer.dtype)


def _first(latent: LatentPath) -> Any:
    """The first block of the transformer."""
    return next(iter(latent.transformer.blocks))


def _side(latent: LatentPath, size: int) -> int:
    """Tokens per row of a square image."""
    return size // latent.autoencoder.stride // int(latent.transformer.config.patch_size)


def _attention(latent: LatentPath, size: int) -> Iterator[Arms]:
    attention = _first(latent).attn1
    shape = (1, _side(latent, size) ** 2, attention.heads, int(latent.transformer.config.attention_head_dim))
    query_BNHD, key_BNHD, value_BNHD = (_some(latent, *shape) for _ in range(3))
    norm = across_heads(attention.norm_k)
    yield _arms("key sums", linear_attention.key_sums, key_BNHD, value_BNHD, norm=norm)
    sums_BHED = reference.key_sums(key_BNHD, value_BNHD, norm=norm)
    yield _arms("attend", linear_attention.attend, query_BNHD, sums_BHED, norm=across_heads(attention.norm_q))


def _feed(latent: LatentPath, size: int) -> Arms:
    depth, side = _first(latent).ff.conv_depth, _side(latent, size)
    hidden_BHWG = _some(latent, 1, side, side, depth.out_channels)
    return _arms("depthwise GLU", feed_forward.depthwise_glu, hidden_BHWG, depth.weight, depth.bias)


def _residual(latent: LatentPath, size: int) -> Iterator[Arms]:
    """Yield the operations of the decoder's residual block of the finest resolution, if it has such blocks."""
    for stage, blocks in enumerate(latent.autoencoder.decoder.up_blocks):
        for block in blocks:
            if type(block).__name__ == "ResBlock":
                side, channels = min(size, LARGEST_MAP) // 2**stage, block.conv1.out_channels
                hidden_BCHW, given_BCHW = (_some(latent, 1, side, side, channels).permute(0, 3, 1, 2) for _ in range(2))
                yield _arms("bias and SiLU", residual.bias_silu, hidden_BCHW, block.conv1.bias)
                norm = reference.Norm(block.norm.weight, block.norm.eps)
                yield _arms("norm and residual", residual.norm_add, hidden_BCHW, given_BCHW, norm, block.norm.bias)
                return


def _blend(latent: LatentPath, size: int) -> Arms:
    """Blend four windows of a velocity."""
    side = size // latent.autoencoder.stride
    windows = overlapping(side, side, tile=side // 2 + 1, overlap=min(1, side // 2))
    weight_Thw = torch.stack([window.weight_hw for window in windows])
    window_TChw = _some(latent, len(windows), latent.autoencoder.latent_channels, *weight_Thw.shape[1:]).float()
    blended_CHW = torch.zeros_like(window_TChw[0, :, :1, :1]).repeat(1, side, side)
    corners = [(window.box[0], window.box[2]) for window in windows]
    return _arms("blend", blend.add_windows, blended_CHW, window_TChw, weight_Thw.to(window_TChw), corners)
