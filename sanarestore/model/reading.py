"""Read a prompt: which degradations it asks to remove, which to keep, and whether it is understood at all.

A small network over words, trained on text alone (`train`, objective wording). It decides what a prompt means,
whichever text encoder embeds the prompt. A word is the sum of its letter n-grams, as in fastText (Bojanowski et al.,
2017): forms of one word are alike, unseen words still carry meaning, and no vocabulary is stored.

Shape suffixes: B batch, L words, D features, H heads, K kinds, N logits.
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
"""Rows of the embedding table of letter n-grams; the first stands for a text without words."""

PIECE, FEATURES, VALUE, HIDDEN = 64, 128, 32, 96
"""Features of a letter n-gram, of a word, of each pooled value (one a kind, one for understanding), and hidden."""

BLOCKS, HEADS = 3, 4
"""Blocks of a new reader, and heads of attention in each."""

DROPOUT = 0.3
"""Share of letter n-grams that are dropped in training, so that none decides alone."""

FARTHEST = 16
"""Distance in words beyond which all distances share one attention bias."""

GROUPS = (2, 3, 4, 5)
"""Lengths of letter n-grams; the marks of a word's beginning and end count as letters."""

MOST_WORDS, MOST_GROUPS = 64, 40
"""Largest numbers of words of a prompt and of table rows of a word that are read; the rest is cut off."""

UNDERSTOOD_FROM = 0.5
"""Probability from which a prompt counts as understood."""

NAMED_FROM, LIT_FROM, KEPT_FROM = 0.5, 0.8, 0.5
"""Probabilities above which a kind counts as named, as named if it is light or colour, and as named to be kept. The
second is higher, because changing light unasked is the worst mistake."""

ABSENT, REMOVED, KEPT = range(3)
"""What a prompt can say of a kind, as classes of the logits [B,K,3]."""

_RUN = re.compile(r"[\u30a0-\u30ff]+|[\u3040-\u309f]+|[\u3400-\u9fff]|[^\u3040-\u30ff\u3400-\u9fff]+")
"""A run of text in one script: katakana, hiragana, ideographs (which `folded` sets apart one by one), or others."""


class WordBlock(nn.Module):
    """Transformer block over words: attention with a bias for relative distance, then a feed-forward layer."""

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
        """Words [B,L,D] and mask [B,L] -> [B,L,D]."""
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
    """Network from letter n-grams to words, and from words to what a prompt says of each kind."""

    def __init__(self, blocks: int = BLOCKS) -> None:
        super().__init__()
        numbers = 3 * len(KINDS) + 1
        self.groups = nn.Embedding(ROWS, PIECE)
        self.enter = nn.Linear(PIECE, FEATURES)
        self.blocks = nn.ModuleList(WordBlock() for _ in range(blocks))
        self.norm = nn.LayerNorm(FEATURES)
        self.attend = nn.Linear(FEATURES, len(KINDS) + 1)
        self.value = nn.Linear(FEATURES, (len(KINDS) + 1) * VALUE)
        self.hidden = nn.Linear(FEATURES + (len(KINDS) + 1) * VALUE, HIDDEN)
        self.end = nn.Linear(HIDDEN, numbers)
        self.word = nn.Linear(FEATURES, numbers)
        with torch.no_grad():
            # N-grams that never occur in training must contribute almost nothing.
            self.groups.weight.normal_(std=0.05)

    def forward(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Folded prompts -> logits of what each says of each kind [B,K,3], and of whether it is understood [B]."""
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
        """Return what each prompt asks for; prompts as typed."""
        said_BK3, understood_B = self([folded(prompt) for prompt in prompts])
        classes, chances = said_BK3.softmax(dim=2).tolist(), understood_B.sigmoid().tolist()
        return [_request(said_K3, chance) for said_K3, chance in zip(classes, chances, strict=True)]

    def _words(self, prompts: Sequence[Sequence[Sequence[int]]]) -> tuple[Tensor, Tensor]:
        """Table rows of each word of each prompt -> features [B,L,D] and mask of present words [B,L]."""
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
    """Table rows for each word of a folded prompt; a prompt without words counts as one word with row 0."""
    words = [run for word in prompt.split() for run in _RUN.findall(word)][:MOST_WORDS]
    rows: list[Sequence[int]] = [
        _rows_beside(words, place) if _is_ideograph(word) else _rows(word) for place, word in enumerate(words)
    ]
    return rows or [(0,)]


@lru_cache(maxsize=100_000)
def _rows(word: str) -> tuple[int, ...]:
    """Table rows of a word itself and of its letter n-grams."""
    marked = f"<{word}>"
    groups = {marked[first : first + size] for size in GROUPS for first in range(len(marked) - size + 1)} - {marked}
    return (_row(f"={word}"), *sorted(map(_row, groups)))[:MOST_GROUPS]


def _rows_beside(words: Sequence[str], place: int) -> tuple[int, ...]:
    """Table rows of an ideograph, alone and with up to two before or after it, since words have no spaces there."""
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
    """Table row of a text; the same on every machine, unlike `hash`."""
    return zlib.crc32(group.encode()) % (ROWS - 1) + 1


def _request(said_K3: Sequence[Sequence[float]], understood: float) -> Request:
    """Decide on a request, from the probabilities of what is said of each kind and of being understood."""
    if understood < UNDERSTOOD_FROM:
        return Request(None, understood=False)
    removed, kept = [], []
    for kind, chances in zip(KINDS, said_K3, strict=True):
        if chances[KEPT] > KEPT_FROM:
            kept.append(kind)
        elif chances[REMOVED] >= chances[KEPT] and 1 - chances[ABSENT] > (
            LIT_FROM if kind in LIGHT_AND_COLOUR else NAMED_FROM
        ):
            removed.append(kind)
    return Request.keeping(*kept) if kept and not removed else Request.of(*removed)


def is_reader(folder: Path) -> bool:
    """Return whether a model folder has a reader of its own."""
    return (folder / weights.READER).is_file()


def load_reader(folder: Path) -> Reader:
    """The reader of a model folder, float32 on the CPU; WeightsError where it cannot be read."""
    tensors = read_tensors(folder / weights.READER)
    # Models of earlier versions have readers of two blocks.
    reader = Reader(len({key.split(".")[1] for key in tensors if key.startswith("blocks.")}))
    load_strictly(reader, tensors, folder / weights.READER)
    return reader.eval().requires_grad_(False)


def load_embedded_reader() -> Reader:
    """The embedded model's reader, which reads the prompts of every model without one."""
    return load_reader(weights.resolve(weights.EMBEDDED))
