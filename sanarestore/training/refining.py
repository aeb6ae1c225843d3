"""Training objectives of the refiner, its experts, their router, global colour correction and the prompt reader.

Shape suffixes: B batch, C channels, H W pixels or latent positions, K routing features, D prompt features, E choices.
"""

import zlib
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from sanarestore.degradations.grammar import Wording
from sanarestore.degradations.recipes import stream
from sanarestore.degradations.requests import KINDS, Request, folded
from sanarestore.errors import UsageError
from sanarestore.model.prompts import pool
from sanarestore.model.reading import ABSENT, KEPT, REMOVED, Reader
from sanarestore.model.routing import ROUTING_FEATURES, routing_features
from sanarestore.training.batching import Batch
from sanarestore.training.data import OverviewSamples
from sanarestore.training.generating import generate
from sanarestore.training.growing import renew_colour_correction
from sanarestore.training.losses import decibels
from sanarestore.training.mixing import Mixture
from sanarestore.training.objective import PartsObjective
from sanarestore.training.parts import Parts
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.replay import Replay, Weighable

AT_ONCE = 64
"""Prompts of about the same length that are read together in training."""

MEASURED = 1024
"""Samples by which the statistics of photographs are normalised."""

REPLAYED = 63
"""Samples of earlier steps that a router's step repeats, per new one."""


class RefinerObjective(PartsObjective):
    """Train the pixel refiner, on images from a frozen latent path if that is on, otherwise on degraded ones."""

    def __init__(self, parts: Parts, recipe: TrainingRecipe, trained: dict[str, nn.Module] | None = None) -> None:
        super().__init__(parts, recipe, trained or parts.refining)

    @property
    def refines_generated(self) -> bool:
        return self.parts.latent is not None and bool(self.parts.defaults.get("latent", True))

    def loss(self, batch: Batch) -> Tensor:
        return self._pixel_loss(self.restore(batch), batch.target_BCHW)

    def restore(self, batch: Batch) -> Tensor:
        tokens = self._tokens(batch)
        generated_BCHW = batch.degraded_BCHW
        if self.refines_generated:
            with torch.no_grad():
                generated_BCHW = generate(self.parts.path, batch, tokens, seed=self.recipe.seed)
        return self._refined(batch, generated_BCHW, tokens)


class ExpertObjective(RefinerObjective):
    """Train the refiner for some degradations only; the parts that all experts share, and the prompts, stay frozen."""

    def __init__(self, parts: Parts, recipe: TrainingRecipe) -> None:
        super().__init__(parts, recipe, parts.expert)


class ColourCorrectionObjective(PartsObjective):
    """Train only global colour correction, on overviews (`OverviewSamples`), where it learns faster than on crops."""

    def __init__(self, parts: Parts, recipe: TrainingRecipe) -> None:
        if recipe.new_colour_correction:
            torch.manual_seed(recipe.seed)
            renew_colour_correction(parts.refiner, recipe.model.colour_correction, recipe.model.colour_statistics)
        if parts.refiner.colour_correction is None:
            raise UsageError(
                "this refiner has no global colour correction to train", where="objective",
                next_step="Give it one: colour_correction = 32 under [model] in the recipe.",
            )  # fmt: skip
        self._correction = parts.refiner.colour_correction
        super().__init__(parts, recipe, {"colour_correction": self._correction})

    def prepare(self, samples: OverviewSamples) -> None:
        """Normalise new weights by the first samples of the run; weights of a base keep their normalisation."""
        if self.recipe.new_colour_correction:
            count = min(MEASURED, len(samples))
            self._correction.normalise(torch.stack([samples[index]["statistics"] for index in range(count)]))

    def loss(self, batch: Batch) -> Tensor:
        """Mean negative PSNR in dB, plus the mean loss of PSNR of those that get worse, weighted by `harm_weight`.

        There is no coarse term: the pixels of an overview lie at random.
        """
        after_B, before_B = (
            decibels((image_BCHW.float() - batch.target_BCHW).square().mean(dim=(1, 2, 3)), self.recipe.loss_floor)
            for image_BCHW in (self.restore(batch), batch.degraded_BCHW)
        )
        return (after_B + self.recipe.harm_weight * (after_B - before_B).clamp(min=0)).mean()

    def restore(self, batch: Batch) -> Tensor:
        tokens = self._tokens(batch)
        prompt_BD = pool(tokens.token_BLD, tokens.mask_BL)
        restored: Tensor = self._correction(batch.degraded_BCHW, self._whole(batch), prompt_BD)
        return restored


