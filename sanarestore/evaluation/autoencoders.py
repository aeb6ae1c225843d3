"""diffusers' image autoencoders behind one interface, to measure their reconstruction of images in [0, 1].

Shape suffixes: B batch, C channels, H W pixels or latent positions.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sanarestore.errors import WeightsError
from sanarestore.model.base import load_module

STRIDE = 64
"""Stride in pixels where a configuration does not say how far it downsamples; sides are mirrored up to a multiple."""


class AnyAutoencoder(nn.Module):
    """An autoencoder of diffusers; where it encodes to a distribution, the latent is the mode."""

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
        """Encode images [B,3,H,W] in [0,1] to latents."""
        encoded = self.autoencoder.encode(image_BCHW * 2 - 1)
        distribution = getattr(encoded, "latent_dist", None)
        latent: Tensor = encoded[0] if distribution is None else distribution.mode()
        return latent

    def decode(self, latent_BCHW: Tensor) -> Tensor:
        """Decode latents to images [B,3,H,W] around [0,1]."""
        image: Tensor = self.autoencoder.decode(latent_BCHW)[0]
        return image / 2 + 0.5


def load_autoencoder(folder: Path) -> AnyAutoencoder:
    """Load the autoencoder that a folder configures, on the CPU in float32; WeightsError if none, or incomplete."""
    kind = autoencoder_class(folder)
    found = AnyAutoencoder(load_module(kind, folder, torch.float32)).eval().requires_grad_(False)
    try:
        with torch.no_grad():
            image_BCHW = found.decode(found.encode(torch.zeros(1, 3, found.stride, found.stride)))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:  # autoencoders of videos or sound
        raise WeightsError(f"{kind.__name__} is not an autoencoder of still images", where=folder) from error
    if image_BCHW.shape != (1, 3, found.stride, found.stride):
        raise WeightsError(f"{kind.__name__} does not give images back at their size", where=folder)
    return found


def autoencoder_class(folder: Path) -> Any:
    """Return the diffusers class that a folder's configuration names; WeightsError if none. No weights are read."""
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
        raise WeightsError(f"{kind} is not an autoencoder of diffusers", where=folder)
    return made
