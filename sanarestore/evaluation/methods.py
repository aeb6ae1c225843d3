"""What is measured: the engine as `restore` runs it, and what its autoencoder alone could reach."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from sanarestore import images, weights
from sanarestore.degradations.operations import Pixels
from sanarestore.engine.restorer import Restorer
from sanarestore.evaluation.benchmark import Method
from sanarestore.evaluation.peers import peer
from sanarestore.evaluation.tasks import Trial
from sanarestore.model.autoencoder import Autoencoder
from sanarestore.model.loading import load_model
from sanarestore.options import RestoreOptions
from sanarestore.tiling import mirror

KEPT = 8
"""Restorers kept for prompts and seeds; each holds a copy of the weights."""

CEILING = "ceiling"


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

    def __call__(self, trial: Trial, prompt: str | None, seed: int) -> Pixels:
        """Restore; the prompt of the trial counts more than that of the options."""
        image = images.Image(pixels_HWC=trial.degraded_HWC, depth="float32", format="tiff")
        return self._restorer(self._options.prompt if prompt is None else prompt, seed)(image).pixels_HWC

    def _new(self, prompt: str | None, seed: int) -> Restorer:
        return Restorer(replace(self._options, prompt=prompt, seed=seed), device=self._device, model=self.model)


class Ceiling:
    """decode(encode(clean)): the most that a latent path through this autoencoder can reach."""

    name = CEILING
    seeds = (0,)

    def __init__(self, autoencoder: Autoencoder, settings: str) -> None:
        self._autoencoder = autoencoder
        self.settings = settings

    @torch.inference_mode()
    def __call__(self, trial: Trial, prompt: str | None, seed: int) -> Pixels:
        """Of the target, whatever was done to it; mirrored to whole latent positions."""
        clean_HWC, stride = trial.target_HWC, self._autoencoder.stride
        height, width, channels = clean_HWC.shape
        rows, columns = (mirror(np.arange(-(-side // stride) * stride), side) for side in (height, width))
        padded = np.repeat(clean_HWC, 3, axis=2) if channels == 1 else clean_HWC
        padded_1CHW = torch.from_numpy(padded[np.ix_(rows, columns)]).permute(2, 0, 1)[None]
        decoded = self._autoencoder.decode(self._autoencoder.encode(padded_1CHW))[0].permute(1, 2, 0).numpy()
        decoded = decoded[:height, :width]
        return decoded.mean(axis=2, keepdims=True) if channels == 1 else np.ascontiguousarray(decoded)


def our_methods(options: RestoreOptions, seeds: Sequence[int], peers: Sequence[str], device: str) -> list[Method]:
    """The peers, the model's ceiling where it has a latent path, and the model."""
    ours = Ours(options, device, seeds=seeds)
    methods: list[Method] = [peer(name, device) for name in peers]
    if ours.model.latent is not None:
        fingerprint = weights.fingerprint(weights.chosen(options.model, options.adapter), options.adapter)
        methods.append(Ceiling(ours.model.latent.autoencoder, fingerprint[:16]))
    return [*methods, ours]
