"""Seams that tiling leaves, measured against the same image restored untiled with the same noise.

Shape suffixes: C channels, H W pixels or latent positions.

    seam PSNR          in bands of 16 px on each side of every border between tiles, at every stage; and off the bands
    discontinuity      mean square of the steps across borders over that of all other steps: 1 without seams
    shift consistency  PSNR between what tiling changes in the image and in the image moved by half a tile
    flat and gradient  the largest step across a border that tiling adds to smooth fields, in 16-bit codes

All measurements are in float; nothing is rounded.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Annotated

import numpy as np
import numpy.typing as npt

from sanarestore import images, tiling
from sanarestore.engine.latent_use import is_generated
from sanarestore.engine.restorer import Restorer
from sanarestore.errors import UsageError
from sanarestore.evaluation.columns import Column, Place, Record
from sanarestore.evaluation.memory import PeakMemory
from sanarestore.evaluation.seams_metrics import Borders, Map, banded_psnr, discontinuity, largest_step, psnr
from sanarestore.evaluation.seams_shift import Spans, difference, half_a_tile, moved
from sanarestore.model.loading import RestorationModel, load_model
from sanarestore.options import BLENDED_TILE, BLENDING, LATENT, SCHEMES, RestoreOptions

STAGES = ("condition", "latent", "generated", "result")

SIXTEEN_BITS = 65535


def _added_steps(row: "Measured") -> float | None:
    """Discontinuity over that of the untiled result: 1 without seams."""
    before = row.untiled_discontinuity
    return row.discontinuity / before if row.discontinuity is not None and before else None


@dataclass(frozen=True, kw_only=True, slots=True)
class StageRow(Record):
    """The difference of one stage of a scheme from the same stage untiled."""

    tiling: Annotated[str, Column("", words=True, merges=True)]
    stage: Annotated[str, Column("stage", words=True)]
    seam_psnr: Annotated[float | None, Column("at seams", "{:.1f}")]
    off_seam_psnr: Annotated[float, Column("off seams", "{:.1f}")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured(Record):
    """The measurements of one image under one scheme; those that do not apply are None."""

    image: str
    tiling: Annotated[str, Column("", words=True)]
    tile: int
    """Largest side of a tile, in pixels."""
    borders: Annotated[int, Column("borders")]
    """Number of borders between tiles, rows and columns together."""
    seam_psnr: Annotated[float | None, Column("at seams", "{:.1f}")]
    """PSNR of the result in the bands, in dB; None where one tile holds the image."""
    off_seam_psnr: Annotated[float, Column("off seams", "{:.1f}")]
    stages: dict[str, tuple[float | None, float]]
    """Stage -> its PSNR in the bands and off them, in dB."""
    discontinuity: Annotated[float | None, Column("steps", "{:.3f}", value=_added_steps)]
    untiled_discontinuity: float | None
    """Discontinuity of the untiled result at the same places."""
    shift_psnr: Annotated[float | None, Column("shifted", "{:.1f}")]
    """Shift consistency in dB; None where one tile holds the image, or tiles are only a stride apart."""
    flat_step: Annotated[float | None, Column("flat", "{:.1f}")]
    """Largest step that tiling adds across a border of a flat field, in 16-bit codes."""
    gradient_step: Annotated[float | None, Column("gradient", "{:.1f}", Place.PAGE)]
    clean_psnr: Annotated[float | None, Column("clean", "{:.1f}", Place.PAGE)]
    untiled_clean_psnr: Annotated[float | None, Column("clean, untiled", "{:.1f}", Place.PAGE)]
    seconds: Annotated[float, Column("s", "{:.1f}")]
    peak_bytes: Annotated[int | None, Column("MiB", lambda count: f"{count / 2**20:.0f}")]

    def by_stage(self) -> list[StageRow]:
        """List the stages one by one."""
        return [
            StageRow(tiling=self.tiling, stage=stage, seam_psnr=inside, off_seam_psnr=outside)
            for stage, (inside, outside) in self.stages.items()
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class SchemeRun:
    """The results of a run, stage by stage [C,H,W], for measurements and pictures."""

    maps: dict[str, Map]
    seconds: float
    peak_bytes: int | None


Watched = Callable[[str, str, SchemeRun, SchemeRun, Borders], None]
"""Is called with the image's name, the scheme, its run, the untiled run, and the borders of the scheme's tiles."""


class SeamBench:
    """A model, and the options under which schemes are compared."""

    def __init__(
        self,
        options: RestoreOptions,
        device: str,
        tilings: Sequence[str] | None = None,
        *,
        overlap: int | None = None,
    ) -> None:
        """All `tilings` use the tile of `options`, and those that blend use `overlap`; None takes all that have an
        effect: without the latent path, only exact and independent.

        UsageError for an unknown scheme, for `off`, and for one that has no effect with these options.
        """
        if tilings is not None and (not tilings or "off" in tilings):
            raise UsageError(
                "off is what the others are compared with", where="--tilings", next_step="Name others, or leave it out."
            )
        self.model: RestorationModel = load_model(options.model, options.adapter, autoencoder=options.autoencoder)
        plain = replace(options, tile=None, tiling="off")
        self.schemes = {"off": plain}
        if tilings is None:
            tilings = [name for name in SCHEMES if name not in LATENT or is_generated(plain, self.model)]
        self.compared = tuple(tilings)
        for name in tilings:
            shared = overlap if name in BLENDING else None
            self.schemes[name] = replace(plain, tile=options.tile or BLENDED_TILE, tiling=name, overlap=shared)  # type: ignore[arg-type]
        self._untiled: dict[tuple[str, tuple[int, int]], Map] = {}
        # Made here, so that a scheme that cannot run is refused before anything runs.
        self._restorers = {name: Restorer(each, device=device, model=self.model) for name, each in self.schemes.items()}

    def measure(
        self, name: str, image: images.Image, clean: images.Image | None = None, watch: Watched | None = None
    ) -> Iterator[Measured]:
        """Restore the image untiled, then under every scheme, and yield the measurements of each scheme."""
        reference = self.run("off", image)
        # Schemes that share a grid share the moved image too.
        untiled = cache(lambda down, right: self.run("off", moved(image, down, right)).maps["result"])
        for scheme in self.compared:
            seen = self.run(scheme, image)
            borders = self.borders(scheme, image.height, image.width)
            if watch:
                watch(name, scheme, seen, reference, borders)
            changed_CHW = seen.maps["result"] - reference.maps["result"]
            shift_psnr = self._shift_psnr(scheme, image, changed_CHW, untiled)
            yield self._compared(name, scheme, image, clean, reference, seen, borders, shift_psnr)

    def run(self, scheme: str, image: images.Image) -> SchemeRun:
        """Restore an image once, and keep the results of all stages."""
        restorer = self._restorers[scheme]
        maps: dict[str, Map] = {}
        restorer.watch(lambda stage, found: maps.__setitem__(stage, found.float().cpu().numpy().copy()))
        watch, begun = PeakMemory(restorer.device), time.perf_counter()
        restored = restorer(image)
        seconds, peak = time.perf_counter() - begun, watch.taken()
        # Where tiles are restored independently, only the result covers the whole image.
        kept = maps if self.schemes[scheme].tiling != "independent" else {}
        result = np.moveaxis(restored.pixels_HWC, 2, 0)
        return SchemeRun(maps={**kept, "result": result}, seconds=seconds, peak_bytes=peak)

    def borders(self, scheme: str, height: int, width: int, stage: str = "result") -> Borders:
        """Return where tiles meet at a stage; the result has the borders of all earlier stages too."""
        strides = {self.stride}
        if scheme not in BLENDING and stage == "result" and not self._is_unrefined:
            # The latent path and the refiner are each cut at multiples of their own stride.
            strides.add(self.model.refiner.stride)
        grids = [self._grid(scheme, height, width, each) for each in strides]
        rows, columns = (
            tuple(sorted({edge for spans in grids for span in spans[axis] for edge in span if 0 < edge < side}))
            for axis, side in enumerate((height, width))
        )
        return rows, columns

    def shift(self, scheme: str, height: int, width: int) -> tuple[int, int]:
        """Return half a tile in rows and in columns, in pixels; 0 where one tile spans the image."""
        down, right = (half_a_tile(spans, self.stride) for spans in self._grid(scheme, height, width, self.stride))
        return down, right

    def _grid(self, scheme: str, height: int, width: int, stride: int) -> tuple[Spans, Spans]:
        options = self.schemes[scheme]
        if scheme not in BLENDING:
            assert options.tile is not None
            rows, columns = (
                list(pairwise(tiling.balanced_cuts(side, options.tile, stride))) for side in (height, width)
            )
            return rows, columns
        tile, overlap = tiling.whole_strides(*options.blended, stride)
        windows = tiling.overlapping(height, width, tile=tile, overlap=overlap, stride=stride)
        return sorted({window.box[:2] for window in windows}), sorted({window.box[2:] for window in windows})

    @property
    def stride(self) -> int:
        """Stride in pixels: tiles begin at its multiples."""
        latent = self._restorers["off"].latent
        return latent.autoencoder.stride if latent else self.model.refiner.stride

    @property
    def _is_unrefined(self) -> bool:
        return self._restorers["off"].latent is not None and self.schemes["off"].fidelity == 0

    def _shift_psnr(
        self, scheme: str, image: images.Image, changed_CHW: Map, untiled: Callable[[int, int], Map]
    ) -> float | None:
        """Return the shift consistency of a scheme that changes the untiled result by `changed_CHW`.

        `untiled` restores the image untiled, moved by a number of rows and columns.
        """
        shift = self.shift(scheme, image.height, image.width)
        if not any(shift):
            return None
        changed_moved_CHW = self.run(scheme, moved(image, *shift)).maps["result"] - untiled(*shift)
        return psnr(np.square(difference(changed_CHW, changed_moved_CHW, *shift)))

    def _compared(
        self, name: str, scheme: str, image: images.Image, clean: images.Image | None, reference: SchemeRun,
        seen: SchemeRun, borders: Borders, shift_psnr: float | None,
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
        return Measured(
            image=name, tiling=scheme, tile=tile, borders=sum(map(len, borders)),
            seam_psnr=stages["result"][0], off_seam_psnr=stages["result"][1], stages=stages,
            discontinuity=discontinuity(result, borders) if tiled else None,
            untiled_discontinuity=discontinuity(untiled, borders) if tiled else None,
            shift_psnr=shift_psnr,
            flat_step=self._step(scheme, "flat", image, borders) if tiled else None,
            gradient_step=self._step(scheme, "gradient", image, borders) if tiled else None,
            clean_psnr=psnr(np.square(result - clean.pixels_HWC)) if clean else None,
            untiled_clean_psnr=psnr(np.square(untiled - clean.pixels_HWC)) if clean else None,
            seconds=seen.seconds, peak_bytes=seen.peak_bytes,
        )  # fmt: skip

    def _step(self, scheme: str, kind: str, image: images.Image, borders: Borders) -> float:
        """Return the largest step that tiling adds across a border of a smooth field of the image's size, in codes.

        The field lies between 0.25 and 0.75. Its untiled result is subtracted first.
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


def _ramp(height: int, width: int) -> npt.NDArray[np.float64]:
    """A ramp from -1 to 1 along the diagonal, [H,W,3]."""
    rows, columns = (np.linspace(-0.5, 0.5, side) for side in (height, width))
    return np.repeat((rows[:, None] + columns[None])[..., None], 3, axis=2)
