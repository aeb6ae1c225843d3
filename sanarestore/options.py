"""What a user may choose, in one place: frozen, documented, checked once. Imports neither torch nor Typer."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Literal

from sanarestore.errors import UsageError

DType = Literal["auto", "float32", "bfloat16"]

SCALES = (1, 2, 4)
"""How much larger the result can be made, per side."""

SMALLEST_TILE = 64
"""Below this the halo is nearly all there is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RestoreOptions:
    """What decides how a photograph is restored."""

    prompt: str | None = None
    """What to remove, in words; None takes the model's default ("Restore this image")."""
    model: str = "sanarestore-mini"
    """A model's name, folder or hub id (see weights.resolve)."""
    fidelity: float = 1.0
    """1 trusts the refiner's result, 0 the image that the latent path generated; between, a mixture."""
    scale: int = 1
    """Enlarge by 1, 2 or 4 per side (bicubic) before restoring."""
    tile: int | None = None
    """Largest side of a tile's core in pixels; None chooses by device. Changes memory and speed, not the result."""
    dtype: DType = "auto"
    """Arithmetic inside the network; auto is bfloat16 on CUDA and float32 elsewhere. Its ends are always float32."""
    seed: int = 0
    """Names the noise that generation starts from; the refiner alone uses none."""
    threads: int | None = None
    """CPU threads per worker; None leaves PyTorch's choice. The same number gives the same bytes."""

    def __post_init__(self) -> None:
        if not 0 <= self.fidelity <= 1:
            raise UsageError(f"{self.fidelity:g} is outside 0 to 1", where="--fidelity")
        if self.scale not in SCALES:
            raise UsageError(f"{self.scale} is not one of {', '.join(map(str, SCALES))}", where="--scale")
        if self.tile is not None and self.tile < SMALLEST_TILE:
            raise UsageError(f"{self.tile} px is too small", where="--tile", next_step=f"Use {SMALLEST_TILE} or more.")
        if self.dtype not in ("auto", "float32", "bfloat16"):
            raise UsageError(
                f"'{self.dtype}' is not auto, float32 or bfloat16",
                where="--dtype",
                next_step="float16 is left out on purpose: SANA's weights overflow in it.",
            )
        if self.threads is not None and self.threads < 1:
            raise UsageError("at least one thread is needed", where="--threads")

    def fingerprint(self) -> str:
        """Hash of all that changes the pixels of a result; the model's own weights are hashed separately."""
        chosen = dataclasses.asdict(self)
        # Tiling is exact, so the tile is a matter of memory; the model is known by its weights, not by its name.
        for irrelevant in ("tile", "threads", "model"):
            del chosen[irrelevant]
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()
