"""AdamW, the learning-rate schedule, and the averaged weights."""

import math

import torch
from torch import Tensor, nn

from sanarestore.training.recipe import Recipe


def adamw(modules: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019); biases, norms and gains are not decayed."""
    parameters = [parameter for parameter in modules.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.99))


def learning_rate(recipe: Recipe, step: int, progress: float) -> float:
    """Linear warm-up by steps, then a half cosine over `progress` in [0, 1] from the peak to `final_rate` of it."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
    rate = recipe.learning_rate * (recipe.final_rate + (1 - recipe.final_rate) * cosine)
    return rate * min(1.0, (step + 1) / max(recipe.warmup, 1))


class Average:
    """Exponential moving average of a module's parameters, faster while the run is young."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._names = [name for name, _ in module.named_parameters()]
        self._kept = [parameter.detach().clone() for parameter in module.parameters()]

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move towards the module's weights after step number `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._kept, [parameter.detach() for parameter in module.parameters()], 1 - decay)

    @torch.no_grad()
    def swap(self, module: nn.Module) -> None:
        """Exchange the average and the module's weights; call it twice to be where one was."""
        for kept, parameter in zip(self._kept, module.parameters(), strict=True):
            held = parameter.detach().clone()
            parameter.copy_(kept)
            kept.copy_(held)

    def state(self) -> dict[str, Tensor]:
        """The averaged weights by parameter name."""
        return dict(zip(self._names, self._kept, strict=True))

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Put saved averages back."""
        for name, kept in zip(self._names, self._kept, strict=True):
            kept.copy_(state[name])
