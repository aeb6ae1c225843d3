"""The last stage of a restoration: the pixel refiner and its experts, window by window.

Shape suffixes: C channels, H W pixels of the image, h w pixels of a window, D prompt features.
"""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sanarestore import tiling
from sanarestore.degradations.requests import Request
from sanarestore.engine.tiles import Steps, Tiles
from sanarestore.errors import UsageError
from sanarestore.kernels import int8_convolution
from sanarestore.model.colour_correction import WholePhoto, overview
from sanarestore.model.folded import FoldedRefiner
from sanarestore.model.loading import RestorationModel
from sanarestore.model.refiner import Refiner
from sanarestore.model.routing import routing_features


class Refinement:
    """A model's refiners on a device, ready for any number of images under one prompt."""

    def __init__(
        self, model: RestorationModel, prompt_1D: Tensor, request: Request, *, fidelity: float, tiles: Tiles,
        dtype: torch.dtype, shared: bool, in_int8: bool = False,
    ) -> None:  # fmt: skip
        """Place the general refiner; experts follow when a photograph first needs them.

        `prompt_1D` is the pooled prompt, and `request` is what it asks for. If the model is `shared` with others, its
        refiner is copied; otherwise it is cast in place. `in_int8`, convolutions run in 8 bits: UsageError if the
        device or the model does not allow it.
        """
        if in_int8:
            _check_int8(model, tiles.device)
        self._in_int8 = in_int8
        self._model = model
        self._prompt_1D = prompt_1D.to(tiles.device)
        self._request = request
        self._fidelity = fidelity
        self._tiles = tiles
        self._dtype = dtype
        # Experts are built from the refiner as it was loaded, so it must stay uncast.
        general = copy.deepcopy(model.refiner) if shared or model.experts else model.refiner
        self.refiners: dict[str | None, FoldedRefiner] = {None: self._placed(None, general)}
        """Refiners on the device, by the name of the expert; None is the general refiner."""
        self.expert: str | None = None
        """Name of the expert with the largest share in the last photograph; None for the general refiner."""

    @property
    def stride(self) -> int:
        """Tile origins are multiples of this, in pixels."""
        return self._model.refiner.stride

    def strips(self, height: int, width: int) -> list[tiling.Strip]:
        """The tiles of an image of this size at the current tile size, row by row."""
        refiner = self._model.refiner
        return tiling.strips(
            height, width, tile=self._tiles.size, halo=refiner.halo, stride=refiner.stride, margin=refiner.margin
        )

    def count(self, height: int, width: int) -> int:
        """Number of progress steps for an image of this size at the current tile size."""
        return self._tiles.count(height, width, stride=self.stride)

    def __call__(self, degraded_CHW: Tensor, generated_CHW: Tensor, restored_CHW: Tensor) -> Steps:
        """Fill `restored_CHW`; all three are on the host, and the first two may be the same tensor."""
        refiner = self._model.refiner
        yield from self._tiles.map(
            self.for_photograph(
                routing_features(degraded_CHW) if self.is_routed else None,
                overview(degraded_CHW) if self.is_corrected else None,
            ),
            (degraded_CHW,) if generated_CHW is degraded_CHW else (degraded_CHW, generated_CHW),
            restored_CHW,
            halo=refiner.halo,
            stride=refiner.stride,
            margin=refiner.margin,
            by_core=True,
        )

    @property
    def is_routed(self) -> bool:
        """Whether refiners are chosen by the routing features of a photograph."""
        return self._model.experts is not None

    @property
    def is_corrected(self) -> bool:
        """Whether the prompt asks for light or colour, which are corrected by the overview of a photograph."""
        return self._request.is_lit or self._request.is_coloured

    def for_photograph(self, features_K: Tensor | None, overview_Chw: Tensor | None) -> Callable[..., Tensor]:
        """Return the function that refines windows [3,h,w] of one photograph, from the host, to cores on the device.

        The last argument of the function is the place of the core in the window. The photograph is measured as a whole
        before: `features_K` are its `routing_features`, None unless `is_routed`, and `overview_Chw` is its `overview`,
        None unless `is_corrected`.
        """
        whole = None
        if overview_Chw is not None:
            whole = WholePhoto.of(overview_Chw, self._request).to(self._tiles.device)
        return partial(self._refine_window, self._choose(features_K), whole)

    def _choose(self, features_K: Tensor | None) -> list[tuple[float, FoldedRefiner]]:
        """Choose refiners for the whole photograph, each with the share of its result."""
        experts = self._model.experts
        if experts is None or features_K is None:
            return [(1.0, self.refiners[None])]
        shares = experts.shares(features_K, self._prompt_1D[0].cpu(), self._request.removes)
        self.expert = max(shares, key=lambda name: shares[name])
        for name in shares:
            if name is not None and name not in self.refiners:
                self.refiners[name] = self._placed(name, experts.refiner(name, self._model.refiner))
        return [(share, self.refiners[name]) for name, share in shares.items()]

    def _placed(self, name: str | None, refiner: Refiner) -> FoldedRefiner:
        """Cast a refiner and move it to the device, in place, and fold the prompt into it."""
        refiner.eval().with_dtype(self._dtype)
        refiner.to(device=self._tiles.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return FoldedRefiner(refiner, self._prompt_1D, self._model.calibrations.get(name), in_int8=self._in_int8)

    @torch.inference_mode()
    def _refine_window(
        self,
        refiners: Sequence[tuple[float, FoldedRefiner]],
        whole: WholePhoto | None,
        *windows_Chw: Any,
    ) -> Tensor:
        """Refine the core of a window: of the photograph, of the generated image if that is another, and its place."""
        degraded_Chw, *generated_Chw, core = windows_Chw
        degraded = self._to_device(degraded_Chw)
        generated = self._to_device(generated_Chw[0]) if generated_Chw else degraded
        unrefined = generated[0, :, core[0] : core[1], core[2] : core[3]]
        if self._fidelity == 0:
            return unrefined
        # A refiner that was not trained on generated images keeps refining the photograph; only the blend changes.
        given = generated if self._model.refines_generated else degraded
        (share, refiner), *others = refiners
        refined: Tensor = refiner(degraded, given, whole, core)
        if others:
            refined.mul_(share)
        for share, refiner in others:
            refined.add_(refiner(degraded, given, whole, core), alpha=share)
        if self._fidelity == 1:
            return refined[0]
        return torch.lerp(unrefined, refined[0], self._fidelity)

    def _to_device(self, window_Chw: Tensor) -> Tensor:
        return window_Chw[None].to(self._tiles.device, memory_format=torch.channels_last)


def _check_int8(model: RestorationModel, device: torch.device) -> None:
    if device.type != "cpu" or not int8_convolution.available():
        raise UsageError(
            f"{'this processor' if device.type == 'cpu' else device.type} has no 8-bit convolutions",
            where="--dtype int8", next_step="Use --dtype auto.",
        )  # fmt: skip
    if not model.calibrations:
        raise UsageError(
            "the model's refiner is not calibrated", where="--dtype int8",
            next_step="Use --dtype auto, or calibrate it: sanarestore models calibrate.",
        )  # fmt: skip
