"""Read and write files of tensors and configurations, strictly."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from sanarestore.errors import WeightsError
from sanarestore.weights import FETCH


def read_tensors(path: Path, *, as_stored: bool = False) -> dict[str, Tensor]:
    """Read a safetensors file, floats as float32, or all `as_stored`; WeightsError if it is missing or damaged."""
    try:
        stored: dict[str, Tensor] = load_file(path)
        if as_stored:
            return stored
        return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in stored.items()}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"not a whole safetensors file ({error})", where=path, next_step=FETCH) from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file that others can read: `save_file` would make it private, and models are shared."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    path.write_bytes(save(contiguous, metadata={"format": "pt"}))


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], where: Path) -> None:
    """Load a state dict; WeightsError names tensors that are missing, not expected or of another shape."""
    expected = module.state_dict()
    missing, surplus = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    shapes = [key for key in expected.keys() & state.keys() if expected[key].shape != state[key].shape]
    if missing or surplus or shapes:
        parts = (("missing", missing), ("not expected", surplus), ("of another shape", sorted(shapes)))
        differences = "; ".join(f"{word}: {keys[0]} ({len(keys)} in all)" for word, keys in parts if keys)
        raise WeightsError(f"the tensors do not fit the configuration ({differences})", where=where, next_step=FETCH)
    module.load_state_dict(state, strict=True, assign=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a configuration as indented JSON."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
