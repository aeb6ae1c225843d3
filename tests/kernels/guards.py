"""Tensors that reveal reads and writes out of bounds, and tolerances for results of kernels."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from sanarestore.kernels import choice

GUARD = 2**14 + 1
"""Number of guard values before and after each input and output.

It is larger than the memory that one program touches, and odd, so that no tensor is aligned by chance.
"""

POISON = float("nan")

needs_kernels = pytest.mark.skipif(not choice.available(torch.device("cuda", 0)), reason="no GPU that runs kernels")


class Guarded:
    """Tensors inside larger buffers of NaN: reads out of bounds make results NaN, and writes are detected.

    Memory that launchers allocate is guarded too until the monkeypatch is undone.
    """

    def __init__(self, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
        self.device = device
        self._buffers: list[tuple[Tensor, Tensor]] = []
        empty_like, new_empty = torch.empty_like, Tensor.new_empty

        def taken(like: Tensor) -> Tensor:
            # Triton's interpreter allocates empty tensors itself.
            return self._inside(like.shape, like.stride(), like.dtype) if like.numel() else like

        monkeypatch.setattr(torch, "empty_like", lambda *given, **how: taken(empty_like(*given, **how)))
        monkeypatch.setattr(Tensor, "new_empty", lambda *given, **how: taken(new_empty(*given, **how)))

    def __call__(self, values: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Copy values to the device and keep their strides."""
        copy = self._inside(values.shape, values.stride(), dtype or values.dtype)
        return copy.copy_(values)

    def check(self) -> None:
        """Raise AssertionError if something was written outside a tensor."""
        for buffer, mask in self._buffers:
            assert buffer[mask.logical_not()].isnan().all(), "written out of bounds"

    def _inside(self, shape: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> Tensor:
        last = sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        buffer = torch.full((last + 1 + 2 * GUARD,), POISON, dtype=dtype, device=self.device)
        mask = torch.zeros(buffer.shape, dtype=torch.bool, device=self.device)
        mask.as_strided(shape, stride, GUARD).fill_(True)
        self._buffers.append((buffer, mask))
        return buffer.as_strided(shape, stride, GUARD)


def assert_close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Check that a result is within some rounding units of `dtype` at its largest value; `expected` is float64."""
    assert found.isfinite().all()
    # The interpreter truncates to bfloat16, whereas a device rounds.
    unit = {torch.float32: 2**-20, torch.bfloat16: 2**-7}[dtype]
    error = (found.double().cpu() - expected.cpu()).abs().max().item()
    assert error <= unit * max(expected.abs().max().item(), math.ulp(0.0)), error


def some(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
