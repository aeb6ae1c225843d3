"""Objectives of the refiner, of its experts and their router, and of the words that they are told.

Shape suffixes: B batch, C channels, H W pixels or latent positions, K evidence, D prompt features, E choices.
"""

from itertools import combinations

import torch
from torch import Tensor, nn

from sanarestore.degradations.wordings import KINDS, plain
from sanarestore.errors import UsageError
from sanarestore.model.evidence import evidence
from sanarestore.model.prompts import pool
from sanarestore.training.data import Batch
from sanarestore.training.generating import generate
from sanarestore.training.losses import decibels
from sanarestore.training.objective import PartsObjective
from sanarestore.training.parts import Parts
from sanarestore.training.recipe import Recipe


class RefinerObjective(PartsObjective):
    """The pixel refiner and its prompt encoder; `generated` is what a frozen latent path gives, where that is on."""

    def __init__(self, parts: Parts, recipe: Recipe, trained: dict[str, nn.Module] | None = None) -> None:
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
    """The refiner for some degradations alone: what it shares with the one it comes from stays, and the prompts too."""

    def __init__(self, parts: Parts, recipe: Recipe) -> None:
        super().__init__(parts, recipe, parts.expert)


class ToneObjective(PartsObjective):
    """The refiner's tone alone, on overviews (`ToneSamples`): soon learnt there, and slowly from crops."""

    def __init__(self, parts: Parts, recipe: Recipe) -> None:
        if parts.refiner.tone is None:
            raise UsageError(
                "this refiner has no tone to train", where="objective",
                next_step="Give it one: tone = 32 under [model] in the recipe.",
            )  # fmt: skip
        self._tone = parts.refiner.tone
        super().__init__(parts, recipe, {"tone": self._tone})

    def loss(self, batch: Batch) -> Tensor:
        return self._pixel_loss(self.restore(batch), batch.target_BCHW)

    def restore(self, batch: Batch) -> Tensor:
        tokens = self._tokens(batch)
        prompt_BD = pool(tokens.token_BLD, tokens.mask_BL)
        restored: Tensor = self._tone(batch.degraded_BCHW, batch.tone_BK, prompt_BD)
        return restored


class WordingObjective(RefinerObjective):
    """The prompt encoder alone: every wording shall have the embedding that its plain wording had at the beginning.

    That costs a hundredth of learning it from pictures, and the refiner, which knows the plain ones, stays as it is.
    """

    def __init__(self, parts: Parts, recipe: Recipe) -> None:
        super().__init__(parts, recipe, parts.worded)
        plainly = [plain(kinds) for count in range(len(KINDS) + 1) for kinds in combinations(KINDS, count)]
        with torch.no_grad():
            self._wanted_KD = pool(*parts.encoder(plainly))
        self._places = {wording: place for place, wording in enumerate(plainly)}
        # So that a loss of 1 is a wording that says nothing.
        self._spread = float(self._wanted_KD[1 : 1 + len(KINDS)].var(dim=0).sum())

    def to(self, device: torch.device) -> None:
        super().to(device)
        self._wanted_KD = self._wanted_KD.to(device)

    def loss(self, batch: Batch) -> Tensor:
        wanted_BD = self._wanted_KD[[self._places[meaning] for meaning in batch.meanings]]
        distance_B = (pool(*self.parts.encoder(batch.prompts)) - wanted_BD).square().sum(dim=1)
        return distance_B.mean() / self._spread


class RouterObjective(PartsObjective):
    """Which photograph is which expert's: the router alone, by what each of them makes of it."""

    def __init__(self, parts: Parts, recipe: Recipe) -> None:
        if parts.experts is None:
            raise UsageError(
                "there are no experts to choose from", where="objective",
                next_step="Name them under [experts], kind by kind, or a --base that has some.",
            )  # fmt: skip
        self._experts = parts.experts
        super().__init__(parts, recipe, {"router": parts.experts.router})
        self._refiners = nn.ModuleDict(
            {name: parts.experts.refiner(name, parts.refiner) for name in parts.experts.names}
        ).requires_grad_(False)

    def to(self, device: torch.device) -> None:
        super().to(device)
        self._experts.router.to(device)
        self._refiners.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss(self, batch: Batch) -> Tensor:
        """For every two refiners, cross-entropy of which restores an image better, weighed by how many dB (as RankNet,
        Burges et al. 2005, with a weight).

        Of two, the one is preferred then whose expected PSNR is higher; which of them restored an image better more
        often would be another. What costs little is hardly learnt.
        """
        prompt_BD = self._prompts(batch)
        error_BE = self._errors(batch, prompt_BD)
        lost_BEE = (error_BE[:, :, None] - error_BE[:, None, :]).clamp(min=0)
        # As it chooses later on: what is measured of a photograph and the router itself are in float32.
        with torch.autocast(batch.degraded_BCHW.device.type, enabled=False):
            logits_BE = self._experts.router(self._evidence(batch), prompt_BD)
        preferred_BEE = nn.functional.softplus(logits_BE[:, :, None] - logits_BE[:, None, :])
        return (lost_BEE * preferred_BEE).sum(dim=(1, 2)).mean()

    @torch.no_grad()
    def _errors(self, batch: Batch, prompt_BD: Tensor) -> Tensor:
        """What each refiner leaves of each image's error, in decibels [B,E], of the general one first.

        By the middle of the image, which tells it nearly as well in a quarter of the time.
        """
        side, stride = batch.degraded_BCHW.shape[2], self.parts.refiner.stride
        margin = side // 4 // stride * stride
        middle = slice(margin, side - margin)
        given_BCHW, target_BCHW = (
            image_BCHW[:, :, middle, middle] for image_BCHW in (batch.degraded_BCHW, batch.target_BCHW)
        )
        errors = []
        for refiner in (self.parts.refiner, *self._refiners.values()):
            restored_BCHW = refiner(given_BCHW, given_BCHW, prompt_BD, batch.tone_BK).float().clamp(0, 1)
            squared_B = (restored_BCHW - target_BCHW).square().mean(dim=(1, 2, 3))
            errors.append(decibels(squared_B, self.recipe.loss_floor))
        return torch.stack(errors, dim=1)

    def restore(self, batch: Batch) -> Tensor:
        """Each image by whom the router chooses."""
        evidence_BK, prompt_BD = self._evidence(batch), self._prompts(batch)
        restored = []
        for place, (evidence_K, prompt_D) in enumerate(zip(evidence_BK, prompt_BD, strict=True)):
            chosen = self._experts.choose(evidence_K, prompt_D)
            refiner = self._refiners[chosen] if chosen else self.parts.refiner
            one = slice(place, place + 1)
            given_1CHW = batch.degraded_BCHW[one]
            restored.append(refiner(given_1CHW, given_1CHW, prompt_D[None], batch.tone_BK[one]))
        return torch.cat(restored)

    def _evidence(self, batch: Batch) -> Tensor:
        return torch.stack([evidence(image_CHW) for image_CHW in batch.degraded_BCHW])

    def _prompts(self, batch: Batch) -> Tensor:
        tokens = self._tokens(batch)
        return pool(tokens.token_BLD, tokens.mask_BL)
