"""User options in one place: frozen, documented, checked once. Imports neither torch nor Typer."""

import dataclasses
import hashlib
import json
import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Literal, get_args

from sanarestore.errors import UsageError
from sanarestore.sizes import parse_size

DType = Literal["auto", "float32", "bfloat16"]

DTYPES: tuple[DType, ...] = ("auto", "float32", "bfloat16")

Precision = Literal["int8", "int4", "fp8"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""Precisions of quantized weights."""

Offload = Literal["none", "parts", "blocks"]

OFFLOADS: tuple[Offload, ...] = get_args(Offload)
"""What waits in the host's memory until it is used, each value more than the one before."""

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

EIGHT_BIT = ("jpeg", "webp", "avif")
"""Formats that are written with 8 bits only."""

BIT_DEPTHS = (8, 16)
"""Bit depths that a result can be written in, beside the input's own."""

LARGEST_SCALE = 4.0
"""Largest enlargement factor per side; the model has learned none beyond it."""

MOST_STEPS = 50
"""Most sampling steps allowed; more make no visible difference."""

SMALLEST_TILE = 64
"""Smallest tile side in pixels; smaller tiles would be almost all halo."""


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


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a batch: number `index`, from 1, of `count` parts that are done by runs of their own."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise UsageError(
                f"{self.index}/{self.count} is no part", where="--shard", next_step="Use 1/4 to 4/4 for four parts."
            )

    def has(self, name: str) -> bool:
        """Whether this part contains the file with a name; each name is in exactly one part, on every machine."""
        digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
        return int.from_bytes(digest[:8]) % self.count == self.index - 1


def parse_shard(text: str) -> Shard:
    """Parse `2/4`; UsageError if it is no such part."""
    index, slash, count = text.partition("/")
    if not slash or not all(each.isascii() and each.isdigit() and len(each) < 10 for each in (index, count)):
        raise UsageError(f"'{text}' is no part", where="--shard", next_step="Use 1/4 to 4/4 for four parts.")
    return Shard(int(index), int(count))


