"""Train the decoder of an autoencoder after some of its blocks were removed, to decode as the whole decoder does.

Shape suffixes: B batch, C channels, H W pixels, Z latent channels, h w latent positions.
"""

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sanarestore import weights
from sanarestore.errors import UsageError
from sanarestore.model.autoencoder import Autoencoder
from sanarestore.model.base import CLASSES, load_autoencoder, read_json
from sanarestore.model.decoder_depth import without_blocks
from sanarestore.model.decoder_files import stored_bytes, write_changed
from sanarestore.training.batching import Batch
from sanarestore.training.losses import psnr_loss
from sanarestore.training.ranks import Ranks
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.starting import Start

REFERENCE = "the whole decoder"
"""Label of the validation, which compares reconstructions with those of the whole decoder."""


class DecoderObjective:
    """Reconstruction by a decoder with fewer blocks; the encoder and the whole decoder, the teacher, are frozen."""

    def __init__(
        self, whole: Autoencoder, recipe: TrainingRecipe, base: str, removed: Collection[int] = ()
    ) -> None:  # fmt: skip
        """`removed` are numbers of blocks; ValueError if they cannot be removed."""
        self.whole, self.recipe, self.base = whole, recipe, base
        self.pruned = without_blocks(whole, removed)
        self.pruned.gradient_checkpointing = recipe.gradient_checkpointing
        self.modules: nn.Module = nn.ModuleDict({"decoder": self.pruned.decoder})
        whole.requires_grad_(False)
        self.modules.requires_grad_(True)

    def without(self, numbers: Collection[int]) -> "DecoderObjective":
        """Return the objective for the whole decoder without some blocks; ValueError if they cannot be removed."""
        return DecoderObjective(self.whole, self.recipe, self.base, numbers)

    def to(self, device: torch.device) -> None:
        for each in (self.whole, self.pruned):
            each.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            latent_BZhw = self.whole.encode(batch.target_BCHW)
            wanted_BCHW = self.whole.decode(latent_BZhw) if self.recipe.teacher else batch.target_BCHW
        decoded_BCHW = self.pruned.decode(latent_BZhw)
        return psnr_loss(decoded_BCHW, wanted_BCHW, self.recipe.loss_floor, self.recipe.coarse_weight)

    def restore(self, batch: Batch) -> Tensor:
        """Encode and decode the clean images."""
        return self.pruned.decode(self.whole.encode(batch.target_BCHW))

    def shard(self, ranks: Ranks) -> None:
        raise UsageError("a decoder is not sharded", where="--shard", next_step="Leave it out.")

    def save(self, folder: Path, recipe: TrainingRecipe, training: dict[str, Any]) -> None:
        """Write a copy of the base with the smaller decoder, or the autoencoder alone; see `write_changed`."""
        write_changed(folder, self.base, self.pruned, name=recipe.name, training=training)

    @property
    def result_bytes(self) -> int:
        """Bytes of the stored autoencoder."""
        return stored_bytes(self.pruned)

    @torch.no_grad()
    def referred(self, batch: Batch) -> Batch:
        """Return a validation batch whose images to compare with are the whole decoder's reconstructions."""
        whole_BCHW = self.whole.decode(self.whole.encode(batch.target_BCHW))
        return replace(batch, degraded_BCHW=whole_BCHW.clamp(0, 1), label=REFERENCE)


def decoder_objective(
    recipe: TrainingRecipe, start: Start, read: Callable[[Path], Autoencoder] = load_autoencoder
) -> DecoderObjective:
    """Create the objective with all blocks on the autoencoder of a base, which `read` reads from its folder.

    A base is a model, an adapter, a published SANA checkpoint, or an autoencoder alone. UsageError if it has no
    AutoencoderDC; WeightsError if that cannot be read.
    """
    if start.base is None:
        raise UsageError(
            "new weights have no decoder to prune", where="--base scratch",
            next_step="Name the base whose decoder is to be pruned.",
        )  # fmt: skip
    if start.autoencoder:
        raise UsageError(
            "the decoder that is pruned is the base's", where="--autoencoder",
            next_step="Leave it out, or name this autoencoder with --base.",
        )  # fmt: skip
    folder = _folder_of(start.base)
    config = folder / "config.json"
    if not config.is_file() or read_json(config).get("_class_name") != CLASSES["vae"]:
        raise UsageError(
            f"this base has no {CLASSES['vae']}, whose decoder could be pruned", where=start.base,
            next_step="Name a base with a latent path, or leave out --prune-decoder.",
        )  # fmt: skip
    return DecoderObjective(read(folder), recipe, start.base)


def _folder_of(base: str) -> Path:
    """Folder of the autoencoder of a base, which may not exist."""
    folder = weights.resolve(base)
    if weights.is_adapter(folder):
        name = weights.chosen_autoencoder(None, base)
        if name is not None:
            return weights.autoencoder_folder(name)
        folder = weights.resolve(str(weights.read_adapter_index(folder)["base"]))
    if weights.is_model(folder):
        return folder / weights.OWN_AUTOENCODER
    return weights.autoencoder_folder(str(folder))
