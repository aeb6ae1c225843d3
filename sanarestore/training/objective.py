"""The interface between loop and objectives, which own the trained modules and turn a batch into a loss.

Shape suffixes: B batch, C channels, H W pixels or latent positions, D prompt features.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sanarestore.degradations.requests import Request
from sanarestore.errors import UsageError
from sanarestore.model.colour_correction import WholePhoto
from sanarestore.model.prompts import pool
from sanarestore.model.transformer import Tokens
from sanarestore.training.batching import Batch
from sanarestore.training.losses import psnr_loss
from sanarestore.training.mixing import Mixture
from sanarestore.training.parts import Parts
from sanarestore.training.ranks import Ranks
from sanarestore.training.recipe import TrainingRecipe


class Objective(Protocol):
    """The interface of an objective for the training loop."""

    modules: nn.Module
    """All trained modules."""

    def to(self, device: torch.device) -> None:
        """Move everything that the loss needs to a device, frozen parts included."""

    def loss(self, batch: Batch) -> Tensor:
        """Compute a scalar to minimise."""

    def restore(self, batch: Batch) -> Tensor:
        """Restore the degraded images, [B,3,H,W], for validation."""

    def shard(self, ranks: Ranks) -> None:
        """Shard the weights that are worth it over the processes."""

    def save(self, folder: Path, recipe: TrainingRecipe, training: dict[str, Any]) -> None:
        """Write the trained model as a folder that `load_model` reads."""


class PartsObjective:
    """Base class of the objectives: a model's parts, some of them trained and the others frozen."""

    def __init__(self, parts: Parts, recipe: TrainingRecipe, trained: dict[str, nn.Module]) -> None:
        self.parts = parts
        self.recipe = recipe
        self.modules: nn.Module = nn.ModuleDict(trained)
        everything: list[nn.Module] = [parts.refiner, *filter(None, [parts.reader, parts.lora, parts.refiner_lora])]
        if parts.latent:
            everything += [parts.latent.autoencoder, parts.latent.transformer]
        self._everything = nn.ModuleList(everything)
        stride = parts.refiner.stride
        if recipe.patch % stride:
            raise UsageError(
                f"crops of {recipe.patch} px do not fit this refiner",
                where="patch", next_step=f"Use a multiple of {stride}.",
            )  # fmt: skip
        if self.refines_generated and recipe.patch % self.parts.path.autoencoder.stride:
            raise UsageError(
                f"crops of {recipe.patch} px do not fit the base's latents",
                where="patch", next_step=f"Use a multiple of {self.parts.path.autoencoder.stride}.",
            )  # fmt: skip
        self._everything.requires_grad_(False)
        self.modules.requires_grad_(True)
        if recipe.gradient_checkpointing and parts.latent:
            parts.latent.transformer.checkpoint_gradients()
            parts.latent.autoencoder.gradient_checkpointing = True

    def to(self, device: torch.device) -> None:
        self._everything.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def shard(self, ranks: Ranks) -> None:
        if "transformer" not in self.modules._modules or self.parts.latent is None:
            raise UsageError(
                "only a transformer that is trained whole is sharded", where="--shard",
                next_step="Leave it out: every process then holds the trained weights.",
            )  # fmt: skip
        ranks.shard(self.parts.latent.transformer.transformer)

    def save(self, folder: Path, recipe: TrainingRecipe, training: dict[str, Any]) -> None:
        parts = self.parts
        if self._retrains_refiner:
            parts = replace(parts, experts=None)
        if self.refines_generated and parts.latent:
            parts = replace(parts, defaults={**parts.defaults, "latent": True})
        if recipe.scale > 1:
            parts = replace(parts, defaults={**parts.defaults, "scale": recipe.scale})
        if self.steps_range is not None:
            earlier = parts.defaults.get("steps_range") or self.steps_range
            both = [*zip(earlier, self.steps_range, strict=True)]
            parts = replace(parts, defaults={**parts.defaults, "steps_range": [min(both[0]), max(both[1])]})
        parts.save(folder, recipe.name, training)

    @property
    def _retrains_refiner(self) -> bool:
        """Whether the refiner is trained, which invalidates its experts: they are stored as differences from it."""
        owned = nn.ModuleDict(self.parts.expert)
        return any(parameter.requires_grad for parameter in owned.parameters())

    @property
    def refines_generated(self) -> bool:
        """Whether the refiner is trained on images that the latent path generates."""
        return False

    @property
    def steps_range(self) -> tuple[int, int] | None:
        """Smallest and largest number of sampling steps that the transformer is trained for; None if it is not."""
        return None

    @property
    def drops_experts(self) -> bool:
        """Whether the base has experts that training drops; False for a refiner that becomes an expert itself."""
        is_dropping = self._retrains_refiner or self.parts.refiner_lora is not None
        is_compared = not self.parts.is_adapted and self.recipe.objective != "expert"
        return self.parts.experts is not None and is_dropping and is_compared

    def by_experts(self, batch: Batch, mixture: Mixture, generate: Callable[[Tokens], Tensor] | None = None) -> Tensor:
        """Restore by a refiner and its experts [B,3,H,W], around generated images if `generate` is given."""
        tokens = self._tokens(batch)
        given_BCHW = generate(tokens) if generate else batch.degraded_BCHW
        prompt_BD = pool(tokens.token_BLD, tokens.mask_BL)
        return mixture.restore(batch.degraded_BCHW, given_BCHW, prompt_BD, self._whole(batch), self._requests(batch))

    def at_fidelities(self, batch: Batch, generate: Callable[[Tokens], Tensor]) -> dict[int, Tensor]:
        """Results [B,3,H,W] at fidelity 0 and 1 around another way to generate images from the prompts."""
        tokens = self._tokens(batch)
        generated_BCHW = generate(tokens)
        given_BCHW = generated_BCHW if self._is_given_generated else batch.degraded_BCHW
        return {0: generated_BCHW, 1: self._refined(batch, given_BCHW, tokens)}

    @property
    def _is_given_generated(self) -> bool:
        """Whether the refiner receives generated images; otherwise it refines the photograph itself."""
        return self.refines_generated or bool(self.parts.defaults.get("latent", True))

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _tokens(self, batch: Batch) -> Tokens:
        """Embed the prompts; never compiled, because every new wording would trigger a compilation."""
        tokens: Tokens = self.parts.prompts(batch.prompts, self._requests(batch))
        device = batch.degraded_BCHW.device
        return Tokens(token_BLD=tokens.token_BLD.to(device), mask_BL=tokens.mask_BL.to(device))

    def _requests(self, batch: Batch) -> list[Request]:
        """Return the requests of the prompts."""
        return self.parts.prompts.requests(batch.prompts, batch.requests)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _whole(self, batch: Batch) -> WholePhoto:
        """Statistics of the whole photographs, and whether the prompts ask for light or colour."""
        asked = [[float(request.is_lit), float(request.is_coloured)] for request in self._requests(batch)]
        return WholePhoto(statistics_BK=batch.statistics_BK, asked_B2=torch.tensor(asked).to(batch.statistics_BK))

    def _refined(self, batch: Batch, generated_BCHW: Tensor, tokens: Tokens) -> Tensor:
        prompt_BD = pool(tokens.token_BLD, tokens.mask_BL)
        restored: Tensor = self.parts.refiner(batch.degraded_BCHW, generated_BCHW, prompt_BD, self._whole(batch))
        return restored

    def _pixel_loss(self, restored_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        return psnr_loss(restored_BCHW.float(), target_BCHW, self.recipe.loss_floor, self.recipe.coarse_weight)
