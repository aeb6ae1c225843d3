"""The choices of recipes: objectives, optimizers, and the shapes of new networks."""

from dataclasses import dataclass

from sanarestore.model.condition import ConditionKind

OBJECTIVES = (
    "colour-correction", "refiner", "wording", "expert", "router", "autoencoder", "flow", "end-to-end",
    "distillation",
)  # fmt: skip
"""Objectives in the order in which a complete model is trained, each from the result of the one before."""

OPTIMIZERS = ("muon", "adamw", "adamw8bit", "came", "came8bit")
"""Optimizers of a run, created by `training.optimizers`."""

LATENT_OBJECTIVES = OBJECTIVES[5:]
"""Objectives that need a latent path."""

FLOWING = OBJECTIVES[6:]
"""Objectives that train the latent path's transformer."""

DECODER = "decoder"
"""The objective of an autoencoder's decoder alone, after some of its blocks were removed; it is no part of the training
of a complete model."""

ENCODING = (*LATENT_OBJECTIVES, DECODER)
"""Objectives whose crops an autoencoder encodes."""

DEEPENED = ("flow", "end-to-end")
"""Objectives that may change the number of blocks first."""

ON_LATENTS = ("flow", "distillation")
"""Objectives that need only the latents of a crop, which can be encoded once."""

LATENT_STAGES = 6
"""Stages of a new autoencoder, as many as in the published ones."""

LATENT_STRIDE = 2 ** (LATENT_STAGES - 1)
"""Downsampling factor of the autoencoder: pixels per latent position."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelShape:
    """Network to train from scratch.

    A base keeps its shape, but gains the `widths`, `spectrum`, `colour_correction` and `colour_statistics` that it
    lacks.
    """

    widths: tuple[int, ...] = (32, 64, 128, 256)
    """Refiner channels per level (see RefinerConfig)."""
    encoder_blocks: tuple[int, ...] = (2, 2, 1)
    decoder_blocks: tuple[int, ...] = (2, 1, 1)
    spectrum: int = 0
    """Bands of the refiner's power spectrum (see RefinerConfig)."""
    colour_correction: int = 0
    """Features of the refiner's global colour correction (see RefinerConfig)."""
    colour_statistics: int = 28
    """Statistics that it reads (see RefinerConfig)."""
    prompt_width: int = 128
    """Features of the text encoder."""
    prompt_layers: int = 2
    prompt_heads: int = 4
    vocabulary: int = 1536
    """Tokens of the byte-level BPE tokenizer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentShape:
    """Shape of a new latent path of the published classes; a base that has one keeps it."""

    channels: tuple[int, ...] = (16, 32, 64, 128, 256, 128)
    """Channels of the autoencoder's stages, at 1, 1/2 ... 1/32 of the resolution; the last three have attention. Each
    number divides four times the one before and after it, as the shortcuts around resampling layers require."""
    blocks: tuple[int, ...] = (0, 1, 1, 2, 1, 1)
    """Blocks per stage, in the encoder and again in the decoder."""
    latent_channels: int = 32
    head_width: int = 32
    """Features of an attention head, in the autoencoder and in the transformer."""
    heads: int = 8
    """Attention heads of the transformer; its width is heads times head_width."""
    layers: int = 5
    condition: ConditionKind = "patch-embed"
    """Input of the degraded latent, for a published base too: patch-embed, apart from the noisy latent, or projection,
    mixed with it."""
