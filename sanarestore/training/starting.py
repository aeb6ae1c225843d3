"""Begin a training: the parts of a model from random weights, from a model or a published base, or from an adapter."""

from dataclasses import dataclass, replace

import torch

from sanarestore import weights
from sanarestore.degradations.requests import DEFAULT_PROMPT
from sanarestore.degradations.wordings import vocabulary
from sanarestore.errors import UsageError, WeightsError
from sanarestore.model import adapter as adapters
from sanarestore.model.adapter import Adapter, read_adapter
from sanarestore.model.base import Base, load_base
from sanarestore.model.condition import new_condition
from sanarestore.model.experts import Experts
from sanarestore.model.loading import LatentPath, RestorationModel, adapted_base, adapted_path, load_model, load_refiner
from sanarestore.model.lora import Lora
from sanarestore.model.prompts import PromptEncoder, Prompts, load_encoder, new_encoder, train_tokenizer
from sanarestore.model.quantization import quantization
from sanarestore.model.reading import is_reader, load_embedded_reader, load_reader
from sanarestore.model.refiner import Refiner
from sanarestore.model.refiner_config import RefinerConfig
from sanarestore.model.tensors import read_tensors
from sanarestore.model.transformer import ConditionedTransformer
from sanarestore.training.growing import grow
from sanarestore.training.parts import FrozenPrompts, Parts, plain_wordings
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.recipe_shapes import FLOWING, ModelShape


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """The weights that a training begins with."""

    base: str | None = None
    """Name of a model, a published base or an adapter; None for random weights."""
    rank: int | None = None
    """Rank of low-rank weights to train; None to train weights themselves, or as the adapter that is the base."""
    dtype: torch.dtype = torch.float32
    """Type of frozen weights of the latent path; trained weights are float32."""
    autoencoder: str | None = None
    """Folder or hub id of the autoencoder that replaces the base's; None for the base's, or for an adapter's."""

    def parts(self, recipe: TrainingRecipe) -> Parts:
        """Load or create the parts; UsageError if they do not fit the recipe, WeightsError if they cannot be read."""
        if self.base is None:
            if self.rank:
                raise UsageError(
                    "fresh weights are not adapted", where="--lora", next_step="Name a --base, or leave it out."
                )
            if self.autoencoder:
                raise UsageError(
                    "new weights have their own autoencoder", where="--autoencoder",
                    next_step="Name a --base, or leave it out.",
                )  # fmt: skip
            return from_scratch(recipe)
        folder = weights.resolve(self.base)
        if weights.is_adapter(folder):
            parts = self._from_adapter(self.base, recipe)
        elif weights.is_model(folder):
            parts = _from_model(self.base, recipe, grown=not self.rank, autoencoder=self.autoencoder)
            parts = replace(parts, autoencoder=_pinned(self.autoencoder))
        else:
            parts = replace(self._from_published(self.base, recipe), autoencoder=_pinned(self.autoencoder))
        _check_trainable(parts, self.base)
        is_new = self.rank and not weights.is_adapter(folder)
        return _with_lora(parts, self.base, recipe.objective, self.rank) if is_new and self.rank else parts

    def _read(self, name: str, dtype: torch.dtype) -> Base:
        """A published base; `training.shapes` builds it without its weights."""
        return load_base(name, dtype=dtype, autoencoder=self.autoencoder)

    def _from_published(self, name: str, recipe: TrainingRecipe) -> Parts:
        """A published base, with a new condition and a new refiner."""
        # A transformer that is trained whole is float32; one that is frozen below a LoRA need not be.
        frozen = self.dtype if self.rank else torch.float32
        base = self._read(name, frozen)
        width = int(base.transformer.config.caption_channels)
        torch.manual_seed(recipe.seed)
        condition = new_condition(recipe.latent.condition, base.transformer).float()
        latent = LatentPath(
            autoencoder=base.autoencoder.with_dtype(self.dtype),
            transformer=ConditionedTransformer(base.transformer, condition), flow=base.flow,
        )  # fmt: skip
        return Parts(
            refiner=Refiner(_refiner_config(recipe.model, width)), prompts=FrozenPrompts(base.prompts, width),
            encoder=None, latent=latent, base=weights.pinned(name), defaults={"prompt": DEFAULT_PROMPT, "steps": 1},
        )  # fmt: skip

    def _from_adapter(self, name: str, recipe: TrainingRecipe) -> Parts:
        """Return an adapter to train further: its base with the adapter's changes, which remain low-rank or full.

        Low-rank changes of a transformer are merged if its depth changes, because new blocks have none.
        """
        found = read_adapter(name)
        is_low_rank = found.change == "lora" and not recipe.changes_depth
        adapters.check_base(found, found.base)
        of_model = weights.is_model(weights.resolve(found.base))
        autoencoder = self.autoencoder
        if adapters.note_on_autoencoder(found, autoencoder) is None:
            autoencoder = found.autoencoder
        parts = _from_model(found.base, recipe, grown=False, autoencoder=autoencoder) if of_model else None
        latent = parts.latent if parts else None
        prompts = parts.prompts if parts else None
        if found.condition:
            dtype = self.dtype if is_low_rank else torch.float32
            base = adapted_base(found, found.base, dtype, autoencoder)
            latent = adapted_path(base, found, merged=recipe.changes_depth)
            latent.transformer.condition.float()
            latent.autoencoder.with_dtype(self.dtype)
            prompts = prompts or FrozenPrompts(base.prompts, int(base.transformer.config.caption_channels))
        refiner = parts.refiner if parts else None
        if found.refiner:
            refiner = load_refiner(found.refiner, found.folder / adapters.REFINER)
        if prompts is None or refiner is None:
            raise WeightsError("it lacks a part that its base needs", where=found.folder, next_step=adapters.NEXT_STEP)
        prompts.prompts.known.update(read_tensors(found.folder / adapters.PROMPTS))
        adapted = Parts(
            refiner=refiner, prompts=prompts, encoder=parts.encoder if parts else None, latent=latent,
            reader=parts.reader if parts else None, defaults=found.defaults, base=found.base, is_adapted=True,
            experts=parts.experts if parts and not found.refiner else None,
            lora=self._lora(found, latent.transformer.transformer) if latent and is_low_rank else None,
            refiner_lora=None if found.refiner else self._lora(found, refiner), autoencoder=_pinned(autoencoder),
        )  # fmt: skip
        self._check_adapted(adapted, name, recipe)
        return adapted

    def _check_adapted(self, parts: Parts, name: str, recipe: TrainingRecipe) -> None:
        """Raise UsageError if an adapter cannot be trained further with these options."""
        if self.rank and not (parts.lora or parts.refiner_lora):
            raise UsageError(
                "this adapter changes all weights, not low-rank ones", where="--lora", next_step="Leave it out."
            )
        if parts.refiner_lora and recipe.objective != "refiner":
            raise UsageError(
                f"an adapter of a refiner is not trained by the objective '{recipe.objective}'", where=name,
                next_step="Use a recipe whose objective is refiner.",
            )  # fmt: skip

    def _lora(self, found: Adapter, module: torch.nn.Module) -> Lora:
        """The low-rank weights of an adapter, attached to the refiner or transformer that they change."""
        of_refiner = isinstance(module, Refiner)
        path = found.folder / (adapters.REFINER_LORA if of_refiner else adapters.LORA)
        rank = adapters.rank_of(path)
        if self.rank and self.rank != rank:
            raise UsageError(
                f"the adapter that is trained further has rank {rank}", where="--rank",
                next_step=f"Use --rank {rank}, or leave it out.",
            )  # fmt: skip
        lora = (Lora.of_refiner if of_refiner else Lora.of_transformer)(module, rank)
        lora.load(adapters.read_lora(path, "" if of_refiner else adapters.PREFIX), path)
        return lora


