"""Tests of the timings of all parts, beside equivalent modules of diffusers."""

from pathlib import Path

import pytest
import torch

from sanarestore import tiling
from sanarestore.engine.tiles import DEFAULT_TILE
from sanarestore.errors import UsageError
from sanarestore.evaluation.speed.parts import TILED
from sanarestore.evaluation.speed.timings import Timing, growth, measure
from sanarestore.kernels import choice
from sanarestore.model.folded import FoldedRefiner
from sanarestore.options import RestoreOptions
from tests.conftest import random_refiner
from tests.counting import cost

THEIRS = ["diffusers", "diffusers tiled", "diffusers tiled 1024"]
PARTS = {"restore": [], "generate": THEIRS, "encode": THEIRS, "step": ["diffusers"], "decode": THEIRS}


def test_every_part_is_timed_at_every_size_for_every_implementation(whole: str) -> None:
    timings = list(measure(RestoreOptions(model=whole, threads=1), "cpu", (96, 64), 2))
    assert [(timing.size, timing.part, timing.by) for timing in timings] == [
        (size, part, by) for size in (64, 96) for part, others in PARTS.items() for by in ("sanarestore", *others)
    ]
    for timing in timings:
        assert timing.seconds
        assert timing.chance >= 1
        ours = timing.by == "sanarestore"
        assert (timing.ratio is None) == ours
        assert ours or timing.ratio_interval[0] <= timing.ratio <= timing.ratio_interval[1]  # type: ignore[index, operator]
        assert not ours or (timing.teraflop and timing.gigabytes and timing.of_compute)
        assert (timing.tile_area_factor is not None) == (timing.part == "restore")
    pixels = {timing.size: timing.teraflop for timing in timings if timing.part == "decode" and timing.teraflop}
    assert pixels[96] / pixels[64] == pytest.approx((96 / 64) ** 2, rel=0.05)
    assert growth(timings) == {}, "two sizes fit any exponent"


KERNELS = ["key sums", "attend", "depthwise GLU", "bias and SiLU", "norm and residual", "blend"]


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that this device runs kernels; reference functions stand in for kernels and compiled functions."""
    monkeypatch.setattr(choice, "available", lambda device: True)
    monkeypatch.setattr(choice, "fits", lambda *tensors: False)
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)


@pytest.mark.usefixtures("kernels")
def test_kernels_and_compiled_diffusers_are_timed_where_kernels_run(whole: str) -> None:
    timings = list(measure(RestoreOptions(model=whole, threads=1), "cpu", (64,), 2))
    compiled = [timing.part for timing in timings if timing.by == "diffusers compiled"]
    assert compiled == ["generate", "encode", "step", "decode"]
    mine = [timing for timing in timings if timing.part.startswith("kernel")]
    assert [(timing.part, timing.by) for timing in mine] == [
        (f"kernel: {name}", by) for name in KERNELS for by in ("sanarestore", "reference", "reference compiled")
    ]
    for timing in mine:
        assert timing.seconds is not None
        assert 0 < timing.seconds < 0.02, "the time is that of one run"
        assert (timing.ratio is None) == (timing.by == "sanarestore")


def test_an_implementation_that_runs_out_of_memory_does_not_stop_the_rest(
    whole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("diffusers.AutoencoderDC.tiled_decode", refuse)
    monkeypatch.setitem(TILED["diffusers tiled"], "tile_sample_min_height", 32)
    monkeypatch.setitem(TILED["diffusers tiled"], "tile_sample_stride_height", 32)
    timings = list(measure(RestoreOptions(model=whole, threads=1), "cpu", (96,), 1))
    lacking = [(timing.part, timing.by) for timing in timings if timing.seconds is None]
    assert lacking == [("generate", "diffusers tiled"), ("decode", "diffusers tiled")]
    assert all(timing.ratio is None and "seconds" not in timing.to_json() for timing in timings if not timing.seconds)
    assert [timing.by for timing in timings if timing.part == "decode"] == ["sanarestore", *THEIRS]


def test_a_model_with_only_a_refiner_has_one_part(tiny_folder: Path) -> None:
    (timing,) = measure(RestoreOptions(model=str(tiny_folder), threads=1), "cpu", (64,), 1)
    assert (timing.part, timing.by, timing.ratio, timing.steps) == ("restore", "sanarestore", None, 1)
    assert growth([timing]) == {}


def test_growth_is_the_exponent_of_the_pixel_count() -> None:
    def timing(
        part: str, size: int, seconds: float | None, factor: float | None = None, by: str = "sanarestore"
    ) -> Timing:
        return Timing(
            part=part, by=by, size=size, steps=1, dtype="float32", device="cpu", rounds=1, seconds=seconds,
            seconds_per_megapixel=0, chance=1, chance_interval=(1, 1), peak_memory=None, tile_area_factor=factor,
        )  # fmt: skip

    timings = [timing("linear", size, size**2) for size in (64, 128, 256)]
    timings += [timing("square", size, size**4) for size in (64, 128, 256)]
    timings += [timing("through two", size, size**3) for size in (64, 256)]
    timings += [timing("tiled", size, size**2 * factor, factor) for size, factor in ((64, 1.0), (128, 1.9), (256, 1.4))]
    timings += [timing("linear", size, None, by="diffusers") for size in (64, 128, 256)]
    assert growth([*timings, timing("once", 64, 1)]) == {
        "linear": pytest.approx(1), "square": pytest.approx(2), "tiled": pytest.approx(1),
    }  # fmt: skip


@pytest.mark.parametrize(("tile", "size"), [(64, 200), (96, 300), (None, 300)])
def test_the_tile_area_factor_is_the_work_on_all_windows(tiny_folder: Path, tile: int | None, size: int) -> None:
    (timing,) = measure(RestoreOptions(model=str(tiny_folder), threads=1, tile=tile), "cpu", (size,), 1)
    refiner = random_refiner()
    folded = FoldedRefiner(refiner, torch.zeros(1, 8))
    tiles = tiling.grid(
        size, size, tile=tile or DEFAULT_TILE["cpu"], halo=refiner.halo, stride=refiner.stride, margin=refiner.margin
    )
    sides = -(-size // refiner.stride) * refiner.stride + 2 * refiner.margin

    def work(height: int, width: int, core: tuple[int, int, int, int] | None) -> int:
        image = torch.zeros(1, 3, height, width).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            return cost(lambda: folded(image, image, None, core)).flop

    windows = [(each.window[1] - each.window[0], each.window[3] - each.window[2]) for each in tiles]
    found = sum(work(*window, each.core_in_window()) for window, each in zip(windows, tiles, strict=True))
    # Every tile computes its modulation from the prompt, which costs a little more.
    untiled = work(sides, sides, None) * ((size + 2 * refiner.margin) / sides) ** 2
    assert timing.tile_area_factor == pytest.approx(found / untiled, rel=2e-3)
    area = sum(height * width for height, width in windows) / (size + 2 * refiner.margin) ** 2
    assert len(tiles) == 1 or 0.5 * area < timing.tile_area_factor < 0.9 * area, "the decoder leaves out the halo"
    if timing.peak_memory is not None:
        assert timing.beyond_buffers == timing.peak_memory - 12 * size**2


@pytest.mark.parametrize(("sizes", "rounds"), [((), 1), ((16,), 1), ((64,), 0)])
def test_invalid_sizes_and_rounds_are_refused(tiny_folder: Path, sizes: tuple[int, ...], rounds: int) -> None:
    with pytest.raises(UsageError, match="a size is below 32 px, or there is no round"):
        list(measure(RestoreOptions(model=str(tiny_folder)), "cpu", sizes, rounds))
