"""Choose the optimizers of a recipe and count their memory; the learning-rate schedule, and the EMA of weights."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from sanarestore.training.adamw8bit import AdamW8bit
from sanarestore.training.blockwise import LARGE, local
from sanarestore.training.came import CAME
from sanarestore.training.muon import MUON_DECAY, MUON_SIDE, Muon
from sanarestore.training.ranks import like
from sanarestore.training.recipe import TrainingRecipe

LONGEST_WARMUP = 0.1
"""Largest share of a run for the warm-up."""

BETAS = (0.9, 0.99)
"""Decays of AdamW's moments, in 32 and in 8 bits."""


def optimizers(
    modules: nn.Module, recipe: TrainingRecipe, dtype: torch.dtype = torch.float32
) -> list[torch.optim.Optimizer]:
    """Create the optimizers of `modules`; each parameter group keeps its peak rate as `initial_lr`.

    No optimizer decays biases, norms and gains. Under `muon`, Muon trains the kernels of convolutions, orthogonalised
    in `dtype`, and AdamW (Loshchilov & Hutter 2019) the rest. Under `adamw8bit`, AdamW trains what is too small for
    8 bits.
    """
    parameters = [parameter for parameter in modules.parameters() if parameter.requires_grad]
    if recipe.optimizer in ("came", "came8bit"):
        eight_bit = recipe.optimizer == "came8bit"
        found: list[torch.optim.Optimizer] = [
            CAME(_groups(parameters, recipe), lr=recipe.learning_rate, eight_bit=eight_bit)
        ]
    else:
        special = [parameter for parameter in parameters if _is_special(parameter, recipe)]
        taken = {id(parameter) for parameter in special}
        found = [_adamw([parameter for parameter in parameters if id(parameter) not in taken], recipe)]
        if special and recipe.optimizer == "muon":
            found.append(Muon(special, lr=recipe.muon_rate, weight_decay=MUON_DECAY, dtype=dtype))
        elif special:
            found.append(AdamW8bit(special, recipe.learning_rate, BETAS, weight_decay=recipe.weight_decay))
    for optimizer in found:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return found


def _is_special(parameter: Tensor, recipe: TrainingRecipe) -> bool:
    """Return whether a parameter has an optimizer other than AdamW: Muon, or AdamW in 8 bits."""
    if recipe.optimizer == "muon":
        return recipe.muon_rate > 0 and parameter.ndim == 4 and min(parameter.flatten(1).shape) >= MUON_SIDE
    return recipe.optimizer == "adamw8bit" and parameter.ndim >= 2 and parameter.numel() >= LARGE


def _adamw(parameters: list[nn.Parameter], recipe: TrainingRecipe) -> torch.optim.AdamW:
    # Fused on CUDA, where it saves kernel launches; elsewhere unfused, so that results stay the same to the bit.
    fused = True if any(parameter.is_cuda for parameter in parameters) else None
    return torch.optim.AdamW(_groups(parameters, recipe), lr=recipe.learning_rate, betas=BETAS, fused=fused)


def _groups(parameters: list[nn.Parameter], recipe: TrainingRecipe) -> list[dict[str, Any]]:
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def state_bytes(optimizers: Iterable[torch.optim.Optimizer]) -> int:
    """Bytes of state that optimizers hold in this process; nothing before their first step."""
    entries = (entry for optimizer in optimizers for entry in optimizer.state.values())
    return sum(local(value).nbytes for entry in entries for value in entry.values() if isinstance(value, Tensor))


def state_of(made: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The state of optimizers as tensors named `optimizer.parameter.key`, by number."""
    return {
        f"{which}.{index}.{key}": torch.as_tensor(value)
        for which, optimizer in enumerate(made)
        for index, entry in optimizer.state_dict()["state"].items()
        for key, value in entry.items()
    }


def load_state(made: Sequence[torch.optim.Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Load the state that `state_of` returned, sharded as the parameters are."""
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in made]
    for name, tensor in tensors.items():
        which, index, key = name.split(".", 2)
        place = [each for group in made[int(which)].param_groups for each in group["params"]][int(index)]
        # Only tensors of the parameter's shape are sharded like it.
        moved = like(tensor, place) if tensor.shape == place.shape else tensor
        states[int(which)].setdefault(int(index), {})[key] = moved
    for optimizer, state in zip(made, states, strict=True):
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def lr_scale(recipe: TrainingRecipe, step: int, progress: float) -> float:
    """Factor on the peak rates: linear warm-up by steps, times a half cosine over `progress` down to `final_rate`.

    The warm-up ends after a tenth of the run at the latest: a run with a short time limit would learn nothing else.
    """
    cosine = 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
    share = recipe.final_rate + (1 - recipe.final_rate) * cosine
    return share * min(1.0, max((step + 1) / max(recipe.warmup, 1), progress / LONGEST_WARMUP))


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
