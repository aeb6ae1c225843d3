"""Read and write adapters, which turn a text-to-image base into a restorer, or fine-tune a restorer.

adapter.json                        format, base, its revision and licence, condition kind, refiner configuration,
                                    defaults, training, hashes
pytorch_lora_weights.safetensors    LoRA of the transformer, in diffusers' key layout
transformer/                        or all weights of the transformer, after a full fine-tune
condition.safetensors               condition of the transformer; without one, the base's latent path is used
refiner.safetensors                 all weights of a refiner
refiner_lora.safetensors            or LoRA of the base's refiner
prompts.safetensors                 prompt embeddings
vae/                                an autoencoder that replaces the base's; it may also lie elsewhere
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sanarestore import weights
from sanarestore.errors import WeightsError
from sanarestore.files import files_in, hash_file, sampled_hash
from sanarestore.flow import Solver, solver_of
from sanarestore.model.base import write_module
from sanarestore.model.condition import ConditionKind, kind_of
from sanarestore.model.refiner_config import RefinerConfig
from sanarestore.model.tensors import read_tensors, write_json, write_tensors
from sanarestore.old_names import renamed_tensors

INDEX, LORA, TRANSFORMER = weights.ADAPTER, "pytorch_lora_weights.safetensors", "transformer"
CONDITION, REFINER, PROMPTS = "condition.safetensors", "refiner.safetensors", "prompts.safetensors"
REFINER_LORA = "refiner_lora.safetensors"

PREFIX = "transformer."
"""Prefix of LoRA keys: diffusers' name for the part of the pipeline that they change."""

OLD_LICENCE = "licence of the base"
"""Name under which older adapters keep the base's licence, among the facts of their training."""

NEXT_STEP = "Fetch the adapter again, or train it again."

Change = Literal["lora", "full", "none"]
"""How the transformer differs from the base's: by LoRA, in all weights, or not at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapter:
    """The content of adapter.json, checked."""

    folder: Path
    base: str
    """Name and revision of the base that the adapter was trained on."""
    base_sha256: str
    """`sampled_hash` of that base's `BASE_PARTS`."""
    condition: ConditionKind | None
    """None: the latent path is the base's, if it has one."""
    change: Change
    refiner: RefinerConfig | None
    """None: the refiner is the base's, with low-rank changes."""
    defaults: dict[str, Any]
    """Recommended settings: prompt, steps, `steps_range`, the smallest and largest number of steps trained for,
    `solver`, if it is not the base's, and `scale`, if training images were enlarged."""
    solver: Solver | None = None
    """Solver that the transformer was trained for; None for the base's."""
    licence: str = weights.NOT_STATED
    """The licence of the base, as its card states it."""
    revision: str | None = None
    """Revision of a base from the hub."""
    prompts: frozenset[str] | None = None
    """Wordings that the adapter was trained for, where its base restores all other prompts itself; None for all."""
    autoencoder: str | None = None
    """Name of the autoencoder that the adapter was trained with in place of the base's; None for the base's."""
    autoencoder_sha256: str | None = None
    """`sampled_hash` of its folder."""


def read_adapter(name: str) -> Adapter:
    """Read an adapter by folder or hub id; WeightsError if a part is missing, damaged, or not as adapter.json says."""
    folder = weights.resolve(name)
    path = folder / INDEX
    content = weights.read_adapter_index(folder)
    try:
        adapter = Adapter(
            folder=folder,
            base=content["base"],
            base_sha256=str(content["base_sha256"]),
            condition=kind_of(content["condition"]) if content["condition"] else None,
            change=_change(content["change"]),
            refiner=RefinerConfig.from_dict(content["refiner"]) if content["refiner"] else None,
            defaults=dict(content["defaults"]),
            solver=solver_of(content["defaults"]["solver"]) if "solver" in content["defaults"] else None,
            licence=_licence(content),
            revision=content.get("revision"),
            prompts=frozenset(map(str, content["prompts"])) if content.get("prompts") else None,
            autoencoder=_autoencoder(folder, content),
            autoencoder_sha256=str(content["autoencoder"]["sha256"]) if content.get("autoencoder") else None,
        )
        hashes = dict(content["sha256"])
        if not isinstance(adapter.base, str) or not isinstance(adapter.defaults["prompt"], str):
            raise TypeError("base and defaults.prompt are names and words")
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"not as this version writes it ({error!r})", where=path, next_step=NEXT_STEP) from error
    read = {PROMPTS, REFINER if adapter.refiner else REFINER_LORA}
    read |= {CONDITION} if adapter.condition else set()
    read |= {LORA} if adapter.change == "lora" else set()
    if adapter.change == "full":
        read |= files_in(folder, TRANSFORMER)
    if adapter.autoencoder == str(folder / weights.OWN_AUTOENCODER):
        read |= files_in(folder, weights.OWN_AUTOENCODER)
    weights.verify(folder, hashes, read)
    return adapter


