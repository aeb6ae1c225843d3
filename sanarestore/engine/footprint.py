"""Peak memory of a restoration on a device, estimated before anything is allocated there.

The engine itself restores an image of tensors without values: one window of each convolutional stage, and all tokens
in the first blocks of the transformer. Bytes of the tensors that would be on the device are counted after each
operation. Not counted: workspaces within an operation, the allocator's fragments, and the device's own context.

Shape suffixes: C channels, H W pixels or positions of a map, h w those of a window.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from sanarestore import tiling
from sanarestore.degradations.requests import Request
from sanarestore.engine.generation import Generation, Region, new_generation
from sanarestore.engine.live_bytes import LiveBytes, held_by
from sanarestore.engine.refinement import Refinement
from sanarestore.engine.residency import Residency, Stage, bytes_by_stage
from sanarestore.engine.tiles import Steps, Tiles
from sanarestore.flow import Flow, Noise, Predict
from sanarestore.model import quantization
from sanarestore.model.loading import LatentPath, RestorationModel
from sanarestore.model.streaming import weights_of
from sanarestore.options import OFFLOADS, Offload, RestoreOptions

META = torch.device("meta")
"""Stand-in for the device: its tensors have shapes but no values, and differ from those of the host."""

MOST_STRIPS = 4
"""Number of strips of tokens that are computed. Memory is extrapolated from the difference between this number and one
fewer; both have strips between the first and the last."""

BLOCKS = 2
"""Blocks of the transformer that are computed; all are alike, and their memory is freed after each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """Bytes on the device at the peak of each stage, for each kind of offload."""

    activations: dict[Stage, int]
    """Bytes of activations by stage of the latent path; empty without one."""
    weights: dict[Offload, dict[Stage, int]]
    """Bytes of the weights that are on the device during each stage."""
    refinement: int
    """Bytes of the refiner, its weights included, without the latent path."""

    def peak(self, offload: Offload) -> int:
        """The largest sum of weights and activations."""
        stages = (held + self.activations[stage] for stage, held in self.weights[offload].items())
        kept = max(self.weights["none"].values(), default=0) if offload == "none" else 0
        return max(kept + self.refinement, *stages, 0)


def footprint(
    model: RestorationModel, options: RestoreOptions, wording: str, *, tile: int, dtype: torch.dtype,
    size: tuple[int, int], is_generated: bool,
) -> Footprint:  # fmt: skip
    """Estimate the peaks for an image of `size`, height and width in pixels, in tiles of at most `tile` pixels a side.

    `options` says what is quantized; `wording` is the prompt as the model embeds it.
    """
    tiles = _OneWindow(META, tile, whole=options.tiling == "off")
    with torch.random.fork_rng(devices=[]):
        activations, held = _generation(model, options, wording, tiles, dtype, size) if is_generated else ({}, {})
        return Footprint(
            activations=activations,
            weights={each: held.get(each, {}) for each in OFFLOADS},
            refinement=_refinement(model, options, wording, tiles, dtype, size),
        )


def _generation(
    model: RestorationModel, options: RestoreOptions, wording: str, tiles: Tiles, dtype: torch.dtype,
    size: tuple[int, int],
) -> tuple[dict[Stage, int], dict[Offload, dict[Stage, int]]]:  # fmt: skip
    """Peaks of activations and bytes of weights, by stage of the latent path."""
    latent = _without_values(model.latent)
    transformer = latent.transformer.transformer
    if options.quantize and quantization.quantization(transformer) is None:
        quantization.prepare(transformer, options.quantize)
    latent.autoencoder.with_dtype(dtype)
    latent.transformer.to(dtype)
    held = {each: bytes_by_stage(latent, each) for each in OFFLOADS}
    transformer.transformer_blocks = transformer.transformer_blocks[:BLOCKS]
    shaped = replace(model, load_latent=lambda: replace(latent, flow=_OneStep()))
    chosen = replace(options, quantize=None, offload="none")
    generation = new_generation(shaped, chosen, prompt=wording, tiles=tiles, dtype=dtype, shared=False)
    generation.residency = noted = _PerStage(latent)
    with _counting() as noted.live:
        latent_1Zhw, image_CHW = generation.empty_latent(*size), torch.empty(3, *size, device="cpu")
        for steps in (generation.encode(image_CHW, latent_1Zhw), generation.decode(latent_1Zhw, image_CHW)):
            for _ in steps:
                pass
        noted.peaks["sample"] = _sampling(generation, noted, tiles, size)
    return noted.peaks, held


