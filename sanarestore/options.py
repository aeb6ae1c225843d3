"""What a user may choose, in one place: frozen, documented, checked once. Imports neither torch nor Typer."""

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from typing import Literal

from sanarestore.errors import UsageError

DType = Literal["auto", "float32", "bfloat16"]

DTYPES: tuple[DType, ...] = ("auto", "float32", "bfloat16")

Tiling = Literal["exact", "causal", "causal-clean", "multidiffusion", "independent", "off"]

BLENDING = ("causal", "causal-clean", "multidiffusion", "independent")
"""Ways of tiling whose tiles overlap, and whose result depends on them."""

LATENT = ("causal", "causal-clean", "multidiffusion")
"""Those of them that are the latent path's."""

SCHEMES = ("exact", *BLENDING)
"""All that cut an image."""

BLENDED_TILE, BLENDED_OVERLAP = 1024, 128
"""Of those, in pixels, whatever the device."""

SCALES = (1, 2, 4)
"""How much larger the result can be made, per side."""

MOST_STEPS = 50
"""Of the flow; more change nothing that can be seen."""

SMALLEST_TILE = 64
"""Below this the halo is nearly all there is."""


def dtype_of(value: str) -> DType:
    """What `--dtype` was given; UsageError for another word."""
    for known in DTYPES:
        if value == known:
            return known
    raise UsageError(
        f"'{value}' is not {', '.join(DTYPES[:-1])} or {DTYPES[-1]}", where="--dtype",
        next_step="float16 is left out on purpose: SANA's weights overflow in it.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class RestoreOptions:
    """What decides how a photograph is restored."""

    prompt: str | None = None
    """What to fix, in words, in any of 15 languages; None for all faults found, light and colour left alone."""
    model: str | None = None
    """A model's name, folder or hub id (see weights.resolve), with an adapter its base; None takes the embedded model,
    or the base that the adapter names."""
    adapter: str | None = None
    """Folder or hub id of what turns a published SANA base into a restorer; None where the model is one."""
    strength: float = 1.0
    """How much of the change is applied: 1 is the restored photograph, 0 the input, exactly; between, a mixture."""
    fidelity: float = 1.0
    """1 trusts the refiner's result, 0 the image that the latent path generated; between, a mixture."""
    steps: int | None = None
    """Of the latent path: 1 gives the mean of what the photo allows, more draw one of many; None takes the model's
    default."""
    guidance: float = 1.0
    """Classifier-free guidance of the latent path: above 1 follows the prompt more, at twice the cost; 1 is off."""
    scale: int = 1
    """Enlarge by 1, 2 or 4 per side (bicubic) before restoring."""
    tile: int | None = None
    """Largest side of a tile's core in pixels; None chooses by device, or 1024 where tiles are blended. Changes
    memory and speed, and not the result unless they are."""
    tiling: Tiling = "exact"
    """exact equals the whole image up to rounding; off is the whole image, if memory allows. Of the latent path alone:
    causal, whose tiles attend to those before them, and multidiffusion, both blended at every step; and causal-clean,
    whose tiles are finished one after another and attend to those that are. independent restores every tile alone."""
    overlap: int | None = None
    """Of tiles that are blended, in pixels; None takes 128."""
    dtype: DType = "auto"
    """Arithmetic inside the network; auto is bfloat16 on CUDA and float32 elsewhere. Its ends are always float32."""
    seed: int = 0
    """Names the noise that generation starts from; the refiner alone uses none."""
    threads: int | None = None
    """CPU threads per worker; None leaves PyTorch's choice. The same number gives the same bytes."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise UsageError(f"{self.strength:g} is outside 0 to 1", where="--strength")
        if not 0 <= self.fidelity <= 1:
            raise UsageError(f"{self.fidelity:g} is outside 0 to 1", where="--fidelity")
        if self.steps is not None and not 1 <= self.steps <= MOST_STEPS:
            raise UsageError(f"{self.steps} is outside 1 to {MOST_STEPS}", where="--steps")
        if not 1 <= self.guidance < math.inf:
            raise UsageError(f"{self.guidance:g} is not 1 or more", where="--guidance")
        if self.scale not in SCALES:
            raise UsageError(f"{self.scale} is not one of {', '.join(map(str, SCALES))}", where="--scale")
        if self.tile is not None and self.tile < SMALLEST_TILE:
            raise UsageError(f"{self.tile} px is too small", where="--tile", next_step=f"Use {SMALLEST_TILE} or more.")
        if self.tiling not in ("exact", *BLENDING, "off"):
            raise UsageError(f"'{self.tiling}' is not exact, {', '.join(BLENDING)} or off", where="--tiling")
        self._check_overlap()
        if self.tiling == "off" and self.tile is not None:
            raise UsageError("there are no tiles with --tiling off", where="--tile", next_step="Leave one of them out.")
        dtype_of(self.dtype)
        if self.threads is not None and self.threads < 1:
            raise UsageError("at least one thread is needed", where="--threads")

    @property
    def blended(self) -> tuple[int, int]:
        """Side and overlap of tiles that are blended, in pixels."""
        return self.tile or BLENDED_TILE, BLENDED_OVERLAP if self.overlap is None else self.overlap

    def _check_overlap(self) -> None:
        if self.tiling not in BLENDING:
            if self.overlap is not None:
                raise UsageError(
                    f"tiles do not overlap with --tiling {self.tiling}", where="--overlap",
                    next_step=f"Leave it out, or use --tiling {', '.join(BLENDING)}.",
                )  # fmt: skip
            return
        tile, overlap = self.blended
        if not 0 <= overlap <= tile // 2:
            raise UsageError(
                f"{overlap} px is not between 0 and half of a tile of {tile} px", where="--overlap",
                next_step="Choose a smaller one, or a larger --tile.",
            )  # fmt: skip

    def fingerprint(self) -> str:
        """Hash of all that changes the pixels of a result; the model's own weights are hashed separately."""
        chosen = dataclasses.asdict(self)
        # Models and adapters are known by their weights, not by name.
        irrelevant = {"threads", "model", "adapter", "tile", "tiling", "overlap"}
        if self.tiling in BLENDING:
            irrelevant -= {"tiling"}
            chosen["tiling"] = (self.tiling, *self.blended)
        for name in irrelevant:
            del chosen[name]
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()
