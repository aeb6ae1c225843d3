"""What is learnt: an objective owns its modules and turns a batch into a loss. The loop knows nothing else of them.

Shape suffixes: B batch, C channels, H W pixels or latent positions, D prompt features.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sanarestore.degradations.recipes import stream
from sanarestore.degradations.wordings import KINDS, plain
from sanarestore.errors import UsageError
from sanarestore.flow import on_path, training_times, velocity
from sanarestore.model.evidence import evidence
from sanarestore.model.loading import LatentPath
from sanarestore.model.prompts import pool
from sanarestore.model.transformer import Tokens
from sanarestore.training.data import Batch
from sanarestore.training.losses import charbonnier, off_unit_variance, psnr_loss, taught_loss
from sanarestore.training.parts import Parts
from sanarestore.training.recipe import FLOWING, LATENT_OBJECTIVES, Recipe
from sanarestore.training.teachers import Teachers

VARIANCE_WEIGHT = 1.0
"""Decibels that the latents' distance from unit variance weighs."""


class Objective(Protocol):
    """What the loop asks of something that can be trained."""

    modules: nn.Module
    """All that is trained."""

    def to(self, device: torch.device) -> None:
        """Move all that a loss needs there, what is not trained too."""

    def loss(self, batch: Batch) -> Tensor:
        """A scalar to go down."""

    def restore(self, batch: Batch) -> Tensor:
        """What the model makes of the degraded images, [B,3,H,W], for validation."""

    def save(self, folder: Path, recipe: Recipe, training: dict[str, Any]) -> None:
        """Write the trained model as a folder that `load_model` reads."""


