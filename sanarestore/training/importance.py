"""Importance of a transformer's blocks: how far each moves the tokens that pass through it.

Shape suffixes: B batch, C channels, H W latent positions, N tokens, D features.

The importance of block i is, as in SANA-1.5 (Xie et al. 2025, section 2.2), after Minitron and ShortGPT (Muralidharan
et al. 2024, Men et al. 2024),

    1 - E[x_i . x_(i+1) / (|x_i| |x_(i+1)|)]

where x_i are the tokens before the block and x_(i+1) those after it. The mean is over tokens, over samples of the
training data, and over times of the flow. A block of importance 0 only passes its input on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sanarestore.evaluation.columns import Column, Record
from sanarestore.flow import euler_times, interpolate
from sanarestore.model.transformer import Tokens
from sanarestore.training.batching import Batch
from sanarestore.training.generating import drawn_noise
from sanarestore.training.objective import PartsObjective

SAMPLES = 100
"""Approximate number of training samples on which importances are measured, as in SANA-1.5."""

TIMES = 8
"""Number of times of the flow at which importances are measured, from 1 downwards, spaced like sampling steps."""

EXPLAINED = "importance: 1 - cosine similarity of a block's input and output. Blocks are numbered from 0"
"""Caption of the table."""

EXPLAINED_DECODER = f"{EXPLAINED}, in the order in which they run"
"""Caption of the table of a decoder's blocks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportanceRow(Record):
    """One block of a transformer or of a decoder."""

    block: Annotated[int, Column("block")]
    name: Annotated[str | None, Column("place", words=True)] = None
    importance: Annotated[float, Column("importance", "{:.3g}")]
    removed: Annotated[bool, Column("", lambda is_removed: "removed" if is_removed else "kept", words=True)]


def importance_rows(
    importances: Sequence[float], removed: Iterable[int], names: Sequence[str] = ()
) -> list[ImportanceRow]:
    """A row for each block; `names` are those of a decoder's blocks."""
    gone = set(removed)
    return [
        ImportanceRow(
            block=number, name=names[number] if names else None, importance=importance, removed=number in gone
        )
        for number, importance in enumerate(importances)
    ]


def least_important(importances: Sequence[float], count: int) -> tuple[int, ...]:
    """Return the numbers of the `count` least important blocks, in order; of equal ones, the later are removed. The
    first and the last block stay.

    SANA-1.5 finds both ends to matter most; they also join the stream of tokens to what precedes and follows it.
    ValueError if there are too few blocks.
    """
    between = range(1, len(importances) - 1)
    if not 0 < count <= len(between):
        raise ValueError(f"{count} of {len(importances)} blocks cannot be removed")
    return tuple(sorted(sorted(between, key=lambda number: (importances[number], -number))[:count]))


@torch.no_grad()
def block_importances(objective: PartsObjective, batches: Iterable[Batch], device: torch.device) -> list[float]:
    """Importance of every block, in order, for batches of images and an objective that is on a device.

    Targets are noised as in training. A model that is trained for a single step is measured at time 1 alone.
    """
    path, transformer = objective.parts.path, objective.parts.path.transformer
    is_one_step = objective.steps_range == (1, 1)
    times = [1.0] if is_one_step else euler_times(TIMES, path.flow.shift)[:-1]
    similarities: list[list[float]] = [[] for _ in transformer.blocks]
    hooks = [
        block.register_forward_hook(partial(_compare, found))
        for block, found in zip(transformer.blocks, similarities, strict=True)
    ]
    try:
        # In the same parts as in training, because memory may not hold a whole batch.
        for part in (part for batch in batches for part in batch.parts(objective.recipe.accumulate)):
            tokens = _tokens(objective, part, device)
            placed = part.to(device)
            condition_BCHW, clean_BCHW = (
                path.autoencoder.encode(image_BCHW) for image_BCHW in (placed.degraded_BCHW, placed.target_BCHW)
            )
            noise_BCHW = drawn_noise(objective.recipe.seed, part.numbers, clean_BCHW.shape[1:]).to(clean_BCHW)
            for time in times:
                time_B = noise_BCHW.new_full((len(noise_BCHW),), time)
                transformer(interpolate(clean_BCHW, noise_BCHW, time_B), condition_BCHW, tokens, time_B)
    finally:
        for hook in hooks:
            hook.remove()
    return [1 - sum(found) / len(found) for found in similarities]


def _compare(found: list[float], _block: Any, given: tuple[Any, ...], result_BND: Tensor) -> None:
    """Append the mean cosine similarity of a block's input and output tokens."""
    # In float64, because it is close to 1 for blocks that change little.
    similarity_BN = F.cosine_similarity(given[0].double(), result_BND.double(), dim=-1)
    found.append(float(similarity_BN.mean()))


def _tokens(objective: PartsObjective, batch: Batch, device: torch.device) -> Tokens:
    """Embeddings of a batch's prompts on a device."""
    prompts = objective.parts.prompts
    tokens: Tokens = prompts(batch.prompts, prompts.requests(batch.prompts, batch.requests))
    return Tokens(token_BLD=tokens.token_BLD.to(device), mask_BL=tokens.mask_BL.to(device))
