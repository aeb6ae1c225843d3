"""Tests of NIQE: its fits against known distributions, and its ranking of degraded images."""

import json
from pathlib import Path

import numpy as np
import pytest

from sanarestore import images
from sanarestore.degradations.operations import Blur, GaussianNoise, Jpeg
from sanarestore.engine import niqe as module
from sanarestore.engine.niqe import FEATURES, PATCH, STATISTICS, UNMEASURED, features, niqe, statistics
from sanarestore.errors import NoImagesError
from sanarestore.images import Pixels, resize
from sanarestore.training.dead_leaves import dead_leaves
from tests.conftest import photo


def natural(height: int, width: int, seed: int = 0) -> Pixels:
    """Make a scene with the edges and the spectrum of photographs, [H,W,3]."""
    scene = dead_leaves(2 * max(height, width), np.random.default_rng(seed))
    return resize(scene, max(height, width), max(height, width))[:height, :width]


@pytest.mark.parametrize(("shape", "left", "right"), [(2.0, 1.0, 1.0), (1.0, 0.5, 2.0), (0.6, 1.0, 3.0)])
def test_the_fit_finds_the_distribution_that_values_were_drawn_from(shape: float, left: float, right: float) -> None:
    rng = np.random.default_rng(0)
    size = 200_000
    sizes = rng.gamma(1 / shape, size=size) ** (1 / shape)
    is_left = rng.random(size) < left / (left + right)
    values = np.where(is_left, -left * sizes, right * sizes)
    assert module._asymmetric_fit(values) == pytest.approx((shape, left, right), rel=0.03)


def test_normalised_coefficients_of_white_noise_are_normal() -> None:
    white = np.random.default_rng(1).normal(128, 20, (400, 400))
    normal, spread = module._normalised(white)
    shape, left, right = module._asymmetric_fit(normal)
    assert shape > 2, "no heavy tails"
    assert left == pytest.approx(right, rel=0.02)
    assert spread.mean() == pytest.approx(20, rel=0.1)


@pytest.mark.parametrize("degrade", [GaussianNoise(sigma=25, seed=0), Blur(sigma=3), Jpeg(quality=5)])
def test_degraded_images_are_further_from_photographs(degrade: object) -> None:
    clean = natural(288, 384)
    assert niqe(degrade(clean)) > niqe(clean) + 0.5  # type: ignore[operator]


def test_patches_are_those_of_the_whole_image() -> None:
    """Rows of patches are processed one after the other, without any effect of their borders."""
    image = natural(3 * PATCH + 5, 2 * PATCH + 9)
    found, sharpness = features(image)
    assert found.shape == (6, FEATURES)
    assert sharpness.shape == (6,)
    gray = image[: 3 * PATCH, : 2 * PATCH].astype(np.float64) @ module._LUMA * 255
    whole, _ = module._normalised(gray)
    assert found[3, :18] == pytest.approx(module._of_patch(whole[PATCH : 2 * PATCH, PATCH:]))


def test_small_and_flat_images_have_a_distance() -> None:
    for size in ((1, 1), (7, 200), (95, 95)):
        assert np.isfinite(niqe(photo(*size)))
    assert niqe(np.full((100, 120, 3), 0.5, np.float32)) == UNMEASURED
    partly = natural(3 * PATCH, PATCH)
    partly[: 2 * PATCH] = 0.25
    assert len(features(partly)[0]) == 2, "a patch is left out if nothing in it, or at its border, varies"


def test_the_statistics_that_are_shipped_are_of_one_distribution() -> None:
    content = json.loads(STATISTICS.read_text())
    covariance = np.array(content["covariance"])
    assert covariance.shape == (FEATURES, FEATURES)
    assert len(content["mean"]) == FEATURES
    assert np.allclose(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > -1e-9
    assert content["patches"] > 1000


def test_the_statistics_are_made_again_by_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    scenes = [natural(2 * PATCH, 3 * PATCH, seed) for seed in range(8)]
    for number, scene in enumerate(scenes):
        images.write(images.Image(pixels_HWC=scene, depth="float32", format="tiff"), folder / f"{number}.tif")
    monkeypatch.setattr(module, "STATISTICS", tmp_path / "niqe.json")
    module.main(str(folder))
    content = json.loads((tmp_path / "niqe.json").read_text())
    mean, covariance, patches = statistics(scenes)
    assert (content["photographs"], content["patches"]) == (8, patches)
    assert content["mean"] == pytest.approx(mean)
    assert np.array(content["covariance"]) == pytest.approx(covariance)
    with pytest.raises(NoImagesError):
        module.main(str(tmp_path / "nowhere"))