class _PartsObjective:
    """What the objectives share: parts, some of them trained and the others frozen."""

    def __init__(self, parts: Parts, recipe: Recipe, trained: dict[str, nn.Module]) -> None:
        self.parts = parts
        self.recipe = recipe
        self.modules: nn.Module = nn.ModuleDict(trained)
        everything: list[nn.Module] = [parts.refiner, parts.encoder, *filter(None, [parts.lora, parts.refiner_lora])]
        if parts.latent:
            everything += [parts.latent.autoencoder, parts.latent.transformer]
        self._everything = nn.ModuleList(everything)
        stride = parts.refiner.stride
        if recipe.patch % stride:
            raise UsageError(
                f"crops of {recipe.patch} px do not fit this refiner",
                where="patch", next_step=f"Use a multiple of {stride}.",
            )  # fmt: skip
        if self.refines_generated and recipe.patch % _latent(parts).autoencoder.stride:
            raise UsageError(
                f"crops of {recipe.patch} px do not fit the base's latents",
                where="patch", next_step=f"Use a multiple of {_latent(parts).autoencoder.stride}.",
            )  # fmt: skip
        self._everything.requires_grad_(False)
        self.modules.requires_grad_(True)

    def to(self, device: torch.device) -> None:
        self._everything.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def save(self, folder: Path, recipe: Recipe, training: dict[str, Any]) -> None:
        parts = self.parts
        if self._retrains_refiner:
            parts = replace(parts, experts=None)
        if self.refines_generated and parts.latent:
            parts = replace(parts, defaults={**parts.defaults, "latent": True})
        parts.save(folder, recipe.name, training)

    @property
    def _retrains_refiner(self) -> bool:
        """Whether experts, who are what they change of the refiner, are none of this one any more."""
        owned = nn.ModuleDict(self.parts.expert)
        return any(parameter.requires_grad for parameter in owned.parameters())

    @property
    def refines_generated(self) -> bool:
        """Whether the refiner has learnt to work on what the latent path generates."""
        return False

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _tokens(self, batch: Batch) -> Tokens:
        """Prompt embeddings; never compiled, or every new wording would be."""
        token_BLD, mask_BL = self.parts.encoder(batch.prompts)
        device = batch.degraded_BCHW.device
        return Tokens(token_BLD=token_BLD.to(device), mask_BL=mask_BL.to(device))

    def _refined(self, batch: Batch, generated_BCHW: Tensor, tokens: Tokens) -> Tensor:
        prompt_BD = pool(tokens.token_BLD, tokens.mask_BL)
        restored: Tensor = self.parts.refiner(batch.degraded_BCHW, generated_BCHW, prompt_BD, batch.tone_BK)
        return restored

    def _pixel_loss(self, restored_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        recipe = self.recipe
        if recipe.loss == "charbonnier":
            return charbonnier(restored_BCHW.float(), target_BCHW, recipe.loss_floor)
        return psnr_loss(restored_BCHW.float(), target_BCHW, recipe.loss_floor, recipe.coarse_weight)


class RefinerObjective(_PartsObjective):
    """The pixel refiner and its prompt encoder; `generated` is what a frozen latent path gives, where that is on."""

    def __init__(self, parts: Parts, recipe: Recipe, trained: dict[str, nn.Module] | None = None) -> None:
        super().__init__(parts, recipe, trained or parts.refining)
        self._teachers = Teachers.load(recipe.teachers) if recipe.teachers else None

    @property
    def refines_generated(self) -> bool:
        return self.parts.latent is not None and bool(self.parts.defaults.get("latent", True))

    def to(self, device: torch.device) -> None:
        super().to(device)
        if self._teachers:
            self._teachers.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss(self, batch: Batch) -> Tensor:
        if self._teachers is None:
            return self._pixel_loss(self.restore(batch), batch.target_BCHW)
        recipe, taught_BCHW = self.recipe, self._taught(batch)
        return taught_loss(
            self.restore(batch).float(), batch.target_BCHW, taught_BCHW, recipe.taught,
            recipe.loss_floor, recipe.coarse_weight,
        )  # fmt: skip

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _taught(self, batch: Batch) -> Tensor:
        """Never compiled: it would be anew for every view."""
        assert self._teachers is not None
        taught_BCHW: Tensor = self._teachers(batch, self.recipe.seed)
        return taught_BCHW

    def restore(self, batch: Batch) -> Tensor:
        tokens = self._tokens(batch)
        generated_BCHW = batch.degraded_BCHW
        if self.refines_generated:
            with torch.no_grad():
                generated_BCHW = generate(_latent(self.parts), batch, tokens, seed=self.recipe.seed)
        return self._refined(batch, generated_BCHW, tokens)


class ExpertObjective(RefinerObjective):
    """The refiner for some degradations alone: what it shares with the one it comes from stays, and the prompts too."""

    def __init__(self, parts: Parts, recipe: Recipe) -> None:
        super().__init__(parts, recipe, parts.expert)


class ToneObjective(_PartsObjective):
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


class RouterObjective(_PartsObjective):
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


class AutoencoderObjective(_PartsObjective):
    """Reconstruction, of clean and of degraded images alike: the condition is what the encoder makes of the latter."""

    def __init__(self, parts: Parts, recipe: Recipe) -> None:
        super().__init__(parts, recipe, {"autoencoder": _latent(parts).autoencoder})

    def loss(self, batch: Batch) -> Tensor:
        # Alternately, so that a step costs as much as its batch.
        given_BCHW = torch.cat([batch.target_BCHW[::2], batch.degraded_BCHW[1::2]])
        autoencoder = _latent(self.parts).autoencoder
        latent_BCHW = autoencoder.encode(given_BCHW)
        reconstructed = autoencoder.decode(latent_BCHW)
        return self._pixel_loss(reconstructed, given_BCHW) + VARIANCE_WEIGHT * off_unit_variance(latent_BCHW)

    def restore(self, batch: Batch) -> Tensor:
        """The clean images, encoded and decoded: the most that the latent path can reach."""
        autoencoder = _latent(self.parts).autoencoder
        return autoencoder.decode(autoencoder.encode(batch.target_BCHW))


class FlowObjective(_PartsObjective):
    """Flow matching on latents: the transformer and its condition; the prompt encoder stays as the refiner left it."""

    def __init__(self, parts: Parts, recipe: Recipe) -> None:
        super().__init__(parts, recipe, parts.flowing)

    def loss(self, batch: Batch) -> Tensor:
        latent, recipe = _latent(self.parts), self.recipe
        with torch.no_grad():
            condition_BCHW = latent.autoencoder.encode(batch.degraded_BCHW).repeat(recipe.draws, 1, 1, 1)
            clean_BCHW = latent.autoencoder.encode(batch.target_BCHW).repeat(recipe.draws, 1, 1, 1)
            tokens = self._tokens(batch).repeated(recipe.draws)
        generator = torch.Generator().manual_seed(int(stream(recipe.seed, "flow", batch.number).integers(2**62)))
        noise_BCHW = torch.randn(clean_BCHW.shape, generator=generator).to(clean_BCHW)
        time_B = training_times(len(clean_BCHW), generator, shift=latent.flow.shift, p_one=recipe.p_one)
        time_B = time_B.to(clean_BCHW)
        noised_BCHW = on_path(clean_BCHW, noise_BCHW, time_B)
        predicted_BCHW = latent.transformer(noised_BCHW, condition_BCHW, tokens, time_B)
        loss: Tensor = (predicted_BCHW - velocity(clean_BCHW, noise_BCHW)).square().mean()
        one_B = time_B == 1
        if not recipe.agreement_weight or not one_B.any():
            return loss
        other_BCHW = drawn_noise(recipe.seed, batch.number, noise_BCHW.shape).to(noise_BCHW)
        again_BCHW = one_step(latent, condition_BCHW[one_B], tokens[one_B], other_BCHW[one_B])
        apart = (noise_BCHW - predicted_BCHW)[one_B] - again_BCHW
        agreed: Tensor = loss + recipe.agreement_weight * apart.square().mean()
        return agreed

    def restore(self, batch: Batch) -> Tensor:
        return generate(_latent(self.parts), batch, self._tokens(batch), seed=self.recipe.seed)


class EndToEndObjective(_PartsObjective):
    """All at once: the refiner's error reaches decoder, transformer and condition, through one step of the flow."""

    def __init__(self, parts: Parts, recipe: Recipe) -> None:
        # An adapter carries no decoder: a published one stays as it is.
        decoder = {} if parts.base else {"decoder": _latent(parts).autoencoder.decoder}
        super().__init__(parts, recipe, {**parts.refining, **parts.flowing, **decoder})

    @property
    def refines_generated(self) -> bool:
        return True

    def loss(self, batch: Batch) -> Tensor:
        latent, recipe, tokens = _latent(self.parts), self.recipe, self._tokens(batch)
        condition_BCHW = latent.autoencoder.encode(batch.degraded_BCHW)
        seeds = (recipe.seed, recipe.seed + 1) if recipe.agreement_weight else (recipe.seed,)
        drawn = [drawn_noise(seed, batch.number, condition_BCHW.shape).to(condition_BCHW) for seed in seeds]
        clean = [one_step(latent, condition_BCHW, tokens, noise_BCHW) for noise_BCHW in drawn]
        generated_BCHW = latent.autoencoder.decode(clean[0])
        loss = self._pixel_loss(self._refined(batch, generated_BCHW, tokens), batch.target_BCHW)
        # Of its own too, or the generated image would become whatever serves the refiner, and fidelity 0 nothing.
        loss = loss + recipe.generated_weight * self._pixel_loss(generated_BCHW, batch.target_BCHW)
        return loss + recipe.agreement_weight * (clean[0] - clean[-1]).square().mean()

    def restore(self, batch: Batch) -> Tensor:
        tokens = self._tokens(batch)
        return self._refined(batch, generate(_latent(self.parts), batch, tokens, seed=self.recipe.seed), tokens)


def generate(latent: LatentPath, batch: Batch, tokens: Tokens, *, seed: int) -> Tensor:
    """The degraded images through the latent path in one step from noise, [B,3,H,W]; gradients pass."""
    condition_BCHW = latent.autoencoder.encode(batch.degraded_BCHW)
    noise_BCHW = drawn_noise(seed, batch.number, condition_BCHW.shape).to(condition_BCHW)
    return latent.autoencoder.decode(one_step(latent, condition_BCHW, tokens, noise_BCHW))


def one_step(latent: LatentPath, condition_BCHW: Tensor, tokens: Tokens, noise_BCHW: Tensor) -> Tensor:
    """z = e - v(e, 1), [B,C,H,W]: the whole way in one Euler step."""
    one_B = noise_BCHW.new_ones(len(noise_BCHW))
    clean_BCHW: Tensor = noise_BCHW - latent.transformer(noise_BCHW, condition_BCHW, tokens, one_B)
    return clean_BCHW


def drawn_noise(seed: int, number: int, shape: Sequence[int]) -> Tensor:
    """What the images of step `number` are generated from: on the CPU, whatever was drawn before."""
    generator = torch.Generator().manual_seed(int(stream(seed, "generate", number).integers(2**62)))
    return torch.randn(shape, generator=generator)


def new_objective(recipe: Recipe, base: str | None = None, *, rank: int | None = None) -> Objective:
    """The recipe's objective, on fresh weights or on those of a base; a latent path is added where it needs one.

    With a `rank`, low-rank changes of a base are trained: of its transformer, or under the objective refiner of that.
    """
    if rank and not base:
        raise UsageError("fresh weights are not adapted", where="--lora", next_step="Name a --base, or leave it out.")
    parts = Parts.from_base(base, recipe, rank) if base else Parts.from_scratch(recipe)
    if parts.is_published and recipe.objective not in FLOWING:
        raise UsageError(
            f"the objective '{recipe.objective}' would leave the base's condition untrained, and the photo unseen",
            where=parts.base, next_step="Use a recipe whose objective is flow or end-to-end.",
        )  # fmt: skip
    kinds: dict[str, Callable[[Parts, Recipe], Objective]] = {
        "tone": ToneObjective,
        "refiner": RefinerObjective,
        "wording": WordingObjective,
        "expert": ExpertObjective,
        "router": RouterObjective,
        "autoencoder": AutoencoderObjective,
        "flow": FlowObjective,
        "end-to-end": EndToEndObjective,
    }
    parts = parts.with_latent_path(recipe) if recipe.objective in LATENT_OBJECTIVES else parts
    return kinds[recipe.objective](parts, recipe)


def _latent(parts: Parts) -> LatentPath:
    assert parts.latent is not None, "new_objective gives one"
    return parts.latent
