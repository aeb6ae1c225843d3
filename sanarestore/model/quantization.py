"""Weights of a transformer in 8 or 4 bits, so that it needs less memory.

Shape suffixes: N outputs, K inputs, P = K / 2 bytes of two codes each, J groups of k inputs, B batch, H W positions,
L tokens.

    int8   a scale for each output; inputs are rounded to int8 too, token by token (W8A8)
    fp8    float8 e4m3, a scale for each output; inputs become float8 only where the device multiplies such floats
    int4   a scale and a zero for each group of inputs; inputs stay as they are (W4A16)

Linear layers and 1x1 convolutions of the blocks are quantized: 1x1 convolutions are half of a SANA block. Embeddings,
depthwise convolutions, norms and the last layer stay as they are. In files, a layer's `weight` is replaced by plain
tensors `codes`, `scale` and, in 4 bits, `zero`; the transformer's configuration names the precision.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sanarestore.kernels.quantized_linear import fp8_linear, int4_linear, int8_linear
from sanarestore.options import PRECISIONS, Precision

BLOCKS = "transformer_blocks."
"""Name prefix of the layers that are quantized."""

GROUPS = (128, 64, 32, 16, 8)
"""Sizes of groups in 4 bits, of which the largest that divides the number of inputs is used."""

SHRINKS = tuple(1 - 0.05 * step for step in range(9))
"""Factors of a group's range that are tried in 4 bits; clipping the largest weights may leave a smaller error."""

FP8_LARGEST = torch.finfo(torch.float8_e4m3fn).max


def precision_of(value: object) -> Precision:
    """Check a precision from a configuration; ValueError if it is unknown."""
    for known in PRECISIONS:
        if value == known:
            return known
    raise ValueError(f"'{value}' is not a precision; they are {', '.join(PRECISIONS)}")


