"""The latent path on a device: a degraded image in, a generated one out, stage by stage over the whole host array.

Shape suffixes: C channels, H W pixels, Z latent channels, h w latent positions, D prompt features.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sanarestore import tiling
from sanarestore.engine.coding import Coding
from sanarestore.engine.latent_use import steps_of
from sanarestore.engine.residency import Residency
from sanarestore.engine.tiles import Steps, Tiles, release, run_stages
from sanarestore.errors import OutOfMemory, UsageError
from sanarestore.flow import Predict, noise_field
from sanarestore.kernels import choice
from sanarestore.model.loading import LatentPath, RestorationModel
from sanarestore.model.prompts import Prompts
from sanarestore.model.quantization import quantization, quantize
from sanarestore.model.runners.exact import exact
from sanarestore.model.runners.prompt import prompts as as_read
from sanarestore.model.runners.whole import whole
from sanarestore.model.runners.windowed import causal, multidiffusion
from sanarestore.model.transformer import Tokens
from sanarestore.options import BLENDING, Precision, RestoreOptions

WINDOWS_AT_ONCE = 4
"""Windows that blending schemes run together on a GPU; fewer leave it idle between small kernels."""


Watch = Callable[[str, Tensor], None]
"""Callback for a finished stage: its name and its result [C,H,W], which must not be changed or kept."""


class Region(NamedTuple):
    """Top-left corner of a part of an image, and the size of the whole image, in pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Draw:
    """One of the samples that are drawn for an image."""

    seed: int
    """Seed of the noise that sampling starts from."""
    conditions: dict[Region, Tensor] | None = None
    """Encoded parts of the image: the first sample fills the dict, and later ones reuse it. None keeps none."""


