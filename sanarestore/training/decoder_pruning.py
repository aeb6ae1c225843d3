"""Remove the least important blocks of an autoencoder's decoder before it is trained, and measure what that changes.

Shape suffixes: B batch, C channels, H W pixels or map positions.

The importance of a block is that of `training.importance`: 1 minus the cosine similarity of its input and output over
channels, averaged over map positions and over crops of the training data.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sanarestore.errors import UsageError
from sanarestore.model.autoencoder import Autoencoder
from sanarestore.model.decoder_depth import decoder_blocks, least_important_blocks, removable
from sanarestore.training.batching import Batch, batch_at
from sanarestore.training.data import without_files
from sanarestore.training.decoder_objective import DecoderObjective
from sanarestore.training.depth_record import FILE, DecoderFacts, DepthRecord
from sanarestore.training.importance import SAMPLES
from sanarestore.training.ranks import Ranks
from sanarestore.training.scores import measure

SIDE = 256
"""Side in pixels of the image whose decoding is measured."""

SECONDS, ROUNDS = 3.0, (3, 40)
"""Time that measurements of time take, and the least and the largest number of them."""


def arbitrarily_pruned(objective: DecoderObjective) -> DecoderObjective:
    """Return the objective at the recipe's depth, with arbitrary blocks, to estimate memory."""
    return objective.without(_least_important(objective, [0.0] * len(decoder_blocks(objective.whole.decoder))))


def prune_decoder(
    objective: DecoderObjective, samples: Any, validation: Sequence[Batch], device: torch.device, ranks: Ranks
) -> tuple[DecoderObjective, DepthRecord]:
    """Remove the recipe's number of blocks; return a new objective, and the record of the change.

    Importances are measured on samples of the training data, which processes share. Only the first process validates.
    UsageError if so many blocks cannot be removed.
    """
    recipe, blocks = objective.recipe, decoder_blocks(objective.whole.decoder)
    _check(objective)
    objective.to(device)
    drawn = without_files(samples)
    steps = range(max(1, SAMPLES // recipe.batch))
    batches = (batch_at(drawn, recipe, step, rank=ranks.rank, count=ranks.count) for step in steps)
    found = [ranks.mean(each) for each in decoder_importances(objective, batches, device)]
    pruned = objective.without(_least_important(objective, found))
    pruned.to(device)
    removed = _least_important(objective, found)
    scores = [
        measure(each.restore, [batch.to(device) for batch in validation]) if validation and ranks.is_first else None
        for each in (objective, pruned)
    ]
    return pruned, DepthRecord(
        before=len(blocks), removed=removed, importances=tuple(found), validation_before=scores[0],
        validation_after=scores[1], decoder=decoder_facts(objective.whole, pruned.pruned),
    )  # fmt: skip


def restored_decoder(objective: DecoderObjective, folder: Path) -> tuple[DecoderObjective, DepthRecord]:
    """Remove the blocks that the folder of a resumed run records; UsageError if it has no such record."""
    record = DepthRecord.load(folder)
    if record is None or record.decoder is None or record.before != len(decoder_blocks(objective.whole.decoder)):
        fact = "is missing" if record is None else "is of another run"
        raise UsageError(
            f"{fact}: it records which blocks were removed", where=folder / FILE,
            next_step="Restore it from a backup, or begin another run with -o.",
        )  # fmt: skip
    return objective.without(record.removed), record


@torch.no_grad()
def decoder_importances(objective: DecoderObjective, batches: Iterable[Batch], device: torch.device) -> list[float]:
    """Importance of every block of the whole decoder, in order, for batches of images; the objective is on a device."""
    blocks, whole = decoder_blocks(objective.whole.decoder), objective.whole
    similarities: list[list[float]] = [[] for _ in blocks]
    hooks = [
        block.module.register_forward_hook(partial(_compare, found))
        for block, found in zip(blocks, similarities, strict=True)
    ]
    try:
        # In the same parts as in training, because memory may not hold a whole batch.
        for part in (part for batch in batches for part in batch.parts(objective.recipe.accumulate)):
            whole.decode(whole.encode(part.to(device).target_BCHW))
    finally:
        for hook in hooks:
            hook.remove()
    return [1 - sum(found) / len(found) for found in similarities]


@torch.no_grad()
def decoder_facts(whole: Autoencoder, pruned: Autoencoder) -> DecoderFacts:
    """Size and cost of two decoders, in turn so that a busy machine slows both alike; both are on one device."""
    both, side = (whole, pruned), max(1, SIDE // whole.stride)
    weight: Tensor = whole.decoder.conv_in.weight
    latent_BCHW = torch.randn(1, whole.latent_channels, side, side, generator=torch.Generator().manual_seed(0))
    latent_BCHW, pixels = latent_BCHW.to(weight.device), (side * whole.stride) ** 2
    multiplications = []
    for each in both:
        with FlopCounterMode(display=False) as counted:
            each.decode(latent_BCHW)
        multiplications.append(counted.get_total_flops() / 2 / pixels)
    begun, seconds = time.perf_counter(), ([], [])  # type: tuple[float, tuple[list[float], list[float]]]
    while len(seconds[0]) < ROUNDS[0] or (
        len(seconds[0]) < ROUNDS[1] and time.perf_counter() - begun < SECONDS
    ):  # fmt: skip
        for each, found in zip(both, seconds, strict=True):
            found.append(_timed(partial(each.decode, latent_BCHW), weight.device) / pixels * 1e6)
    return DecoderFacts(
        names=tuple(block.name for block in decoder_blocks(whole.decoder)),
        parameters=tuple(sum(one.numel() for one in each.decoder.parameters()) for each in both),
        macs_per_pixel=tuple(multiplications), seconds_per_megapixel=tuple(median(each) for each in seconds),
    )  # fmt: skip


def _least_important(objective: DecoderObjective, importances: Sequence[float]) -> tuple[int, ...]:
    _check(objective)
    return least_important_blocks(objective.whole.decoder, importances, objective.recipe.prune_decoder)


def _check(objective: DecoderObjective) -> None:
    """Raise UsageError if the decoder has too few blocks for the recipe."""
    decoder, count = objective.whole.decoder, objective.recipe.prune_decoder
    most = removable(decoder)
    if count > most:
        raise UsageError(
            f"the decoder has {len(decoder_blocks(decoder))} blocks, and every stage that enlarges keeps one of them",
            where="--prune-decoder", next_step=f"Remove {most} at most." if most else "Leave it out.",
        )  # fmt: skip


def _compare(found: list[float], _block: Any, given: tuple[Any, ...], result_BCHW: Tensor) -> None:
    """Append the mean cosine similarity of a block's input and output over channels."""
    # In float64, because it is close to 1 for blocks that change little.
    found.append(float(F.cosine_similarity(given[0].double(), result_BCHW.double(), dim=1).mean()))


def _timed(work: Callable[[], object], device: torch.device) -> float:
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun
