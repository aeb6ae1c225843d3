"""Learned perceptual metrics: LPIPS, DISTS, and the Inception features that FID compares.

They come from torchmetrics, with its `image` extra, and download their weights on first use.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sanarestore.engine.devices import pick_device
from sanarestore.errors import UsageError, WeightsError
from sanarestore.evaluation.rows import packed

METRICS = ("lpips", "dists", "fid")

SMALLEST_SIDE = 64
"""Side in pixels below which these networks cannot compare images."""

Judgement = dict[str, Any]
"""Name of a field of `Score` -> its value."""


class Perceptual:
    """Some of `METRICS` on a device."""

    def __init__(self, names: Sequence[str], device: str) -> None:
        """Load metrics; UsageError for one unknown or not installed, WeightsError if weights cannot be fetched."""
        self.names = ",".join(names)
        self._device = pick_device(device)
        self._judges = [judge(name, str(self._device)) for name in names]

    def __call__(self, image_HWC: npt.NDArray[np.float64], reference_HWC: npt.NDArray[np.float64]) -> Judgement:
        """Compare two images on 8-bit codes in [0,1], with one or three channels; small ones give no values."""
        if min(image_HWC.shape[:2]) < SMALLEST_SIDE:
            return {}
        image, reference = (self._tensor(each) for each in (image_HWC, reference_HWC))
        found: Judgement = {}
        with torch.inference_mode():
            for each in self._judges:
                found |= each(image, reference)
        return found

    def _tensor(self, image_HWC: npt.NDArray[np.float64]) -> Tensor:
        image_1CHW = torch.from_numpy(image_HWC).float().permute(2, 0, 1)[None]
        return image_1CHW.expand(-1, 3, -1, -1).to(self._device)


@lru_cache
def judge(name: str, device: str) -> Callable[[Tensor, Tensor], Judgement]:
    """Load one metric, to be called with two images [1,3,H,W] in [0,1]; errors as for `Perceptual`."""
    makers = {"lpips": _lpips, "dists": _dists, "fid": _inception}
    if name not in makers:
        raise UsageError(f"'{name}' is not a known metric", where="--metric", next_step=f"Known: {', '.join(METRICS)}.")
    try:
        return makers[name](device)
    except ImportError as error:
        raise UsageError(
            f"'{name}' needs torchmetrics, torchvision and torch-fidelity", where="--metric",
            next_step="pip install 'sanarestore[perceptual]'",
        ) from error  # fmt: skip
    except OSError as error:
        raise WeightsError(
            f"the weights of '{name}' cannot be fetched ({error})", where="--metric",
            next_step="Once with a connection, and they are kept; or leave it out.",
        ) from error  # fmt: skip


def _lpips(device: str) -> Callable[[Tensor, Tensor], Judgement]:
    """LPIPS (Zhang et al. 2018) on AlexNet, as papers report it."""
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    return _pairwise("lpips", LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True).to(device))


def _dists(device: str) -> Callable[[Tensor, Tensor], Judgement]:
    """DISTS (Ding et al. 2020)."""
    from torchmetrics.image.dists import DeepImageStructureAndTextureSimilarity

    return _pairwise("dists", DeepImageStructureAndTextureSimilarity().to(device))


def _pairwise(name: str, metric: Any) -> Callable[[Tensor, Tensor], Judgement]:
    def measure(image: Tensor, reference: Tensor) -> Judgement:
        value = float(metric(image, reference))
        metric.reset()  # otherwise it keeps every value
        return {name: value}

    return measure


def _inception(device: str) -> Callable[[Tensor, Tensor], Judgement]:
    """Inception features of each whole image, which FID compares over a set (Heusel et al. 2017)."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    network = FrechetInceptionDistance(feature=2048).inception.to(device)

    def describe(image: Tensor) -> str:
        features = network((image * 255).round().to(torch.uint8))[0].cpu().numpy()
        return packed(features)

    return lambda image, reference: {"inception": describe(image), "inception_of_target": describe(reference)}
