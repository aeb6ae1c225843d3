"""Options of a restoration as keyword arguments in Python, with their types."""

from collections.abc import Callable
from os import PathLike
from typing import TypedDict

from sanarestore.options import DType, Judge, Offload, OutputFormat, Precision, Tiling


class Keywords(TypedDict, total=False):
    """The fields of `RestoreOptions` without `prompt`, which functions take as an argument of its own."""

    model: str | None
    adapter: str | None
    autoencoder: str | None
    strength: float
    fidelity: float
    steps: int | None
    guidance: float
    candidates: int
    judge: str | Judge | None
    scale: float
    long_side: int | None
    tile: int | None
    tiling: Tiling
    overlap: int | None
    dtype: DType
    quantize: Precision | None
    offload: Offload
    device_memory: int | str | None
    seed: int
    threads: int | None


class WriteKeywords(TypedDict, total=False):
    """The fields of `WriteOptions`."""

    format: OutputFormat
    quality: int | None
    bit_depth: int | None
    keep_dates: bool
    strip: bool
    provenance: bool


class BatchKeywords(Keywords, WriteKeywords, total=False):
    """The fields of `RestoreOptions` without `prompt`, and those of `WriteOptions`."""


class CallKeywords(WriteKeywords, total=False):
    """Keywords of a call of a `Restorer` with an image."""

    output: str | PathLike[str] | None
    overwrite: bool
    accept_damaged: bool
    progress: Callable[[float], object] | None


OF_ONE_IMAGE = frozenset(("prompt", "device", *Keywords.__annotations__, *CallKeywords.__annotations__))
"""All keywords of `restore`."""
