"""What is learnt: an objective owns its modules and turns a batch into a loss. The loop knows nothing else of them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sanarestore.degradations.wordings import DEFAULT_PROMPT, vocabulary
from sanarestore.model.loading import load_model, save_model
from sanarestore.model.prompts import PromptEncoder, load_encoder, new_encoder, train_tokenizer
from sanarestore.model.refiner import Refiner, RefinerConfig
from sanarestore.training.data import Batch
from sanarestore.training.recipe import Recipe


class Objective(Protocol):
    """What the loop asks of something that can be trained."""

    modules: nn.Module
    """All that is trained."""

    def loss(self, batch: Batch) -> Tensor:
        """A scalar to go down."""

    def restore(self, batch: Batch) -> Tensor:
        """What the model makes of the degraded images, [B,3,H,W], for validation."""

    def save(self, folder: Path, recipe: Recipe, training: dict[str, Any]) -> None:
        """Write the trained model as a folder that `load_model` reads."""


class RefinerObjective:
    """The pixel refiner and its prompt encoder, with the latent path off: `generated` is the degraded image."""

    def __init__(self, refiner: Refiner, encoder: PromptEncoder, recipe: Recipe) -> None:
        self.refiner, self.encoder = refiner, encoder
        self.modules: nn.Module = nn.ModuleDict({"refiner": refiner, "text_encoder": encoder})
        self._loss = {"psnr": psnr_loss, "charbonnier": charbonnier}[recipe.loss]
        self._floor = recipe.loss_floor

    @classmethod
    def from_scratch(cls, recipe: Recipe) -> "RefinerObjective":
        """Fresh weights by the recipe's shape and seed, and a tokenizer trained on the prompt grammar."""
        shape = recipe.model
        tokenizer = train_tokenizer(vocabulary(), shape.vocabulary)
        torch.manual_seed(recipe.seed)
        encoder = new_encoder(tokenizer, width=shape.prompt_width, layers=shape.prompt_layers, heads=shape.prompt_heads)
        config = RefinerConfig(
            widths=shape.widths,
            encoder_blocks=shape.encoder_blocks,
            decoder_blocks=shape.decoder_blocks,
            prompt_width=shape.prompt_width,
        )
        return cls(Refiner(config), encoder, recipe)

    @classmethod
    def from_base(cls, name: str, recipe: Recipe) -> "RefinerObjective":
        """The weights of a restoration model, to go on from."""
        model = load_model(name)
        return cls(model.refiner.requires_grad_(True), load_encoder(model.folder), recipe)

    def loss(self, batch: Batch) -> Tensor:
        return self._loss(self.restore(batch).float(), batch.target_BCHW, self._floor)

    def restore(self, batch: Batch) -> Tensor:
        prompt_BD = self.encoder.pooled(batch.prompts)
        restored: Tensor = self.refiner(batch.degraded_BCHW, batch.degraded_BCHW, prompt_BD)
        return restored

    def save(self, folder: Path, recipe: Recipe, training: dict[str, Any]) -> None:
        save_model(
            folder,
            name=recipe.name,
            refiner=self.refiner,
            encoder=self.encoder,
            usual_prompts=usual_prompts(),
            defaults={"prompt": DEFAULT_PROMPT},
            training=training,
        )


def psnr_loss(restored_BCHW: Tensor, target_BCHW: Tensor, floor: float) -> Tensor:
    """Minus the mean PSNR in dB of the samples (Chen et al. 2022), with `floor` added to each squared error."""
    error_B = (restored_BCHW - target_BCHW).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(error_B + floor).mean()


def charbonnier(restored_BCHW: Tensor, target_BCHW: Tensor, floor: float) -> Tensor:
    """Mean of sqrt(error^2 + floor): L1 that is smooth at zero (Charbonnier et al. 1994)."""
    return (restored_BCHW - target_BCHW).square().add(floor).sqrt().mean()


def usual_prompts() -> Iterable[str]:
    """What most people type, kept as a table beside the weights so that no text encoder need be loaded."""
    nouns = (
        "noise",
        "grain",
        "JPEG artefacts",
        "JPEG artifacts",
        "compression artefacts",
        "compression artifacts",
        "blur",
    )
    verbs = ("remove {}", "remove the {}", "Remove {}", "reduce {}")
    single = (
        "", DEFAULT_PROMPT, DEFAULT_PROMPT.lower(), "restore", "restore this photo", "denoise", "Denoise", "deblur",
        "Deblur", "sharpen", "Sharpen", "upscale", "brighten", "deblock", "enhance", "increase the resolution",
        "fix the colours", "fix the colors", "fix the white balance", "brighten this photo",
    )  # fmt: skip
    return [*single, *(verb.format(noun) for verb in verbs for noun in nouns)]
