"""Options that decide how a photograph is restored."""

import dataclasses
import hashlib
import json
import math
import numbers
import re
from dataclasses import dataclass
from os import PathLike, fspath

from sanarestore.errors import UsageError
from sanarestore.options.checks import check_numbers, check_texts
from sanarestore.options.choices import (
    BLENDED_OVERLAP,
    BLENDED_TILE,
    BLENDING,
    JUDGES,
    LARGEST_SCALE,
    MOST_CANDIDATES,
    MOST_STEPS,
    OFFLOADS,
    SMALLEST_TILE,
    DType,
    Judge,
    Offload,
    Precision,
    Tiling,
    dtype_of,
    precision_named,
)
from sanarestore.sizes import parse_size


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
    autoencoder: str | None = None
    """Folder or hub id of a DC-AE that replaces the base's autoencoder; None for the one that the adapter was trained
    with, or the base's own."""
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
    candidates: int = 1
    """Samples of the latent path for each photograph, from the seeds `seed`, `seed` + 1 and so on; the best is kept."""
    judge: str | Judge | None = None
    """Judge of the candidates: fidelity (agreement with the photograph), niqe (quality without a reference), or your
    own `Judge`, as an object or named as module:object; None for fidelity."""
    scale: float = 1.0
    """Enlarge each side by a factor from 1 to 4 (bicubic) before restoring."""
    long_side: int | None = None
    """Longer side of the result in pixels, instead of `scale`: smaller photographs are enlarged before restoring, by a
    factor of 4 at most, and larger ones are reduced after it. None to use `scale`."""
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
    """Weights that wait in the host's memory while a GPU generates an image: none; parts, those that the current stage
    does not need; or blocks, which also keeps only the current blocks of the transformer on the GPU. Affects only
    memory and speed."""
    device_memory: int | str | None = None
    """Memory of the device that a worker may use, in bytes or as text such as 8G; tile, offload and precision are
    chosen to fit unless they are set. None for the free memory."""
    seed: int = 0
    """Seed of the noise that the latent path starts from; the refiner uses no noise."""
    threads: int | None = None
    """CPU threads per worker; None keeps PyTorch's default. The same number gives the same output bytes."""

    def __post_init__(self) -> None:
        for name in ("model", "adapter", "autoencoder"):
            if isinstance(getattr(self, name), PathLike):
                object.__setattr__(self, name, fspath(getattr(self, name)))
        if isinstance(self.device_memory, str):
            object.__setattr__(self, "device_memory", parse_size(self.device_memory, "--device-memory"))
        check_texts(self, ("prompt", "model", "adapter", "autoencoder"))
        check_numbers(self, ("strength", "fidelity", "guidance", "scale"), numbers.Real)
        whole = ("steps", "tile", "overlap", "seed", "threads", "long_side", "candidates", "device_memory")
        check_numbers(self, whole, numbers.Integral)
        if not 0 <= self.strength <= 1:
            raise UsageError(f"{self.strength:g} is outside 0 to 1", where="--strength")
        if not 0 <= self.fidelity <= 1:
            raise UsageError(f"{self.fidelity:g} is outside 0 to 1", where="--fidelity")
        if self.steps is not None and not 1 <= self.steps <= MOST_STEPS:
            raise UsageError(f"{self.steps} is outside 1 to {MOST_STEPS}", where="--steps")
        if not 1 <= self.guidance < math.inf:
            raise UsageError(f"{self.guidance:g} is not a finite number of 1 or more", where="--guidance")
        self._check_candidates()
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

    @property
    def judged_by(self) -> str | None:
        """Name of the judge; None for a single candidate."""
        if self.candidates == 1:
            return None
        return self.judge.name if isinstance(self.judge, Judge) else self.judge or JUDGES[0]

    def _check_candidates(self) -> None:
        if not 1 <= self.candidates <= MOST_CANDIDATES:
            raise UsageError(f"{self.candidates} is outside 1 to {MOST_CANDIDATES}", where="--candidates")
        if self.judge is None:
            return
        if self.candidates == 1:
            raise UsageError(
                "there is only one candidate, so nothing to judge", where="--judge",
                next_step="Use --candidates 8, or leave it out.",
            )  # fmt: skip
        if isinstance(self.judge, str):
            is_judge = self.judge in JUDGES or bool(re.fullmatch(r"[\w.]+:[\w.]+", self.judge))
        else:
            is_judge = isinstance(self.judge, Judge) and isinstance(self.judge.name, str)
        if not is_judge:
            raise UsageError(
                f"{self.judge!r} is not a judge", where="--judge",
                next_step=f"Use {', '.join(JUDGES)}, module:object, or an object with a name and a method score.",
            )  # fmt: skip

    def _check_long_side(self) -> None:
        if self.long_side is None:
            return
        if self.long_side < 1:
            raise UsageError(
                f"{self.long_side} px is not a valid size", where="--long-side", next_step="Use 1 or more."
            )
        if self.scale != 1:
            raise UsageError("--scale sets the size too", where="--long-side", next_step="Leave one of them out.")

    def _check_memory(self) -> None:
        if self.quantize is not None:
            precision_named(self.quantize, "--quantize")
        if self.offload not in OFFLOADS:
            raise UsageError(f"'{self.offload}' is not {', '.join(OFFLOADS[:-1])} or {OFFLOADS[-1]}", where="--offload")
        if isinstance(self.device_memory, int) and self.device_memory < 1:
            raise UsageError(f"{self.device_memory} bytes are too few", where="--device-memory")

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
        # Not asdict, which would copy a user's judge.
        chosen = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        chosen["scale"] = float(self.scale)  # 2 and 2.0 are the same
        # Models and adapters are identified by their weights, not by name.
        irrelevant = {"threads", "model", "adapter", "autoencoder", "tile", "tiling", "overlap", "candidates", "judge"}
        irrelevant |= {"offload"}
        # Added later: results of versions without them stay known.
        irrelevant |= {name for name in ("quantize", "device_memory") if chosen[name] is None}
        if self.tiling in BLENDING:
            irrelevant -= {"tiling"}
            chosen["tiling"] = (self.tiling, *self.blended)
        if self.candidates > 1:
            irrelevant -= {"judge", "candidates"}
            chosen["judge"] = self.judged_by
        for name in irrelevant:
            del chosen[name]
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()
