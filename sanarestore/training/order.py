"""The order of a user for a training, and what follows from it before any data are read: recipe, folder, history."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from sanarestore import images, weights
from sanarestore.degradations.pairs import list_pairs
from sanarestore.errors import UsageError
from sanarestore.files import sampled_hash
from sanarestore.training.lengths import pixels_of, scaled
from sanarestore.training.progress import Schedule
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.starting import Start

SCRATCH = "scratch"
"""Name of the base for fresh weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """The order of a user for a training."""

    data: Path
    """A folder of clean photographs, or a list of pairs."""
    folder: Path
    """The folder of the run."""
    recipe: Path | None = None
    """A recipe; None for the recipe of the run to resume, or the embedded model's recipe, adjusted to the base."""
    base: str = weights.EMBEDDED
    """Name of a model, a published base or an adapter, or `SCRATCH`."""
    rank: int | None = None
    """Rank of low-rank weights to train; None to train all weights, or those of the adapter that is the base."""
    autoencoder: str | None = None
    """Folder or hub id of an autoencoder that replaces the base's; None for the base's own, or an adapter's."""
    steps: int | None = None
    """Steps in all; None for the recipe's."""
    cached_passes: int | None = None
    """Passes over the data whose latents are encoded once, in stages whose objective is flow; None for the recipe's."""
    grow: int | None = None
    """Blocks to append to the transformer in the first stage; None for the recipe's number."""
    keep_all: bool = False
    """Whether growth keeps all blocks of the base."""
    prune: int | None = None
    """Blocks to remove from the transformer in the first stage; None for the recipe's number."""
    prune_decoder: int | None = None
    """Blocks to remove from the autoencoder's decoder in the first stage; None for the recipe's number."""
    resume: bool = False
    schedule: Schedule = field(default_factory=Schedule)
    track: tuple[str, ...] = ()
    """Trackers that record the run."""

    @property
    def start(self) -> Start:
        """The weights that the networks begin with."""
        base = None if self.base == SCRATCH else self.base
        return Start(base=base, rank=self.rank, dtype=self.schedule.arithmetic, autoencoder=self.autoencoder)


def choose_recipe(order: Order) -> TrainingRecipe:
    """The recipe of an order; see `Order.recipe`. UsageError if it cannot be read or is wrong."""
    if order.prune_decoder:
        _check_decoder(order)
    recipe = _with_depth(_recipe(order), order)
    recipe = recipe.with_cached_passes(order.cached_passes) if order.cached_passes else recipe
    if order.steps:
        return recipe.with_steps(order.steps)
    is_own = order.resume and (order.folder / "recipe.json").is_file()
    if (
        order.recipe
        or is_own
        or recipe.changes_depth
        or order.base == SCRATCH
        or order.schedule.max_minutes
        or recipe.stages
    ):
        return recipe
    # No length of the training was set.
    low_rank = bool(order.rank) or weights.is_adapter(weights.resolve(order.base))
    is_cpu = torch.device(order.schedule.device).type == "cpu"
    return scaled(recipe, pixels_of(_images(order.data)), low_rank=low_rank, is_cpu=is_cpu)


def _recipe(order: Order) -> TrainingRecipe:
    own = order.folder / "recipe.json"
    if order.recipe is None and order.resume and own.is_file():
        return TrainingRecipe.from_dict(json.loads(own.read_text(encoding="utf-8")), own)
    if order.recipe is not None:
        return TrainingRecipe.load(order.recipe)
    embedded = TrainingRecipe.load(weights.resolve(weights.EMBEDDED) / "recipe.toml")
    if order.base == SCRATCH:
        return embedded
    folder, name = weights.resolve(order.base), order.folder.name
    low_rank = bool(order.rank)
    if weights.is_adapter(folder):
        index = weights.read_adapter_index(folder)
        low_rank = index.get("change") == "lora" or index.get("refiner") is None
        folder = weights.resolve(index["base"])
    if order.prune_decoder:
        return TrainingRecipe.for_decoder(name, of_model=weights.is_model(folder))
    if order.grow or order.prune:
        return TrainingRecipe.for_depth(name, grows=bool(order.grow), of_model=weights.is_model(folder))
    if weights.is_model(folder):
        return embedded.for_tuning(name, low_rank=low_rank)
    return TrainingRecipe.for_adapting(low_rank=low_rank)


