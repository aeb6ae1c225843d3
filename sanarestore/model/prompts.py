"""Embed prompts: from a table of known ones, then from a cache on disk, with the text encoder only on a miss.

Shape suffixes: B batch, L tokens, D features.

The same classes serve the embedded encoder and the published one: the last hidden state of a Gemma-2 decoder, padded on
the right. SANA's instruction prefix is left out: it asks for invention, which restoration must avoid.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import platformdirs
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from sanarestore.degradations.requests import DEFAULT_PROMPT, Request, every_request, folded
from sanarestore.errors import WeightsError
from sanarestore.files import hash_text, write_atomically

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MAX_TOKENS = 300
"""Tokens that SANA reads of a prompt; longer prompts are truncated."""


def pool(token_BLD: Tensor, mask_BL: Tensor) -> Tensor:
    """Mean over unpadded tokens: embeddings [B,L,D] and mask [B,L] -> [B,D]."""
    weight_BL1 = mask_BL[..., None].to(token_BLD.dtype)
    return (token_BLD * weight_BL1).sum(dim=1) / weight_BL1.sum(dim=1).clamp(min=1)


class PromptEncoder(nn.Module):
    """A tokenizer and a transformers text model, kept together."""

    def __init__(self, tokenizer: "PreTrainedTokenizerFast", model: nn.Module) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.model = model

    @property
    def width(self) -> int:
        """Features per token."""
        return int(self.model.config.hidden_size)  # type: ignore[union-attr, arg-type]

    def forward(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token embeddings [B,L,D] and mask [B,L], 1 for tokens and 0 for padding."""
        tokens = self.tokenizer(
            [prompt.strip() for prompt in prompts],
            padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt",
        )  # fmt: skip
        device = next(self.model.parameters()).device
        mask_BL = tokens["attention_mask"].to(device)
        hidden = self.model(input_ids=tokens["input_ids"].to(device), attention_mask=mask_BL, use_cache=False)
        return hidden.last_hidden_state, mask_BL

    def pooled(self, prompts: Sequence[str]) -> Tensor:
        """Mean token embedding of each prompt, [B,D]."""
        return pool(*self(prompts))

    @torch.inference_mode()
    def batched(self, prompts: Iterable[str], device: torch.device, *, size: int = 16) -> dict[str, Tensor]:
        """Like `table`, on a device and many at once, which saves time for a large encoder.

        Padding changes rounding: results differ from those of `table` by about 1e-6 of their size.
        """
        self.to(device)
        # Texts of similar length, so that padding is a small part of the work.
        ordered = sorted(dict.fromkeys(prompts), key=len)
        found: dict[str, Tensor] = {}
        for first in range(0, len(ordered), size):
            batch = ordered[first : first + size]
            token_BLD, mask_BL = self(batch)
            lengths = mask_BL.sum(dim=1).tolist()
            for prompt, token_LD, length in zip(batch, token_BLD, lengths, strict=True):
                found[prompt] = token_LD[:length].float().cpu()
        return found

    @torch.inference_mode()
    def table(self, prompts: Iterable[str]) -> dict[str, Tensor]:
        """Token embeddings [L,D] of each prompt, on the CPU in float32, as `Prompts` keeps them."""
        return {prompt: self([prompt])[0][0].float().cpu() for prompt in dict.fromkeys(prompts)}


class PromptCache:
    """Embeddings on disk, one file per prompt, in a folder per encoder; safe for several processes at once."""

    def __init__(self, encoder_hash: str, folder: Path | None = None) -> None:
        """`folder` defaults to the user's cache."""
        root = folder or platformdirs.user_cache_path("sanarestore") / "prompts"
        self._folder = root / encoder_hash[:16]

    def get(self, prompt: str) -> Tensor | None:
        """Read the embedding [L,D] of a prompt; None if it is missing or damaged."""
        try:
            token_LD: Tensor = load_file(self._path(prompt))["tokens"]
            return token_LD
        except (OSError, SafetensorError, KeyError):
            return None

    def put(self, prompt: str, token_LD: Tensor) -> None:
        """Store an embedding. A failed write is ignored: it costs time later, not this restoration."""
        with suppress(OSError), write_atomically(self._path(prompt)) as file:
            file.write(save({"tokens": token_LD.contiguous()}, metadata={"prompt": prompt}))

    def _path(self, prompt: str) -> Path:
        return self._folder / f"{hash_text(prompt)}.safetensors"


class Reads(Protocol):
    """The part of a `model.reading.Reader` that `Prompts` needs."""

    def read(self, prompts: Sequence[str]) -> list[Request]:
        """Return what each prompt asks for."""


