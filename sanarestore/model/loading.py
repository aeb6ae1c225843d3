"""A restoration model on disk and in memory: built from its own configuration, loaded strictly, hashes checked.

model_index.json          the diffusers index: which class reads which folder
text_encoder/ tokenizer/  transformers' own layout
restoration/config.json   format, name, refiner configuration, defaults, sha256 of every other file
restoration/refiner.safetensors
restoration/prompts.safetensors   embeddings of the usual prompts, so that the encoder is rarely needed
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from sanarestore import weights
from sanarestore.errors import WeightsError
from sanarestore.model.prompts import PromptEncoder, Prompts, load_encoder
from sanarestore.model.refiner import Refiner, RefinerConfig

REFINER = "restoration/refiner.safetensors"
PROMPTS = "restoration/prompts.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class RestorationModel:
    """Everything that the engine needs, on the CPU in float32."""

    name: str
    folder: Path
    refiner: Refiner
    prompts: Prompts
    defaults: dict[str, Any]
    """What the model's makers recommend: the prompt when none is given."""
    fingerprint: str
    """sha256 of the manifest, and through it of every file: says which weights made a result."""


def load_model(name: str) -> RestorationModel:
    """Load by name (see `weights.resolve`); WeightsError if anything is missing, damaged or of another shape."""
    folder = weights.resolve(name)
    manifest = weights.read_manifest(folder)
    try:
        config = RefinerConfig.from_dict(manifest["refiner"])
        title, defaults, hashes = str(manifest["name"]), dict(manifest["defaults"]), dict(manifest["sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"the configuration is not one that we write ({error!r})",
            where=folder / weights.MANIFEST,
            next_step="Fetch the model again.",
        ) from error
    weights.verify(folder, hashes)
    with torch.device("meta"):
        refiner = Refiner(config)
    load_strictly(refiner, read_tensors(folder / REFINER), folder / REFINER)
    return RestorationModel(
        name=title,
        folder=folder,
        refiner=refiner.eval().requires_grad_(False),
        prompts=Prompts(read_tensors(folder / PROMPTS), lambda: load_encoder(folder)),
        defaults=defaults,
        fingerprint=weights.hash_file(folder / weights.MANIFEST),
    )


def save_model(
    folder: Path,
    *,
    name: str,
    refiner: Refiner,
    encoder: PromptEncoder,
    usual_prompts: Iterable[str],
    defaults: dict[str, Any],
    training: dict[str, Any],
) -> None:
    """Write a model folder that `load_model` reads: float16 on disk, the prompt table float32."""
    restoration = folder / "restoration"
    restoration.mkdir(parents=True, exist_ok=True)
    encoder.tokenizer.save_pretrained(folder / "tokenizer")
    encoder.model.config.save_pretrained(folder / "text_encoder")  # type: ignore[union-attr, operator]
    _write_tensors(folder / "text_encoder/model.safetensors", _half(encoder.model))
    _write_tensors(folder / REFINER, _half(refiner))
    # From the encoder as it was just stored, so that the table and the encoder agree.
    _write_tensors(folder / PROMPTS, load_encoder(folder).table(usual_prompts))
    index = {
        "_class_name": "SanaRestore",
        "text_encoder": ["transformers", type(encoder.model).__name__],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    }
    _write_json(folder / "model_index.json", index)
    hashed = [
        REFINER,
        PROMPTS,
        "text_encoder/model.safetensors",
        "text_encoder/config.json",
        "tokenizer/tokenizer.json",
    ]
    manifest = {
        "format": 1,
        "name": name,
        "refiner": refiner.config.to_dict(),
        "defaults": defaults,
        "training": training,
        "sha256": {file: weights.hash_file(folder / file) for file in hashed},
    }
    _write_json(folder / weights.MANIFEST, manifest)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file as float32 tensors; WeightsError if it is missing or damaged."""
    try:
        return {key: tensor.float() for key, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"not a whole safetensors file ({error})", where=path, next_step="Fetch the model again."
        ) from error


def load_strictly(module: nn.Module, state: dict[str, Tensor], where: Path) -> None:
    """Every tensor there, none left over, each of its shape; WeightsError names the difference."""
    expected = module.state_dict()
    missing, surplus = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    shapes = [key for key in expected.keys() & state.keys() if expected[key].shape != state[key].shape]
    if missing or surplus or shapes:
        parts = (("missing", missing), ("not expected", surplus), ("of another shape", sorted(shapes)))
        told = "; ".join(f"{word}: {keys[0]} ({len(keys)} in all)" for word, keys in parts if keys)
        raise WeightsError(
            f"the tensors do not fit the configuration ({told})", where=where, next_step="Fetch the model again."
        )
    module.load_state_dict(state, strict=True, assign=True)


def _half(module: nn.Module) -> dict[str, Tensor]:
    return {key: tensor.half().contiguous() for key, tensor in module.state_dict().items()}


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """By way of bytes: safetensors' own file is readable by its owner only, and models are shared."""
    path.write_bytes(save(tensors, metadata={"format": "pt"}))


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
