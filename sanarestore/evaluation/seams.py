"""Seams: what tiling leaves behind, measured against the same image restored in one piece with the same noise.

Shape suffixes: C channels, H W pixels or latent positions.

    seam PSNR          in bands of 16 px to each side of every border between tiles, at every stage; and off the bands
    discontinuity      mean square of the steps across borders over that of all other steps: 1 leaves no trace
    shift consistency  PSNR between two results whose grids lie half a tile apart
    flat and gradient  the largest step across a border that tiles add to fields without any, in codes of 16 bits

Nothing is rounded: all in float.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sanarestore import images, tiling
from sanarestore.degradations.operations import Pixels
from sanarestore.engine.restorer import Restorer, is_generated
from sanarestore.errors import UsageError
from sanarestore.evaluation.memory import PeakMemory
from sanarestore.model.loading import RestorationModel, load_model
from sanarestore.options import BLENDED_TILE, BLENDING, LATENT, SCHEMES, RestoreOptions

BAND = 16
"""Pixels to each side of a border that belong to its band."""

MOST_DECIBELS = 200.0
"""What no difference at all counts as."""

STAGES = ("condition", "latent", "generated", "result")

SIXTEEN_BITS = 65535

Borders = tuple[tuple[int, ...], tuple[int, ...]]
"""Rows and columns of pixels that a tile begins or ends at, the image's own sides left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One image under one scheme; what does not apply is None."""

    image: str
    tiling: str
    tile: int
    """Largest, in pixels."""
    borders: int
    """Between tiles, rows and columns added up."""
    seam_psnr: float | None
    """dB of the result in the bands; None where one tile holds the image."""
    off_seam_psnr: float
    stages: dict[str, tuple[float | None, float]]
    """Stage -> the same two of it."""
    discontinuity: float | None
    untiled_discontinuity: float | None
    """At the same places, in one piece."""
    shift_psnr: float | None
    flat_step: float | None
    """Codes of 16 bits, more than at the same places in one piece."""
    gradient_step: float | None
    clean_psnr: float | None
    untiled_clean_psnr: float | None
    seconds: float
    peak_bytes: int | None

    def to_json(self) -> dict[str, Any]:
        """Plain values, without those that do not apply."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What a run made, stage by stage [C,H,W], for measures and for pictures."""

    maps: dict[str, npt.NDArray[np.float32]]
    seconds: float
    peak_bytes: int | None


Watched = Callable[[str, str, Seen, Seen, Borders], None]
"""Image, scheme, what it made, what was made in one piece, and where its tiles meet."""


