"""Load and save restoration models, whole or as a base with an adapter: strictly, with hashes checked.

model_index.json          the diffusers index: which class reads which folder
text_encoder/ tokenizer/  transformers' own layout
transformer/ vae/ scheduler/   the latent path, in diffusers' own layout; optional
restoration/config.json   format, name, configurations, defaults, sha256 of the parts' files and of tokenizer.json
restoration/refiner.safetensors
restoration/experts.safetensors     experts of the refiner, and their router; optional
restoration/calibration.safetensors  calibrations of the refiner and its experts; optional
restoration/condition.safetensors   condition of the transformer, where there is a latent path
restoration/prompts.safetensors     embeddings of the plain wordings, so that the encoder is rarely needed
restoration/reader.safetensors      the prompt reader; without one, the embedded model's is used
"""

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sanarestore import weights
from sanarestore.errors import WeightsError
from sanarestore.files import files_in, hash_file
from sanarestore.flow import Flow
from sanarestore.model import adapter as adapters
from sanarestore.model.autoencoder import Autoencoder
from sanarestore.model.base import QUANTIZATION, Base, autoencoder_in, load_base, read_json, write_base
from sanarestore.model.calibration import Calibration, read_calibrations
from sanarestore.model.condition import ConditionKind, kind_of, new_condition
from sanarestore.model.experts import Experts
from sanarestore.model.prompts import PromptEncoder, Prompts, load_encoder
from sanarestore.model.reading import Reader, is_reader, load_embedded_reader, load_reader
from sanarestore.model.refiner import Refiner
from sanarestore.model.refiner_config import RefinerConfig
from sanarestore.model.tensors import load_strictly, read_tensors, write_json, write_tensors
from sanarestore.model.transformer import ConditionedTransformer
from sanarestore.old_names import renamed_tensors

REFINER = "restoration/refiner.safetensors"
EXPERTS = "restoration/experts.safetensors"
CALIBRATION = "restoration/calibration.safetensors"
CONDITION = "restoration/condition.safetensors"
PROMPTS = "restoration/prompts.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentPath:
    """Generates an image from a degraded one: SANA, conditioned on the degraded latent."""

    autoencoder: Autoencoder
    transformer: ConditionedTransformer
    flow: Flow


@dataclass(frozen=True, kw_only=True, slots=True)
class RestorationModel:
    """Everything that the engine needs, on the CPU, in float32; only the transformer may have another type."""

    name: str
    folder: Path
    refiner: Refiner
    prompts: Prompts
    defaults: dict[str, Any]
    """Recommended settings: `prompt`, the default prompt; `steps` of the flow; `latent`, whether the latent path is
    worth its time at fidelity 1; `scale`, the factor by which training images were enlarged, if they were."""
    fingerprint: str
    """Identifies the weights that made a result."""
    experts: Experts | None = None
    """Refiners for single degradations, which the router uses instead of `refiner` or mixes with it."""
    calibrations: Mapping[str | None, Calibration] = field(default_factory=dict)
    """Calibrations of the refiners, by name of the expert, None for the general one: all have one, or none."""
    load_latent: Callable[[], LatentPath] | None = None
    """Returns the latent path, the same each time; None for a model with only a refiner. Whole models load it on the
    first call: at fidelity 1 a model may not need it, and importing diffusers alone takes seconds."""
    trained_for: frozenset[str] | None = None
    """Wordings that an adapter was trained for; `base` restores all others. None: this model restores every prompt."""
    base: "RestorationModel | None" = None
    """The model without its adapter, where that was trained for some prompts only."""
    note: str | None = None
    """A note for every result; None for no note."""

    def serving(self, wording: str) -> "RestorationModel":
        """The model that restores photographs under the wording of a prompt: this one, or its base."""
        if self.base is None or self.trained_for is None or wording.strip() in self.trained_for:
            return self
        return self.base

    @property
    def latent(self) -> LatentPath | None:
        """The latent path, None if the model has none; WeightsError if it cannot be read."""
        return self.load_latent() if self.load_latent else None

    @property
    def refines_generated(self) -> bool:
        """Whether the refiner was trained on images that the latent path generated."""
        return bool(self.defaults.get("latent", True))


def load_model(
    name: str | None = None, adapter: str | None = None, *, dtype: torch.dtype = torch.float32,
    autoencoder: str | None = None,
) -> RestorationModel:  # fmt: skip
    """Load by name (see `weights.resolve`); WeightsError if anything is missing, damaged or of another shape.

    `adapter` is a folder or hub id; `name` is then its base. `dtype` is the transformer's. `autoencoder` is a folder or
    hub id of one that replaces the base's own, or that with which the adapter was trained.
    """
    name = weights.chosen(name, adapter)
    return _load_adapted(name, adapter, dtype, autoencoder) if adapter else _load_whole(name, dtype, autoencoder)


