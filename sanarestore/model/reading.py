"""Reading a prompt: which degradations it asks to remove, which to keep, and whether it says anything that we know.

A small network over words, learnt from words alone (`train`, objective wording). Whatever embeds prompts for a network,
a published text encoder for one, this is what decides what a prompt means. A word is the sum of its letter groups, as
in fastText (Bojanowski et al., 2017): so the forms of a word are alike, one that was never seen still says something,
and no vocabulary has to be kept.

Shape suffixes: B batch, L words, D features, H heads, K kinds, N numbers that are read off.
"""

import re
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sanarestore import weights
from sanarestore.degradations.requests import KINDS, LIGHT_AND_COLOUR, Request, folded
from sanarestore.model.tensors import load_strictly, read_tensors

ROWS = 2**16
"""Rows of the table of letter groups; the first stands for a text without words."""

PIECE, FEATURES, VALUE, HIDDEN = 64, 128, 32, 96
"""Features of a letter group, of a word, of what is gathered for each number that is read off, and before the end."""

LAYERS, HEADS = 2, 4

DROPOUT = 0.3
"""Share of letter groups that are left out in training, so that none decides alone."""

FARTHEST = 16
"""Distance in words beyond which all distances count alike."""

GROUPS = (2, 3, 4, 5)
"""Letters of a group, the ends of the word among them."""

MOST_WORDS, MOST_GROUPS = 64, 40
"""Words of a prompt, and letter groups of a word, that are read; the rest is cut off."""

UNDERSTOOD_FROM = 0.5
"""Probability from which a prompt counts as understood."""

NAMED_FROM, LIT_FROM, KEPT_FROM = 0.5, 0.8, 0.5
"""Probabilities from which a kind counts as named, as named where it is light or colour, and as named to be kept:
light that changes unasked is the worst mistake."""

ABSENT, REMOVED, KEPT = range(3)
"""What a prompt can say of a kind."""

_RUN = re.compile(r"[\u30a0-\u30ff]+|[\u3040-\u309f]+|[\u3400-\u9fff]|[^\u3040-\u30ff\u3400-\u9fff]+")
"""A piece of text in one script; ideographs stand alone."""


class Block(nn.Module):
    """Attention of every word to all, by how far away they are, and a layer for each word."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(FEATURES)
        self.attention = nn.Linear(FEATURES, 3 * FEATURES)
        self.distance = nn.Parameter(torch.zeros(HEADS, 2 * FARTHEST + 1))
        self.gather = nn.Linear(FEATURES, FEATURES)
        self.before_layer = nn.LayerNorm(FEATURES)
        self.widen = nn.Linear(FEATURES, 2 * FEATURES)
        self.narrow = nn.Linear(2 * FEATURES, FEATURES)

    def forward(self, word_BLD: Tensor, is_there_BL: Tensor) -> Tensor:
        """[B,L,D] and [B,L] -> [B,L,D]."""
        parts = self.attention(self.before_attention(word_BLD)).unflatten(2, (3, HEADS, -1))
        query_BHLD, key_BHLD, value_BHLD = parts.permute(2, 0, 3, 1, 4)
        place_L = torch.arange(word_BLD.shape[1], device=word_BLD.device)
        away_LL = (place_L[None] - place_L[:, None]).clamp(-FARTHEST, FARTHEST) + FARTHEST
        bias_BHLL = self.distance[:, away_LL][None].masked_fill(~is_there_BL[:, None, None], -1e9)
        found_BHLD = F.scaled_dot_product_attention(query_BHLD, key_BHLD, value_BHLD, attn_mask=bias_BHLL)
        word_BLD = word_BLD + self.gather(found_BHLD.transpose(1, 2).flatten(2))
        layer: Tensor = self.narrow(F.gelu(self.widen(self.before_layer(word_BLD))))
        return word_BLD + layer


class Reader(nn.Module):
    """From letter groups to words, from words to what is said of each kind."""

    def __init__(self) -> None:
        super().__init__()
        numbers = 3 * len(KINDS) + 1
        self.groups = nn.Embedding(ROWS, PIECE)
        self.enter = nn.Linear(PIECE, FEATURES)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(FEATURES)
        self.attend = nn.Linear(FEATURES, len(KINDS) + 1)
        self.value = nn.Linear(FEATURES, (len(KINDS) + 1) * VALUE)
        self.hidden = nn.Linear(FEATURES + (len(KINDS) + 1) * VALUE, HIDDEN)
        self.end = nn.Linear(HIDDEN, numbers)
        self.word = nn.Linear(FEATURES, numbers)
        with torch.no_grad():
            # Groups that are never met must say next to nothing.
            self.groups.weight.normal_(std=0.05)

    def forward(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Folded prompts -> logits of what each says of each kind [B,K,3], and of its being understood [B]."""
        word_BLD, is_there_BL = self._words([_groups_of(prompt) for prompt in prompts])
        for block in self.blocks:
            word_BLD = block(word_BLD, is_there_BL)
        word_BLD = self.norm(word_BLD)
        is_missing_BL1 = ~is_there_BL[..., None]
        weight_BLK = self.attend(word_BLD).masked_fill(is_missing_BL1, -1e9).softmax(dim=1)
        value_BLKD = self.value(word_BLD).unflatten(2, (-1, VALUE))
        gathered_BD = torch.einsum("blk,blkd->bkd", weight_BLK, value_BLKD).flatten(1)
        highest_BD = word_BLD.masked_fill(is_missing_BL1, -1e4).amax(dim=1)
        strongest_BN = self.word(word_BLD).masked_fill(is_missing_BL1, -1e4).amax(dim=1)
        logits_BN = self.end(F.relu(self.hidden(torch.cat([gathered_BD, highest_BD], dim=1)))) + strongest_BN
        return logits_BN[:, :-1].unflatten(1, (len(KINDS), 3)), logits_BN[:, -1]

    @torch.inference_mode()
    def read(self, prompts: Sequence[str]) -> list[Request]:
        """What each prompt asks for, as typed."""
        said_BK3, understood_B = self([folded(prompt) for prompt in prompts])
        said, chances = said_BK3.softmax(dim=2).tolist(), understood_B.sigmoid().tolist()
        return [_request(said_K3, chance) for said_K3, chance in zip(said, chances, strict=True)]

    def _words(self, prompts: Sequence[Sequence[Sequence[int]]]) -> tuple[Tensor, Tensor]:
        """Rows of each word of each prompt -> features [B,L,D], and which words are there [B,L]."""
        device = self.groups.weight.device
        counts = [len(word) for prompt in prompts for word in prompt]
        rows = torch.tensor([row for prompt in prompts for word in prompt for row in word], device=device)
        share = torch.full(rows.shape, 1 - DROPOUT, device=device)
        share = torch.bernoulli(share) if self.training else share
        count = torch.tensor(counts, device=device)
        first = count.cumsum(dim=0) - count
        sum_WD = F.embedding_bag(rows, self.groups.weight, first, mode="sum", per_sample_weights=share)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        is_there_BL = torch.arange(max(map(len, prompts)), device=device) < lengths[:, None]
        entered_WD = self.enter(sum_WD / count.sqrt()[:, None])
        word_BLD = entered_WD.new_zeros(*is_there_BL.shape, FEATURES)
        word_BLD[is_there_BL] = entered_WD
        return word_BLD, is_there_BL


