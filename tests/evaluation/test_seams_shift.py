"""Tests of shift consistency: differences that follow the content cancel, and those that stay on the grid do not."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanarestore import images
from sanarestore.evaluation.seams import SeamBench
from sanarestore.evaluation.seams_shift import difference, half_a_tile, moved
from sanarestore.options import RestoreOptions
from sanarestore.tiling import balanced_cuts
from tests.conftest import photo


def image_of(height: int, width: int, **fields: object) -> images.Image:
    return images.Image(pixels_HWC=photo(height, width), depth="float32", format="tiff", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(("down", "right"), [(16, 0), (0, 7), (20, 33)])
def test_moved_content_is_mirrored_at_the_uncovered_border(down: int, right: int) -> None:
    alpha_HW = np.arange(60 * 50, dtype=np.uint16).reshape(60, 50)
    image = image_of(60, 50, alpha_HW=alpha_HW)
    found = moved(image, down, right)
    assert found.pixels_HWC.shape == image.pixels_HWC.shape
    assert np.array_equal(found.pixels_HWC[down:, right:], image.pixels_HWC[: 60 - down, : 50 - right])
    assert np.array_equal(found.pixels_HWC[:down, right:], image.pixels_HWC[:down, : 50 - right][::-1])
    assert np.array_equal(found.pixels_HWC[down:, :right], image.pixels_HWC[: 60 - down, :right][:, ::-1])
    assert found.alpha_HW is not None
    assert np.array_equal(found.alpha_HW[down:, right:], alpha_HW[: 60 - down, : 50 - right])


@given(size=st.integers(1, 5000), tile=st.integers(128, 1500), stride=st.sampled_from([8, 16, 32]))
def test_a_shift_moves_borders_into_the_middle_of_tiles(size: int, tile: int, stride: int) -> None:
    cuts = balanced_cuts(size, tile, stride)
    half = half_a_tile(list(pairwise(cuts)), stride)
    assert half % stride == 0
    assert (half == 0) == (len(cuts) == 2)
    if half:
        borders = np.array(cuts[1:-1])
        apart = np.abs(borders[:, None] - (borders - half)[None])
        # Cuts and the shift itself are rounded to strides.
        assert apart.min() > cuts[-2] / (len(cuts) - 2) / 2 - 2 * stride


def test_half_a_tile_is_never_a_whole_step_between_windows() -> None:
    assert half_a_tile([(0, 96), (32, 128), (64, 160)], 32) == 0
    assert half_a_tile([(0, 96), (64, 160)], 32) == 32
    assert half_a_tile([(0, 160)], 32) == 0


def test_only_patterns_that_stay_on_the_grid_count_as_a_difference() -> None:
    pattern = np.zeros((3, 96, 128), np.float32)
    pattern[:, :, 64] = 0.5
    pattern[:, 48] = 0.25
    assert np.array_equal(np.unique(difference(pattern, pattern, 16, 32)), [-0.5, -0.25, 0, 0.25, 0.5])
    follows = np.roll(pattern, (16, 32), (1, 2))
    assert not difference(pattern, follows, 16, 32).any()
    assert difference(pattern, follows, 16, 32).shape == (3, 80, 96)


@pytest.mark.parametrize("seams", [0.0, 1e-3])
def test_a_scheme_that_leaves_seams_on_its_grid_is_detected(
    tiny_folder: object, monkeypatch: pytest.MonkeyPatch, seams: float
) -> None:
    """The untiled result of the stand-in depends on the position of the content, as noise and attention do."""
    bench = SeamBench(RestoreOptions(model=str(tiny_folder), tile=64), "cpu", ["exact"])
    place_HW1 = np.random.default_rng(0).normal(0, 0.1, (160, 224, 1)).astype(np.float32)
    rows, columns = bench.borders("exact", 160, 224)
    grid_HW1 = np.zeros_like(place_HW1)
    grid_HW1[list(rows)] = grid_HW1[:, list(columns)] = seams

    def restorer(added_HW1: np.ndarray) -> object:
        class Restorer:
            device = bench._restorers["off"].device
            latent = None

            def watch(self, callback: object) -> None: ...

            def __call__(self, image: images.Image) -> images.Image:
                changed = np.sqrt(np.abs(image.pixels_HWC)) + place_HW1 + added_HW1
                return images.Image(pixels_HWC=changed, depth="float32", format="tiff")

        return Restorer()

    monkeypatch.setattr(bench, "_restorers", {"off": restorer(0 * grid_HW1), "exact": restorer(grid_HW1)})
    (found,) = bench.measure("photo", image_of(160, 224))
    assert found.shift_psnr is not None
    # The borders of both grids count, each within the area that both results share.
    share = 1 - (1 - 2 * len(rows) / 160) * (1 - 2 * len(columns) / 224)
    if seams:
        assert found.shift_psnr == pytest.approx(-10 * np.log10(seams**2 * share), abs=1)
    else:
        assert found.shift_psnr > 130