def _load_whole(name: str, dtype: torch.dtype, autoencoder: str | None) -> RestorationModel:
    folder = weights.resolve(name)
    manifest = weights.read_manifest(folder)
    try:
        config = RefinerConfig.from_dict(manifest["refiner"])
        title, defaults, hashes = str(manifest["name"]), dict(manifest["defaults"]), dict(manifest["sha256"])
        kind = kind_of(manifest["condition"]) if "condition" in manifest else None
        experts = tuple(map(str, manifest.get("experts", ())))
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"the configuration is not one that we write ({error!r})",
            where=folder / weights.MANIFEST,
            next_step=weights.FETCH,
        ) from error
    parts = ("transformer", "vae", "scheduler") if kind else ()
    needed = {REFINER, PROMPTS, *([CONDITION] if kind else []), *([EXPERTS] if experts else [])}
    needed |= {weights.READER} if is_reader(folder) else set()
    needed |= {CALIBRATION} & hashes.keys()
    weights.verify(folder, hashes, needed | files_in(folder, *parts))
    refiner = load_refiner(config, folder / REFINER)
    if kind and autoencoder:
        autoencoder_in(folder, autoencoder)  # checked now, though it is loaded later
    of_experts = renamed_tensors(read_tensors(folder / EXPERTS)) if experts else {}

    @functools.cache
    def load_latent() -> LatentPath:
        assert kind is not None
        return _latent_path(load_base(name, dtype=dtype, autoencoder=autoencoder), kind, folder / CONDITION)

    return RestorationModel(
        name=title,
        folder=folder,
        refiner=refiner,
        experts=Experts.from_tensors(experts, refiner, of_experts, folder / EXPERTS) if experts else None,
        calibrations=read_calibrations(folder / CALIBRATION, config, experts) if CALIBRATION in needed else {},
        prompts=_prompts(folder),
        defaults=defaults,
        fingerprint=weights.fingerprint(name, autoencoder=autoencoder),
        load_latent=load_latent if kind else None,
    )


def _prompts(folder: Path) -> Prompts:
    """Prompt embeddings of a restoration model, and its reader; without one, the embedded model's."""
    own = functools.partial(load_reader, folder) if is_reader(folder) else load_embedded_reader
    return Prompts(read_tensors(folder / PROMPTS), lambda: load_encoder(folder), own)


def _load_adapted(name: str, adapter: str, dtype: torch.dtype, autoencoder: str | None) -> RestorationModel:
    found, folder = adapters.read_adapter(adapter), weights.resolve(name)
    adapters.check_base(found, name)
    note = adapters.note_on_autoencoder(found, autoencoder)
    autoencoder = autoencoder or found.autoencoder
    whole: RestorationModel | None = None
    if weights.is_model(folder):
        whole = _load_whole(name, dtype, autoencoder)
        # Prompts are shared: the adapter's own are known to both.
        prompts, refiner, load_latent = whole.prompts, copy.deepcopy(whole.refiner), whole.load_latent
        if found.condition:
            load_latent = functools.cache(lambda: adapted_path(adapted_base(found, name, dtype, autoencoder), found))
    else:
        base = adapted_base(found, name, dtype, autoencoder)
        prompts, refiner, latent = base.prompts, None, adapted_path(base, found)
        load_latent = lambda: latent  # noqa: E731
    prompts.known.update(read_tensors(found.folder / adapters.PROMPTS))
    return RestorationModel(
        name=f"{name} + {adapter}",
        folder=folder,
        refiner=_adapted_refiner(refiner, found),
        prompts=prompts,
        defaults=found.defaults,
        fingerprint=weights.fingerprint(name, adapter, autoencoder),
        note=note,
        load_latent=load_latent,
        trained_for=found.prompts,
        base=whole if found.prompts else None,
    )


def adapted_base(found: adapters.Adapter, name: str, dtype: torch.dtype, autoencoder: str | None = None) -> Base:
    """Load the base `name` of an adapter; a whole transformer in the adapter replaces the base's.

    `autoencoder` as for `load_base`.
    """
    own = found.folder / adapters.TRANSFORMER if found.change == "full" else None
    base = load_base(name, dtype=dtype, transformer=own, autoencoder=autoencoder)
    if own and not _fits(base.transformer.config, read_json(base.folder / adapters.TRANSFORMER / "config.json")):
        raise WeightsError("its transformer is of another shape than the base's", where=found.folder)
    return base