class Prompts:
    """Requests and embeddings of prompts, from a table where it has them, otherwise from reader and encoder.

    Prompts with the same request share the embedding of its plain wording, unless prompts are embedded as typed.
    Encoder and reader are loaded for a prompt that is in no table or cache, and released afterwards.
    """

    def __init__(
        self,
        table: Mapping[str, Tensor],
        load_encoder: Callable[[], PromptEncoder],
        load_reader: Callable[[], Reads],
        *,
        cache: PromptCache | None = None,
        as_typed: bool = False,
    ) -> None:
        """`as_typed` is for published encoders, which embed the prompt exactly as typed."""
        self.known = dict(table)
        self.as_typed = as_typed
        self._load_encoder = load_encoder
        self._load_reader = load_reader
        self._readings = {folded(request.plain): request for request in every_request()}
        self._cache = cache

    def keep_loaded(self) -> None:
        """Keep encoder and reader once they are loaded, for training, which uses thousands of prompts."""
        self._load_encoder = functools.cache(self._load_encoder)
        self._load_reader = functools.cache(self._load_reader)

    def embed_all(self, wordings: Iterable[str], device: torch.device) -> None:
        """Embed many texts at once on a device, and keep them; the encoder is released afterwards."""
        wanted = list(dict.fromkeys(wording.strip() for wording in wordings))
        cached = {text: self._cache.get(text) for text in wanted if text not in self.known} if self._cache else {}
        self.known.update({text: token_LD for text, token_LD in cached.items() if token_LD is not None})
        if missed := [text for text in wanted if text not in self.known]:
            found = self._load_encoder().batched(missed, device)
            self.known.update(found)
            for text, token_LD in found.items() if self._cache else ():
                self._cache.put(text, token_LD)  # type: ignore[union-attr]
        if isinstance(self._load_encoder, functools._lru_cache_wrapper):
            self._load_encoder.cache_clear()

    def request(self, prompt: str | None) -> Request:
        """Return what a prompt asks for; a blank prompt counts as none."""
        key = folded(prompt or "")
        if not key and not (prompt or "").strip():
            return Request()
        if key not in self._readings:
            self._readings[key] = self._load_reader().read([key])[0]
        return self._readings[key]

    def wording(self, prompt: str | None, request: Request) -> str:
        """Choose the text to embed for a prompt that asks for `request`.

        A prompt that is not understood is embedded as typed if the model or adapter was trained with it, otherwise as
        the default prompt.
        """
        typed = (prompt or "").strip()
        if request.removes is None:
            return typed if not request.understood and typed in self.known else DEFAULT_PROMPT
        return typed if self.as_typed and typed else request.plain

    def tokens(self, wording: str) -> Tensor:
        """Token embeddings of a text, [L,D], float32 on the CPU."""
        return self.fetch([wording])[wording.strip()]

    def fetch(self, wordings: Iterable[str]) -> dict[str, Tensor]:
        """Token embeddings of many texts, by text; the encoder is loaded at most once."""
        wanted = list(dict.fromkeys(wording.strip() for wording in wordings))
        if self._cache:
            cached = {text: self._cache.get(text) for text in wanted if text not in self.known}
            self.known.update({text: token_LD for text, token_LD in cached.items() if token_LD is not None})
        found = self.look_up(wanted)
        for text in found.keys() - self.known.keys() if self._cache else ():
            self._cache.put(text, found[text])  # type: ignore[union-attr]
        self.known.update(found)
        return found

    def look_up(self, wordings: Iterable[str]) -> dict[str, Tensor]:
        """Like `fetch`, but keep nothing new in memory or on disk, for training, whose wordings are unlimited."""
        wanted = list(dict.fromkeys(wording.strip() for wording in wordings))
        missed = [text for text in wanted if text not in self.known]
        table = self._load_encoder().table(missed) if missed else {}
        return {text: self.known[text] if text in self.known else table[text] for text in wanted}

    def pooled(self, wording: str) -> Tensor:
        """Mean of the token embeddings of a text, [D], float32 on the CPU."""
        return self.tokens(wording).mean(dim=0)


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> "PreTrainedTokenizerFast":
    """Train a byte-level BPE tokenizer on these texts; it has no unknown tokens in any script."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary_size,
            special_tokens=["<pad>", "<bos>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    # A first token that is always present gives the empty prompt an embedding.
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", padding_side="right"
    )


def new_encoder(tokenizer: "PreTrainedTokenizerFast", *, width: int, layers: int, heads: int) -> PromptEncoder:
    """A small Gemma-2 with fresh weights, for training from scratch."""
    from transformers import Gemma2Config, Gemma2Model

    config = Gemma2Config(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, head_dim=width // heads,
        query_pre_attn_scalar=width // heads, max_position_embeddings=512, attn_implementation="eager",
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=None,
    )  # fmt: skip
    return PromptEncoder(tokenizer, Gemma2Model(config))


def load_encoder(folder: Path) -> PromptEncoder:
    """Read `text_encoder/` and `tokenizer/` of a model folder in the diffusers layout; float32, CPU, ready to use.

    WeightsError where they are missing or cannot be read.
    """
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # only the console writes to stderr
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        tokenizer.padding_side = "right"
        model = AutoModel.from_pretrained(
            folder / "text_encoder", local_files_only=True, dtype=torch.float32, attn_implementation="eager"
        )
    except Exception as error:  # transformers raises many types; to the user they are one error
        raise WeightsError(
            f"its text encoder, which a new prompt needs, cannot be read ({type(error).__name__})",
            where=folder,
            next_step="Use a prompt that the model knows, such as the default, or fetch the model again.",
        ) from error
    return PromptEncoder(tokenizer, model.eval())
