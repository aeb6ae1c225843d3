"""What is measured: the engine as `restore` runs it, and what its autoencoder alone could reach."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import nn

from sanarestore import images, weights
from sanarestore.degradations.operations import Pixels
from sanarestore.engine.restorer import Restorer, pick_device
from sanarestore.errors import UsageError
from sanarestore.evaluation.autoencoders import Reconstructs, autoencoder_folder, load_autoencoder
from sanarestore.evaluation.benchmark import Method
from sanarestore.evaluation.peers import peer
from sanarestore.evaluation.tasks import CEILING, Trial
from sanarestore.model.loading import load_model
from sanarestore.options import RestoreOptions
from sanarestore.tiling import mirror

KEPT = 8
"""Restorers kept for prompts and seeds; each holds a copy of the weights."""


class Ours:
    """A model at chosen settings, through the Python API, in memory and in float."""

    def __init__(self, options: RestoreOptions, device: str, *, seeds: Sequence[int] = (0,)) -> None:
        self._options = options
        self._device = device
        self.model = load_model(options.model, options.adapter)
        self.name = self.model.name
        self.seeds = tuple(seeds)
        self.settings = f"{options.fingerprint()[:16]}:{self.model.fingerprint[:16]}"
        self._restorer = lru_cache(maxsize=KEPT)(self._new)

    @cached_property
    def parameters(self) -> int:
        """Of the refiner, and of the latent path where it runs; not of the prompt encoder, which sees no image."""
        networks: list[nn.Module] = [self.model.refiner]
        latent = self.model.latent if self._restorer(self._options.prompt, self.seeds[0]).generates else None
        networks += [latent.autoencoder, latent.transformer] if latent else []
        return count(*networks)

    def __call__(self, trial: Trial, prompt: str | None, seed: int) -> Pixels:
        """Restore; the prompt of the trial counts more than that of the options."""
        image = images.Image(pixels_HWC=trial.degraded_HWC, depth="float32", format="tiff")
        return self._restorer(self._options.prompt if prompt is None else prompt, seed)(image).pixels_HWC

    def _new(self, prompt: str | None, seed: int) -> Restorer:
        return Restorer(replace(self._options, prompt=prompt, seed=seed), device=self._device, model=self.model)


class Ceiling:
    """decode(encode(clean)): the most that a latent path through this autoencoder can reach."""

    seeds = (0,)

    def __init__(self, autoencoder: Reconstructs, settings: str, *, name: str = CEILING, device: str = "cpu") -> None:
        self._device = pick_device(device)
        # On another device a copy, since the engine takes its own from the model.
        self._autoencoder = autoencoder if self._device.type == "cpu" else deepcopy(autoencoder).to(self._device)
        self.settings = settings
        self.name = name
        self.parameters = count(self._autoencoder)

    @torch.inference_mode()
    def __call__(self, trial: Trial, prompt: str | None, seed: int) -> Pixels:
        """Of the target, whatever was done to it; mirrored to whole latent positions."""
        clean_HWC, stride = trial.target_HWC, self._autoencoder.stride
        height, width, channels = clean_HWC.shape
        rows, columns = (mirror(np.arange(-(-side // stride) * stride), side) for side in (height, width))
        padded = np.repeat(clean_HWC, 3, axis=2) if channels == 1 else clean_HWC
        padded_1CHW = torch.from_numpy(padded[np.ix_(rows, columns)]).permute(2, 0, 1)[None]
        latent = self._autoencoder.encode(padded_1CHW.to(self._device))
        decoded = self._autoencoder.decode(latent)[0].permute(1, 2, 0).cpu().numpy()[:height, :width]
        return decoded.mean(axis=2, keepdims=True) if channels == 1 else np.ascontiguousarray(decoded)


def count(*networks: nn.Module | Reconstructs) -> int:
    """Parameters of all of them."""
    return sum(parameter.numel() for network in networks for parameter in network.parameters())


def our_methods(options: RestoreOptions, seeds: Sequence[int], peers: Sequence[str], device: str) -> list[Method]:
    """The peers, the model's ceiling where it has a latent path, and the model."""
    ours = Ours(options, device, seeds=seeds)
    methods: list[Method] = [peer(name, device) for name in peers]
    if ours.model.latent is not None:
        fingerprint = weights.fingerprint(weights.chosen(options.model, options.adapter), options.adapter)
        methods.append(Ceiling(ours.model.latent.autoencoder, fingerprint[:16], device=device))
    return [*methods, ours]


def autoencoders(options: RestoreOptions, names: Sequence[str], device: str) -> list[Method]:
    """What is compared under the task ceiling: the model's own autoencoder, and any of diffusers' by name."""
    found: list[Method] = []
    model = load_model(options.model, options.adapter)
    if model.latent is not None:
        found.append(Ceiling(model.latent.autoencoder, model.fingerprint[:16], name=model.name, device=device))
    for name in names:
        folder = autoencoder_folder(name)
        settings = weights.sampled_hash(folder.parent, folder.name)[:16]
        found.append(Ceiling(load_autoencoder(folder), settings, name=name, device=device))
    if not found:
        raise UsageError(
            "this model has no autoencoder to measure", where="--task ceiling",
            next_step="Name one with --autoencoder: a folder or a hub id in diffusers' layout.",
        )  # fmt: skip
    return found