def _check_trainable(parts: Parts, name: str) -> None:
    """Raise UsageError if the transformer's weights are quantized, which gradients cannot change."""
    precision = quantization(parts.latent.transformer.transformer) if parts.latent else None
    if precision is not None:
        raise UsageError(
            f"its transformer is in {precision}, which cannot be trained", where=name,
            next_step="Train the original model.",
        )  # fmt: skip


def from_scratch(recipe: TrainingRecipe) -> Parts:
    """Create fresh weights by the recipe's shape and seed, and a tokenizer trained on the prompt grammars."""
    shape = recipe.model
    torch.manual_seed(recipe.seed)
    encoder = _new_encoder(shape)
    refiner = Refiner(_refiner_config(shape, shape.prompt_width))
    encoder.eval()
    prompts = Prompts(encoder.table(plain_wordings()), lambda: encoder, load_embedded_reader)
    return Parts(
        refiner=refiner, prompts=FrozenPrompts(prompts, encoder.width), encoder=encoder, latent=None,
        defaults={"prompt": DEFAULT_PROMPT},
    )  # fmt: skip


def _from_model(name: str, recipe: TrainingRecipe, *, grown: bool, autoencoder: str | None = None) -> Parts:
    """A restoration model; its refiner is `grown` to the recipe's shape, but not below low-rank weights."""
    model = load_model(name, autoencoder=autoencoder)
    if autoencoder and model.load_latent is None:
        raise UsageError(
            "it has no effect, because this base has no latent path", where="--autoencoder", next_step="Leave it out."
        )
    torch.manual_seed(recipe.seed)
    shape = recipe.model
    refiner = model.refiner
    if grown:
        refiner = grow(
            refiner, spectrum=shape.spectrum, colour_correction=shape.colour_correction,
            colour_statistics=shape.colour_statistics, widths=shape.widths,
        )  # fmt: skip
    return Parts(
        refiner=refiner, prompts=FrozenPrompts(model.prompts, refiner.config.prompt_width),
        encoder=load_encoder(model.folder), latent=model.latent,
        reader=load_reader(model.folder) if is_reader(model.folder) else None, defaults=model.defaults,
        experts=_experts(recipe, model) if _is_same_but_for_colours(refiner, model.refiner) else None,
    )  # fmt: skip