class Generation:
    """The latent path (SANA), ready for any number of images under one prompt."""

    def __init__(
        self, latent: LatentPath, prompts: Prompts, options: RestoreOptions, *, prompt: str, steps: int, tiles: Tiles
    ) -> None:
        """`latent` is moved to the device of `tiles`, in place, or waits in the host's memory as the options say."""
        self.latent = latent
        self._tiles = tiles
        self._transformer = latent.transformer
        if choice.available(tiles.device):
            # The kernels need channels-last maps; with such weights, convolutions do not convert them at every call.
            latent.autoencoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.residency = Residency(latent, tiles.device, options.offload)
        tiles.relieve = self.residency.offload_more
        self.coding = Coding(latent.autoencoder, tiles)
        self._flow = latent.flow
        self._options = options
        self._steps = steps
        self.watch: Watch = _unwatched
        is_led = options.guidance != 1
        table = prompts.fetch([prompt, ""] if is_led else [prompt])
        self._tokens = self._of_prompt(table[prompt.strip()])
        self._negative = self._of_prompt(table[""]) if is_led else None
        # Prompts are projected once, for all images.
        self._read, self._unread = as_read(self._transformer, self._tokens, self._negative)
        self._at_once = 1 if tiles.device.type == "cpu" else WINDOWS_AT_ONCE
        # All windows of an image that is restored window by window take their part of the same draw.
        self._draw = lru_cache(maxsize=1)(_drawn)

    @property
    def stride(self) -> int:
        """Pixels per latent position."""
        return self.coding.stride

    def count(self, height: int, width: int, *, is_encoded: bool = False) -> int:
        """Number of progress steps for an image of this size at the current tile size; one that `is_encoded` needs
        fewer."""
        tiles = self._tiles.count(height, width, stride=self.stride)
        encoding = 0 if is_encoded else self.coding.encoding_steps(tiles)
        return encoding + self._steps + self.coding.decoding_steps(tiles)

    def __call__(
        self, degraded_CHW: Tensor, generated_CHW: Tensor, place: Region | None = None, draw: Draw | None = None
    ) -> Steps:
        """Fill `generated_CHW`, around [0,1], from `degraded_CHW`; both on the host and of the same, arbitrary size.

        If they are a part of an image, `place` selects the matching part of its noise. `draw` selects one of several
        samples; the default is the sample of the options' seed.
        """
        height, width = degraded_CHW.shape[1:]
        place, draw = place or Region(0, 0, height, width), draw or Draw(self._options.seed)
        latent_1Zhw = self.empty_latent(height, width)
        tiles = self._tiles.count(height, width, stride=self.stride)
        stages = []
        kept = {} if draw.conditions is None else draw.conditions
        if place not in kept:
            kept[place] = self.empty_latent(height, width)
            stages.append((self.encode(degraded_CHW, kept[place]), self.coding.encoding_steps(tiles)))
        stages.append((self.sample(kept[place], latent_1Zhw, place, draw.seed), self._steps))
        stages.append((self.decode(latent_1Zhw, generated_CHW), self.coding.decoding_steps(tiles)))
        yield from run_stages(stages)
        self.watch("generated", generated_CHW)

    def empty_latent(self, height: int, width: int) -> Tensor:
        """An empty latent [1,Z,h,w] on the device, for an image of this size in pixels."""
        return self.coding.empty_latent(height, width)

    def encode(self, image_CHW: Tensor, latent_1Zhw: Tensor) -> Steps:
        """Fill `latent_1Zhw`, on the device, from an image on the host."""
        return self.coding.encode(image_CHW, latent_1Zhw, self.residency.steps)

    def decode(self, latent_1Zhw: Tensor, image_CHW: Tensor) -> Steps:
        """Fill `image_CHW`, on the host and around [0,1], from a latent on the device."""
        self.watch("latent", latent_1Zhw[0])
        yield from self.coding.decode(latent_1Zhw, image_CHW, self.residency.steps)

    def sample(self, condition_1Zhw: Tensor, latent_1Zhw: Tensor, place: Region, seed: int) -> Steps:
        """Fill `latent_1Zhw` by sampling under a condition; both on the device. `place` and `seed` select the noise."""
        stride = self.stride
        _, channels, rows, columns = condition_1Zhw.shape
        top, left = place.top // stride, place.left // stride
        height, width = (-(-side // stride) for side in (place.height, place.width))

        def drawn(number: int) -> Tensor:
            noise_1ZHW = self._draw(seed, channels, height, width, number)
            return noise_1ZHW[:, :, top : top + rows, left : left + columns].to(self._tiles.device)

        def steps() -> Steps:
            states = self._flow.steps(self.predict(condition_1Zhw), drawn, self._steps)
            for done, state in enumerate(states, start=1):
                latent_1Zhw.copy_(state)
                yield done, self._steps

        self.watch("condition", condition_1Zhw[0])
        shrink = self._one_by_one if self._options.tiling in BLENDING else None
        yield from self.residency.steps("sample", self._tiles.again(steps, max(rows, columns) * stride, shrink=shrink))

    def _one_by_one(self) -> None:
        """Run windows one at a time from now on; OutOfMemory if they already are.

        Windows of the size that the user chose are not made smaller, because the result would change.
        """
        if self._at_once == 1:
            raise OutOfMemory(
                f"out of memory on {self._tiles.device} with windows of {self._options.blended[0]} px",
                next_step="Choose a smaller --tile.",
            )
        self._at_once = 1
        release(self._tiles.device)

    def predict(self, condition_1Zhw: Tensor) -> Predict:
        """Velocity function for the chosen tiling; a strip holds as many tokens as a tile of the latent."""
        given = (self._transformer, condition_1Zhw)
        untiled = self._options.tiling in ("off", "independent")
        if untiled and self._transformer.streamed is None:
            return whole(*given, self._tokens, negative=self._negative, guidance=self._options.guidance)
        if untiled or self._options.tiling == "exact":
            largest = condition_1Zhw[0, 0].numel() if untiled else max(self._tiles.size // self.stride, 1) ** 2
            return exact(*given, self._read, largest=largest, **self._led)
        windowed = causal if self._options.tiling == "causal" else multidiffusion
        return windowed(*given, self._read, at_once=self._at_once, **self._blended)

    @property
    def _led(self) -> dict[str, Any]:
        """Guidance arguments of the runners: the negative prompt and the guidance scale."""
        return {"negative": self._unread, "guidance": self._options.guidance}

    @property
    def _blended(self) -> dict[str, Any]:
        """Arguments that the runners of all blending schemes share; sides are in latent positions."""
        tile, overlap = (side // self.stride for side in tiling.whole_strides(*self._options.blended, self.stride))
        return {"tile": tile, "overlap": overlap, **self._led}

    def _of_prompt(self, token_LD: Tensor) -> Tokens:
        return Tokens.of([token_LD.to(self._tiles.device)])


def new_generation(
    model: RestorationModel, options: RestoreOptions, *, prompt: str, tiles: Tiles, dtype: torch.dtype, shared: bool
) -> Generation:
    """Place a model's latent path on the device of `tiles`, in `dtype`; a copy of it if others share the model."""
    latent = copy.deepcopy(model.latent) if shared else model.latent
    assert latent is not None
    if options.quantize:
        _quantize(latent.transformer.transformer, options.quantize)
    placed = replace(latent, autoencoder=latent.autoencoder.with_dtype(dtype), transformer=latent.transformer.to(dtype))
    return Generation(placed, model.prompts, options, prompt=prompt, steps=steps_of(options, model), tiles=tiles)


def _quantize(transformer: Any, precision: Precision) -> None:
    """Quantize the transformer, in place; UsageError if it is stored in another precision."""
    stored = quantization(transformer)
    if stored is None:
        quantize(transformer, precision)
    elif stored != precision:
        raise UsageError(
            f"the model's weights are stored in {stored}", where=f"--quantize {precision}", next_step="Leave it out."
        )


def _unwatched(stage: str, result_CHW: Tensor) -> None:
    """Do nothing: the default `Watch`."""


def _drawn(seed: int, channels: int, height: int, width: int, number: int) -> Tensor:
    """Draw `number` of the noise for a latent of this size, [1,Z,h,w]."""
    return noise_field(seed, 1, channels, height, width)(number)
