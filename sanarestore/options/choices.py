"""The values that options may have."""

from typing import TYPE_CHECKING, Literal, Protocol, get_args, runtime_checkable

from sanarestore.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.float32]

DType = Literal["auto", "float32", "bfloat16", "int8"]

DTYPES: tuple[DType, ...] = get_args(DType)
"""Arithmetic of networks. In int8, that of a refiner on a CPU; training has no int8."""

Precision = Literal["int8", "int4", "fp8"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""Precisions of quantized weights."""

Offload = Literal["none", "parts", "blocks"]

OFFLOADS: tuple[Offload, ...] = get_args(Offload)
"""Kinds of offload: which weights wait in the host's memory until they are used, each more than the one before."""

Tiling = Literal["exact", "causal", "multidiffusion", "independent", "off"]

BLENDING = ("causal", "multidiffusion", "independent")
"""Tiling schemes that blend overlapping tiles; their result depends on tile size and overlap."""

LATENT = ("causal", "multidiffusion")
"""Blending schemes that tile only the latent path."""

SCHEMES = ("exact", *BLENDING)
"""All tiling schemes that cut the image into tiles."""

BLENDED_TILE, BLENDED_OVERLAP = 1024, 128
"""Default tile side and overlap of the blending schemes, in pixels, on every device."""

OutputFormat = Literal["preserve", "tiff", "png", "jpeg", "webp", "avif", "jxl"]

OUTPUT_FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)
"""Values of `--format`: `preserve` keeps the input's format."""

LOSSLESS = ("tiff", "png")
"""Formats that are written without loss, and so have no quality."""

MOST_BITS = {"jpeg": 8, "webp": 8, "avif": 12}
"""Bits of a value that formats hold at most, where these are fewer than 16."""

BIT_DEPTHS = (8, 16)
"""Bit depths that a result can be written in, beside the input's own."""

LARGEST_SCALE = 4.0
"""Largest enlargement factor per side; the model has learned none beyond it."""

MOST_STEPS = 50
"""Most sampling steps allowed; more make no visible difference."""

MOST_CANDIDATES = 64
"""Most candidates of a photograph: the gain grows with the logarithm of their number, the time in proportion."""

JUDGES = ("fidelity", "niqe")
"""Names of the built-in judges of candidates; the first is the default."""

SMALLEST_TILE = 64
"""Smallest tile side in pixels; smaller tiles would be almost all halo."""


@runtime_checkable
class Judge(Protocol):
    """An object that scores candidates for a restored photograph; docs/python.md has an example."""

    @property
    def name(self) -> str:
        """Name for messages, JSON and fingerprints; it must change whenever the scores change."""

    def score(self, degraded: "Pixels", candidate: "Pixels") -> float:
        """Score one candidate for a photograph; the highest score is kept.

        Both are read-only float32 arrays [H,W,3] of encoded values around [0,1], whole images without alpha. The
        photograph has its original size, so with `scale` or `long_side` the candidate's differs.
        """


def training_dtype_of(value: str) -> DType:
    """Check the value of `--dtype` of a training; UsageError if it is unknown, or not for training."""
    if value == "int8":
        raise UsageError("networks are not trained in 8 bits", where="--dtype", next_step="Use --dtype auto.")
    return dtype_of(value)


def dtype_of(value: str) -> DType:
    """Check the value of `--dtype`; UsageError if it is unknown."""
    for known in DTYPES:
        if value == known:
            return known
    raise UsageError(
        f"'{value}' is not {', '.join(DTYPES[:-1])} or {DTYPES[-1]}", where="--dtype",
        next_step="float16 is not supported, because SANA's weights overflow in it.",
    )  # fmt: skip


def precision_named(value: str, where: str) -> Precision:
    """Check a precision of weights; UsageError, naming the flag, if it is unknown."""
    for known in PRECISIONS:
        if value == known:
            return known
    raise UsageError(f"'{value}' is not {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}", where=where)
