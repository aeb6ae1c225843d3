"""The parts of a model that are timed, each in our implementation and in others.

Shape suffixes: B batch, C channels, H W pixels or latent positions, Z latent channels.

Ours is compared with diffusers' own modules with the same weights: eager, with the autoencoder's own tiling, and
compiled. A kernel is compared with its reference, eager and compiled. Compiling takes minutes, and is done only where
kernels run.
"""

import copy
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sanarestore import images, tiling
from sanarestore.engine.generation import Generation
from sanarestore.engine.latent_use import steps_of
from sanarestore.engine.pixels import host_tensor
from sanarestore.engine.restorer import Restorer
from sanarestore.evaluation.speed.clock import Work, count_work
from sanarestore.evaluation.speed.kernel_arms import REPEATS, kernel_arms
from sanarestore.evaluation.speed.random_models import RANDOM, random_model
from sanarestore.flow import noise_field
from sanarestore.kernels import choice
from sanarestore.model.loading import LatentPath, RestorationModel, load_model
from sanarestore.model.transformer import Tokens
from sanarestore.options import RestoreOptions

SMALL = 256
"""Side in pixels of an image that one tile holds, whose operations are counted."""

TILED: dict[str, dict[str, int]] = {
    "diffusers tiled": {},
    "diffusers tiled 1024": {
        "tile_sample_min_height": 1024, "tile_sample_min_width": 1024, "tile_sample_stride_height": 896,
        "tile_sample_stride_width": 896,
    },
}  # fmt: skip
"""Settings of diffusers' `AutoencoderDC.enable_tiling`: its defaults, 512 px every 448, and twice those."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A part of a model to be timed."""

    name: str
    ours: Work
    others: Mapping[str, Work] = field(default_factory=dict)
    """Name of another implementation -> its run."""
    repeats: int = 1
    """Runs per reading of the clock."""