def _is_same_but_for_colours(refiner: Refiner, other: Refiner) -> bool:
    """Whether experts of one are experts of the other: they share the global colour correction."""
    like = replace(
        refiner.config, colour_correction=other.config.colour_correction,
        colour_statistics=other.config.colour_statistics, colour_normalised=other.config.colour_normalised,
    )  # fmt: skip
    return like == other.config


def _pinned(autoencoder: str | None) -> str | None:
    return None if autoencoder is None else weights.pinned(autoencoder, weights.WANTED_OF_AUTOENCODERS)


def _with_lora(parts: Parts, base: str, objective: str, rank: int) -> Parts:
    parts = replace(parts, base=weights.pinned(base))
    if objective == "refiner":
        return replace(parts, refiner_lora=Lora.of_refiner(parts.refiner, rank))
    if objective in FLOWING and parts.latent is not None:
        return replace(parts, lora=Lora.of_transformer(parts.latent.transformer.transformer, rank))
    raise UsageError(
        "this base has no transformer to adapt" if objective in FLOWING
        else f"the objective '{objective}' is not learnt by low-rank changes",
        where="--lora", next_step="Leave it out, or use a recipe whose objective is refiner.",
    )  # fmt: skip


def _new_encoder(shape: ModelShape) -> PromptEncoder:
    """Create a text encoder with fresh weights, and a tokenizer trained on the prompt grammars."""
    tokenizer = train_tokenizer(vocabulary(), shape.vocabulary)
    return new_encoder(tokenizer, width=shape.prompt_width, layers=shape.prompt_layers, heads=shape.prompt_heads)


def _experts(recipe: TrainingRecipe, model: RestorationModel) -> Experts | None:
    """The experts that the recipe names, or the model's own."""
    if not recipe.experts:
        return model.experts
    experts = {kind: load_model(name).refiner for kind, name in recipe.experts.items()}
    return Experts.of(model.refiner, experts)


def _refiner_config(shape: ModelShape, prompt_width: int) -> RefinerConfig:
    return RefinerConfig(
        widths=shape.widths, encoder_blocks=shape.encoder_blocks, decoder_blocks=shape.decoder_blocks,
        spectrum=shape.spectrum, colour_correction=shape.colour_correction, prompt_width=prompt_width,
        colour_statistics=shape.colour_statistics,
    )  # fmt: skip