class Bench:
    """A model, and the options under which schemes are compared."""

    def __init__(
        self,
        options: RestoreOptions,
        device: str,
        tilings: Sequence[str] | None = None,
        *,
        overlap: int | None = None,
    ) -> None:
        """All schemes are given the tile of `options`, and those that blend the overlap; None takes all that can be
        seen: without the latent path, those of the refiner.

        UsageError for a scheme that is not known, or that cannot be seen with these options.
        """
        if tilings is not None and (not tilings or "off" in tilings):
            raise UsageError(
                "off is what the others are compared with", where="--tilings", next_step="Name others, or leave it out."
            )
        self._device = device
        self.model: RestorationModel = load_model(options.model, options.adapter)
        plain = replace(options, tile=None, tiling="off")
        self.schemes = {"off": plain}
        if tilings is None:
            tilings = [name for name in SCHEMES if name not in LATENT or is_generated(plain, self.model)]
        self.compared = tuple(tilings)
        for name in tilings:
            shared = overlap if name in BLENDING else None
            self.schemes[name] = replace(plain, tile=options.tile or BLENDED_TILE, tiling=name, overlap=shared)  # type: ignore[arg-type]
        self._untiled: dict[tuple[str, tuple[int, int]], npt.NDArray[np.float32]] = {}
        # Here, so that what cannot be run is known before anything is.
        self._restorers = {name: self._restorer(name) for name in self.schemes}

    def measure(
        self, name: str, image: images.Image, clean: images.Image | None = None, watch: Watched | None = None
    ) -> Iterator[Measured]:
        """The image in one piece, then under every scheme; yields a line for each of those."""
        reference = self.run("off", image)
        for scheme in self.compared:
            seen = self.run(scheme, image)
            borders = self.borders(scheme, image.height, image.width)
            if watch:
                watch(name, scheme, seen, reference, borders)
            yield self._compared(name, scheme, image, clean, reference, seen, borders)

    def run(self, scheme: str, image: images.Image, shift: int = 0) -> Seen:
        """One restoration, with all that it went through."""
        restorer = self._restorer(scheme, shift) if shift else self._restorers[scheme]
        maps: dict[str, npt.NDArray[np.float32]] = {}
        restorer.watch(lambda stage, found: maps.__setitem__(stage, found.float().cpu().numpy().copy()))
        watch, begun = PeakMemory(restorer.device), time.perf_counter()
        restored = restorer(image)
        seconds, peak = time.perf_counter() - begun, watch.taken()
        # Of tiles that are restored alone, only the result is whole.
        kept = maps if self.schemes[scheme].tiling != "independent" else {}
        result = np.moveaxis(restored.pixels_HWC, 2, 0)
        return Seen(maps={**kept, "result": result}, seconds=seconds, peak_bytes=peak)

    def borders(self, scheme: str, height: int, width: int, shift: int = 0, stage: str = "result") -> Borders:
        """Where tiles meet at a stage; in the result, those of all stages before it too."""
        options, stride = self.schemes[scheme], self.stride
        if scheme not in BLENDING:
            # The latent path and the refiner are cut each at its own strides.
            strides = {stride} if stage != "result" or self._is_unrefined else {stride, self.model.refiner.stride}
            assert options.tile is not None
            rows, columns = (
                tuple(
                    sorted(
                        {cut for each in strides for cut in tiling.balanced_cuts(side, options.tile, each, shift)[1:-1]}
                    )
                )
                for side in (height, width)
            )
            return rows, columns
        tile, overlap = tiling.whole_strides(*options.blended, stride)
        windows = tiling.overlapping(height, width, tile=tile, overlap=overlap, stride=stride, shift=shift)
        ends = [[window.box[:2] for window in windows], [window.box[2:] for window in windows]]
        rows, columns = (
            tuple(sorted({edge for span in spans for edge in span if 0 < edge < side}))
            for spans, side in zip(ends, (height, width), strict=True)
        )
        return rows, columns

    @property
    def stride(self) -> int:
        """Pixels that tiles begin at multiples of."""
        latent = self._restorers["off"].latent
        return latent.autoencoder.stride if latent else self.model.refiner.stride

    @property
    def _is_unrefined(self) -> bool:
        return self._restorers["off"].latent is not None and self.schemes["off"].fidelity == 0

    def _restorer(self, scheme: str, shift: int = 0) -> Restorer:
        return Restorer(self.schemes[scheme], device=self._device, model=self.model, shift=shift)

    def _compared(
        self, name: str, scheme: str, image: images.Image, clean: images.Image | None, reference: Seen, seen: Seen,
        borders: Borders,
    ) -> Measured:  # fmt: skip
        stages = {
            stage: banded_psnr(
                seen.maps[stage], reference.maps[stage],
                self.borders(scheme, image.height, image.width, stage=stage), self._cell(stage),
            )
            for stage in STAGES if stage in seen.maps
        }  # fmt: skip
        result, untiled = (np.moveaxis(each.maps["result"], 0, 2) for each in (seen, reference))
        tile = self.schemes[scheme].tile
        assert tile is not None
        tiled = any(borders)
        half = tile // 2 // self.stride * self.stride
        return Measured(
            image=name, tiling=scheme, tile=tile, borders=sum(map(len, borders)),
            seam_psnr=stages["result"][0], off_seam_psnr=stages["result"][1], stages=stages,
            discontinuity=discontinuity(result, borders) if tiled else None,
            untiled_discontinuity=discontinuity(untiled, borders) if tiled else None,
            shift_psnr=_psnr(np.square(seen.maps["result"] - self.run(scheme, image, half).maps["result"]))
            if tiled and half else None,
            flat_step=self._step(scheme, "flat", image, borders) if tiled else None,
            gradient_step=self._step(scheme, "gradient", image, borders) if tiled else None,
            clean_psnr=_psnr(np.square(result - clean.pixels_HWC)) if clean else None,
            untiled_clean_psnr=_psnr(np.square(untiled - clean.pixels_HWC)) if clean else None,
            seconds=seen.seconds, peak_bytes=seen.peak_bytes,
        )  # fmt: skip

    def _step(self, scheme: str, kind: str, image: images.Image, borders: Borders) -> float:
        """The largest step across a border, in codes, that a smooth field as large as the image comes out with.

        The field lies between 0.25 and 0.75. Steps that it has in one piece too are none of the tiles'.
        """
        size = image.height, image.width
        given = (0.5 + 0.25 * (_ramp(*size) if kind == "gradient" else np.zeros((*size, 3)))).astype(np.float32)
        field = images.Image(pixels_HWC=given, depth="float32", format="tiff")
        if (kind, size) not in self._untiled:
            self._untiled[kind, size] = self.run("off", field).maps["result"]
        tiled, untiled = self.run(scheme, field).maps["result"], self._untiled[kind, size]
        return largest_step(np.moveaxis(tiled - untiled, 0, 2), borders) * SIXTEEN_BITS

    def _cell(self, stage: str) -> int:
        return self.stride if stage in ("condition", "latent") else 1


