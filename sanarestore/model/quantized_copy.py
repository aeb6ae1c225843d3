"""Copies of models and adapters with a quantized transformer, for machines with little memory or disk space."""

from pathlib import Path
from typing import Any

import torch

from sanarestore import weights
from sanarestore.errors import UsageError
from sanarestore.files import changed_copy, files_in, hash_file
from sanarestore.model import adapter as adapters
from sanarestore.model.base import load_transformer, write_module
from sanarestore.model.loading import adapted_base
from sanarestore.model.quantization import quantization, quantize
from sanarestore.model.tensors import write_json
from sanarestore.options import Precision

TRANSFORMER = "transformer"


def write_quantized(name: str, folder: Path, precision: Precision) -> float:
    """Write a model or an adapter with a quantized transformer to a new folder; returns its size against bfloat16.

    The copy of an adapter holds the whole transformer, with the adapter's changes, in place of the base's. UsageError
    if there is no transformer, or it is quantized already; WeightsError if anything cannot be read.
    """
    if folder.exists():
        raise UsageError("it exists already", where=folder, next_step="Name a new folder.")
    source = weights.resolve(name)
    if weights.is_adapter(source):
        found = adapters.read_adapter(name)
        if found.condition is None:
            raise UsageError(
                "it does not change the transformer", where=name, next_step="Name a model, or an adapter that does."
            )
        transformer = _adapted(found)
    elif weights.is_model(source) and (source / TRANSFORMER).is_dir():
        transformer = load_transformer(source / TRANSFORMER, torch.float32)
    elif weights.is_model(source):
        raise UsageError("it has no transformer", where=name, next_step="Name a model with a latent path.")
    else:
        raise UsageError("a base restores only with an adapter", where=name, next_step="Name the adapter instead.")
    if (known := quantization(transformer)) is not None:
        raise UsageError(f"it is in {known} already", where=name, next_step="Name the original model.")
    whole = 2 * sum(int(each.numel()) for each in transformer.parameters())
    quantize(transformer, precision)
    with changed_copy(source, folder, TRANSFORMER, adapters.LORA) as fresh:
        write_module(fresh / TRANSFORMER, transformer)
        _index(fresh, is_adapter=weights.is_adapter(source))
        size = sum(path.stat().st_size for path in (fresh / TRANSFORMER).iterdir())
    return size / whole


def _adapted(found: adapters.Adapter) -> Any:
    """Return the transformer of an adapter's base with the adapter's changes."""
    adapters.check_base(found, found.base)
    transformer = adapted_base(found, found.base, torch.float32).transformer
    if found.change == "lora":
        adapters.merge_lora(transformer, found.folder / adapters.LORA, adapters.PREFIX)
    return transformer


def _index(folder: Path, *, is_adapter: bool) -> None:
    """Bring the hashes of the copy's index up to date."""
    path = folder / (weights.ADAPTER if is_adapter else weights.MANIFEST)
    content = weights.read_adapter_index(folder) if is_adapter else weights.read_manifest(folder)
    known = {name: digest for name, digest in content["sha256"].items() if (folder / name).is_file()}
    written = {name: hash_file(folder / name) for name in files_in(folder, TRANSFORMER)}
    change = {"change": "full"} if is_adapter else {}
    write_json(path, {**content, **change, "sha256": {**known, **written}})
