"""The parts of a model in training: made afresh by a recipe or taken from a base, and written as a model folder."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sanarestore import weights
from sanarestore.degradations.wordings import DEFAULT_PROMPT, vocabulary
from sanarestore.errors import UsageError
from sanarestore.model.adapter import write_adapter
from sanarestore.model.base import load_base
from sanarestore.model.condition import new_condition
from sanarestore.model.experts import Experts, owned_parts
from sanarestore.model.loading import LatentPath, RestorationModel, load_model, save_model
from sanarestore.model.lora import Lora
from sanarestore.model.prompts import PromptEncoder, Prompts, load_encoder, new_encoder, train_tokenizer
from sanarestore.model.refiner import Refiner, RefinerConfig
from sanarestore.model.transformer import ConditionedTransformer, Tokens
from sanarestore.training.latent_path import FLOW_SHIFT, new_latent_path
from sanarestore.training.recipe import FLOWING, ModelShape, Recipe

KEPT_PROMPTS = 512
"""Embeddings that are remembered while training with a published encoder: of Gemma-2 2B about 200 KB each."""


class FrozenPrompts(nn.Module):
    """The embeddings of a published encoder, called as a `PromptEncoder` is, but too large to be trained with."""

    def __init__(self, prompts: Prompts, width: int) -> None:
        super().__init__()
        self.width = width
        self.prompts = prompts
        self._recent: OrderedDict[str, Tensor] = OrderedDict()
        prompts.keep_encoder()

    def forward(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token embeddings [B,L,D] and the mask [B,L] of those that are there."""
        wanted = [prompt.strip() for prompt in prompts]
        self._recent.update(self.prompts.look_up(prompt for prompt in wanted if prompt not in self._recent))
        for prompt in wanted:
            self._recent.move_to_end(prompt)
        tokens = Tokens.of([self._recent[prompt] for prompt in wanted])
        while len(self._recent) > KEPT_PROMPTS:
            self._recent.popitem(last=False)
        return tokens.token_BLD, tokens.mask_BL

    def table(self, prompts: Iterable[str]) -> dict[str, Tensor]:
        """Token embeddings [L,D] of each prompt."""
        return self.prompts.fetch(prompts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """Everything that a model folder holds, or an adapter's."""

    refiner: Refiner
    encoder: PromptEncoder | FrozenPrompts
    latent: LatentPath | None
    defaults: dict[str, Any]
    experts: Experts | None = None
    """Of the refiner as it is: none any more once it is trained."""
    base: str | None = None
    """Name of the base that an adapter is trained for; None for a model of its own."""
    lora: Lora | None = None
    """What is trained instead of the transformer."""
    refiner_lora: Lora | None = None
    """What is trained instead of the refiner and the prompt encoder."""

    @classmethod
    def from_scratch(cls, recipe: Recipe) -> "Parts":
        """Fresh weights by the recipe's shape and seed, and a tokenizer trained on the prompt grammar."""
        shape = recipe.model
        tokenizer = train_tokenizer(vocabulary(), shape.vocabulary)
        torch.manual_seed(recipe.seed)
        encoder = new_encoder(tokenizer, width=shape.prompt_width, layers=shape.prompt_layers, heads=shape.prompt_heads)
        refiner = Refiner(_refiner_config(shape, shape.prompt_width))
        return cls(refiner=refiner, encoder=encoder, latent=None, defaults={"prompt": DEFAULT_PROMPT})

    @classmethod
    def from_base(cls, name: str, recipe: Recipe, rank: int | None = None) -> "Parts":
        """The weights of a restoration model, to go on from; or a published base, to be adapted.

        With a `rank`, an adapter of either, by low-rank changes; UsageError where the objective knows none.
        """
        if not weights.is_model(weights.resolve(name)):
            parts = cls._from_published(name, recipe)
        else:
            model = load_model(name)
            torch.manual_seed(recipe.seed)
            # Low-rank changes are of what is there.
            shape = recipe.model
            refiner = model.refiner if rank else model.refiner.grown(shape.spectrum, shape.tone, shape.widths)
            parts = cls(
                refiner=refiner, encoder=load_encoder(model.folder), latent=model.latent, defaults=model.defaults,
                experts=_experts(recipe, model) if refiner is model.refiner else None,
            )  # fmt: skip
        return parts._with_lora(name, recipe.objective, rank) if rank else parts

    @classmethod
    def _from_published(cls, name: str, recipe: Recipe) -> "Parts":
        base = load_base(name)
        width = int(base.transformer.config.caption_channels)
        torch.manual_seed(recipe.seed)
        condition = new_condition(recipe.latent.condition, base.transformer)
        latent = LatentPath(
            autoencoder=base.autoencoder,
            transformer=ConditionedTransformer(base.transformer, condition),
            flow=base.flow,
        )
        return cls(
            refiner=Refiner(_refiner_config(recipe.model, width)), encoder=FrozenPrompts(base.prompts, width),
            latent=latent,
            base=weights.pinned(name),
            defaults={"prompt": DEFAULT_PROMPT, "steps": 1},
        )  # fmt: skip

    def _with_lora(self, base: str, objective: str, rank: int) -> "Parts":
        parts = replace(self, base=weights.pinned(base))
        if objective == "refiner":
            return replace(parts, refiner_lora=Lora.of_refiner(parts.refiner, rank))
        if objective in FLOWING and parts.latent is not None:
            return replace(parts, lora=Lora.of_transformer(parts.latent.transformer.transformer, rank))
        raise UsageError(
            "this base has no transformer to adapt" if objective in FLOWING
            else f"the objective '{objective}' is not learnt by low-rank changes",
            where="--lora", next_step="Leave it out, or use a recipe whose objective is refiner.",
        )  # fmt: skip

    @property
    def is_published(self) -> bool:
        """Whether the base is of others, and without an adapter no restorer at all."""
        return isinstance(self.encoder, FrozenPrompts)

    @property
    def refining(self) -> dict[str, nn.Module]:
        """What is trained of the refiner and of the words that it is told."""
        return {"lora": self.refiner_lora} if self.refiner_lora else {"refiner": self.refiner, **self.worded}

    @property
    def expert(self) -> dict[str, nn.Module]:
        """What is trained of the refiner where it becomes an expert."""
        return owned_parts(self.refiner)

    @property
    def path(self) -> LatentPath:
        """The latent path, of those that have one: the objectives that need it are given it."""
        assert self.latent is not None, "new_objective gives one"
        return self.latent

    @property
    def reconstructing(self) -> dict[str, nn.Module]:
        """What is trained of the autoencoder, for itself."""
        return {"autoencoder": self.path.autoencoder}

    @property
    def decoding(self) -> dict[str, nn.Module]:
        """What is trained of it for the sake of the result: an adapter carries no decoder, and its base's stays."""
        return {} if self.base else {"decoder": self.path.autoencoder.decoder}

    @property
    def flowing(self) -> dict[str, nn.Module]:
        """What is trained of the transformer and its condition."""
        transformer = self.path.transformer
        return {"lora": self.lora, "condition": transformer.condition} if self.lora else {"transformer": transformer}

    @property
    def worded(self) -> dict[str, nn.Module]:
        """What is trained of the prompt encoder: an adapter leaves the base's as it is."""
        return {} if self.base else {"text_encoder": self.encoder}

    def with_latent_path(self, recipe: Recipe) -> "Parts":
        """Themselves, or with a fresh latent path by the recipe's shape and seed where they have none, or with a
        fresh transformer where it asks for one.

        Its times are moved as the recipe says; those of a base that is adapted stay its own.
        """
        if self.latent is not None and not recipe.fresh_flow:
            if self.base or not recipe.flow_shift:
                return self
            return replace(self, latent=replace(self.latent, flow=replace(self.latent.flow, shift=recipe.flow_shift)))
        if self.base and recipe.fresh_flow:
            raise UsageError(
                "an adapter goes on from its base's transformer", where="fresh_flow", next_step="Set it to false.",
            )  # fmt: skip
        torch.manual_seed(recipe.seed)
        path = new_latent_path(
            recipe.latent, prompt_width=self.encoder.width, shift=recipe.flow_shift or FLOW_SHIFT,
            autoencoder=self.latent.autoencoder if self.latent else None,
        )  # fmt: skip
        return replace(self, latent=path, defaults={**self.defaults, "steps": 1, "latent": False})

    def save(self, folder: Path, name: str, training: dict[str, Any]) -> None:
        """Write the folder, with the embeddings of what most people type."""
        if self.base:
            self._save_adapter(folder, self.base, training)
            return
        assert isinstance(self.encoder, PromptEncoder), "a published base is adapted"
        save_model(
            folder, name=name, refiner=self.refiner, encoder=self.encoder, usual_prompts=usual_prompts(),
            defaults=self.defaults, training=training, experts=self.experts, latent=self.latent,
        )  # fmt: skip

    def _save_adapter(self, folder: Path, base: str, training: dict[str, Any]) -> None:
        transformer = self.latent.transformer if self.latent and not self.refiner_lora else None
        write_adapter(
            folder, base=base, prompts=self.encoder.table(usual_prompts()), defaults=self.defaults,
            training={**training, "licence of the base": weights.licence(weights.resolve(base))},
            condition=transformer.condition if transformer else None,
            lora=self.lora.tensors() if self.lora else None,
            transformer=transformer.transformer if transformer and not self.lora else None,
            refiner=None if self.refiner_lora else self.refiner,
            refiner_lora=self.refiner_lora.tensors() if self.refiner_lora else None,
        )  # fmt: skip


def _experts(recipe: Recipe, model: RestorationModel) -> Experts | None:
    """Those that the recipe names, or the model's own."""
    if not recipe.experts:
        return model.experts
    return Experts.of(model.refiner, {kind: load_model(name).refiner for kind, name in recipe.experts.items()})


def _refiner_config(shape: ModelShape, prompt_width: int) -> RefinerConfig:
    return RefinerConfig(
        widths=shape.widths, encoder_blocks=shape.encoder_blocks, decoder_blocks=shape.decoder_blocks,
        spectrum=shape.spectrum, tone=shape.tone, prompt_width=prompt_width,
    )  # fmt: skip


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