def write_adapter(
    folder: Path,
    *,
    base: str,
    prompts: dict[str, Tensor],
    defaults: dict[str, Any],
    training: dict[str, Any],
    condition: nn.Module | None = None,
    lora: dict[str, Tensor] | None = None,
    transformer: Any = None,
    refiner: nn.Module | None = None,
    refiner_lora: dict[str, Tensor] | None = None,
    trained_for: Collection[str] | None = None,
    autoencoder: str | None = None,
) -> None:
    """Write an adapter that `read_adapter` reads: refiner and full transformer in float16, other tensors unchanged.

    `base` is a name returned by `weights.pinned`. `lora` holds `<module>.lora_A.weight` [r, in] and
    `<module>.lora_B.weight` [out, r] under the transformer's module names, at scale 1. `transformer`, a diffusers
    model, is written whole instead; both need a `condition`. `refiner_lora` holds such tensors for the base's refiner,
    instead of a whole `refiner`. `trained_for` are the wordings that the adapter restores, None for all.
    `autoencoder` is the name, from `weights.pinned`, of the one that replaces the base's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / PROMPTS, prompts)
    if condition is not None:
        write_tensors(folder / CONDITION, condition.state_dict())
    if refiner is not None:
        write_tensors(folder / REFINER, {name: tensor.half() for name, tensor in refiner.state_dict().items()})
    elif refiner_lora is not None:
        write_tensors(folder / REFINER_LORA, refiner_lora)
    change: Change = "none"
    if lora is not None:
        change = "lora"
        write_tensors(folder / LORA, {PREFIX + name: tensor for name, tensor in lora.items()})
    elif transformer is not None:
        change = "full"
        write_module(folder / TRANSFORMER, transformer)
    # Files for readers may be edited: the card, its curves, the text of a licence.
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and (path.suffix in (".safetensors", ".json"))
        and path.name != INDEX
    )  # fmt: skip
    recorded = None
    if autoencoder is not None:
        recorded = {"name": autoencoder, "sha256": weights.autoencoder_hash(autoencoder)}
    content = {
        "format": 1,
        "base": base,
        "revision": weights.revision_of(base),
        "licence": weights.licence(weights.resolve(base)),
        "base_sha256": sampled_hash(weights.resolve(base), *weights.BASE_PARTS),
        "condition": condition.kind if condition is not None else None,
        "change": change,
        "refiner": refiner.config.to_dict() if refiner is not None else None,  # type: ignore[union-attr, operator]
        "defaults": defaults,
        "prompts": None if trained_for is None else sorted(trained_for),
        "autoencoder": recorded,
        "training": training,
        "sha256": {path.relative_to(folder).as_posix(): hash_file(path) for path in files},
    }
    write_json(folder / INDEX, content)


def check_base(found: Adapter, name: str) -> None:
    """Raise WeightsError if the base `name` does not hold the weights that an adapter was trained on."""
    if sampled_hash(weights.resolve(name), *weights.BASE_PARTS) != found.base_sha256:
        raise WeightsError(
            f"it was trained on other weights than these of {name}", where=found.folder,
            next_step=f"Leave out --model, or name {found.base}.",
        )  # fmt: skip


def note_on_autoencoder(found: Adapter, chosen: str | None) -> str | None:
    """Return a note if the chosen autoencoder is not the one that an adapter was trained with; None if it is the same.

    WeightsError if the adapter's own has changed since, and none is chosen.
    """
    if chosen is None:
        if found.autoencoder is not None and weights.autoencoder_hash(found.autoencoder) != found.autoencoder_sha256:
            raise WeightsError(
                f"it was trained with other weights than these of the autoencoder {found.autoencoder}",
                where=found.folder, next_step="Restore those weights, or choose an autoencoder with --autoencoder.",
            )  # fmt: skip
        return None
    if found.autoencoder is not None and weights.autoencoder_hash(chosen) == found.autoencoder_sha256:
        return None
    own = f"the autoencoder {found.autoencoder}" if found.autoencoder else "its base's own autoencoder"
    return f"the adapter was trained with {own}, not with {chosen}: the result may be worse"


def read_lora(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Read a LoRA file, names without `prefix`; WeightsError if it is damaged."""
    return {name.removeprefix(prefix): tensor for name, tensor in renamed_tensors(read_tensors(path)).items()}


def rank_of(path: Path) -> int:
    """Rank of a LoRA file."""
    return next(len(tensor) for name, tensor in read_lora(path).items() if name.endswith(".lora_A.weight"))


@torch.no_grad()
def merge_lora(module: nn.Module, path: Path, prefix: str = "") -> None:
    """Add every product B A of a LoRA file to its weight, in place; WeightsError if any is missing or does not fit.

    `prefix` precedes the module names in the file: `PREFIX` for a transformer, nothing for a refiner.
    """
    tensors = renamed_tensors(read_tensors(path))
    names = {name.removeprefix(prefix).rsplit(".lora_", 1)[0] for name in tensors}
    expected = {f"{prefix}{name}.lora_{side}.weight" for name in names for side in "AB"}
    if expected != tensors.keys():
        odd = min(expected ^ tensors.keys())
        raise WeightsError(f"{odd} is missing or not expected", where=path, next_step=NEXT_STEP)
    parameters = dict(module.named_parameters())
    for name in sorted(names):
        down, up = (tensors[f"{prefix}{name}.lora_{side}.weight"].flatten(1) for side in "AB")
        weight = parameters.get(f"{name}.weight")
        if weight is None or (up.shape[0], down.shape[1]) != tuple(weight.flatten(1).shape) or len(down) != up.shape[1]:
            raise WeightsError(f"{name} fits no weight of the base", where=path, next_step="Name its own base.")
        # Add in float32 whatever the weights' type: small changes must not be rounded away before the sum.
        weight.copy_(weight.float() + (up @ down).view_as(weight))


def _licence(content: dict[str, Any]) -> str:
    older = dict(content.get("training", {})).get(OLD_LICENCE, weights.NOT_STATED)
    return str(content.get("licence") or older)


def _autoencoder(folder: Path, content: dict[str, Any]) -> str | None:
    recorded = content.get("autoencoder")
    return weights.recorded_autoencoder(folder, str(recorded["name"])) if recorded else None


def _change(value: Any) -> Change:
    if value == "lora":
        return "lora"
    if value == "full":
        return "full"
    if value == "none":
        return "none"
    raise ValueError(f"'{value}' is not a change of a transformer")
