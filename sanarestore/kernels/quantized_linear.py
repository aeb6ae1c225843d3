"""Products with quantized weights, on a device's low-precision units where they fit, otherwise by the reference.

Shape suffixes: M rows, K inputs, N outputs, P = K / 2 bytes of two codes each, J groups of inputs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sanarestore.kernels import reference

MOST_ROWS = 8192
"""Rows that are multiplied at once: their int32 sums and float32 products take four times the memory of a bf16
result."""

LEAST_ROWS = 32
"""Fewest rows of CUDA's int8 product."""

INT8_CAPABILITY, FP8_CAPABILITY = (8, 0), (9, 0)
"""Lowest compute capabilities for products of int8, and of fp8 with a scale for each row."""


def int8_linear(given_MK: Tensor, code_NK: Tensor, scale_N: Tensor) -> Tensor:
    """`reference.int8_linear`; the sums are exact on CUDA."""
    fits = _is_cuda(given_MK, INT8_CAPABILITY) and code_NK.shape[0] % 8 == 0 and code_NK.shape[1] % 8 == 0
    product = _int8_on_cuda if fits else reference.int8_linear
    return torch.cat([product(part_MK, code_NK, scale_N) for part_MK in torch.split(given_MK, MOST_ROWS)])


def int4_linear(given_MK: Tensor, code_NP: Tensor, scale_NJ: Tensor, zero_NJ: Tensor) -> Tensor:
    """`reference.int4_linear` on every device: decoding the weights costs little beside thousands of rows."""
    return reference.int4_linear(given_MK, code_NP, scale_NJ, zero_NJ)


def fp8_linear(given_MK: Tensor, code_NK: Tensor, scale_N: Tensor) -> Tensor:
    """Product with weights in float8; where the device multiplies such floats, rows of the input become float8 too.

    Elsewhere `reference.fp8_linear`.
    """
    fits = _is_cuda(given_MK, FP8_CAPABILITY) and code_NK.shape[0] % 16 == 0 and code_NK.shape[1] % 16 == 0
    product = _fp8_on_cuda if fits else reference.fp8_linear
    return torch.cat([product(part_MK, code_NK, scale_N) for part_MK in torch.split(given_MK, MOST_ROWS)])


def _int8_on_cuda(given_MK: Tensor, code_NK: Tensor, scale_N: Tensor) -> Tensor:
    code_MK, scale_M1 = reference.int8_rows(given_MK)
    missing = max(LEAST_ROWS - len(code_MK), 0)
    sum_MN = torch._int_mm(F.pad(code_MK, (0, 0, 0, missing)), code_NK.t())[: len(code_MK)]
    return (sum_MN.float() * scale_M1 * scale_N).to(given_MK.dtype)


def _fp8_on_cuda(given_MK: Tensor, code_NK: Tensor, scale_N: Tensor) -> Tensor:
    largest = torch.finfo(torch.float8_e4m3fn).max
    scale_M1 = given_MK.abs().amax(dim=1, keepdim=True).float().clamp(min=reference.SMALLEST) / largest
    code_MK = (given_MK / scale_M1).to(torch.float8_e4m3fn)
    weight_KN = code_NK.view(torch.float8_e4m3fn).t()
    # With scales of rows, results must be bf16.
    product_MN: Tensor = torch._scaled_mm(
        code_MK, weight_KN, scale_a=scale_M1, scale_b=scale_N[None], out_dtype=torch.bfloat16
    )
    return product_MN.to(given_MK.dtype)


def _is_cuda(given: Tensor, capability: tuple[int, int]) -> bool:
    is_nvidia = given.device.type == "cuda" and torch.version.hip is None
    return is_nvidia and torch.cuda.get_device_capability(given.device) >= capability
