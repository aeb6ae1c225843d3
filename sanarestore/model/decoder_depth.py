"""Take blocks out of the decoder of a DC-AE: what is left is a published configuration with fewer layers.

A decoder has stages, one for each resolution, the coarsest first; a stage enlarges the map and then runs its blocks.
diffusers builds no enlarging layer in a stage without blocks, so every stage but the coarsest, which enlarges nothing,
keeps a block. Its first and last convolutions and the enlarging layers always stay.

Blocks are numbered from 0 in the order in which they run. Only residual blocks and EfficientViT blocks have numbers.
"""

import copy
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from torch import nn

from sanarestore.model.autoencoder import Autoencoder

LAYERS = "decoder_layers_per_block"
"""Key of the configuration for the number of blocks of each stage, the finest first."""

_DEFAULTED = "_use_default_values"
"""Key under which diffusers lists the fields that it fills in by itself, whatever their values are."""


@dataclass(frozen=True, slots=True)
class DecoderBlock:
    """A block of a decoder."""

    stage: int
    """Number of its stage as in files of weights: 0 for full resolution."""
    place: int
    """Its place in the stage as in files of weights, where an enlarging layer comes first."""
    module: nn.Module

    @property
    def name(self) -> str:
        """The block in words: its place in files of weights, and its class."""
        return f"up_blocks.{self.stage}.{self.place} {type(self.module).__name__}"


def decoder_blocks(decoder: Any) -> list[DecoderBlock]:
    """The blocks of a decoder, in the order in which they run."""
    found = []
    for stage in reversed(range(len(decoder.up_blocks))):
        for place, module in enumerate(decoder.up_blocks[stage]):
            if type(module).__name__ != "DCUpBlock2d":
                found.append(DecoderBlock(stage, place, module))
    return found


def removable(decoder: Any) -> int:
    """The largest number of blocks that can be removed."""
    stages = {block.stage for block in decoder_blocks(decoder)}
    return len(decoder_blocks(decoder)) - len(stages - {_coarsest(decoder)})


def least_important_blocks(decoder: Any, importances: Sequence[float], count: int) -> tuple[int, ...]:
    """Return the numbers of the `count` least important blocks that can be removed together, in order; of equal ones,
    the later go first.

    ValueError if there are too few.
    """
    blocks = decoder_blocks(decoder)
    if not 0 < count <= removable(decoder):
        raise ValueError(f"{count} of {len(blocks)} blocks cannot be removed")
    left, removed = Counter(block.stage for block in blocks), list[int]()
    for number in sorted(range(len(blocks)), key=lambda number: (importances[number], -number)):
        stage = blocks[number].stage
        if len(removed) < count and (left[stage] > 1 or stage == _coarsest(decoder)):
            left[stage] -= 1
            removed.append(number)
    return tuple(sorted(removed))


def without_blocks(autoencoder: Autoencoder, numbers: Collection[int]) -> Autoencoder:
    """Return an autoencoder with the same encoder and a copy of the decoder without some blocks, by their numbers.

    The given one stays as it is. ValueError if there is no such block, or a stage would lose its enlarging layer.
    """
    blocks = decoder_blocks(autoencoder.decoder)
    gone = {(blocks[number].stage, blocks[number].place) for number in numbers if 0 <= number < len(blocks)}
    layers = Counter(block.stage for block in blocks if (block.stage, block.place) not in gone)
    emptied = {stage for stage, _ in gone} - layers.keys() - {_coarsest(autoencoder.decoder)}
    if len(gone) != len(numbers) or emptied:
        raise ValueError(f"blocks {sorted(numbers)} cannot be removed from a decoder of {len(blocks)}")
    decoder = copy.deepcopy(autoencoder.decoder)
    for stage, blocks_of_stage in enumerate(decoder.up_blocks):
        kept = [module for place, module in enumerate(blocks_of_stage) if (stage, place) not in gone]
        decoder.up_blocks[stage] = nn.Sequential(*kept)
    config = {**autoencoder.config, LAYERS: [layers[stage] for stage in range(len(decoder.up_blocks))]}
    if _DEFAULTED in config:
        config[_DEFAULTED] = [name for name in config[_DEFAULTED] if name != LAYERS]
    smaller = Autoencoder(
        SimpleNamespace(encoder=autoencoder.encoder, decoder=decoder, config=type(autoencoder.config)(config))
    )
    return smaller.train(autoencoder.training)


def _coarsest(decoder: Any) -> int:
    return len(decoder.up_blocks) - 1
