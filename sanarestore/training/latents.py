"""Latents that are encoded once and repeated, for the objective flow, which needs no pixels.

The crops of some passes over the data are encoded before training, and the run then repeats them with new noise. Shards
lie in the user's cache, in a folder named by a hash of what determines them: the training files, the crops, the
recipe's fields that shape them, and the autoencoder's weights. Each shard is written whole or not at all, so that an
interrupted encoding can continue. Several processes take turns with shards.

Shape suffixes: N crops of a shard, C latent channels, H W latent positions.
"""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.data import Dataset

from sanarestore.degradations.requests import Request
from sanarestore.files import hash_text, write_atomically
from sanarestore.model.autoencoder import Autoencoder
from sanarestore.training.batching import numbered_batches
from sanarestore.training.data import Sample
from sanarestore.training.ranks import Ranks
from sanarestore.training.recipe import TrainingRecipe

SHARD = 256
"""Crops per file."""

ENDS = 8192
"""Bytes at each end of a training file that are hashed to identify it."""

AT_ONCE = 8
"""Crops that are encoded together."""

SHAPING = (
    "seed", "patch", "caption_dropout", "gray", "quantized_fraction", "jpeg_offset_fraction", "shrink", "shrink_most",
    "synthetic_fraction", "backdrops", "candidates", "degradations", "scale",
)  # fmt: skip
"""Fields of a recipe that determine its crops."""


Words = tuple[str, tuple[str, ...] | None, bool | None]
"""Prompt of a crop, and its request: the kinds to remove, and whether it is understood; None if it has to be read
first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentPlan:
    """The latents to encode, and the folder that keeps them."""

    folder: Path
    crops: int
    bytes: int
    """Size of all shards."""
    missing: tuple[int, ...]
    """Numbers of the shards that are still missing."""

    @property
    def shards(self) -> int:
        return -(-self.crops // SHARD)

    @property
    def note(self) -> str:
        """A note for the user before encoding."""
        there = self.shards - len(self.missing)
        known = f", {there} of {self.shards} parts are cached already" if there else ""
        return f"latents of {self.crops} crops, {self.bytes / 1e6:.0f} MB, are kept in {self.folder}{known}"


def plan_latents(
    recipe: TrainingRecipe, files: Sequence[tuple[Path, ...]], autoencoder: Autoencoder, root: Path | None = None
) -> LatentPlan:
    """Plan the latents of the recipe's `cached_passes` over the data, whose files are listed by photograph or pair.

    `root` defaults to the user's cache.
    """
    crops = min(recipe.cached_passes * len(files), recipe.steps * recipe.batch)
    shape = {name: value for name, value in recipe.to_dict().items() if name in SHAPING}
    known = [_hash_files(files), _hash_weights(autoencoder), shape]
    key = hash_text(json.dumps(known, sort_keys=True))[:24]
    folder = (root or platformdirs.user_cache_path("sanarestore") / "latents") / key
    side = recipe.patch // autoencoder.stride
    shards = -(-crops // SHARD)
    return LatentPlan(
        folder=folder, crops=crops, bytes=crops * 2 * 2 * autoencoder.latent_channels * side * side,
        missing=tuple(shard for shard in range(shards) if not _file(folder, shard, crops).is_file()),
    )  # fmt: skip


@torch.no_grad()
def encode(
    plan: LatentPlan, samples: Dataset[Sample], encoder: Callable[[Tensor], Tensor], recipe: TrainingRecipe,
    device: torch.device, ranks: Ranks | None = None,
) -> Iterator[int]:  # fmt: skip
    """Encode missing shards, yielding the number of crops that this process has done so far.

    `encoder` turns images [B,3,H,W] into latents. OSError if the disk refuses.
    """
    ranks = ranks or Ranks()
    own = plan.missing[ranks.rank :: ranks.count]
    numbers = [number for shard in own for number in _numbers(shard, plan.crops)]
    shards, done = iter(own), 0
    words, latents = list[Words](), list[tuple[Tensor, Tensor]]()
    for batch in numbered_batches(samples, _in_parts(numbers), workers=recipe.workers):
        words += map(_words, batch.prompts, batch.requests)
        latents.append(
            (encoder(batch.degraded_BCHW.to(device)).half().cpu(), encoder(batch.target_BCHW.to(device)).half().cpu())
        )
        done += len(batch.prompts)
        yield done
        if len(words) == SHARD or done == len(numbers):
            _write(_file(plan.folder, next(shards), plan.crops), words, latents)
            words, latents = [], []
    ranks.wait()


class LatentSamples(Dataset[Sample]):
    """Samples without images: their latents, repeated from pass to pass."""

    def __init__(self, plan: LatentPlan, recipe: TrainingRecipe) -> None:
        self._folder, self._crops = plan.folder, plan.crops
        self._length = recipe.steps * recipe.batch

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        shard, place = divmod(index % self._crops, SHARD)
        tensors, words = _opened(_file(self._folder, shard, self._crops))
        degraded, target = (tensors.get_slice(name)[place] for name in ("degraded", "target"))
        prompt, removes, understood = words[place]
        request = None if understood is None else Request(tuple(removes) if removes else None, understood)
        nothing = torch.zeros(3, 0, 0)
        return Sample(
            degraded=nothing, target=nothing, statistics=torch.zeros(0), prompt=prompt, request=request, note="",
            degraded_latent=degraded.float(), target_latent=target.float(),
        )  # fmt: skip


def _hash_files(files: Sequence[tuple[Path, ...]]) -> str:
    """Hash of the sizes and of both ends of all files."""
    digest = hashlib.sha256()
    for path in (path for group in files for path in group):
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            digest.update(f"{size} ".encode())
            for place in (0, max(0, size - ENDS)):
                file.seek(place)
                digest.update(file.read(ENDS))
    return digest.hexdigest()


def _hash_weights(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} ".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _numbers(shard: int, crops: int) -> range:
    return range(shard * SHARD, min((shard + 1) * SHARD, crops))


def _in_parts(numbers: Sequence[int]) -> list[list[int]]:
    """Numbers in groups of `AT_ONCE` that never cross the end of a shard."""
    parts: list[list[int]] = []
    for number in numbers:
        if not parts or len(parts[-1]) == AT_ONCE or number // SHARD != parts[-1][-1] // SHARD:
            parts.append([])
        parts[-1].append(number)
    return parts


def _file(folder: Path, shard: int, crops: int) -> Path:
    """Return the file of a shard; its name holds the length of the last one, because a longer run needs a longer
    one."""
    count = len(_numbers(shard, crops))
    return folder / (f"{shard:06d}.safetensors" if count == SHARD else f"{shard:06d}-{count}.safetensors")


def _words(prompt: str, request: Request | None) -> Words:
    return prompt, None if request is None else request.removes, None if request is None else request.understood


def _write(path: Path, words: Sequence[Words], latents: Sequence[tuple[Tensor, Tensor]]) -> None:
    degraded_NCHW, target_NCHW = (torch.cat(each).contiguous() for each in zip(*latents, strict=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as file:
        tensors = {"degraded": degraded_NCHW, "target": target_NCHW}
        file.write(save(tensors, metadata={"words": json.dumps(words)}))


@functools.lru_cache(maxsize=64)
def _opened(path: Path) -> tuple[Any, list[Any]]:
    """Open a shard; return it with the wordings of its crops."""
    opened: Any = safe_open(path, framework="pt")
    return opened, json.loads(opened.metadata()["words"])