def adapted_path(base: Base, found: adapters.Adapter, *, merged: bool = True) -> LatentPath:
    """Build the latent path of an adapter on its `adapted_base`; low-rank changes are `merged` or left out.

    Changes the base.
    """
    if found.condition is None:
        raise WeightsError("it has no condition for its base", where=found.folder, next_step=adapters.NEXT_STEP)
    if found.change == "lora" and merged:
        adapters.merge_lora(base.transformer, found.folder / adapters.LORA, adapters.PREFIX)
    path = _latent_path(base, found.condition, found.folder / adapters.CONDITION)
    return replace(path, flow=replace(path.flow, solver=found.solver)) if found.solver else path


def _fits(config: Mapping[str, Any], base: Mapping[str, Any]) -> bool:
    """Return whether a transformer can replace the base's: only its number of blocks and its precision may differ."""
    free = ("num_layers", QUANTIZATION)
    return all(config.get(name) == value for name, value in base.items() if name not in free and name[:1] != "_")


def _adapted_refiner(refiner: Refiner | None, found: adapters.Adapter) -> Refiner:
    if found.refiner:
        return load_refiner(found.refiner, found.folder / adapters.REFINER)
    if refiner is None:
        raise WeightsError("it has no refiner for its base", where=found.folder, next_step=adapters.NEXT_STEP)
    adapters.merge_lora(refiner, found.folder / adapters.REFINER_LORA)
    return refiner


def _latent_path(base: Base, kind: ConditionKind, path: Path) -> LatentPath:
    condition = new_condition(kind, base.transformer)
    load_strictly(condition, read_tensors(path), path)
    condition.to(next(base.transformer.parameters()).dtype)
    transformer = ConditionedTransformer(base.transformer, condition).eval().requires_grad_(False)
    return LatentPath(autoencoder=base.autoencoder, transformer=transformer, flow=base.flow)


def load_refiner(config: RefinerConfig, path: Path) -> Refiner:
    """Read all weights of a refiner; WeightsError if they do not fit the configuration."""
    with torch.device("meta"):
        refiner = Refiner(config)
    load_strictly(refiner, renamed_tensors(read_tensors(path)), path)
    return refiner.eval().requires_grad_(False)


def save_model(
    folder: Path,
    *,
    name: str,
    refiner: Refiner,
    encoder: PromptEncoder,
    prompts: Mapping[str, Tensor],
    defaults: dict[str, Any],
    training: dict[str, Any],
    reader: Reader | None = None,
    experts: Experts | None = None,
    latent: LatentPath | None = None,
) -> None:
    """Write a model folder that `load_model` reads.

    Weights are float16, the experts' differences int8; router, condition and prompt table stay float32. `prompts` are
    the embeddings of wordings.
    """
    encoder.tokenizer.save_pretrained(folder / "tokenizer")
    encoder.model.config.save_pretrained(folder / "text_encoder")  # type: ignore[union-attr, operator]
    write_tensors(folder / "text_encoder/model.safetensors", _half(encoder.model))
    write_tensors(folder / REFINER, _half(refiner))
    write_tensors(folder / PROMPTS, prompts)
    if reader is not None:
        write_tensors(folder / weights.READER, _half(reader))
    index: dict[str, Any] = {
        "_class_name": "SanaRestore",
        "text_encoder": ["transformers", type(encoder.model).__name__],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    }
    manifest: dict[str, Any] = {"format": 1, "name": name, "refiner": refiner.config.to_dict()}
    if experts is not None:
        manifest["experts"] = list(experts.names)
        write_tensors(folder / EXPERTS, experts.tensors())
    if latent is not None:
        index |= write_base(folder, latent.transformer.transformer, latent.autoencoder, latent.flow)
        manifest["condition"] = latent.transformer.condition.kind
        write_tensors(folder / CONDITION, latent.transformer.condition.state_dict())
    write_json(folder / "model_index.json", index)
    tokenizer = folder / "tokenizer/tokenizer.json"
    parts = ("restoration", "text_encoder", "transformer", "vae", "scheduler")
    files = [tokenizer, *(path for part in parts for path in sorted((folder / part).glob("*")))]
    manifest |= {
        "defaults": defaults,
        "training": training,
        "sha256": {
            path.relative_to(folder).as_posix(): hash_file(path) for path in files if path != folder / weights.MANIFEST
        },
    }
    write_json(folder / weights.MANIFEST, manifest)


def _half(module: nn.Module) -> dict[str, Tensor]:
    return {key: tensor.half() for key, tensor in module.state_dict().items()}
