"""Teachers: models that are already trained, whose restorations a refiner learns from beside the clean photographs.

What a photograph tells a network is mostly what no network can know of it: the error that is left at 31 dB is twenty
times as large as what a better one would take away, and drowns it in every step. What a teacher makes of the same
crop, turned and turned back, holds no such chance; turned another way for every batch, the mean that is learnt is that
of all eight ways, and of all teachers, which is better than any of them.

Shape suffixes: B batch, C channels, H W pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sanarestore.degradations.recipes import stream
from sanarestore.errors import UsageError
from sanarestore.model.loading import load_model
from sanarestore.model.prompts import PromptEncoder, load_encoder, pool
from sanarestore.model.refiner import Refiner
from sanarestore.training.data import Batch

VIEWS = 8
"""Ways to turn a square: four quarter turns, each mirrored or not."""


class Teacher(nn.Module):
    """The refiner of a trained model and the encoder of its prompts, frozen."""

    def __init__(self, refiner: Refiner, encoder: PromptEncoder) -> None:
        super().__init__()
        self.refiner = refiner
        self.encoder = encoder
        self.eval().requires_grad_(False)

    @classmethod
    def load(cls, name: str) -> "Teacher":
        """By name (see `weights.resolve`); WeightsError if it cannot be read, UsageError if its refiner works on what
        its latent path generates."""
        model = load_model(name)
        if model.latent is not None and model.refines_generated:
            raise UsageError(
                "its refiner was trained on what its latent path generates, which a teacher has not",
                where=name, next_step="Name a model whose defaults say latent = false.",
            )  # fmt: skip
        return cls(model.refiner, load_encoder(model.folder))

    def forward(self, batch: Batch, view: int) -> Tensor:
        """The degraded images of a batch, restored as they stand when turned by `view`, [B,3,H,W]."""
        prompt_BD = pool(*self.encoder(batch.prompts))
        degraded_BCHW = turned(batch.degraded_BCHW, view).contiguous(memory_format=torch.channels_last)
        restored_BCHW: Tensor = self.refiner(degraded_BCHW, degraded_BCHW, prompt_BD, batch.tone_BK)
        return turned_back(restored_BCHW.float(), view)


class Teachers(nn.Module):
    """Some of them, each of whom restores its share of a batch."""

    def __init__(self, teachers: Sequence[Teacher]) -> None:
        super().__init__()
        self.teachers = nn.ModuleList(teachers)

    @classmethod
    def load(cls, names: Sequence[str]) -> "Teachers":
        """By their names, see `Teacher.load`."""
        return cls([Teacher.load(name) for name in names])

    @torch.no_grad()
    def forward(self, batch: Batch, seed: int) -> Tensor:
        """What is to be learnt of the batch, [B,3,H,W]: each restores its share, in a view that the step draws."""
        taught_BCHW = torch.empty_like(batch.target_BCHW)
        rng = stream(seed, "teachers", batch.number)
        for place, teacher in enumerate(self.teachers):
            share = slice(place, None, len(self.teachers))
            taught_BCHW[share] = teacher(batch[share], int(rng.integers(VIEWS)))
        return taught_BCHW


def turned(image_BCHW: Tensor, view: int) -> Tensor:
    """An image turned by `view` % 4 quarters and, from the fifth view on, mirrored."""
    image_BCHW = image_BCHW.rot90(view % 4, dims=(2, 3))
    return image_BCHW.flip(3) if view >= VIEWS // 2 else image_BCHW


def turned_back(image_BCHW: Tensor, view: int) -> Tensor:
    """What `turned` has turned, as it was."""
    image_BCHW = image_BCHW.flip(3) if view >= VIEWS // 2 else image_BCHW
    return image_BCHW.rot90(-(view % 4), dims=(2, 3))
