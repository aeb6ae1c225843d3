"""AdamW with both moments in 8 bits, a quarter of their usual size.

torchao's AdamW8bit compiles its step, which takes a C++ compiler on CPUs and seconds for every shape. Its moments are
tensor subclasses, and those of bitsandbytes nested tables; neither fits a checkpoint of plain tensors. CAME in 8 bits
needs blocks of codes in any case.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sanarestore.training.blockwise import ExactOptimizer, dequantize, local, quantize


class AdamW8bit(ExactOptimizer):
    """AdamW (Loshchilov & Hutter 2019, algorithm 2) that keeps moments as 8-bit codes between steps.

    The second moment is stored as its square root, which halves the orders of magnitude that a block spans. Codes are
    rounded to the nearest, so that a second moment rises more easily than it falls: steps are 1 to 2% shorter than
    AdamW's where gradients are mostly noise, and up to 8% where they hardly change. Rounding at random would remove
    this, but moves weights further from AdamW's path where gradients are noise.

    Parameters may be sharded in any way, because each value moves alone: every process stores the moments of its part.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    _move(local(parameter), local(parameter.grad).float(), self.state[parameter], **group)


def _move(
    parameter: Tensor,
    grad: Tensor,
    state: dict[str, Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    **_: Any,
) -> None:
    """Update one parameter and its state."""
    if not state:
        state["step"] = torch.tensor(0.0)
        state["mean"], state["mean_scale"] = quantize(torch.zeros_like(grad))
        state["root"], state["root_scale"] = quantize(torch.zeros_like(grad), signed=False)
    state["step"] += 1
    step = int(state["step"])
    mean = dequantize(state["mean"], state["mean_scale"], grad.shape).lerp_(grad, 1 - betas[0])
    root = dequantize(state["root"], state["root_scale"], grad.shape)
    root = root.square_().mul_(betas[1]).addcmul_(grad, grad, value=1 - betas[1]).sqrt_()
    state["mean"], state["mean_scale"] = quantize(mean)
    state["root"], state["root_scale"] = quantize(root, signed=False)
    parameter.mul_(1 - lr * weight_decay)
    denominator = root.div_((1 - betas[1] ** step) ** 0.5).add_(eps)
    parameter.add_(mean.div_(denominator), alpha=-lr / (1 - betas[0] ** step))