def _with_depth(recipe: TrainingRecipe, order: Order) -> TrainingRecipe:
    """Return the recipe with the depth of the order; UsageError for contradictory options."""
    changes = {
        "grow": order.grow, "prune": order.prune, "keep_all": order.keep_all or None,
        "prune_decoder": order.prune_decoder,
    }  # fmt: skip
    if any(value is not None for value in changes.values()):
        recipe = recipe.with_depth({name: value for name, value in changes.items() if value is not None})
    if not any(stage.changes_depth for stage in recipe.staged()):
        return recipe
    if any(stage.prune_decoder for stage in recipe.staged()):
        _check_decoder(order)
    if order.rank:
        raise UsageError(
            "low-rank changes belong to the base's own blocks, and do not fit another number of blocks", where="--lora",
            next_step="Leave it out, to train all weights or the new blocks only.",
        )  # fmt: skip
    if order.base == SCRATCH:
        raise UsageError(
            "new weights have the depth of the recipe", where="--base scratch",
            next_step="Set layers under [latent] in the recipe, or name the base whose depth is to be changed.",
        )  # fmt: skip
    return recipe


def _check_decoder(order: Order) -> None:
    """Raise UsageError for options that a training of a decoder alone cannot follow."""
    if order.base == SCRATCH:
        raise UsageError(
            "new weights have no decoder to prune", where="--base scratch",
            next_step="Name the base whose decoder is to be pruned.",
        )  # fmt: skip
    for option, is_given in (("--lora", order.rank), ("--shard", order.schedule.sharded)):
        if is_given:
            raise UsageError(
                "a decoder that loses blocks is trained whole, on every device", where=option, next_step="Leave it out."
            )


def run_folder(output: Path | None, *, resume: bool) -> Path:
    """Return the folder of a run, by default a dated one; UsageError if --resume names no folder, or the folder is in
    use."""
    if output is None:
        if resume:
            raise UsageError("needs the run's folder", where="--resume", next_step="Name it with -o.")
        return Path("runs") / datetime.now().strftime("%Y-%m-%d-%H%M%S")
    if not resume:
        refuse_taken(output)
    elif not output.is_dir():
        raise UsageError("there is no checkpoint to resume from", where=output, next_step="Leave out --resume.")
    return output


def refuse_taken(folder: Path) -> None:
    """Raise UsageError if the folder holds a checkpoint or a model of an earlier run."""
    # A checkpoint without its state is incomplete, so nothing can be continued.
    taken = [name for name in ("checkpoint", "checkpoint.new") if (folder / name / "state.json").is_file()]
    taken += [name for name in ("model", "stage-1") if (folder / name).exists()]
    if taken:
        raise UsageError(
            f"there is a {taken[0]} of an earlier run",
            where=folder,
            next_step="Continue that run with --resume, or name another folder with -o.",
        )


def earlier_stages(models: Sequence[str]) -> list[dict[str, Any]]:
    """List the training stages that these models and adapters record, each once; others have none."""
    found: list[dict[str, Any]] = []
    for model in models:
        if model == SCRATCH:
            continue
        folder = weights.resolve(model)
        if weights.is_model(folder):
            training = weights.read_manifest(folder).get("training", {})
        elif weights.is_adapter(folder):
            training = weights.read_adapter_index(folder).get("training", {})
        elif weights.is_autoencoder(folder):
            training = weights.read_autoencoder_index(folder).get("training", {})
        else:
            continue
        # Older manifests record only the last run.
        stages = training.get("stages", [training] if training else [])
        found += [stage for stage in stages if stage not in found]
    return found


def origin_of(order: Order) -> str:
    """Return name and hash of the base's weights, with the rank of low-rank changes and the hash of another
    autoencoder."""
    if order.base == SCRATCH:
        return order.base
    folder = weights.resolve(order.base)
    low_rank = f", by changes of rank {order.rank}" if order.rank else ""
    if order.autoencoder:
        low_rank += f", with the autoencoder {weights.autoencoder_hash(order.autoencoder)[:16]}"
    if (folder / "config.json").is_file():  # an autoencoder alone
        return f"{Path(order.base).name} {weights.autoencoder_hash(order.base)[:16]}"
    parts = (*weights.BASE_PARTS, "text_encoder", "tokenizer")
    if weights.is_adapter(folder):
        own = weights.fingerprint(weights.chosen(None, order.base), order.base)
        return f"{Path(order.base).name} {own[:16]}{low_rank}"
    return f"{Path(order.base).name} {sampled_hash(folder, *parts)[:16]}{low_rank}"


def _images(data: Path) -> list[Path]:
    """The clean photographs of the data, and the targets of pairs."""
    if data.suffix.lower() == ".csv":
        return [pair.target for pair in list_pairs(data).pairs]  # all faults are reported later, together
    return [each.path for each in images.find([str(data)]).images]