class QuantizedLinear(nn.Module):
    """A linear layer, or a 1x1 convolution, with quantized weights; used only without gradients."""

    codes: Tensor
    """int8 [N,K]; bytes of float8, as uint8 [N,K]; or two codes of 4 bits in a byte, uint8 [N,P]."""
    scale: Tensor
    """float32 [N]; in 4 bits float16 [N,J]."""
    zero: Tensor
    """Code that stands for 0, float16 [N,J], in 4 bits only."""

    def __init__(self, layer: Any, precision: Precision) -> None:
        """An empty layer in place of `layer`, on its device, with its bias."""
        super().__init__()
        outputs, inputs = layer.weight.flatten(1).shape
        device = layer.weight.device
        self.precision = precision
        self.inputs, self.outputs = int(inputs), int(outputs)
        self.is_convolution = isinstance(layer, nn.Conv2d)
        self.bias = layer.bias
        if precision == "int4":
            shape = outputs, inputs // group_size(inputs)
            self.register_buffer("codes", torch.empty(outputs, inputs // 2, dtype=torch.uint8, device=device))
            self.register_buffer("scale", torch.empty(shape, dtype=torch.float16, device=device))
            self.register_buffer("zero", torch.empty(shape, dtype=torch.float16, device=device))
            return
        dtype = torch.int8 if precision == "int8" else torch.uint8
        self.register_buffer("codes", torch.empty(outputs, inputs, dtype=dtype, device=device))
        self.register_buffer("scale", torch.empty(outputs, dtype=torch.float32, device=device))

    @torch.no_grad()
    def read(self, weight_NK: Tensor) -> None:
        """Quantize these weights, [N,K] or those of a 1x1 convolution, into this layer."""
        weight_NK = weight_NK.flatten(1).float()
        if self.precision == "int4":
            self.codes, self.scale, self.zero = int4_codes(weight_NK)
            return
        largest = 127 if self.precision == "int8" else FP8_LARGEST
        self.scale = weight_NK.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / largest
        scaled_NK = weight_NK / self.scale[:, None]
        is_int8 = self.precision == "int8"
        self.codes = (
            scaled_NK.round().to(torch.int8) if is_int8 else scaled_NK.to(torch.float8_e4m3fn).view(torch.uint8)
        )

    def forward(self, given: Tensor) -> Tensor:
        """Apply the layer to tokens [B,L,K], or as a convolution to maps [B,K,H,W]."""
        return self.last(given.movedim(1, -1)).movedim(-1, 1) if self.is_convolution else self.last(given)

    def last(self, given: Tensor) -> Tensor:
        """Apply the layer to the last dimension, [...,K] -> [...,N]."""
        given_MK = given.reshape(-1, self.inputs)
        if self.precision == "int4":
            product_MN = int4_linear(given_MK, self.codes, self.scale, self.zero)
        else:
            product = int8_linear if self.precision == "int8" else fp8_linear
            product_MN = product(given_MK, self.codes, self.scale)
        if self.bias is not None:
            product_MN = product_MN + self.bias
        return product_MN.view(*given.shape[:-1], self.outputs)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        # A cast of the module to another dtype must not round its scales.
        precise = {name: tensor for name, tensor in self._buffers.items() if name != "codes"}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, tensor in precise.items():
            assert tensor is not None
            self._buffers[name] = tensor.to(self.codes.device)
        return self


def group_size(inputs: int) -> int:
    """Inputs of a group in 4 bits."""
    return next(size for size in GROUPS if inputs % size == 0)


def int4_codes(weight_NK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes of float32 weights in 4 bits, uint8 [N,P], with scales and zeros, float16 [N,J] (`reference.int4_weights`).

    Each group's range is reduced by the one of `SHRINKS` with the smallest squared error.
    """
    weight_NJk = weight_NK.unflatten(1, (-1, group_size(weight_NK.shape[1])))  # type: ignore[no-untyped-call]
    low_NJ1, high_NJ1 = weight_NJk.amin(dim=2, keepdim=True).clamp(max=0), weight_NJk.amax(2, keepdim=True).clamp(min=0)
    best: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
    for shrink in SHRINKS:
        scale = (shrink * (high_NJ1 - low_NJ1) / 15).clamp(min=torch.finfo(torch.float16).smallest_normal)
        # Rounded as it is stored.
        scale = scale.half().float()
        zero = (-shrink * low_NJ1 / scale).half().float()
        codes = (weight_NJk / scale + zero).round().clamp(0, 15)
        error = ((codes - zero) * scale - weight_NJk).square().sum(dim=2, keepdim=True)
        if best is None:
            best = error, codes, scale, zero
            continue
        is_better = error < best[0]
        best = (
            torch.where(is_better, error, best[0]), torch.where(is_better, codes, best[1]),
            torch.where(is_better, scale, best[2]), torch.where(is_better, zero, best[3]),
        )  # fmt: skip
    assert best is not None
    _, codes, scale, zero = best
    code_NPt = codes.flatten(1).to(torch.uint8).unflatten(1, (-1, 2))  # type: ignore[no-untyped-call]
    return code_NPt[..., 0] | code_NPt[..., 1] << 4, scale[..., 0].half(), zero[..., 0].half()


def quantize(transformer: Any, precision: Precision) -> None:
    """Quantize a diffusers' SanaTransformer2DModel in place, layer by layer; ValueError if it is quantized already."""
    _check_whole(transformer)
    for parent, name, layer in [*_layers(transformer)]:
        quantized = QuantizedLinear(layer, precision)
        quantized.read(layer.weight)
        setattr(parent, name, quantized)


def prepare(transformer: Any, precision: Precision) -> None:
    """Replace layers by empty quantized ones, on the meta device or another, for weights that are quantized already."""
    _check_whole(transformer)
    for parent, name, layer in [*_layers(transformer)]:
        setattr(parent, name, QuantizedLinear(layer, precision))


def quantization(transformer: Any) -> Precision | None:
    """The precision of a transformer's quantized layers, None if there are none."""
    return next((each.precision for each in transformer.modules() if isinstance(each, QuantizedLinear)), None)


def exact_names(transformer: Any) -> frozenset[str]:
    """Names of the tensors of quantized layers that no cast may change: codes, scales and zeros."""
    return frozenset(
        f"{name}.{tensor}" for name, each in transformer.named_modules() if isinstance(each, QuantizedLinear)
        for tensor in each._buffers
    )  # fmt: skip


def _layers(transformer: Any) -> Iterator[tuple[Any, str, Any]]:
    """Layers to quantize, each with the module that holds it and its name there."""
    for parent_name, parent in transformer.named_modules():
        for name, layer in parent.named_children():
            is_pointwise = isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1
            if f"{parent_name}.".startswith(BLOCKS) and (isinstance(layer, nn.Linear) or is_pointwise):
                yield parent, name, layer


def _check_whole(transformer: Any) -> None:
    if (known := quantization(transformer)) is not None:
        raise ValueError(f"the transformer is in {known} already")