def _sampling(generation: Generation, noted: "_PerStage", tiles: Tiles, size: tuple[int, int]) -> int:
    """Peak of the transformer. Its memory is linear in the number of strips, of which only a few are computed."""
    stride = generation.stride
    rows, columns = (-(-side // stride) for side in size)
    strip = max((tiles.size // stride) ** 2 // columns, 1)

    def peak(rows: int) -> int:
        height, width = rows * stride, columns * stride
        condition_1Zhw, latent_1Zhw = generation.empty_latent(height, width), generation.empty_latent(height, width)
        for _ in generation.sample(condition_1Zhw, latent_1Zhw, Region(0, 0, height, width), 0):
            pass
        return noted.peaks["sample"]

    count = -(-rows // strip)
    if tiles.whole or count <= MOST_STRIPS:
        return peak(rows)
    fewer, more = (peak(strips * strip) for strips in (MOST_STRIPS - 1, MOST_STRIPS))
    return more + (more - fewer) * (count - MOST_STRIPS)


def _refinement(
    model: RestorationModel, options: RestoreOptions, wording: str, tiles: Tiles, dtype: torch.dtype,
    size: tuple[int, int],
) -> int:  # fmt: skip
    """Peak of the refiner, with its weights."""
    # The router needs values. Experts have the refiner's shape, and most photographs use one of them.
    shaped = replace(model, refiner=_without_values(model.refiner), experts=None)
    refinement = Refinement(
        shaped, model.prompts.pooled(wording)[None], Request(), fidelity=options.fidelity, tiles=tiles, dtype=dtype,
        shared=False,
    )  # fmt: skip
    with _counting() as live:
        degraded_CHW, restored_CHW = _images(size)
        for _ in refinement(degraded_CHW, degraded_CHW, restored_CHW):
            pass
    return live.most + held_by(weights_of(*refinement.refiners.values()))


class _OneWindow(Tiles):
    """Tiles of which each stage computes only the largest, since no other needs more."""

    def map(
        self, function: Callable[..., Tensor], inputs: Sequence[Tensor], output_CHW: Tensor, *, halo: int, stride: int,
        input_downsample: int = 1, output_downsample: int = 1, margin: int = 0, by_core: bool = False,
    ) -> Steps:  # fmt: skip
        """Compute one window, and leave the output unchanged."""
        height, width = (side * output_downsample for side in output_CHW.shape[1:])
        part = self._largest_part(height, width, halo, stride, margin)
        windows = [each.new_empty(len(each), *_sides(part.window, input_downsample)) for each in inputs]
        function(*windows, part.core_in_window()) if by_core else function(*windows)
        yield 1, 1

    def sum(
        self, function: Callable[[Tensor, tuple[slice, slice]], Tensor], image_CHW: Tensor,
        keep: Callable[[Tensor], None], *, halo: int, stride: int, downsample: int,
    ) -> Steps:  # fmt: skip
        """Compute the sum over one window."""
        height, width = (side * downsample for side in image_CHW.shape[1:])
        part = self._largest_part(height, width, halo, stride, 0)
        rows, columns = _sides(part.core, downsample)
        core = slice(0, rows), slice(0, columns)
        keep(function(image_CHW.new_empty(len(image_CHW), *_sides(part.window, downsample)), core))
        yield 1, 1

    def _largest_part(self, height: int, width: int, halo: int, stride: int, margin: int) -> tiling.Tile:
        tile = self._largest(height, width, stride)
        parts = tiling.grid(height, width, tile=tile, halo=halo, stride=stride, margin=margin)
        return max(parts, key=lambda part: math.prod(_sides(part.window, 1)))


def _sides(box: tuple[int, int, int, int], downsample: int) -> tuple[int, int]:
    """Rows and columns of a box in pixels, as positions of a map."""
    top, bottom, left, right = box
    return (bottom - top) // downsample, (right - left) // downsample


class _PerStage(Residency):
    """Leave the weights in place, and record the peak of each stage."""

    live: LiveBytes

    def __init__(self, latent: LatentPath) -> None:
        super().__init__(latent, META)
        self.peaks: dict[Stage, int] = {}

    def steps(self, stage: Stage, steps: Steps) -> Steps:
        """Run the steps of a stage, and record its peak in bytes."""
        self.live.forget_most()
        yield from steps
        self.peaks[stage] = self.live.most


class _OneStep(Flow):
    """Flow of one step from noise: solvers need values, and more steps add only a few latents."""

    def steps(self, predict: Predict, noise: Noise, steps: int) -> Iterator[Tensor]:
        """The latent after one step."""
        latent_BCHW = noise(0)
        yield latent_BCHW - predict(latent_BCHW, 1.0)


@contextmanager
def _counting() -> Iterator[LiveBytes]:
    """Count the bytes on the device inside this context, where new tensors have no values."""
    live = LiveBytes(META.type)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode(), live:
        yield live


def _images(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A photograph and its result, in the host's memory."""
    return torch.empty(3, *size, device="cpu"), torch.empty(3, *size, device="cpu")


def _without_values(holder: Any) -> Any:
    """Copy a module, or a dataclass of modules, with tensors that have no values."""
    modules = [holder] if isinstance(holder, nn.Module) else [
        each for field in fields(holder) if isinstance(each := getattr(holder, field.name), nn.Module)
    ]  # fmt: skip
    known = {id(each): _meta(each) for each in weights_of(*modules)}
    return copy.deepcopy(holder, known)


def _meta(tensor: Tensor) -> Tensor:
    made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=META)
    return nn.Parameter(made, requires_grad=False) if isinstance(tensor, nn.Parameter) else made
