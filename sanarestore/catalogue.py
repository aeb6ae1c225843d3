"""Models that are here or published: what they are, what they hold, and whether their files are whole. Torch-free.

A folder holds a restoration model, an adapter, a base (a text-to-image model, which restores only with an adapter), or
an autoencoder that `train` wrote.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sanarestore import weights
from sanarestore.errors import WeightsError

Kind = Literal["model", "base", "adapter", "autoencoder"]

PUBLISHER = "Efficient-Large-Model"
"""The account on the hub that publishes SANA."""

PUBLISHED = {
    f"{PUBLISHER}/Sana_600M_512px_diffusers": 591_747_872,
    f"{PUBLISHER}/Sana_600M_1024px_diffusers": 591_747_872,
    f"{PUBLISHER}/Sana_1600M_1024px_BF16_diffusers": 1_604_462_752,
    f"{PUBLISHER}/Sana_1600M_2Kpx_BF16_diffusers": 1_604_462_752,
    f"{PUBLISHER}/Sana_1600M_4Kpx_BF16_diffusers": 1_604_462_752,
    f"{PUBLISHER}/SANA1.5_1.6B_1024px_diffusers": 1_604_641_952,
    f"{PUBLISHER}/SANA1.5_4.8B_1024px_diffusers": 4_721_825_952,
    f"{PUBLISHER}/Sana_Sprint_0.6B_1024px_diffusers": 593_501_216,
    f"{PUBLISHER}/Sana_Sprint_1.6B_1024px_diffusers": 1_610_237_472,
}
"""Published SANA checkpoints in the diffusers layout, by hub id, and the parameters of their transformers."""

TRANSFORMER = "transformer"

_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedModel:
    """A model in the list."""

    name: str
    """Name to give to --model, or to --adapter for an adapter."""
    kind: Kind
    """model restores, base restores only with an adapter, adapter changes a base or a model, autoencoder replaces that
    of a base or a model."""
    place: Literal["embedded", "cached", "published"]
    """Where it is: in the package, in the hub's cache, or only on the hub."""
    parameters: int | None = None
    """Parameters, of the transformer alone for a published base that is not here."""
    size: int | None = None
    """Bytes of its files; None if it is not here."""
    licence: str | None = None
    """The licence that its card states; None if it is not here."""
    folder: Path | None = None
    """Where its files are; None if it is not here."""

    def to_json(self) -> dict[str, Any]:
        """The fields of a JSON line, and whether the model needs an adapter."""
        folder = None if self.folder is None else str(self.folder)
        return {**asdict(self), "folder": folder, "needs_adapter": self.kind == "base"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelPart:
    """A part of a model: a network, or a table."""

    name: str
    parameters: int
    """Values of its tensors; a variant of another type is not counted again."""
    size: int
    """Bytes of its files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """A model that is here, described."""

    name: str
    kind: Kind
    folder: Path
    licence: str
    base: str | None
    """The base of an adapter, or the weights that an autoencoder was made from."""
    experts: tuple[str, ...]
    defaults: Mapping[str, Any]
    """Settings where the user gives none."""
    parts: tuple[ModelPart, ...]
    stages: tuple[Mapping[str, Any], ...]
    """Stages of its training, oldest first, as its manifest tells them."""
    sha256: Mapping[str, str]
    """Hash of each file that has a known one."""

    def to_json(self) -> dict[str, Any]:
        """The fields of a JSON line."""
        return {**asdict(self), "folder": str(self.folder)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """A model whose files were compared with their hashes."""

    name: str
    folder: Path
    files: int
    """Files with a known hash."""
    unknown: int
    """Files of weights without a known hash."""
    wrong: tuple[str, ...]
    """What is wrong, one sentence a file."""

    def to_json(self) -> dict[str, Any]:
        """The fields of a JSON line."""
        return {**asdict(self), "folder": str(self.folder)}


def listed() -> Iterator[ListedModel]:
    """The embedded model, the models in the hub's cache, and the published ones that are not there."""
    yield _here(weights.EMBEDDED, weights.resolve(weights.EMBEDDED), "embedded")
    cached = dict(cached_models())
    for name, folder in cached.items():
        yield _here(name, folder, "cached")
    for name, parameters in PUBLISHED.items():
        if name not in cached:
            yield ListedModel(name=name, kind="base", place="published", parameters=parameters)


def cached_models() -> Iterator[tuple[str, Path]]:
    """Models, adapters and SANA checkpoints in the hub's cache: hub id, and folder of the newest revision."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    with suppress(CacheNotFound):
        for repository in sorted(scan_cache_dir(constants.HF_HUB_CACHE).repos, key=lambda each: each.repo_id):
            newest = max(repository.revisions, key=lambda each: each.last_modified, default=None)
            if repository.repo_type == "model" and newest and _kind(newest.snapshot_path):
                yield repository.repo_id, newest.snapshot_path


def found(name: str) -> Path:
    """The folder of a model that is here, by name, folder or hub id; WeightsError if it would have to be fetched."""
    cached = dict(cached_models()).get(name)
    if cached is not None:
        return cached
    if weights.is_hub_id(name):
        raise WeightsError(
            "it is not on this machine", where=name, next_step=f"Fetch it with `sanarestore models pull {name}`."
        )
    return weights.resolve(name)


def describe(name: str) -> Description:
    """Describe a model that is here; WeightsError if it is not, or if it is none that is known."""
    folder = found(name)
    kind = _kind_of(name, folder)
    index = _index(folder, kind)
    training = index.get("training", {})
    return Description(
        name=name, kind=kind, folder=folder, licence=weights.licence(folder), base=index.get("base"),
        experts=tuple(index.get("experts", ())), defaults=index.get("defaults", {}), parts=tuple(_parts(folder)),
        stages=tuple(training.get("stages", [training] if training else [])), sha256=_hashes(folder, index),
    )  # fmt: skip


def verified(name: str) -> Verified:
    """Compare every file that has a known hash with it; WeightsError if the model is not here."""
    folder = found(name)
    index = _index(folder, _kind_of(name, folder))
    hashes = _hashes(folder, index)
    wrong = []
    for file, expected in sorted(hashes.items()):
        try:
            weights.verify(folder, {file: expected})
        except WeightsError as error:
            wrong.append(str(error))
    unknown = {each.relative_to(folder).as_posix() for each in folder.rglob("*.safetensors")} - hashes.keys()
    return Verified(name=name, folder=folder, files=len(hashes), unknown=len(unknown), wrong=tuple(wrong))


def _here(name: str, folder: Path, place: Literal["embedded", "cached"]) -> ListedModel:
    parts = list(_parts(folder))
    return ListedModel(
        name=name, kind=_kind_of(name, folder), place=place, parameters=sum(each.parameters for each in parts),
        size=sum(each.stat().st_size for each in folder.rglob("*") if each.is_file()), licence=weights.licence(folder),
        folder=folder,
    )  # fmt: skip


def _kind(folder: Path) -> Kind | None:
    """Return the kind of a folder; None if it is not a model or an adapter."""
    if (folder / weights.MANIFEST).is_file():
        return "model"
    if (folder / weights.ADAPTER).is_file():
        return "adapter"
    if weights.is_autoencoder(folder):
        return "autoencoder"
    with suppress(OSError, ValueError, KeyError, IndexError, TypeError):
        if "Sana" in json.loads((folder / "model_index.json").read_text(encoding="utf-8"))[TRANSFORMER][1]:
            return "base"
    return None


def _kind_of(name: str, folder: Path) -> Kind:
    kind = _kind(folder)
    if kind is None:
        raise WeightsError(
            "it is neither a restoration model nor an adapter nor a SANA checkpoint", where=name,
            next_step="Name one that `sanarestore models list` shows, or a folder that `sanarestore train` wrote.",
        )  # fmt: skip
    return kind


def _index(folder: Path, kind: Kind) -> dict[str, Any]:
    if kind == "model":
        return weights.read_manifest(folder)
    if kind == "autoencoder":
        return weights.read_autoencoder_index(folder)
    return weights.read_adapter_index(folder) if kind == "adapter" else {}


def _hashes(folder: Path, index: Mapping[str, Any]) -> dict[str, str]:
    """Hashes that the manifest lists; without one, those after which the hub's cache names large files."""
    if "sha256" in index:
        return dict(index["sha256"])
    links = {path: path.resolve().name for path in folder.rglob("*") if path.is_symlink()}
    return {
        path.relative_to(folder).as_posix(): name for path, name in sorted(links.items()) if _SHA256.fullmatch(name)
    }


def _parts(folder: Path) -> Iterator[ModelPart]:
    """Parts with weights, read from the heads of their files."""
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.safetensors")):
        place = path.parent.relative_to(folder).as_posix()
        # The folder of a part holds shards and variants of one network; elsewhere, each file is a part.
        name = path.relative_to(folder).with_suffix("").as_posix() if place in (".", "restoration") else place
        files.setdefault(name, []).append(path)
    for name, paths in files.items():
        counts: dict[str, int] = {}
        for path in paths:
            counts |= _values(path)
        yield ModelPart(name=name, parameters=sum(counts.values()), size=sum(path.stat().st_size for path in paths))


def _values(path: Path) -> dict[str, int]:
    """Number of values of each tensor in a file; WeightsError if its head cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: math.prod(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"not a whole safetensors file ({error})", where=path, next_step=weights.FETCH) from error
