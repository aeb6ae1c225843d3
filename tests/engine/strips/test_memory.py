"""Tests that memory does not grow with the height of a photograph that is restored in strips."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sanarestore import images
from sanarestore.engine.file_restorer import FileRestorer
from sanarestore.engine.jobs import Job
from sanarestore.engine.refinement import Refinement
from sanarestore.engine.restorer import Restorer
from sanarestore.engine.strips import use
from sanarestore.model.loading import RestorationModel
from sanarestore.options import RestoreOptions
from tests.engine.test_file_restorer import finish

WIDTH, TILE = 400, 64


@pytest.fixture
def peak(
    tmp_path: Path, tiny_model: RestorationModel, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, images.Depth, int], float]:
    """Restore noise of a height, and return the peak of the memory of NumPy and Python in MB.

    Windows are not refined: what a refiner takes is bounded by the window, as other tests show.
    """
    monkeypatch.setattr(use, "LARGE", 1)
    monkeypatch.setattr("sanarestore.images.segments._BAND", 2**14)
    for name in ("_BAND", "_PIECE", "_CHUNK"):
        monkeypatch.setattr(f"sanarestore.images.strips.png.{name}", 2**14)
    monkeypatch.setattr("sanarestore.images.strips.tiff._PIECE", 2**14)
    monkeypatch.setattr("sanarestore.images.strips.tiff.STRIP", 2**14)
    monkeypatch.setattr("sanarestore.images.tiff.STRIP", 2**14)

    def unrefined(_self: Refinement, _refiners: Any, _whole: Any, window: torch.Tensor, core: Any) -> torch.Tensor:
        return window[:, core[0] : core[1], core[2] : core[3]].clone()

    monkeypatch.setattr(Refinement, "_refine_window", unrefined)
    task = FileRestorer(Restorer(RestoreOptions(tile=TILE), device="cpu", model=tiny_model))

    def restored(name: str, depth: images.Depth, height: int) -> float:
        source = tmp_path / name
        codes = np.random.default_rng(0).integers(0, 256, (height, WIDTH, 3)).astype(depth)
        image = images.Image(
            pixels_HWC=images.to_float(codes, depth), depth=depth, format=images.SUFFIXES[source.suffix]
        )
        images.write(image, source)
        del image, codes
        job = Job(
            source=source, target=tmp_path / "out" / name, temporary=tmp_path / "out" / f"{depth}-{height}-{name}"
        )
        tracemalloc.start()
        try:
            worked = finish(task.work(job, task.read(job)))
            found = tracemalloc.get_traced_memory()[1] / 1e6
        finally:
            tracemalloc.stop()
        assert worked.image is None
        assert task.write(replace(job), worked, 0.0).status == "done"
        return found

    return restored


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_four_times_the_height_takes_as_much_memory(
    name: str, depth: images.Depth, peak: Callable[[str, images.Depth, int], float]
) -> None:
    peak(name, depth, 600)  # imports
    small, large = (peak(name, depth, height) for height in (1000, 4000))
    added = 3000 * WIDTH * 3 * np.dtype(depth).itemsize / 1e6
    assert large - small < 0.1 * added, "the list of tiles grows, and nothing else"
    assert large < 4000 * WIDTH * 3 * np.dtype(depth).itemsize / 1e6, "less than the codes of the photograph"
