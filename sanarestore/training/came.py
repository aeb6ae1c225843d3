"""CAME: confidence-guided adaptive memory efficient optimization (Luo et al. 2023), with momentum in 32 or 8 bits.

Shapes: matrices [M, N].
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sanarestore.errors import UsageError
from sanarestore.training.blockwise import LARGE, ExactOptimizer, dequantize, is_sharded, quantize


class CAME(ExactOptimizer):
    """Momentum of normalised gradients, divided by how unsteady they are (Luo et al. 2023, algorithm 2).

    Statistics of a matrix are kept as means of its rows and of its columns. Kernels of convolutions count as matrices
    [out, in * height * width]. Depthwise kernels and vectors have little to save: they keep a full second moment and,
    as in the reference implementation, no instability. Statistics are float32 throughout. With `eight_bit`, the
    momentum of matrices of at least `LARGE` values is stored in 8-bit blocks (Xie et al. 2025).

    Sharded parameters (DTensor) are refused with UsageError: means of columns and the clipping of updates concern the
    whole matrix, and each process would take those of its own rows. `_check` is the place to relax this: once
    `_means` and `_clip` average over the processes, nothing else has to change.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        eps: tuple[float, float] = (1e-30, 1e-16),
        clip: float = 1.0,
        weight_decay: float = 0.0,
        *,
        eight_bit: bool = False,
    ) -> None:
        """`betas` and `eps` are for momentum, second moment and instability; `clip` is the largest root mean square of
        a normalised gradient. The defaults are the paper's."""
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "clip": clip, "weight_decay": weight_decay})
        self._eight_bit = eight_bit
        _check(parameter for group in self.param_groups for parameter in group["params"])

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, **group)

    def _move(
        self,
        parameter: nn.Parameter,
        *,
        lr: float,
        betas: tuple[float, float, float],
        eps: tuple[float, float],
        clip: float,
        weight_decay: float,
        **_: Any,
    ) -> None:
        """Update one parameter and its state."""
        assert parameter.grad is not None
        state, is_matrix = self.state[parameter], _is_matrix(parameter)
        # Contiguous, whatever the memory format: sums taken in another order would differ in their last bits.
        grad = parameter.grad.float().reshape(len(parameter), -1) if is_matrix else parameter.grad.float().reshape(-1)
        average = _factored if is_matrix else _full
        update = grad * average(state, "square", grad.square().add_(eps[0]), betas[1])
        update = _clip(update, clip)
        momentum = self._momentum(state, update, betas[0])
        moved = momentum
        if is_matrix:
            instability = (update - momentum).square_().add_(eps[1])
            moved = momentum * _factored(state, "instability", instability, betas[2])
        parameter.mul_(1 - lr * weight_decay)
        parameter.add_(moved.view(parameter.shape), alpha=-lr)

    def _momentum(self, state: dict[str, Tensor], update: Tensor, beta: float) -> Tensor:
        """Move the momentum towards an update and return it, before it is rounded to 8 bits."""
        if not (self._eight_bit and update.ndim == 2 and update.numel() >= LARGE):
            return _average(state, "momentum", update, beta)
        if "momentum" not in state:
            state["momentum"], state["momentum_scale"] = quantize(torch.zeros_like(update))
        momentum = dequantize(state["momentum"], state["momentum_scale"], update.shape).lerp_(update, 1 - beta)
        state["momentum"], state["momentum_scale"] = quantize(momentum)
        return momentum


def _check(parameters: Iterable[nn.Parameter]) -> None:
    if any(is_sharded(parameter) for parameter in parameters):
        raise UsageError(
            "CAME cannot train weights that are spread over several devices",
            where="optimizer",
            next_step="Choose adamw or adamw8bit, or train on one device.",
        )


def _is_matrix(parameter: Tensor) -> bool:
    """Tell matrices and dense kernels from vectors and depthwise kernels."""
    return parameter.ndim == 2 or (parameter.ndim > 2 and parameter.shape[1] > 1)


def _factored(state: dict[str, Tensor], name: str, values_MN: Tensor, beta: float) -> Tensor:
    """Average the means of rows and of columns; return the reciprocal root of values that have such means."""
    row_M, column_N = _means(values_MN)
    row_M = _average(state, f"{name}_row", row_M, beta)
    column_N = _average(state, f"{name}_column", column_N, beta)
    # Two roots, because the product of two small means would underflow.
    return (row_M / row_M.mean()).rsqrt_()[:, None] * column_N.rsqrt()


def _means(values_MN: Tensor) -> tuple[Tensor, Tensor]:
    return values_MN.mean(dim=1), values_MN.mean(dim=0)


def _full(state: dict[str, Tensor], name: str, values: Tensor, beta: float) -> Tensor:
    """Average values one by one; return the reciprocal root of their averages."""
    return _average(state, name, values, beta).rsqrt()


def _average(state: dict[str, Tensor], name: str, values: Tensor, beta: float) -> Tensor:
    """Move a running average, which starts at zero, towards values."""
    if name not in state:
        state[name] = torch.zeros_like(values)
    return state[name].lerp_(values, 1 - beta)


def _clip(update: Tensor, largest: float) -> Tensor:
    """Scale an update down to the root mean square `largest`."""
    rms = update.square().mean().sqrt()
    return update / (rms / largest).clamp(min=1.0)
