"""Run diffusers' blocks with our kernels where those fit; elsewhere the blocks run unchanged, bit for bit.

Shape suffixes: B batch, C channels, H W positions, D features, F features of all heads.

The kernels replace a block only if it is as published: they would bypass hooks on its layers, which training adds.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sanarestore.kernels import choice, feed_forward, residual
from sanarestore.kernels.reference import Norm
from sanarestore.model.quantization import QuantizedLinear


def run_blocks(blocks: Iterable[Any], hidden_BCHW: Tensor, *, checkpointed: bool = False) -> Tensor:
    """Run blocks, or sequences of blocks, one after another.

    If `checkpointed`, the backward pass computes each block again from its input, and only the inputs are kept.
    """
    for block in blocks:
        if type(block) is nn.Sequential:
            hidden_BCHW = run_blocks(block, hidden_BCHW, checkpointed=checkpointed)
        elif checkpointed:
            hidden_BCHW = recomputed(_run_block, block, hidden_BCHW)
        else:
            hidden_BCHW = _run_block(block, hidden_BCHW)
    return hidden_BCHW


def recomputed(work: Callable[..., Any], *given: Any) -> Any:
    """Call `work`, and call it again in the backward pass instead of keeping what that needs (Chen et al. 2016).

    It must draw no random numbers. Without gradients this is a plain call.
    """
    if not torch.is_grad_enabled():
        return work(*given)
    return checkpoint(work, *given, use_reentrant=False, preserve_rng_state=False)


def _run_block(block: Any, hidden_BCHW: Tensor) -> Tensor:
    result: Tensor = residual_block(block, hidden_BCHW) if type(block).__name__ == "ResBlock" else block(hidden_BCHW)
    return result


def residual_block(block: Any, given_BCHW: Tensor) -> Tensor:
    """Run a DC-AE `ResBlock`: two 3x3 convolutions with SiLU between, a norm over channels, and the residual."""
    if not (_is_published(block) and choice.fits(given_BCHW, *block.parameters())):
        unchanged_BCHW: Tensor = block(given_BCHW)
        return unchanged_BCHW
    given_BCHW = given_BCHW.contiguous(memory_format=torch.channels_last)
    first = block.conv1
    # The SiLU kernel adds the bias; the library's convolution would make a separate pass for it.
    opened_BCHW = F.conv2d(given_BCHW, first.weight, None, first.stride, first.padding, first.dilation, first.groups)
    closed_BCHW = block.conv2(residual.bias_silu(opened_BCHW, first.bias))
    return residual.norm_add(closed_BCHW, given_BCHW, Norm(block.norm.weight, block.norm.eps), block.norm.bias)


def gated_feed(block: Any, given_BHWD: Tensor) -> Tensor:
    """Run a `GLUMBConv`, with its norm and residual if it has them, channels last: [B,H,W,D] -> [B,H,W,D]."""
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
    """Convert a query or key norm for the kernels; None unless it is an RMS norm with a weight but no bias or hooks."""
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
    """Return whether no module has forward hooks, and every convolution is a plain zero-padded `Conv2d`."""
    return not any(
        module._forward_hooks
        or module._forward_pre_hooks
        or (isinstance(module, nn.Conv2d) and (type(module) is not nn.Conv2d or module.padding_mode != "zeros"))
        for module in modules
    )


def _pointwise(convolution: Any, given_BHWD: Tensor) -> Tensor:
    """Run a 1x1 convolution, which may be quantized, as a matrix product that includes the bias.

    In float32 it stays a convolution, for which the faster, less precise TF32 may be enabled where it is not for
    products.
    """
    if isinstance(convolution, QuantizedLinear):
        return convolution.last(given_BHWD)
    if given_BHWD.dtype == torch.float32:
        convolved_BDHW: Tensor = convolution(given_BHWD.permute(0, 3, 1, 2))
        return convolved_BDHW.permute(0, 2, 3, 1)
    return F.linear(given_BHWD, convolution.weight.flatten(1), convolution.bias)
