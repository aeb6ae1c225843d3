"""The parts of a model in training: created by a recipe or loaded from a base, and saved as a model or adapter."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sanarestore import weights
from sanarestore.degradations.requests import DEFAULT_PROMPT, Request, every_request
from sanarestore.degradations.wordings import vocabulary
from sanarestore.errors import UsageError
from sanarestore.model.adapter import write_adapter
from sanarestore.model.base import load_base
from sanarestore.model.condition import new_condition
from sanarestore.model.experts import Experts, owned_parts
from sanarestore.model.loading import LatentPath, RestorationModel, load_model, save_model
from sanarestore.model.lora import Lora
from sanarestore.model.prompts import PromptEncoder, Prompts, load_encoder, new_encoder, train_tokenizer
from sanarestore.model.reading import Reader, is_reader, load_embedded_reader, load_reader
from sanarestore.model.refiner import Refiner
from sanarestore.model.refiner_config import RefinerConfig
from sanarestore.model.transformer import ConditionedTransformer, Tokens
from sanarestore.training.growing import grow
from sanarestore.training.latent_path import FLOW_SHIFT, new_latent_path
from sanarestore.training.recipe import FLOWING, ModelShape, TrainingRecipe

KEPT_PROMPTS = 512
"""Prompt embeddings kept in memory during training; those of Gemma-2 2B take about 200 KB each."""


class FrozenPrompts(nn.Module):
    """What prompts ask for and their embeddings, the same as in restoration; nothing here is trained."""

    def __init__(self, prompts: Prompts, width: int) -> None:
        super().__init__()
        self.width = width
        self.prompts = prompts
        self.captions: dict[str, None] = {}
        """Prompts of the run that the reader does not understand, and that keep an embedding of their own."""
        self._recent: OrderedDict[str, Tensor] = OrderedDict()
        prompts.keep_loaded()

    def requests(self, prompts: Sequence[str], known: Sequence[Request | None]) -> list[Request]:
        """What each prompt asks for: the known request, or the one that the reader finds."""
        pairs = zip(prompts, known, strict=True)
        return [request or self.prompts.request(prompt) for prompt, request in pairs]

    def forward(self, prompts: Sequence[str], requests: Sequence[Request]) -> Tokens:
        """Embed prompts that ask for the given requests."""
        wanted = [self._wording(prompt, request) for prompt, request in zip(prompts, requests, strict=True)]
        self._recent.update(self.prompts.look_up(text for text in wanted if text not in self._recent))
        for text in wanted:
            self._recent.move_to_end(text)
        tokens = Tokens.of([self._recent[text] for text in wanted])
        while len(self._recent) > KEPT_PROMPTS:
            self._recent.popitem(last=False)
        return tokens

    def table(self, wordings: Iterable[str]) -> dict[str, Tensor]:
        """Token embeddings [L,D] of each wording, and of the run's own captions."""
        return self.prompts.fetch([*wordings, *self.captions])

    def _wording(self, prompt: str, request: Request) -> str:
        if request.understood:
            return self.prompts.wording(prompt, request)
        # The trained model recognises such a prompt by its own text.
        self.captions[prompt.strip()] = None
        return prompt.strip()


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """Everything that a model folder or an adapter holds."""

    refiner: Refiner
    prompts: FrozenPrompts
    encoder: PromptEncoder | None
    """The text encoder of a restoration model; None for a published base, which keeps its own."""
    latent: LatentPath | None
    defaults: dict[str, Any]
    reader: Reader | None = None
    """The model's own prompt reader; None if it has none and uses the embedded model's."""
    experts: Experts | None = None
    """Experts of the refiner; training the refiner drops them."""
    base: str | None = None
    """Name of the base that an adapter is trained for; None for a complete model."""
    lora: Lora | None = None
    """Low-rank weights that are trained instead of the transformer's."""
    refiner_lora: Lora | None = None
    """Low-rank weights that are trained instead of the refiner's."""

    @classmethod
    def from_scratch(cls, recipe: TrainingRecipe) -> "Parts":
        """Create fresh weights by the recipe's shape and seed, and a tokenizer trained on the prompt grammars."""
        shape = recipe.model
        torch.manual_seed(recipe.seed)
        encoder = _new_encoder(shape)
        refiner = Refiner(_refiner_config(shape, shape.prompt_width))
        encoder.eval()
        prompts = Prompts(encoder.table(plain_wordings()), lambda: encoder, load_embedded_reader)
        return cls(
            refiner=refiner, prompts=FrozenPrompts(prompts, encoder.width), encoder=encoder, latent=None,
            defaults={"prompt": DEFAULT_PROMPT},
        )  # fmt: skip

    @classmethod
    def from_base(cls, name: str, recipe: TrainingRecipe, rank: int | None = None) -> "Parts":
        """Load a restoration model to continue from, or a published base to adapt.

        With a `rank`, train an adapter of either by low-rank weights; UsageError if the objective does not support it.
        """
        if not weights.is_model(weights.resolve(name)):
            parts = cls._from_published(name, recipe)
        else:
            model = load_model(name)
            torch.manual_seed(recipe.seed)
            # Low-rank weights adapt the layers that exist, so the refiner does not grow.
            shape = recipe.model
            refiner = model.refiner
            if not rank:
                refiner = grow(
                    refiner, spectrum=shape.spectrum, colour_correction=shape.colour_correction, widths=shape.widths
                )
            parts = cls(
                refiner=refiner, prompts=FrozenPrompts(model.prompts, refiner.config.prompt_width),
                encoder=load_encoder(model.folder), latent=model.latent,
                reader=load_reader(model.folder) if is_reader(model.folder) else None,
                defaults=model.defaults,
                experts=_experts(recipe, model) if refiner is model.refiner else None,
            )  # fmt: skip
        return parts._with_lora(name, recipe.objective, rank) if rank else parts

    @classmethod
    def _from_published(cls, name: str, recipe: TrainingRecipe) -> "Parts":
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
            refiner=Refiner(_refiner_config(recipe.model, width)), prompts=FrozenPrompts(base.prompts, width),
            encoder=None,
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
        """Whether the base is a published text-to-image model, which cannot restore without an adapter."""
        return self.encoder is None

    @property
    def refining(self) -> dict[str, nn.Module]:
        """Trained modules of the refiner: itself or its low-rank weights."""
        return {"lora": self.refiner_lora} if self.refiner_lora else {"refiner": self.refiner}

    @property
    def expert(self) -> dict[str, nn.Module]:
        """Trained modules of the refiner when it becomes an expert."""
        return owned_parts(self.refiner)

    @property
    def path(self) -> LatentPath:
        """The latent path; `new_objective` adds one for the objectives that need it."""
        assert self.latent is not None, "new_objective gives one"
        return self.latent

    @property
    def reconstructing(self) -> dict[str, nn.Module]:
        """Trained modules of the autoencoder under its own objective."""
        return {"autoencoder": self.path.autoencoder}

    @property
    def decoding(self) -> dict[str, nn.Module]:
        """Autoencoder modules trained end to end: the decoder, or none for an adapter, which holds no decoder."""
        return {} if self.base else {"decoder": self.path.autoencoder.decoder}

    @property
    def flowing(self) -> dict[str, nn.Module]:
        """Trained modules of the transformer and its condition."""
        transformer = self.path.transformer
        return {"lora": self.lora, "condition": transformer.condition} if self.lora else {"transformer": transformer}

    def with_latent_path(self, recipe: TrainingRecipe) -> "Parts":
        """Add a latent path by the recipe's shape and seed if there is none.

        The recipe sets the time shift, except for an adapted base, which keeps its own.
        """
        if self.latent is not None:
            if self.base or not recipe.flow_shift:
                return self
            return replace(self, latent=replace(self.latent, flow=replace(self.latent.flow, shift=recipe.flow_shift)))
        torch.manual_seed(recipe.seed)
        path = new_latent_path(recipe.latent, prompt_width=self.prompts.width, shift=recipe.flow_shift or FLOW_SHIFT)
        return replace(self, latent=path, defaults={**self.defaults, "steps": 1, "latent": False})

    def save(self, folder: Path, name: str, training: dict[str, Any]) -> None:
        """Write the folder of a model or an adapter."""
        if self.base:
            self._save_adapter(folder, self.base, training)
            return
        assert self.encoder is not None, "a published base is adapted"
        save_model(
            folder, name=name, refiner=self.refiner, encoder=self.encoder, reader=self.reader,
            prompts=self.prompts.table(plain_wordings()), defaults=self.defaults, training=training,
            experts=self.experts, latent=self.latent,
        )  # fmt: skip

    def _shipped_wordings(self) -> list[str]:
        """Prompts with embeddings in adapters: plain wordings, or usual prompts if the base embeds prompts as typed."""
        return ["", *usual_prompts()] if self.prompts.prompts.as_typed else plain_wordings()

    def _save_adapter(self, folder: Path, base: str, training: dict[str, Any]) -> None:
        transformer = self.latent.transformer if self.latent and not self.refiner_lora else None
        write_adapter(
            folder, base=base, prompts=self.prompts.table(self._shipped_wordings()), defaults=self.defaults,
            training={**training, "licence of the base": weights.licence(weights.resolve(base))},
            condition=transformer.condition if transformer else None,
            lora=self.lora.tensors() if self.lora else None,
            transformer=transformer.transformer if transformer and not self.lora else None,
            refiner=None if self.refiner_lora else self.refiner,
            refiner_lora=self.refiner_lora.tensors() if self.refiner_lora else None,
        )  # fmt: skip


def _new_encoder(shape: ModelShape) -> PromptEncoder:
    """Create a text encoder with fresh weights, and a tokenizer trained on the prompt grammars."""
    tokenizer = train_tokenizer(vocabulary(), shape.vocabulary)
    return new_encoder(tokenizer, width=shape.prompt_width, layers=shape.prompt_layers, heads=shape.prompt_heads)


def plain_wordings() -> list[str]:
    """The plain wording of every request, and the empty text, the negative prompt of classifier-free guidance."""
    return ["", *(request.plain for request in every_request())]


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
    )  # fmt: skip


def usual_prompts() -> Iterable[str]:
    """Prompts that most people type: adapters hold their embeddings, so a published text encoder is rarely loaded."""
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
        DEFAULT_PROMPT, DEFAULT_PROMPT.lower(), "restore", "restore this photo", "denoise", "Denoise", "deblur",
        "Deblur", "sharpen", "Sharpen", "upscale", "brighten", "deblock", "enhance", "increase the resolution",
        "fix the colours", "fix the colors", "fix the white balance", "brighten this photo",
    )  # fmt: skip
    return [*single, *(verb.format(noun) for verb in verbs for noun in nouns)]
