"""Options of a restoration as keyword arguments in Python, with their types."""

from collections.abc import Callable
from os import PathLike
from typing import TypedDict

from sanarestore.options import DType, OutputFormat, Tiling


class Keywords(TypedDict, total=False):
    """The fields of `RestoreOptions` without `prompt`, which functions take as an argument of its own."""

    model: str | None
    adapter: str | None
    strength: float
    fidelity: float
    steps: int | None
    guidance: float
    scale: float
    long_side: int | None
    tile: int | None
    tiling: Tiling
    overlap: int | None
    dtype: DType
    seed: int
    threads: int | None


class BatchKeywords(Keywords, total=False):
    """The fields of `RestoreOptions` without `prompt`, and those of `WriteOptions`."""

    format: OutputFormat
    quality: int | None
    bit_depth: int | None
    keep_dates: bool
    strip: bool
    provenance: bool


class CallKeywords(TypedDict, total=False):
    """What a call of a `Restorer` with an image takes."""

    output: str | PathLike[str] | None
    overwrite: bool
    progress: Callable[[float], object] | None
