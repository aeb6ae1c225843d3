"""Reading a prompt: which degradations it asks to remove, which to keep, and whether it says anything that we know.

A small head over the prompt encoder, learnt from words alone (`train`, objective wording). Whatever embeds prompts for
a network, a published text encoder for one, this is what decides what a prompt means.

Shape suffixes: B batch, L tokens, D prompt features, K kinds.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from sanarestore import weights
from sanarestore.degradations.requests import KINDS, LIGHT_AND_COLOUR, Request, folded
from sanarestore.errors import WeightsError
from sanarestore.model.prompts import PromptEncoder, load_encoder, pool
from sanarestore.model.tensors import load_strictly, read_tensors

HEAD = "restoration/reader.safetensors"
"""The head's weights, in a model folder."""

READINGS = "restoration/readings.json"
"""What the prompts that most people type ask for, read once so that no encoder need be loaded for them."""

FEATURES = 96
"""Features of the head's hidden layer."""

UNDERSTOOD_FROM = 0.5
"""Probability from which a prompt counts as understood."""

NAMED_FROM, LIT_FROM, KEPT_FROM = 0.5, 0.8, 0.75
"""Probabilities from which a kind counts as named, as named where it is light or colour, and as named to be kept:
light that changes unasked is the worst mistake, and few prompts ask to keep a fault."""

ABSENT, REMOVED, KEPT = range(3)
"""What a prompt can say of a kind."""


class Reader(nn.Module):
    """A prompt encoder and the head that reads its features."""

    def __init__(self, encoder: PromptEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(
            nn.Linear(2 * encoder.width, FEATURES), nn.ReLU(), nn.Linear(FEATURES, 3 * len(KINDS) + 1)
        )

    def forward(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Folded prompts -> logits of what each says of each kind [B,K,3], and of its being understood [B]."""
        token_BLD, mask_BL = self.encoder(prompts)
        highest_BD = token_BLD.masked_fill(mask_BL[..., None] == 0, -torch.inf).amax(dim=1)
        logits_BN = self.head(torch.cat([pool(token_BLD, mask_BL), highest_BD], dim=1))
        return logits_BN[:, :-1].unflatten(1, (len(KINDS), 3)), logits_BN[:, -1]

    @torch.inference_mode()
    def read(self, prompts: Sequence[str]) -> list[Request]:
        """What each prompt asks for, as typed."""
        said_BK3, understood_B = self([folded(prompt) for prompt in prompts])
        said, chances = said_BK3.softmax(dim=2).tolist(), understood_B.sigmoid().tolist()
        return [_request(said_K3, chance) for said_K3, chance in zip(said, chances, strict=True)]


def _request(said_K3: Sequence[Sequence[float]], understood: float) -> Request:
    """By the probabilities of what is said of each kind, and of the prompt's being understood."""
    if understood < UNDERSTOOD_FROM:
        return Request(None, understood=False)
    removed, kept = [], []
    for kind, said in zip(KINDS, said_K3, strict=True):
        if said[KEPT] > KEPT_FROM:
            kept.append(kind)
        elif 1 - said[ABSENT] > (LIT_FROM if kind in LIGHT_AND_COLOUR else NAMED_FROM):
            removed.append(kind)
    return Request.keeping(*kept) if kept and not removed else Request.of(*removed)


def is_reader(folder: Path) -> bool:
    """Whether a model folder has a reader of its own."""
    return (folder / HEAD).is_file()


def load_reader(folder: Path) -> Reader:
    """The reader of a model folder, float32 on the CPU; WeightsError where it cannot be read."""
    reader = Reader(load_encoder(folder))
    load_strictly(reader.head, read_tensors(folder / HEAD), folder / HEAD)
    return reader.eval().requires_grad_(False)


def load_embedded_reader() -> Reader:
    """The reader of the embedded model, which reads the prompts of every model that has none."""
    return load_reader(weights.resolve(weights.EMBEDDED))


def read_readings(folder: Path) -> dict[str, Request]:
    """What a model folder knows of usual prompts, by their folded text; none where it has no such file."""
    path = folder / READINGS
    if not path.is_file():
        return {}
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {text: Request.of(*kinds) for text, kinds in table.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise WeightsError("it is damaged", where=path, next_step="Fetch the model again.") from error
