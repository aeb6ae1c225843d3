"""Optimizer states in 8 bits: blocks of values share a scale (Dettmers et al. 2022), and states load bit for bit.

A code c of n levels stands for (c / n)^4 of the largest magnitude in its block, with the sign of c. Levels lie dense
near zero, because moments in one block differ by orders of magnitude. Where gradients differ by e^2 from one input
channel to the next, ten steps of AdamW end 3% from those with float32 moments, relative to the way moved; with a linear
code 55%, because small moments become zero. Rows that differ by e^3 also break the dynamic code of bitsandbytes and
torchao, which rounds their second moments to zero. A code takes square roots alone, which CPUs and GPUs round alike.

Shapes: B blocks, K values of a block.
"""

from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

BLOCK = 2048
"""Values of a block, as in SANA 1.5 (Xie et al. 2025). Blocks of 256 are hardly more precise."""

LARGE = 16384
"""Smallest number of values that is stored in 8 bits (Xie et al. 2025): less would save nothing worth an error."""


def quantize(values: Tensor, *, signed: bool = True) -> tuple[Tensor, Tensor]:
    """Store values of any shape as codes [B, K] and float32 scales [B, 1].

    Codes are int8, or uint8 for values that are never negative (`signed=False`). The last block is filled with zeros.
    Values that `dequantize` returned get the same codes and scales again.
    """
    flat = values.reshape(-1).float()
    values_BK = nn.functional.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    scale_B1 = values_BK.abs().amax(dim=1, keepdim=True)
    # A block of zeros is divided by the smallest normal number instead.
    root_BK = (values_BK.abs() / scale_B1.clamp(min=torch.finfo(torch.float32).tiny)).sqrt_().sqrt_()
    codes_BK = root_BK.mul_(_levels(signed)).round_()
    return (codes_BK.copysign_(values_BK).to(torch.int8) if signed else codes_BK.to(torch.uint8)), scale_B1


def dequantize(codes_BK: Tensor, scale_B1: Tensor, shape: torch.Size) -> Tensor:
    """Return the float32 values [shape] of codes and scales that `quantize` returned."""
    root_BK = codes_BK.float().div_(_levels(codes_BK.dtype == torch.int8))
    values_BK = root_BK.square().square_().copysign_(root_BK).mul_(scale_B1)
    return values_BK.view(-1)[: shape.numel()].view(shape)


def _levels(signed: bool) -> int:
    return 127 if signed else 255


def local(tensor: Tensor) -> Tensor:
    """Return this process's part of a sharded tensor (a DTensor); any other tensor as it is."""
    part: Tensor = tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return part


def is_sharded(tensor: Tensor) -> bool:
    """Tell a DTensor, whose class not every build of torch has, by its method."""
    return hasattr(tensor, "to_local")


class ExactOptimizer(torch.optim.Optimizer):
    """An optimizer whose state loads as it was saved; torch would turn codes into the type of their parameter."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned; a counter of steps stays on the CPU."""
        super().load_state_dict(state_dict)
        saved = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        held = chain.from_iterable(group["params"] for group in self.param_groups)
        for index, parameter in zip(saved, held, strict=True):
            for key, value in state_dict["state"].get(index, {}).items():
                self.state[parameter][key] = value if key == "step" else value.to(parameter.device)