def banded_psnr(
    tiled_CHW: npt.NDArray[np.float32], untiled_CHW: npt.NDArray[np.float32], borders: Borders, cell: int = 1
) -> tuple[float | None, float]:
    """PSNR in the bands, and off them, in dB of peak 1; maps have `cell` pixels per position.

    None for bands that are not there; where they are all there is, what is off them is counted as equal.
    """
    error = np.square(tiled_CHW.astype(np.float64) - untiled_CHW).mean(axis=0)
    is_band = np.zeros(error.shape, bool)
    rows, columns = borders
    for edge in rows:
        is_band[max(edge - BAND, 0) // cell : -(-(edge + BAND) // cell)] = True
    for edge in columns:
        is_band[:, max(edge - BAND, 0) // cell : -(-(edge + BAND) // cell)] = True
    return _psnr(error[is_band]) if is_band.any() else None, _psnr(error[~is_band])


def discontinuity(image_HWC: Pixels, borders: Borders) -> float:
    """Mean square of the steps across borders, over that of all others; 1 for an image that is flat."""
    across, elsewhere = [], []
    for axis, edges in enumerate(borders):
        steps = np.square(np.moveaxis(np.diff(image_HWC.astype(np.float64), axis=axis), axis, 0))
        is_border = np.isin(np.arange(1, len(steps) + 1), edges)
        across.append(steps[is_border].reshape(-1))
        elsewhere.append(steps[~is_border].reshape(-1))
    other = float(np.concatenate(elsewhere).mean())
    return float(np.concatenate(across).mean()) / other if other else 1.0


def largest_step(image_HWC: npt.NDArray[Any], borders: Borders) -> float:
    """Largest absolute difference between the pixels to both sides of any border."""
    found = [0.0]
    for axis, edges in enumerate(borders):
        steps = np.abs(np.moveaxis(np.diff(image_HWC.astype(np.float64), axis=axis), axis, 0))
        found += [float(steps[edge - 1].max()) for edge in edges]
    return max(found)


def _ramp(height: int, width: int) -> npt.NDArray[np.float64]:
    """From -1 to 1 along the diagonal, [H,W,3]."""
    rows, columns = (np.linspace(-0.5, 0.5, side) for side in (height, width))
    return np.repeat((rows[:, None] + columns[None])[..., None], 3, axis=2)


def _psnr(error: npt.NDArray[np.floating[Any]]) -> float:
    mean = float(error.mean()) if error.size else 0.0
    return min(-10 * math.log10(mean), MOST_DECIBELS) if mean else MOST_DECIBELS
