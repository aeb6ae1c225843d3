"""User options in one place: frozen, documented, checked once. Imports neither torch nor Typer.

choices     the values that options may have
restoring   RestoreOptions: how a photograph is restored
writing     WriteOptions: how the result is written
batch       BatchOptions: what is done with many files
checks      checks of types
"""

from sanarestore.options.batch import (
    BatchOptions,
    Shard,
    parse_shard,
)
from sanarestore.options.choices import (
    BLENDED_OVERLAP,
    BLENDED_TILE,
    BLENDING,
    DTYPES,
    JUDGES,
    LARGEST_SCALE,
    LATENT,
    LOSSLESS,
    OFFLOADS,
    OUTPUT_FORMATS,
    PRECISIONS,
    SCHEMES,
    SMALLEST_TILE,
    DType,
    Judge,
    Offload,
    OutputFormat,
    Precision,
    Tiling,
    dtype_of,
    precision_named,
    training_dtype_of,
)
from sanarestore.options.clips import ClipOptions
from sanarestore.options.restoring import (
    RestoreOptions,
)
from sanarestore.options.writing import (
    WriteOptions,
    parse_bit_depth,
)

__all__ = [
    "BLENDED_OVERLAP",
    "BLENDED_TILE",
    "BLENDING",
    "DTYPES",
    "JUDGES",
    "LARGEST_SCALE",
    "LATENT",
    "LOSSLESS",
    "OFFLOADS",
    "OUTPUT_FORMATS",
    "PRECISIONS",
    "SCHEMES",
    "SMALLEST_TILE",
    "BatchOptions",
    "ClipOptions",
    "DType",
    "Judge",
    "Offload",
    "OutputFormat",
    "Precision",
    "RestoreOptions",
    "Shard",
    "Tiling",
    "WriteOptions",
    "dtype_of",
    "parse_bit_depth",
    "parse_shard",
    "precision_named",
    "training_dtype_of",
]
