"""A memory of what a router learnt from: refining a crop costs a second, weighing its results again nothing.

Shape suffixes: B batch, K routing features, D prompt features, E refiners, R remembered samples.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

CAPACITY = 8192
"""Samples remembered; later ones replace the earliest. One takes about 1 kB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weighable:
    """All that a router's loss needs of some samples."""

    features_BK: Tensor
    prompt_BD: Tensor
    asked_BE: Tensor
    """Whether each refiner may run."""
    errors_BEE: Tensor
    """Mean product of the errors of every two refiners: shares s have the mean squared error s' M s."""

    def squared(self, share_BE: Tensor) -> Tensor:
        """Mean squared error [B] of the results mixed in these shares."""
        return torch.einsum("be,bef,bf->b", share_BE, self.errors_BEE, share_BE)

    @classmethod
    def joined(cls, parts: "list[Weighable]") -> "Weighable":
        """Concatenate batches."""
        fields = ("features_BK", "prompt_BD", "asked_BE", "errors_BEE")
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in fields})


class Replay(nn.Module):
    """Remembered samples, in buffers that checkpoints keep: a resumed run repeats the same ones."""

    features_RK: Tensor
    prompt_RD: Tensor
    asked_RE: Tensor
    errors_REE: Tensor
    seen: Tensor

    def __init__(self, *, features: int, prompt: int, refiners: int, capacity: int = CAPACITY) -> None:
        super().__init__()
        self.capacity = capacity
        self.register_buffer("features_RK", torch.zeros(capacity, features))
        self.register_buffer("prompt_RD", torch.zeros(capacity, prompt))
        self.register_buffer("asked_RE", torch.zeros(capacity, refiners, dtype=torch.bool))
        self.register_buffer("errors_REE", torch.zeros(capacity, refiners, refiners))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def __len__(self) -> int:
        return min(int(self.seen), self.capacity)

    @torch.no_grad()
    def add(self, samples: Weighable) -> None:
        """Remember some samples."""
        count = len(samples.asked_BE)
        places = torch.arange(int(self.seen), int(self.seen) + count, device=self.seen.device) % self.capacity
        self.features_RK[places] = samples.features_BK
        self.prompt_RD[places] = samples.prompt_BD
        self.asked_RE[places] = samples.asked_BE
        self.errors_REE[places] = samples.errors_BEE
        self.seen += count

    def draw(self, count: int, rng: np.random.Generator) -> Weighable:
        """Draw `count` remembered samples, some perhaps twice; none if nothing is remembered."""
        places = torch.from_numpy(rng.integers(max(len(self), 1), size=count if len(self) else 0))
        places = places.to(self.seen.device)
        return Weighable(
            features_BK=self.features_RK[places], prompt_BD=self.prompt_RD[places], asked_BE=self.asked_RE[places],
            errors_BEE=self.errors_REE[places],
        )  # fmt: skip