class Subject:
    """A model on a device, and its parts."""

    def __init__(self, options: RestoreOptions, device: torch.device) -> None:
        self.device = device
        self.options = options
        automatic = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.dtype = automatic if options.dtype == "auto" else getattr(torch, options.dtype)
        self.model = _model(options, self.dtype)
        self.restorer = Restorer(options, device=str(device), model=self.model)
        prompt = options.prompt if options.prompt is not None else str(self.model.defaults["prompt"])
        prompts = self.model.prompts
        self._tokens = Tokens.of([prompts.tokens(prompts.wording(prompt, prompts.request(prompt))).to(device)])

    @property
    def steps(self) -> int:
        """Steps of the flow."""
        return steps_of(self.options, self.model)

    def parts(self, size: int) -> Iterator[Part]:
        """Yield the whole restoration and, where images go through the latent path, that path, its parts and kernels.

        Ours work as in a restoration: on images in host memory, in tiles.
        """
        image = _noise(size)
        yield Part(name="restore", ours=lambda: self.restorer(image))
        generation = self.restorer.generation
        if generation is None:
            return
        yield from self._path(generation, host_tensor(image.pixels_HWC))
        if choice.available(self.device):
            for name, ours, plain, compiled in kernel_arms(generation.latent, size):
                others = {"reference": plain, "reference compiled": compiled}
                yield Part(name=f"kernel: {name}", ours=ours, others=others, repeats=REPEATS)

    def flop_untiled(self, size: int) -> float:
        """Floating-point operations of a whole, untiled restoration of a square image."""
        return self._flop_per_pixel() * self._area(size)

    @cache  # noqa: B019 - a subject lives as long as the command
    def _flop_per_pixel(self) -> float:
        side = min(self.restorer.tile, SMALL) // 32 * 32
        image = _noise(side)
        return count_work(lambda: self.restorer(image))[0] / self._area(side)

    def _area(self, size: int) -> int:
        """Pixels computed for an untiled square image; if only the refiner runs, with the margin that it mirrors."""
        margin = self.model.refiner.margin if self.restorer.generation is None else 0
        return (size + 2 * margin) ** 2

    def _path(self, generation: Generation, image_CHW: Tensor) -> Iterator[Part]:
        """Yield the whole latent path, and its encoder, one step and its decoder separately."""
        latent, theirs = generation.latent, self._autoencoders()
        stride, channels = latent.autoencoder.stride, latent.autoencoder.latent_channels
        shape = (1, channels, *(-(-side // stride) for side in image_CHW.shape[1:]))
        latent_1Zhw = torch.randn(shape, device=self.device)
        condition_1Zhw, generated_CHW = torch.empty_like(latent_1Zhw), torch.empty(image_CHW.shape)
        # diffusers' encoder takes only whole latent positions.
        image_1CHW = tiling.cut(image_CHW, (0, shape[2] * stride, 0, shape[3] * stride))[None].to(self.device)
        yield Part(
            name="generate",
            ours=lambda: _filled(generated_CHW, generation(image_CHW, generated_CHW)),
            others={name: partial(self._generate, latent, each, image_1CHW) for name, each in theirs.items()},
        )
        yield Part(
            name="encode",
            ours=lambda: _filled(condition_1Zhw, generation.encode(image_CHW, condition_1Zhw)),
            others={name: partial(_encode, each, image_1CHW) for name, each in theirs.items()},
        )
        given = (latent_1Zhw, latent_1Zhw, self._tokens, latent_1Zhw.new_ones(1))
        others: dict[str, Work] = {"diffusers": partial(latent.transformer, *given)}
        if self._compiles:
            compiled: Any = torch.compile(latent.transformer, dynamic=False)
            others["diffusers compiled"] = partial(compiled, *given)
        yield Part(name="step", ours=lambda: generation.predict(latent_1Zhw)(latent_1Zhw, 1.0), others=others)
        yield Part(
            name="decode",
            ours=lambda: _filled(generated_CHW, generation.decode(latent_1Zhw, generated_CHW)),
            others={name: partial(_decode, each, latent_1Zhw) for name, each in theirs.items()},
        )

    def _generate(self, latent: LatentPath, autoencoder: Any, image_1CHW: Tensor) -> Tensor:
        """Generate an image with diffusers' modules alone, on the device from end to end."""
        condition_1Zhw = _encode(autoencoder, image_1CHW)
        drawn = noise_field(self.options.seed, *condition_1Zhw.shape)

        def velocity(state_1Zhw: Tensor, time: float) -> Tensor:
            moment_B = torch.full((1,), time, device=self.device)
            found: Tensor = latent.transformer(state_1Zhw, condition_1Zhw, self._tokens, moment_B)
            return found

        return _decode(
            autoencoder, latent.flow.sample(velocity, lambda number: drawn(number).to(self.device), self.steps)
        )

    @property
    def _compiles(self) -> bool:
        return choice.available(self.device)

    @cache  # noqa: B019 - a subject lives as long as the command
    def _autoencoders(self) -> dict[str, Any]:
        """Name -> diffusers' autoencoder, in one dtype from end to end, whereas ours keeps the ends in float32."""
        from diffusers import AutoencoderDC

        assert self.model.latent is not None
        ours, make = self.model.latent.autoencoder, AutoencoderDC
        halves = [copy.deepcopy(half).to(self.device, self.dtype).eval() for half in (ours.encoder, ours.decoder)]
        found: dict[str, Any] = {}
        for name in ("diffusers", *TILED, *(["diffusers compiled"] if self._compiles else [])):
            with torch.device("meta"):
                each: Any = make.from_config(ours.config)  # type: ignore[no-untyped-call]
            compiled = name == "diffusers compiled"
            each.encoder, each.decoder = (torch.compile(half, dynamic=False) if compiled else half for half in halves)
            if name in TILED:
                each.enable_tiling(**TILED[name])
            found[name] = each
        return found


def _encode(autoencoder: Any, image_1CHW: Tensor) -> Tensor:
    """Encode an image in [0,1] to a scaled latent in float32."""
    latent_1Zhw: Tensor = autoencoder.encode(image_1CHW.to(autoencoder.dtype) * 2 - 1, return_dict=False)[0].float()
    return latent_1Zhw * float(autoencoder.config.scaling_factor)


def _decode(autoencoder: Any, latent_1Zhw: Tensor) -> Tensor:
    """Decode a scaled latent to an image around [0,1] in float32."""
    unscaled_1Zhw = (latent_1Zhw / float(autoencoder.config.scaling_factor)).to(autoencoder.dtype)
    image_1CHW: Tensor = autoencoder.decode(unscaled_1Zhw, return_dict=False)[0].float()
    return image_1CHW / 2 + 0.5


def _filled(result: Tensor, steps: Iterator[object]) -> Tensor:
    """Run all steps that fill a tensor, and return it."""
    deque(steps, maxlen=0)
    return result


def _model(options: RestoreOptions, dtype: torch.dtype) -> RestorationModel:
    if options.model is not None and options.model.startswith(RANDOM):
        return random_model(options.model, dtype=dtype)
    return load_model(options.model, options.adapter, dtype=dtype, autoencoder=options.autoencoder)


def _noise(side: int) -> images.Image:
    pixels = np.random.default_rng(0).random((side, side, 3), dtype=np.float32)
    return images.Image(pixels_HWC=pixels, depth="float32", format="tiff")
