"""Convolutions of 8-bit codes on CPUs, by the oneDNN kernels that PyTorch carries; sums are exact integers.

Shape suffixes: B batch, I inputs, O outputs, K kernel positions along a side, H W positions.

Codes are unsigned, 0 to 255. Processors without VNNI add the products of two neighbouring inputs in 16 bits, which
overflow unless the absolute weights of each pair of inputs add up to `PAIR` at most.
"""

import platform
import warnings
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from sanarestore.kernels import reference

PAIR = 128
"""Largest sum of the absolute weights of inputs 2k and 2k + 1 at one kernel position: 255 * 128 < 2^15."""

X86 = ("x86_64", "AMD64")
"""Names of the architecture on Linux and macOS, and on Windows."""

OPERATIONS = ("qconv_prepack", "qconv2d_pointwise")
"""Operations of oneDNN that are needed; PyTorch does not promise to keep them."""


@dataclass(frozen=True, slots=True, eq=False)
class Int8Convolution:
    """Weights packed for the processor, and what becomes of the sums: result = sums * scale + bias."""

    packed: Tensor
    scale_O: Tensor
    bias_O: Tensor
    zero: int
    """Input code that stands for 0, also in the padding."""
    stride: int
    padding: int

    @classmethod
    def packing(
        cls, code_OIKK: Tensor, scale_O: Tensor, bias_O: Tensor, *, zero: int, stride: int = 1, padding: int = 0
    ) -> "Int8Convolution":
        """Pack int8 weights; ValueError if pairs of them would overflow."""
        if largest_pair(code_OIKK) > PAIR:
            raise ValueError(f"two neighbouring weights add up to more than {PAIR}")
        scale_O, bias_O = scale_O.float().contiguous(), bias_O.float().contiguous()
        packed = torch.ops.onednn.qconv_prepack(
            code_OIKK.contiguous(), scale_O, 1.0, zero, [stride] * 2, [padding] * 2, [1, 1], 1, None
        )
        return cls(packed, scale_O, bias_O, zero, stride, padding)

    def __call__(self, code_BIHW: Tensor) -> Tensor:
        """`reference.int8_convolution`: floats [B,O,H,W]."""
        return self._run(code_BIHW, torch.float32, "none")

    def positive_codes(self, code_BIHW: Tensor) -> Tensor:
        """The result rounded to codes; 0 stands for 0 and for everything below."""
        return self._run(code_BIHW, torch.uint8, "relu")

    def added_to(self, sum_BOHW: Tensor, code_BIHW: Tensor) -> Tensor:
        """The result added to a sum, which is changed in place."""
        torch.ops.onednn.qconv2d_pointwise.binary(
            code_BIHW, 1.0, self.zero, self.packed, self.scale_O, self._zeros, sum_BOHW, self.bias_O, *self._places,
            1.0, 0, torch.float32, 1.0, 0, "sum", 1.0, "none", [], "",
        )  # fmt: skip
        return sum_BOHW

    def _run(self, code_BIHW: Tensor, dtype: torch.dtype, last: str) -> Tensor:
        result: Tensor = torch.ops.onednn.qconv2d_pointwise(
            code_BIHW, 1.0, self.zero, self.packed, self.scale_O, self._zeros, self.bias_O, *self._places,
            1.0, 0, dtype, last, [], "",
        )  # fmt: skip
        return result

    @property
    def _places(self) -> tuple[list[int], list[int], list[int], int]:
        """Stride, padding, dilation, groups."""
        return [self.stride] * 2, [self.padding] * 2, [1, 1], 1

    @property
    def _zeros(self) -> Tensor:
        """For each output, the weight that stands for 0."""
        return torch.zeros(len(self.scale_O), dtype=torch.int32)


@cache
def available() -> bool:
    """Whether this machine runs these convolutions: an x86 processor with AVX2, and a PyTorch that has them."""
    return (
        platform.machine() in X86
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.cpu.get_cpu_capability() != "DEFAULT"
        and all(hasattr(torch.ops.onednn, name) for name in OPERATIONS)
    )


def codes(value_BCHW: Tensor, scale: float, zero: int) -> Tensor:
    """`reference.codes`; on a CPU in one pass, where PyTorch still has quantized tensors."""
    if not _has_quantized_tensors():
        return reference.codes(value_BCHW, scale, zero)
    quantized = torch.quantize_per_tensor(value_BCHW, scale, zero, torch.quint8)
    plain = torch.empty(0, dtype=torch.uint8)
    return plain.set_(quantized.untyped_storage(), quantized.storage_offset(), quantized.shape, quantized.stride())


@cache
def _has_quantized_tensors() -> bool:
    """Whether PyTorch has quantized tensors, which it warns once that it will lose."""
    if not hasattr(torch, "quantize_per_tensor"):
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.quantize_per_tensor(torch.zeros(1), 1.0, 0, torch.quint8)
    return True


def largest_pair(code_OIKK: Tensor) -> int:
    """Largest sum of the absolute weights of inputs 2k and 2k + 1."""
    return int(pair_sums(code_OIKK.abs().int()).max())


def pair_sums(size_OIKK: Tensor) -> Tensor:
    """Sums of the inputs 2k and 2k + 1, [O,ceil(I/2),K,K]."""
    odd = size_OIKK.shape[1] % 2
    padded = torch.cat([size_OIKK, torch.zeros_like(size_OIKK[:, :odd])], dim=1)
    return padded[:, 0::2] + padded[:, 1::2]
