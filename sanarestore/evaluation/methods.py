"""The methods to measure: the engine as `restore` runs it, and the reconstruction of its autoencoder or of others."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sanarestore import images, weights
from sanarestore.engine.devices import arithmetic, pick_device
from sanarestore.engine.latent_use import is_generated, steps_of
from sanarestore.engine.restorer import Restorer
from sanarestore.errors import UsageError
from sanarestore.evaluation.autoencoders import autoencoder_class, load_autoencoder
from sanarestore.evaluation.benchmark import Method
from sanarestore.evaluation.peers import peer
from sanarestore.evaluation.tasks import Example
from sanarestore.files import sampled_hash
from sanarestore.images import Pixels
from sanarestore.model.base import autoencoder_in
from sanarestore.model.loading import load_model
from sanarestore.options import RestoreOptions
from sanarestore.tiling import mirror

KEPT = 8
"""Restorers cached by prompt and seed; each holds a copy of the weights."""

SEEDS = 3
"""Seeds per image where results are random draws: the fewest for a meaningful standard deviation."""


class Ours(Method):
    """A model at chosen settings, run through the Python API on float images in memory."""

    reads_prompts = True

    def __init__(self, options: RestoreOptions, device: str, *, seeds: Sequence[int] | None = None) -> None:
        """Without `seeds`, there are `SEEDS` of them where results differ between seeds, and one elsewhere."""
        self.device = pick_device(device)
        dtype = arithmetic(options.dtype, self.device)
        self._options = options = replace(options, dtype=dtype)  # type: ignore[arg-type]
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        self.model = load_model(options.model, options.adapter, autoencoder=options.autoencoder)
        self.name = self.model.name
        self.settings = f"{options.fingerprint()[:16]}:{self.model.fingerprint[:16]}"
        self.prompt = options.prompt
        details = [f"weights {self.model.fingerprint[:8]}"]
        details += [f"fidelity {options.fidelity:g}"] if options.fidelity != 1 else []
        details += [f"{options.steps} steps"] if options.steps else []
        details += [f"guidance {options.guidance:g}"] if options.guidance != 1 else []
        self.details = ", ".join([*details, dtype])
        self._restorer = lru_cache(maxsize=KEPT)(self._new)
        networks: list[nn.Module] = [self.model.refiner]
        self.is_generated = is_generated(options, self.model)
        latent = self.model.latent if self.is_generated else None
        networks += [latent.autoencoder, latent.transformer] if latent else []
        # One step gives the posterior mean, which hardly depends on the seed.
        drawn = latent is not None and steps_of(options, self.model) > 1
        self.seeds = tuple(range(SEEDS if drawn else 1)) if seeds is None else tuple(seeds)
        # Without the prompt encoder, which processes no image.
        self.parameters = count(*networks) + (self.model.experts.parameters if self.model.experts else 0)

    def prepare(self, prompt: str | None, seed: int) -> None:
        """Make the restorer, and with it the prompt's embedding."""
        self._restorer(self._options.prompt if prompt is None else prompt, seed)

    def __call__(self, trial: Example, prompt: str | None, seed: int) -> Pixels:
        """Restore; a `prompt` takes precedence over that of the options."""
        image = images.Image(pixels_HWC=trial.degraded_HWC, depth="float32", format="tiff")
        return self._restorer(self._options.prompt if prompt is None else prompt, seed)(image).pixels_HWC

    def _new(self, prompt: str | None, seed: int) -> Restorer:
        return Restorer(replace(self._options, prompt=prompt, seed=seed), device=str(self.device), model=self.model)


class AutoencoderReconstruction(Method):
    """Autoencoder reconstruction, decode(encode(clean)): the best result possible for a latent path without refiner."""

    def __init__(self, folder: Path, device: str, *, name: str = "autoencoder reconstruction") -> None:
        """Load the autoencoder from a folder in diffusers' layout."""
        self.name = name
        self.device = pick_device(device)
        self.settings = sampled_hash(folder.parent, folder.name)[:16]
        self._autoencoder = load_autoencoder(folder).to(self.device)
        self.parameters = count(self._autoencoder)

    @torch.inference_mode()
    def __call__(self, trial: Example, prompt: str | None, seed: int) -> Pixels:
        """Reconstruct the target, not the degraded input; its sides are mirrored up to multiples of the stride."""
        clean_HWC, stride = trial.target_HWC, self._autoencoder.stride
        height, width, channels = clean_HWC.shape
        rows, columns = (mirror(np.arange(-(-side // stride) * stride), side) for side in (height, width))
        padded = np.repeat(clean_HWC, 3, axis=2) if channels == 1 else clean_HWC
        padded_1CHW = torch.from_numpy(padded[np.ix_(rows, columns)]).permute(2, 0, 1)[None]
        latent = self._autoencoder.encode(padded_1CHW.to(self.device))
        decoded = self._autoencoder.decode(latent)[0].permute(1, 2, 0).cpu().numpy()[:height, :width]
        return decoded.mean(axis=2, keepdims=True) if channels == 1 else np.ascontiguousarray(decoded)


def count(*networks: nn.Module) -> int:
    """Count the parameters of all networks."""
    return sum(parameter.numel() for network in networks for parameter in network.parameters())


def our_methods(
    options: RestoreOptions, seeds: Sequence[int] | None, peers: Sequence[str], device: str
) -> list[Method]:
    """Make the peers, the autoencoder reconstruction where the model's latent path runs, and the model."""
    # Made first, because it sets the number of threads for all methods.
    ours = Ours(options, device, seeds=seeds)
    methods: list[Method] = [method for name in dict.fromkeys(peers) for method in peer(name, device)]
    if ours.is_generated:
        other = weights.chosen_autoencoder(options.autoencoder, options.adapter)
        methods.append(AutoencoderReconstruction(autoencoder_in(ours.model.folder, other), device))
    return [*methods, ours]


def autoencoder_sources(options: RestoreOptions, names: Sequence[str]) -> tuple[tuple[str, Path], ...]:
    """Return names and folders of the autoencoders that the task `reconstruction` compares: the model's, and `names`.

    UsageError if there are none, WeightsError if a folder holds no autoencoder; weights are not read yet.
    """
    own = weights.chosen(options.model, options.adapter)
    found = [(own, folder) for folder in [weights.resolve(own) / "vae"] if folder.is_dir()]
    found += [(name, weights.autoencoder_folder(name)) for name in names]
    for _, folder in found:
        autoencoder_class(folder)
    if not found:
        raise UsageError(
            "this model has no autoencoder to measure", where="--task reconstruction",
            next_step="Name one with --autoencoder: a folder or a hub id in diffusers' layout.",
        )  # fmt: skip
    return tuple(found)


def autoencoders(sources: Sequence[tuple[str, Path]], device: str) -> list[Method]:
    """Load the autoencoders that the task `reconstruction` compares."""
    return [AutoencoderReconstruction(folder, device, name=name) for name, folder in sources]
