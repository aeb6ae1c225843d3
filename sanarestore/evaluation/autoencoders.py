"""diffusers' image autoencoders, as the ceiling sees them: [0, 1] in, latent, [0, 1] out.

Shape suffixes: B batch, C channels, H W pixels or latent positions.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sanarestore import weights
from sanarestore.errors import WeightsError
from sanarestore.model.base import load_module

STRIDE = 64
"""Pixels that sides are mirrored up to a multiple of, where a configuration does not say how far it shrinks images."""


class AnyAutoencoder(nn.Module):
    """An autoencoder of diffusers; a distribution over latents counts as its mode."""

    def __init__(self, autoencoder: Any) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    @property
    def stride(self) -> int:
        """Pixels that sides must be multiples of."""
        config = self.autoencoder.config
        stages = config.get("block_out_channels") or config.get("encoder_block_out_channels")
        return int(2 ** (len(stages) - 1)) if stages else STRIDE

    def encode(self, image_BCHW: Tensor) -> Tensor:
        """[B,3,H,W] in [0,1] -> latent."""
        encoded = self.autoencoder.encode(image_BCHW * 2 - 1)
        distribution = getattr(encoded, "latent_dist", None)
        latent: Tensor = encoded[0] if distribution is None else distribution.mode()
        return latent

    def decode(self, latent_BCHW: Tensor) -> Tensor:
        """Latent -> [B,3,H,W] around [0,1]."""
        image: Tensor = self.autoencoder.decode(latent_BCHW)[0]
        return image / 2 + 0.5


def autoencoder_folder(name: str) -> Path:
    """Where its configuration and weights are: the folder, or the `vae/` of a whole pipeline; by folder or hub id."""
    folder = weights.resolve(name, weights.WANTED_OF_AUTOENCODERS)
    return folder / "vae" if (folder / "vae").is_dir() else folder


def load_autoencoder(folder: Path) -> AnyAutoencoder:
    """Of the class that its configuration names, on the CPU in float32; WeightsError if it is none, or not whole."""
    kind = autoencoder_class(folder)
    found = AnyAutoencoder(load_module(kind, folder, torch.float32)).eval().requires_grad_(False)
    try:
        with torch.no_grad():
            image_BCHW = found.decode(found.encode(torch.zeros(1, 3, found.stride, found.stride)))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:  # of videos, of sound
        raise WeightsError(f"{kind.__name__} is no autoencoder of still images", where=folder) from error
    if image_BCHW.shape != (1, 3, found.stride, found.stride):
        raise WeightsError(f"{kind.__name__} does not give images back at their size", where=folder)
    return found


def autoencoder_class(folder: Path) -> Any:
    """What its configuration names, of diffusers; WeightsError if that is no autoencoder. No weights are read."""
    import diffusers

    try:
        kind = str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            "holds no autoencoder in diffusers' layout", where=folder,
            next_step="Name a folder with a config.json, or one whose vae/ has it.",
        ) from error  # fmt: skip
    made: Any = getattr(diffusers, kind, None)
    if not all(hasattr(made, method) for method in ("from_pretrained", "encode", "decode")):
        raise WeightsError(f"{kind} is no autoencoder of diffusers", where=folder)
    return made
