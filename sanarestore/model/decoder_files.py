"""Store an autoencoder whose decoder was changed in place of another one: in a copy of a model or an adapter, or alone.

autoencoder.json   of one alone: format, name, base, licence of the base, training, sha256 of the other two files
config.json        configuration of diffusers' AutoencoderDC
diffusion_pytorch_model.safetensors
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from sanarestore import weights
from sanarestore.files import changed_copy, files_in, hash_file
from sanarestore.model.autoencoder import Autoencoder
from sanarestore.model.base import CLASSES, WEIGHTS
from sanarestore.model.tensors import write_json, write_tensors

AUTOENCODER = weights.OWN_AUTOENCODER
"""The folder of the autoencoder within a model or an adapter."""


def write_changed(
    folder: Path, base: str, autoencoder: Autoencoder, *, name: str, training: dict[str, Any]
) -> None:  # fmt: skip
    """Write a copy of `base`, a model or an adapter, with another autoencoder; only the autoencoder if it is neither.

    The decoder is stored in float16; the encoder exactly, in float16 where that is exact. `name` and `training` are
    recorded. An adapter keeps the base that it was trained on. OSError if the disk refuses.
    """
    source = weights.resolve(base)
    if weights.is_model(source):
        with changed_copy(source, folder, AUTOENCODER, weights.CARD) as fresh:
            _write(fresh / AUTOENCODER, autoencoder)
            content = {**weights.read_manifest(fresh), "name": name, "training": training}
            write_json(fresh / weights.MANIFEST, _hashed(fresh, content))
    elif weights.is_adapter(source):
        with changed_copy(source, folder, AUTOENCODER, weights.CARD) as fresh:
            _write(fresh / AUTOENCODER, autoencoder)
            own = {"name": AUTOENCODER, "sha256": weights.autoencoder_hash(str(fresh / AUTOENCODER))}
            content = {**weights.read_adapter_index(fresh), "autoencoder": own, "training": training}
            write_json(fresh / weights.ADAPTER, _hashed(fresh, content))
    else:
        _write(folder, autoencoder)
        content = {
            "format": 1, "name": name, "base": weights.pinned(base), "licence": weights.licence(source),
            "training": training, "sha256": {each: hash_file(folder / each) for each in ("config.json", WEIGHTS)},
        }  # fmt: skip
        write_json(folder / weights.AUTOENCODER, content)


def stored_bytes(autoencoder: Autoencoder) -> int:
    """Bytes that the weights take on disk."""
    return sum(each.numel() * each.element_size() for each in _tensors(autoencoder).values())


def _hashed(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Bring the hashes of an index up to date with the autoencoder that is in the folder now."""
    known = {name: digest for name, digest in content["sha256"].items() if not name.startswith(f"{AUTOENCODER}/")}
    written = {name: hash_file(folder / name) for name in sorted(files_in(folder, AUTOENCODER))}
    return {**content, "sha256": {**known, **written}}


def _write(folder: Path, autoencoder: Autoencoder) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = {key: value for key, value in autoencoder.config.items() if key != "_name_or_path"}
    write_json(folder / "config.json", {"_class_name": CLASSES["vae"], **config})
    write_tensors(folder / WEIGHTS, _tensors(autoencoder))


def _tensors(autoencoder: Autoencoder) -> dict[str, Tensor]:
    # The encoder is the base's, which conditions the transformer: rounding would change what is not to be changed.
    return {
        name: tensor if name.startswith("encoder.") and not tensor.half().float().equal(tensor) else tensor.half()
        for name, tensor in autoencoder.state_dict().items()
    }