def _check_numbers(options: object, names: Sequence[str], kind: type) -> None:
    """Make options numbers of Python; UsageError for one that is not of a kind of the module `numbers`, nor None."""
    for name in names:
        value = getattr(options, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
            fact = f"{value!r} is no {'whole ' if kind is numbers.Integral else ''}number"
            raise UsageError(fact, where=_flag(name), next_step="Give a number.")
        if value is not None:
            # 1, 1.0 and NumPy's numbers are the same option, and fingerprints are made of Python's own.
            made = int if kind is numbers.Integral else float
            object.__setattr__(options, name, made(getattr(options, name)))


def _check_texts(options: object, names: Sequence[str]) -> None:
    """Raise UsageError for an option that is no text, nor None."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not isinstance(value, str):
            raise UsageError(f"{value!r} is no text", where=_flag(name), next_step="Put it in quotes.")


def check_flags(options: object, names: Sequence[str]) -> None:
    """Raise UsageError for an option that is neither true nor false."""
    for name in names:
        value = getattr(options, name)
        if not isinstance(value, bool):
            raise UsageError(f"{value!r} is neither True nor False", where=_flag(name), next_step="Give one of these.")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RestoreOptions:
    """Options that decide how a photograph is restored."""

    prompt: str | None = None
    """What to fix, in words, in any of 15 languages; None removes all faults found, leaving light and colour alone."""
    model: str | None = None
    """Name, folder or hub id of the model, or of an adapter's base (see `weights.resolve`); None takes the embedded
    model, or the base that the adapter names."""
    adapter: str | None = None
    """Folder or hub id of an adapter, which turns a published SANA base into a restoration model; None for none."""
    strength: float = 1.0
    """Fraction of the change to apply: 1 is the restored photograph, 0 exactly the input, values between blend them."""
    fidelity: float = 1.0
    """1 is the refiner's result, 0 is the image that the latent path generated, values between blend them."""
    steps: int | None = None
    """Sampling steps of the latent path: 1 gives the posterior mean, more give one of many possible samples; None takes
    the model's default."""
    guidance: float = 1.0
    """Classifier-free guidance of the latent path: values above 1 follow the prompt more closely, at twice the cost; 1
    turns it off."""
    scale: float = 1.0
    """Enlarge each side by a factor from 1 to 4 (bicubic) before restoring."""
    long_side: int | None = None
    """Longer side of the result in pixels, in place of `scale`: smaller photographs are enlarged before restoring, by a
    factor of 4 at most, and larger ones are shrunk after it. None leaves it to `scale`."""
    tile: int | None = None
    """Largest side of a tile's core in pixels; None chooses by device, or 1024 for blending schemes. Affects
    memory and speed; changes the result only for blending schemes."""
    tiling: Tiling = "exact"
    """exact equals the untiled result up to rounding; off is untiled, if memory allows. Two schemes tile only the
    latent path and blend predictions at every step: causal (a tile also attends to the tiles before it) and
    multidiffusion (a tile attends only to itself). independent restores every tile as an image of its own and blends
    the results."""
    overlap: int | None = None
    """Overlap of blended tiles in pixels; None takes 128."""
    dtype: DType = "auto"
    """Arithmetic inside the networks; auto is bfloat16 on CUDA and float32 elsewhere. The first and last layers of
    refiner and autoencoder are always float32."""
    quantize: Precision | None = None
    """Precision of the transformer's weights: int8, int4 or fp8 take less memory and change the result a little; None
    keeps the model's."""
    offload: Offload = "none"
    """What waits in the host's memory while a GPU generates an image: none; parts, all that the current stage does not
    need; or blocks, of the transformer all but the blocks that are used. Affects memory and speed only."""
    device_memory: int | str | None = None
    """Memory of the device that a worker may use, such as 8G, or in bytes; tile, offload and precision are chosen to
    fit where they are not given. None uses what is free."""
    seed: int = 0
    """Seed of the noise that the latent path starts from; the refiner uses no noise."""
    threads: int | None = None
    """CPU threads per worker; None keeps PyTorch's default. The same number gives the same output bytes."""

    def __post_init__(self) -> None:
        for name in ("model", "adapter"):
            if isinstance(getattr(self, name), PathLike):
                object.__setattr__(self, name, fspath(getattr(self, name)))
        if isinstance(self.device_memory, str):
            object.__setattr__(self, "device_memory", parse_size(self.device_memory, "--device-memory"))
        _check_texts(self, ("prompt", "model", "adapter"))
        _check_numbers(self, ("strength", "fidelity", "guidance", "scale"), numbers.Real)
        _check_numbers(
            self, ("steps", "tile", "overlap", "seed", "threads", "long_side", "device_memory"), numbers.Integral
        )
        if not 0 <= self.strength <= 1:
            raise UsageError(f"{self.strength:g} is outside 0 to 1", where="--strength")
        if not 0 <= self.fidelity <= 1:
            raise UsageError(f"{self.fidelity:g} is outside 0 to 1", where="--fidelity")
        if self.steps is not None and not 1 <= self.steps <= MOST_STEPS:
            raise UsageError(f"{self.steps} is outside 1 to {MOST_STEPS}", where="--steps")
        if not 1 <= self.guidance < math.inf:
            raise UsageError(f"{self.guidance:g} is not a finite number of 1 or more", where="--guidance")
        if not 1 <= self.scale <= LARGEST_SCALE:
            raise UsageError(f"{self.scale:g} is outside 1 to {LARGEST_SCALE:g}", where="--scale")
        self._check_long_side()
        if self.tile is not None and self.tile < SMALLEST_TILE:
            raise UsageError(f"{self.tile} px is too small", where="--tile", next_step=f"Use {SMALLEST_TILE} or more.")
        if self.tiling not in ("exact", *BLENDING, "off"):
            raise UsageError(f"'{self.tiling}' is not exact, {', '.join(BLENDING)} or off", where="--tiling")
        self._check_overlap()
        if self.tiling == "off" and self.tile is not None:
            raise UsageError("there are no tiles with --tiling off", where="--tile", next_step="Leave one of them out.")
        dtype_of(self.dtype)
        self._check_memory()
        if self.threads is not None and self.threads < 1:
            raise UsageError("at least one thread is needed", where="--threads")

    def result_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height in pixels of the result for a photograph of a size."""
        factor = self.scale
        if self.long_side is not None:
            factor = min(self.long_side / max(width, height), LARGEST_SCALE)
        return max(round(width * factor), 1), max(round(height * factor), 1)

    @property
    def blended(self) -> tuple[int, int]:
        """Side and overlap of blended tiles, in pixels."""
        return self.tile or BLENDED_TILE, BLENDED_OVERLAP if self.overlap is None else self.overlap

    def _check_long_side(self) -> None:
        if self.long_side is None:
            return
        if self.long_side < 1:
            raise UsageError(f"{self.long_side} px is no size", where="--long-side", next_step="Use 1 or more.")
        if self.scale != 1:
            raise UsageError("--scale sets the size too", where="--long-side", next_step="Leave one of them out.")

    def _check_memory(self) -> None:
        if self.quantize is not None:
            precision_named(self.quantize, "--quantize")
        if self.offload not in OFFLOADS:
            raise UsageError(f"'{self.offload}' is not {', '.join(OFFLOADS[:-1])} or {OFFLOADS[-1]}", where="--offload")
        if isinstance(self.device_memory, int) and self.device_memory < 1:
            raise UsageError(f"{self.device_memory} bytes are no memory", where="--device-memory")

    def _check_overlap(self) -> None:
        if self.tiling not in BLENDING:
            if self.overlap is not None:
                raise UsageError(
                    f"tiles do not overlap with --tiling {self.tiling}", where="--overlap",
                    next_step=f"Leave it out, or use --tiling {', '.join(BLENDING[:-1])} or {BLENDING[-1]}.",
                )  # fmt: skip
            return
        tile, overlap = self.blended
        if not 0 <= overlap <= tile // 2:
            raise UsageError(
                f"{overlap} px is not between 0 and half of a tile of {tile} px", where="--overlap",
                next_step="Choose a smaller overlap, or a larger --tile.",
            )  # fmt: skip

    def fingerprint(self) -> str:
        """Hash of all options that change the result's pixels; the weights are hashed separately."""
        chosen = dataclasses.asdict(self)
        chosen["scale"] = float(self.scale)  # 2 and 2.0 are the same
        # Models and adapters are identified by their weights, not by name.
        irrelevant = {"threads", "model", "adapter", "tile", "tiling", "overlap", "offload"}
        # Added later: results of versions without them stay known.
        irrelevant |= {name for name in ("quantize", "device_memory") if chosen[name] is None}
        if self.tiling in BLENDING:
            irrelevant -= {"tiling"}
            chosen["tiling"] = (self.tiling, *self.blended)
        for name in irrelevant:
            del chosen[name]
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteOptions:
    """Options that decide how a result is written to its file."""

    format: OutputFormat = "preserve"
    """Format of the result; preserve keeps the input's, unless the name of a single output has another suffix."""
    quality: int | None = None
    """Quality of JPEG, WebP, AVIF and JPEG XL, from 1 to 100; None takes the input's own, but a high one at least."""
    bit_depth: int | None = None
    """Bits of each value, 8 or 16; None keeps the input's depth."""
    keep_dates: bool = False
    """Give the result the times of the last change and last access of its input."""
    strip: bool = False
    """Write no metadata but what decides the look: colour profile, colour tags and orientation."""
    provenance: bool = False
    """Write into XMP what restored the photograph: version, model, hash of the weights, licence and options."""

    def __post_init__(self) -> None:
        _check_numbers(self, ("quality", "bit_depth"), numbers.Integral)
        check_flags(self, ("keep_dates", "strip", "provenance"))
        if self.format not in OUTPUT_FORMATS:
            raise UsageError(
                f"'{self.format}' is not {', '.join(OUTPUT_FORMATS[:-1])} or {OUTPUT_FORMATS[-1]}", where="--format"
            )
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UsageError(f"{self.quality} is outside 1 to 100", where="--quality")
        if self.quality is not None and self.format in LOSSLESS:
            raise UsageError(
                f"{self.format.upper()} is written without loss and has no quality", where="--quality",
                next_step="Leave it out, or use --format jpeg, webp, avif or jxl.",
            )  # fmt: skip
        if self.bit_depth is not None and self.bit_depth not in BIT_DEPTHS:
            raise UsageError(f"{self.bit_depth} is not keep, 8 or 16", where="--bit-depth")
        if self.bit_depth == 16 and self.format in EIGHT_BIT:
            raise UsageError(
                f"{self.format.upper()} is written with 8 bits only", where="--bit-depth",
                next_step="Use --format tiff or png for 16 bits.",
            )  # fmt: skip

    def fingerprint(self) -> str:
        """Hash of all options that change the bytes of the result."""
        chosen = dataclasses.asdict(self)
        del chosen["keep_dates"]
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


def parse_bit_depth(text: str) -> int | None:
    """Parse `keep`, `8` or `16`, the values of `--bit-depth`; None for `keep`, UsageError for others."""
    if text == "keep":
        return None
    if text not in map(str, BIT_DEPTHS):
        raise UsageError(f"'{text}' is not keep, 8 or 16", where="--bit-depth")
    return int(text)


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchOptions:
    """What a user may choose for a batch, beside how a photograph is restored."""

    write: WriteOptions = WriteOptions()
    """How results are written."""
    name: str | None = None
    """Template of the names of results, see `engine.naming`; None keeps the names of inputs."""
    overwrite: bool = False
    """Replace files that exist at the outputs, whoever made them."""
    accept_damaged: bool = False
    """Restore what can be decoded of damaged files, with a note."""
    adopt: bool = False
    """Take over outputs that no journal knows, if their provenance says that the same options and weights made them of
    the same inputs."""
    shard: Shard | None = None
    """The part of the files that this run does; None for all."""
    memory_per_file: int | None = None
    """Bytes that a file may take, by an estimate from its header; None takes what is free when the model is loaded,
    divided by the number of devices."""

    def __post_init__(self) -> None:
        _check_texts(self, ("name",))
        check_flags(self, ("overwrite", "accept_damaged", "adopt"))
        if self.adopt and not self.write.provenance:
            raise UsageError(
                "results are recognised by their provenance", where="--adopt", next_step="Add --provenance."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipOptions:
    """Options that only clips have."""

    temporal: float = 1.0
    """Strength of the filter over time: 1 averages frames where they agree, 0 restores every frame by itself."""
    codec: str | None = None
    """Codec of video: ffv1, av1, or an encoder of PyAV; None takes that of the output's suffix."""

    def __post_init__(self) -> None:
        _check_texts(self, ("codec",))
        _check_numbers(self, ("temporal",), numbers.Real)
        if not 0 <= self.temporal <= 1:
            raise UsageError(f"{self.temporal:g} is outside 0 to 1", where="--temporal")

    def fingerprint(self) -> str:
        """Hash of the options; the encoder that a codec stands for is hashed separately."""
        return hashlib.sha256(json.dumps({"temporal": self.temporal}).encode()).hexdigest()[:16]
