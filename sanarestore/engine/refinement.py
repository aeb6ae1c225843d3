"""The last stage of a restoration: the pixel refiner and its experts, window by window.

Shape suffixes: C channels, H W pixels of the image, h w pixels of a window, D prompt features.
"""

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

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

    def count(self, height: int, width: int) -> int:
        """Number of progress steps for an image of this size at the current tile size."""
        return self._tiles.count(height, width, stride=self.stride)

    def __call__(self, degraded_CHW: Tensor, generated_CHW: Tensor, restored_CHW: Tensor) -> Steps:
        """Fill `restored_CHW`; all three are on the host, and the first two may be the same tensor."""
        refiner = self._model.refiner
        yield from self._tiles.map(
            partial(self._refine_window, self._choose(degraded_CHW), self._measure(degraded_CHW)),
            (degraded_CHW,) if generated_CHW is degraded_CHW else (degraded_CHW, generated_CHW),
            restored_CHW,
            halo=refiner.halo,
            stride=refiner.stride,
            margin=refiner.margin,
            by_core=True,
        )

    def _choose(self, degraded_CHW: Tensor) -> list[tuple[float, FoldedRefiner]]:
        """Choose refiners for the whole photograph, each with the share of its result."""
        experts = self._model.experts
        if experts is None:
            return [(1.0, self.refiners[None])]
        shares = experts.shares(routing_features(degraded_CHW), self._prompt_1D[0].cpu(), self._request.removes)
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

    def _measure(self, degraded_CHW: Tensor) -> WholePhoto | None:
        """Statistics of the whole photograph for every tile; None if the prompt asks for neither light nor colour."""
        if not (self._request.is_lit or self._request.is_coloured):
            return None
        return WholePhoto.of(overview(degraded_CHW), self._request).to(self._tiles.device)

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
