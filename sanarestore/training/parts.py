"""The parts of a model in training: created by a recipe or loaded from a base, and saved as a model or adapter."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sanarestore.degradations.requests import DEFAULT_PROMPT, Request, every_request
from sanarestore.model.adapter import write_adapter
from sanarestore.model.experts import Experts, owned_parts
from sanarestore.model.loading import LatentPath, save_model
from sanarestore.model.lora import Lora
from sanarestore.model.prompts import PromptEncoder, Prompts
from sanarestore.model.reading import Reader
from sanarestore.model.refiner import Refiner
from sanarestore.model.transformer import Tokens
from sanarestore.training.captions import varied
from sanarestore.training.latent_path import FLOW_SHIFT, new_latent_path
from sanarestore.training.recipe import TrainingRecipe

KEPT_PROMPTS = 512
"""Prompt embeddings kept in memory during training; those of Gemma-2 2B take about 200 KB each."""


class FrozenPrompts(nn.Module):
    """Requests and embeddings of prompts, the same as in restoration; nothing here is trained."""

    def __init__(self, prompts: Prompts, width: int) -> None:
        super().__init__()
        self.width = width
        self.prompts = prompts
        self.captions: dict[str, None] = {}
        """Texts of the run that need an embedding of their own in an adapter, besides the usual ones."""
        self.trained_for: frozenset[str] | None = None
        """Wordings that a run on pairs trains for; None for a run on clean photographs, which trains for all."""
        self.usual = ""
        """The prompt of a run on pairs that stands for none: the default one if it is trained, or the most frequent."""
        self._variants: Mapping[Request, Sequence[str]] = {}
        self._recent: OrderedDict[str, Tensor] = OrderedDict()
        prompts.keep_loaded()

    def prepare_pairs(self, captions: Sequence[str], device: torch.device) -> None:
        """Read and embed every caption of a list of pairs, and release the text encoder."""
        requests = [self.prompts.request(caption) for caption in captions]
        wordings = [self._wording(*known) for known in zip(captions, requests, strict=True)]
        if self.prompts.as_typed:
            self.captions.update(dict.fromkeys(wordings))
        self.prompts.embed_all([*wordings, *self.shipped], device)
        self.trained_for = frozenset(wordings)
        self.usual = DEFAULT_PROMPT if DEFAULT_PROMPT in wordings else wordings[0]

    def prepare_photos(self, variants: Mapping[Request, Sequence[str]], device: torch.device) -> None:
        """Embed the wordings of a run on clean photographs, if the base embeds prompts as typed; see `varied`."""
        if self.prompts.as_typed:
            self._variants = variants
            wordings = dict.fromkeys(text for texts in variants.values() for text in texts)
            self.captions.update(wordings)
            self.prompts.embed_all([*wordings, *self.shipped], device)

    @property
    def shipped(self) -> list[str]:
        """Return the prompts that every adapter holds: plain wordings, or usual prompts if the base embeds prompts as
        typed."""
        return ["", *usual_prompts()] if self.prompts.as_typed else plain_wordings()

    def requests(self, prompts: Sequence[str], known: Sequence[Request | None]) -> list[Request]:
        """Return the request of each prompt: the known one, or the one that the reader finds."""
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
            return self.prompts.wording(varied(prompt, request, self._variants), request)
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
    autoencoder: str | None = None
    """Name of the autoencoder that replaces the base's, as an adapter records it; None for the base's own."""
    reader: Reader | None = None
    """The model's own prompt reader; None if it has none and uses the embedded model's."""
    experts: Experts | None = None
    """Experts of the refiner; training the refiner drops them."""
    base: str | None = None
    """Name of the base that an adapter is trained for; None for a complete model."""
    is_adapted: bool = False
    """Whether these are an adapter's parts, which is trained further."""
    lora: Lora | None = None
    """Low-rank weights that are trained instead of the transformer's."""
    refiner_lora: Lora | None = None
    """Low-rank weights that are trained instead of the refiner's."""
    new_blocks: int | None = None
    """Number of last blocks that are trained, with the condition, instead of the whole transformer; None for all."""

    @property
    def is_published(self) -> bool:
        """Whether the base is a published text-to-image model, which cannot restore without an adapter."""
        return self.encoder is None

    @property
    def sees_photo(self) -> bool:
        """Whether the model restores before training: a published base with a new condition ignores the photograph."""
        return not self.is_published or self.is_adapted

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
        if self.new_blocks:
            blocks = nn.ModuleList([*transformer.blocks][-self.new_blocks :])
            return {"blocks": blocks, "condition": transformer.condition}
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

    def _save_adapter(self, folder: Path, base: str, training: dict[str, Any]) -> None:
        transformer = self.latent.transformer if self.latent and not self.refiner_lora else None
        write_adapter(
            folder, base=base, prompts=self.prompts.table(self.prompts.shipped),
            defaults={**self.defaults, **({"prompt": self.prompts.usual} if self.prompts.usual else {})},
            training=training,
            condition=transformer.condition if transformer else None,
            lora=self.lora.tensors() if self.lora else None,
            transformer=transformer.transformer if transformer and not self.lora else None,
            refiner=None if self.refiner_lora else self.refiner,
            refiner_lora=self.refiner_lora.tensors() if self.refiner_lora else None,
            trained_for=self.prompts.trained_for if self.refiner_lora else None, autoencoder=self.autoencoder,
        )  # fmt: skip


def plain_wordings() -> list[str]:
    """The plain wording of every request, and the empty text, the negative prompt of classifier-free guidance."""
    return ["", *(request.plain for request in every_request())]


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