def _groups_of(prompt: str) -> list[Sequence[int]]:
    """Rows of the table for each word of a folded prompt; one word of nothing where it has none."""
    words = [run for word in prompt.split() for run in _RUN.findall(word)][:MOST_WORDS]
    rows: list[Sequence[int]] = [
        _rows_beside(words, place) if _is_ideograph(word) else _rows(word) for place, word in enumerate(words)
    ]
    return rows or [(0,)]


@lru_cache(maxsize=100_000)
def _rows(word: str) -> tuple[int, ...]:
    """Rows of a word itself and of its letter groups."""
    marked = f"<{word}>"
    groups = {marked[first : first + size] for size in GROUPS for first in range(len(marked) - size + 1)} - {marked}
    return (_row(f"={word}"), *sorted(map(_row, groups)))[:MOST_GROUPS]


def _rows_beside(words: Sequence[str], place: int) -> tuple[int, ...]:
    """Rows of an ideograph, and of it together with one or two that follow or precede: their words have no spaces."""
    after, before = words[place : place + 3], words[max(place - 2, 0) : place + 1][::-1]
    rows = [_row(f"={words[place]}")]
    for side, near in (("+", after), ("-", before)):
        for count in range(2, len(near) + 1):
            if not _is_ideograph(near[count - 1]):
                break
            rows.append(_row(side + "".join(near[:count])))
    return tuple(rows)


def _is_ideograph(word: str) -> bool:
    return len(word) == 1 and "\u3400" <= word <= "\u9fff"


def _row(group: str) -> int:
    """The same on every machine, unlike `hash`."""
    return zlib.crc32(group.encode()) % (ROWS - 1) + 1


def _request(said_K3: Sequence[Sequence[float]], understood: float) -> Request:
    """By the probabilities of what is said of each kind, and of the prompt's being understood."""
    if understood < UNDERSTOOD_FROM:
        return Request(None, understood=False)
    removed, kept = [], []
    for kind, said in zip(KINDS, said_K3, strict=True):
        if said[KEPT] > KEPT_FROM:
            kept.append(kind)
        elif said[REMOVED] >= said[KEPT] and 1 - said[ABSENT] > (LIT_FROM if kind in LIGHT_AND_COLOUR else NAMED_FROM):
            removed.append(kind)
    return Request.keeping(*kept) if kept and not removed else Request.of(*removed)


def is_reader(folder: Path) -> bool:
    """Whether a model folder has a reader of its own."""
    return (folder / weights.READER).is_file()


def load_reader(folder: Path) -> Reader:
    """The reader of a model folder, float32 on the CPU; WeightsError where it cannot be read."""
    reader = Reader()
    load_strictly(reader, read_tensors(folder / weights.READER), folder / weights.READER)
    return reader.eval().requires_grad_(False)


def load_embedded_reader() -> Reader:
    """The reader of the embedded model, which reads the prompts of every model that has none."""
    return load_reader(weights.resolve(weights.EMBEDDED))
