"""Muon: momentum with orthogonalised updates, for the kernels of convolutions."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

MUON_SIDE = 32
"""Kernels that are smaller than this on either side, as matrices, use AdamW: gates and the last layer."""

MUON_ROWS = 256
"""Outputs per block in which wider kernels are orthogonalised, to save time: whole, the two widest kernels of an
autoencoder would take longer than its forward and backward passes."""

MUON_DECAY = 0.01
"""Muon's weight decay; a step shrinks weights by this times the learning rate."""


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalised updates: a kernel moves equally in all directions (Jordan et al. 2024).

    This suits mixtures of tasks: with AdamW, the few directions that common degradations share dominate the rest.
    Kernels are treated as matrices [out, in * height * width], split into `_blocks`. The step is scaled to the root
    mean square of AdamW's, 0.2 times the rate (Liu et al. 2025, eq. 4), so that rates are comparable.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """`dtype` is the arithmetic of the orthogonalisation; bfloat16 is enough (Jordan et al. 2024)."""
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every kernel that has a gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.flatten(1).shape].append(parameter)
            for parameters in alike.values():
                self._move(parameters, **group)

    def _move(self, kernels: list[nn.Parameter], *, lr: float, momentum: float, weight_decay: float, **_: Any) -> None:
        """Update kernels of one shape together: many small matrix products cost more than one large one."""
        each_BMN = [_blocks(self._ahead(kernel, momentum).flatten(1)) for kernel in kernels]
        updates = orthogonal(torch.cat(each_BMN).to(self._dtype)).chunk(len(kernels))
        scale = 0.2 * max(each_BMN[0].shape[1:]) ** 0.5
        for kernel, update_BMN in zip(kernels, updates, strict=True):
            kernel.mul_(1 - lr * weight_decay)
            kernel.add_(update_BMN.to(kernel.dtype).reshape_as(kernel), alpha=-lr * scale)

    def _ahead(self, kernel: nn.Parameter, momentum: float) -> Tensor:
        """Update the momentum by this step's gradient, and return Nesterov's look-ahead of it."""
        assert kernel.grad is not None
        state = self.state[kernel]
        if not state:
            state["momentum"] = torch.zeros_like(kernel.grad)
        state["momentum"].lerp_(kernel.grad, 1 - momentum)
        ahead: Tensor = kernel.grad.lerp(state["momentum"], momentum)
        return ahead


def _blocks(matrix_MN: Tensor) -> Tensor:
    """Split rows into blocks of `MUON_ROWS`, [M, N] -> [B, M / B, N]; one block if M is not a multiple of it."""
    rows = len(matrix_MN)
    return matrix_MN.reshape(-1, MUON_ROWS if rows % MUON_ROWS == 0 else rows, matrix_MN.shape[1])


def orthogonal(matrix_BMN: Tensor) -> Tensor:
    """Bring all singular values of matrices near 1, by five quintic Newton-Schulz steps (Jordan et al. 2024)."""
    is_tall = matrix_BMN.shape[-2] > matrix_BMN.shape[-1]
    wide = matrix_BMN.mT if is_tall else matrix_BMN
    wide = wide / (wide.norm(dim=(-2, -1), keepdim=True) + 1e-12)
    for _ in range(5):
        gram = wide @ wide.mT
        quartic = torch.baddbmm(gram, gram, gram, beta=-4.775, alpha=2.0315)
        wide = torch.baddbmm(wide, quartic, wide, beta=3.4445)
    found: Tensor = wide.mT if is_tall else wide
    return found
