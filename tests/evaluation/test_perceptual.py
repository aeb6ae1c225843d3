"""Tests of perceptual metrics: the inputs that torchmetrics gets, and errors for missing packages or weights.

The weights need a download, so small stand-ins replace the networks here.
"""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sanarestore.errors import UsageError, WeightsError
from sanarestore.evaluation import perceptual
from sanarestore.evaluation.perceptual import METRICS, Perceptual
from sanarestore.evaluation.rows import _unpacked
from tests.conftest import photo


class Distance(nn.Module):
    """A metric of half the mean absolute difference, which must be reset after every pair."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options
        self.held = 0

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        assert image.shape == reference.shape == (1, 3, *image.shape[2:])
        assert min(image.min(), reference.min()) >= 0
        assert max(image.max(), reference.max()) <= 1
        assert self.held == 0, "the previous pair was not reset"
        self.held += 1
        return (image - reference).abs().mean() / 2

    def reset(self) -> None:
        self.held = 0


class Means(nn.Module):
    """A network of three features: the channel means of 8-bit codes."""

    def forward(self, image: Tensor) -> Tensor:
        assert image.dtype == torch.uint8
        return image.float().mean(dim=(2, 3))


class Frechet:
    def __init__(self, *, feature: int) -> None:
        assert feature == 2048
        self.inception = Means()


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Distance]]:
    """Replace the networks of torchmetrics by small ones; return the list of pairwise metrics that are made."""
    made: list[Distance] = []

    def distance(**options: Any) -> Distance:
        made.append(Distance(**options))
        return made[-1]

    for name, entry, value in (
        ("lpip", "LearnedPerceptualImagePatchSimilarity", distance),
        ("dists", "DeepImageStructureAndTextureSimilarity", distance),
        ("fid", "FrechetInceptionDistance", Frechet),
    ):
        module = ModuleType(f"torchmetrics.image.{name}")
        setattr(module, entry, value)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    perceptual.judge.cache_clear()
    yield made
    perceptual.judge.cache_clear()


@pytest.mark.parametrize("channels", [1, 3])
def test_every_metric_gets_values_in_the_range_that_it_needs(stand_ins: list[Distance], channels: int) -> None:
    image, reference = (photo(64, 80, seed)[..., :channels].astype(np.float64) for seed in (0, 1))
    judged = Perceptual(METRICS, "cpu")
    for _ in range(2):
        found = judged(image, reference)
    assert judged.names == "lpips,dists,fid"
    assert found["lpips"] == found["dists"] == pytest.approx(np.abs(image - reference).mean() / 2, abs=1e-6)
    features = _unpacked([found["inception"], found["inception_of_target"]])
    expected = [np.broadcast_to(each.mean(axis=(0, 1)) * 255, 3) for each in (image, reference)]
    assert np.allclose(features, expected, rtol=1e-3), "features are of whole codes and stored in half precision"
    assert stand_ins[0].options == {"net_type": "alex", "normalize": True}, "LPIPS uses AlexNet on images in [0, 1]"
    assert len(stand_ins) == 2, "every metric is loaded once"


@pytest.mark.usefixtures("stand_ins")
def test_small_images_have_no_perceptual_scores() -> None:
    small = photo(63, 80).astype(np.float64)
    assert Perceptual(METRICS, "cpu")(small, small) == {}


def test_an_empty_list_of_metrics_gives_no_scores() -> None:
    image = photo(64, 64).astype(np.float64)
    assert Perceptual((), "cpu")(image, image) == {}


def test_missing_metrics_weights_and_packages_are_reported(
    stand_ins: list[Distance], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"'niqe' is not a known metric. Known: lpips, dists, fid"):
        Perceptual(["niqe"], "cpu")

    def offline(**_: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(sys.modules["torchmetrics.image.lpip"], "LearnedPerceptualImagePatchSimilarity", offline)
    with pytest.raises(WeightsError, match=r"weights of 'lpips' cannot be fetched \(no route to host\)"):
        Perceptual(["lpips"], "cpu")
    monkeypatch.setitem(sys.modules, "torchmetrics.image.dists", None)
    with pytest.raises(UsageError, match=r"'dists' needs torchmetrics.*pip install 'sanarestore\[perceptual\]'"):
        Perceptual(["dists"], "cpu")
