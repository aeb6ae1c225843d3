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
    """Which photograph is which expert's: the router alone, by what was done to the photographs (`RoutedSamples`)."""

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
        )

    def to(self, device: torch.device) -> None:
        super().to(device)
        self._experts.router.to(device)
        self._refiners.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss(self, batch: Batch) -> Tensor:
        names = ("", *self._experts.names)
        wanted_B = torch.tensor([names.index(kind) if kind in names else 0 for kind in batch.kinds])
        logits_BE = self._experts.router(self._evidence(batch), self._prompts(batch))
        return nn.functional.cross_entropy(logits_BE, wanted_B.to(logits_BE.device))

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