class WordingObjective(PartsObjective):
    """Train only the prompt reader: what a prompt asks for, and whether it is understood at all."""

    def __init__(self, parts: Parts, recipe: TrainingRecipe) -> None:
        if parts.base:
            raise UsageError(
                "an adapter has no reader of its own", where="objective", next_step="Train a model without --lora.",
            )  # fmt: skip
        torch.manual_seed(recipe.seed)
        self._reader = (parts.reader or Reader()).train()
        super().__init__(replace(parts, reader=self._reader), recipe, {"reader": self._reader})

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of what a prompt says of each kind, summed over kinds, plus that of being understood."""
        # Prompts are sorted by length: otherwise padding would be most of the computation.
        ordered = sorted(batch.wordings, key=lambda wording: len(wording.text.encode()))
        # The words themselves seed the dropout, so that a resumed run learns the same.
        torch.manual_seed(zlib.crc32("\n".join(wording.text for wording in ordered).encode()))
        losses = [self._loss(ordered[first : first + AT_ONCE]) for first in range(0, len(ordered), AT_ONCE)]
        return torch.stack(losses).sum() / len(ordered)

    def _loss(self, wordings: Sequence[Wording]) -> Tensor:
        """Sum of the loss over some prompts."""
        said_BK3, understood_B = self._reader([folded(wording.text) for wording in wordings])
        wanted_BK = torch.tensor([_said(wording) for wording in wordings], device=said_BK3.device)
        known_B = torch.tensor([float(wording.understood) for wording in wordings], device=said_BK3.device)
        kinds = nn.functional.cross_entropy(said_BK3.flatten(0, 1), wanted_BK.flatten(), reduction="sum")
        read = nn.functional.binary_cross_entropy_with_logits(understood_B, known_B, reduction="sum")
        return kinds + read

    def restore(self, batch: Batch) -> Tensor:
        """Return the degraded images: the reader changes no pixel."""
        return batch.degraded_BCHW


def _said(wording: Wording) -> list[int]:
    """Return the class of each kind in a prompt: ABSENT, REMOVED or KEPT, as in `model.reading`."""
    classes = dict.fromkeys(wording.removed, REMOVED) | dict.fromkeys(wording.kept, KEPT)
    return [classes.get(kind, ABSENT) for kind in KINDS]


class RouterObjective(PartsObjective):
    """Train only the router, which weighs the results of the refiner and its experts for each photograph."""

    def __init__(self, parts: Parts, recipe: TrainingRecipe) -> None:
        if parts.experts is None:
            raise UsageError(
                "there are no experts to choose from", where="objective",
                next_step="Name them under [experts], kind by kind, or a --base that has some.",
            )  # fmt: skip
        self._experts = parts.experts
        # Buffers of the trained modules, so that checkpoints keep them.
        self._replay = Replay(
            features=ROUTING_FEATURES, prompt=parts.refiner.config.prompt_width, refiners=1 + len(parts.experts.names)
        )
        super().__init__(parts, recipe, {"router": parts.experts.router, "replay": self._replay})
        self._mixture = Mixture(parts.experts, parts.refiner)
        self._refiners = self._mixture.refiners

    def to(self, device: torch.device) -> None:
        super().to(device)
        self.modules.to(device)
        self._refiners.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss(self, batch: Batch) -> Tensor:
        """Negative mean PSNR in dB of the weighted results, over the batch and samples of earlier ones.

        A result is judged by the middle of its crop: nearly as good a measure, in a quarter of the time.
        """
        new = self.weigh(batch)
        again = self._replay.draw(REPLAYED * len(batch.prompts), stream(self.recipe.seed, "replay", batch.number))
        self._replay.add(new)
        samples = Weighable.joined([new, again])
        # As in restoration, the router is float32.
        with torch.autocast(batch.degraded_BCHW.device.type, enabled=False):
            logit_BE = self._experts.router(samples.features_BK, samples.prompt_BD)
            share_BE = logit_BE.where(samples.asked_BE, -torch.inf).softmax(dim=1)
            return decibels(samples.squared(share_BE), self.recipe.loss_floor).mean()

    @torch.no_grad()
    def weigh(self, batch: Batch) -> Weighable:
        """Refine the crops by every refiner."""
        prompt_BD, whole = self._prompts(batch), self._whole(batch)
        side, stride = batch.degraded_BCHW.shape[2], self.parts.refiner.stride
        margin = side // 4 // stride * stride
        middle = slice(margin, side - margin)
        given_BCHW, target_BCHW = (
            image_BCHW[:, :, middle, middle] for image_BCHW in (batch.degraded_BCHW, batch.target_BCHW)
        )
        error_BEN = torch.stack(
            [
                (refiner(given_BCHW, given_BCHW, prompt_BD, whole).float().clamp(0, 1) - target_BCHW).flatten(1)
                for refiner in (self.parts.refiner, *self._refiners.values())
            ],
            dim=1,
        )
        asked_BE = torch.stack([self._experts.asked_for(request.removes) for request in self._requests(batch)])
        # As in restoration, routing features are float32; so are products, which differ by little between refiners.
        with torch.autocast(batch.degraded_BCHW.device.type, enabled=False):
            return Weighable(
                features_BK=self._features(batch), prompt_BD=prompt_BD.float(), asked_BE=asked_BE.to(prompt_BD.device),
                errors_BEE=error_BEN @ error_BEN.mT / error_BEN.shape[2],
            )  # fmt: skip

    def restore(self, batch: Batch) -> Tensor:
        """Restore each image by the mixture that the router chooses."""
        return self.by_experts(batch, self._mixture)

    def _requests(self, batch: Batch) -> list[Request]:
        return self.parts.prompts.requests(batch.prompts, batch.requests)

    def _features(self, batch: Batch) -> Tensor:
        return torch.stack([routing_features(image_CHW) for image_CHW in batch.degraded_BCHW])

    def _prompts(self, batch: Batch) -> Tensor:
        tokens = self._tokens(batch)
        return pool(tokens.token_BLD, tokens.mask_BL)
