"""Optimizers (Muon for convolution kernels, AdamW for the rest), the learning-rate schedule, and the EMA of weights."""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from sanarestore.training.ranks import like
from sanarestore.training.recipe import TrainingRecipe

MUON_SIDE = 32
"""Kernels that are smaller than this on either side, as matrices, use AdamW: gates and the last layer."""

MUON_ROWS = 256
"""Outputs per block in which wider kernels are orthogonalised, to save time: whole, the two widest kernels of an
autoencoder would take longer than its forward and backward passes."""

MUON_DECAY = 0.01
"""Muon's weight decay; a step shrinks weights by this times the learning rate."""


def optimizers(
    modules: nn.Module, recipe: TrainingRecipe, dtype: torch.dtype = torch.float32
) -> list[torch.optim.Optimizer]:
    """Create the optimizers of `modules`; each parameter group keeps its peak rate as `initial_lr`.

    AdamW (Loshchilov & Hutter 2019) does not decay biases, norms and gains. With a `muon_rate`, Muon trains the
    kernels of convolutions, orthogonalised in `dtype`.
    """
    parameters = [parameter for parameter in modules.parameters() if parameter.requires_grad]
    kernels = [p for p in parameters if recipe.muon_rate and p.ndim == 4 and min(p.flatten(1).shape) >= MUON_SIDE]
    taken = {id(parameter) for parameter in kernels}
    rest = [parameter for parameter in parameters if id(parameter) not in taken]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    # Fused on CUDA, where it saves kernel launches; elsewhere unfused, so that results stay the same to the bit.
    fused = True if any(parameter.is_cuda for parameter in rest) else None
    adamw = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.99), fused=fused)
    found: list[torch.optim.Optimizer] = [adamw]
    if kernels:
        found.append(Muon(kernels, lr=recipe.muon_rate, weight_decay=MUON_DECAY, dtype=dtype))
    for optimizer in found:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return found


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


def lr_scale(recipe: TrainingRecipe, step: int, progress: float) -> float:
    """Factor on the peak rates: linear warm-up by steps, times a half cosine over `progress` down to `final_rate`."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
    share = recipe.final_rate + (1 - recipe.final_rate) * cosine
    return share * min(1.0, (step + 1) / max(recipe.warmup, 1))


class EMA:
    """Exponential moving average (EMA) of a module's parameters, which adapts faster early in the run.

    A decay of 0 keeps no copy: the average is the weights themselves.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._names = [name for name, _ in module.named_parameters()]
        self._kept = [parameter.detach().clone() for parameter in module.parameters()] if decay else []

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move the average towards the module's weights after step number `step`."""
        if not self.decay:
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        current = [parameter.detach() for parameter in module.parameters()]
        if any(isinstance(tensor, DTensor) for tensor in current):
            for kept, tensor in zip(self._kept, current, strict=True):
                kept.lerp_(tensor, 1 - decay)
        else:
            torch._foreach_lerp_(self._kept, current, 1 - decay)

    @torch.no_grad()
    def swap(self, module: nn.Module) -> None:
        """Exchange the average and the module's weights; a second call undoes the first."""
        for kept, parameter in zip(self._kept, module.parameters() if self.decay else (), strict=True):
            held = parameter.detach().clone()
            parameter.copy_(kept)
            kept.copy_(held)

    def state(self) -> dict[str, Tensor]:
        """The averaged weights by parameter name."""
        return dict(zip(self._names if self.decay else (), self._kept, strict=True))

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Load averaged weights that `state` returned."""
        for name, kept in zip(self._names if self.decay else (), self._kept, strict=True):
            kept.copy_(like(state[name], kept))
