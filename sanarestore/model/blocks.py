"""diffusers' blocks by our kernels where these fit, and as they are everywhere else, to the bit.

Shape suffixes: B batch, C channels, H W positions, D features, F features of all heads.

A block is taken apart only if it is as published: what somebody hooked onto its layers, as training does, would be
passed by.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sanarestore.kernels import choice, feed_forward, residual
from sanarestore.kernels.reference import Norm


def through(blocks: Iterable[Any], hidden_BCHW: Tensor) -> Tensor:
    """Blocks, or sequences of blocks, one after another."""
    for block in blocks:
        if type(block) is nn.Sequential:
            hidden_BCHW = through(block, hidden_BCHW)
        else:
            kind = type(block).__name__
            hidden_BCHW = residual_block(block, hidden_BCHW) if kind == "ResBlock" else block(hidden_BCHW)
    return hidden_BCHW


def residual_block(block: Any, given_BCHW: Tensor) -> Tensor:
    """A DC-AE's `ResBlock`: two convolutions of 3x3 with SiLU between, a norm over channels, and what was given."""
    if not (_is_published(block) and choice.fits(given_BCHW, *block.parameters())):
        unchanged_BCHW: Tensor = block(given_BCHW)
        return unchanged_BCHW
    given_BCHW = given_BCHW.contiguous(memory_format=torch.channels_last)
    first = block.conv1
    # Its bias is added beside SiLU: the library's convolution would make a pass for it.
    opened_BCHW = F.conv2d(given_BCHW, first.weight, None, first.stride, first.padding, first.dilation, first.groups)
    closed_BCHW = block.conv2(residual.bias_silu(opened_BCHW, first.bias))
    return residual.norm_add(closed_BCHW, given_BCHW, Norm(block.norm.weight, block.norm.eps), block.norm.bias)


def gated_feed(block: Any, given_BHWD: Tensor) -> Tensor:
    """A `GLUMBConv` with its norm and its residual, if it has them, on features that come last: [B,H,W,D] both."""
    depth = block.conv_depth
    published = _are_plain(block, block.conv_inverted, depth, block.conv_point) and _is_silu(block.nonlinearity)
    if not (published and choice.fits(given_BHWD, *block.parameters())):
        unchanged_BDHW: Tensor = block(given_BHWD.permute(0, 3, 1, 2))
        return unchanged_BDHW.permute(0, 2, 3, 1)
    wide = _pointwise(block.conv_inverted, given_BHWD)
    fed_BHWD = _pointwise(block.conv_point, feed_forward.depthwise_glu(wide, depth.weight, depth.bias))
    if block.norm is not None:
        fed_BHWD = block.norm(fed_BHWD)
    return fed_BHWD + given_BHWD if block.residual_connection else fed_BHWD


def across_heads(norm: Any) -> Norm | None:
    """A norm of queries or keys as the kernels take it; None where it is no RMS norm with a weight alone."""
    is_rms = type(norm).__name__ == "RMSNorm" and hasattr(norm, "bias") and norm.bias is None
    return Norm(norm.weight, norm.eps) if is_rms and norm.weight is not None and _are_plain(norm) else None


def _is_published(block: Any) -> bool:
    return (
        _are_plain(block, block.conv1, block.conv2, block.norm)
        and block.norm_type == "rms_norm"
        and _is_silu(block.nonlinearity)
    )


def _is_silu(activation: Any) -> bool:
    return type(activation) is nn.SiLU


def _are_plain(*modules: Any) -> bool:
    """Whether nothing is hooked onto them, and convolutions are nothing but that."""
    return not any(
        module._forward_hooks
        or module._forward_pre_hooks
        or (isinstance(module, nn.Conv2d) and (type(module) is not nn.Conv2d or module.padding_mode != "zeros"))
        for module in modules
    )


def _pointwise(convolution: Any, given_BHWD: Tensor) -> Tensor:
    """A convolution of 1x1 as a product of matrices, which adds the bias on its way.

    In float32 it stays a convolution: that may be allowed the faster, coarser arithmetic that a product is not.
    """
    if given_BHWD.dtype == torch.float32:
        convolved_BDHW: Tensor = convolution(given_BHWD.permute(0, 3, 1, 2))
        return convolved_BDHW.permute(0, 2, 3, 1)
    return F.linear(given_BHWD, convolution.weight.flatten(1), convolution.bias)
