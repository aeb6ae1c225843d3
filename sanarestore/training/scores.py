"""Validation scores: PSNR and SSIM of held-back images before and after restoration, for each degradation.

Shape suffixes: B batch, C channels, H W pixels.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from sanarestore.evaluation.metrics import WINDOW, ssim
from sanarestore.training.batching import Batch

UNSEEN = 1e-4
"""Floor of squared errors in validation, 40 dB: without it, a photo out of focus would outweigh all others."""

Restore = Callable[[Batch], Tensor]
"""A batch -> its restored images [B,3,H,W]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelScore:
    """Means over the validation images of one degradation."""

    images: int
    psnr_before: float
    """PSNR of the degraded images in dB, each at most 40."""
    psnr_after: float
    """PSNR of the restored images in dB, each at most 40."""
    ssim_before: float | None = None
    """None where SSIM is meaningless: on random pixels, and on images that are too small."""
    ssim_after: float | None = None

    @property
    def gain(self) -> float:
        """Gain in PSNR in dB."""
        return self.psnr_after - self.psnr_before


@dataclass(frozen=True, slots=True)
class Validation:
    """The result of one validation."""

    scores: Mapping[str, LabelScore]
    """Label of the degradation, or caption of the pairs -> score."""

    @property
    def gain(self) -> float:
        """Mean gain in PSNR over all images, in dB."""
        return self._mean(lambda score: score.gain)

    @property
    def gains(self) -> dict[str, float]:
        """Label -> mean gain in PSNR, in dB."""
        return {label: score.gain for label, score in self.scores.items()}

    @property
    def mean(self) -> LabelScore:
        """Means over all images."""
        whole = all(score.ssim_after is not None for score in self.scores.values())
        return LabelScore(
            images=sum(score.images for score in self.scores.values()),
            psnr_before=self._mean(lambda score: score.psnr_before),
            psnr_after=self._mean(lambda score: score.psnr_after),
            ssim_before=self._mean(lambda score: score.ssim_before or 0.0) if whole else None,
            ssim_after=self._mean(lambda score: score.ssim_after or 0.0) if whole else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {label: asdict(score) for label, score in self.scores.items()}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "Validation":
        """Read what `to_dict` returned."""
        return cls({label: LabelScore(**score) for label, score in table.items()})

    def _mean(self, value: Callable[[LabelScore], float]) -> float:
        count = sum(score.images for score in self.scores.values())
        return sum(score.images * value(score) for score in self.scores.values()) / count


def measure(restore: Restore, batches: Iterable[Batch], *, with_ssim: bool = True) -> Validation:
    """Restore labelled batches and compare them with their targets."""
    (found,) = measure_each(lambda batch: {"": restore(batch)}, batches, with_ssim=with_ssim).values()
    return found


@torch.no_grad()
def measure_each(
    restore: Callable[[Batch], Mapping[str, Tensor]], batches: Iterable[Batch], *, with_ssim: bool = True
) -> dict[str, Validation]:
    """Measure several results of every batch, by their names: settings that share most of the work."""
    found: dict[str, dict[str, LabelScore]] = {}
    for batch in batches:
        for name, restored_BCHW in restore(batch).items():
            found.setdefault(name, {})[batch.label] = _score(batch, restored_BCHW.float().clamp(0, 1), with_ssim)
    return {name: Validation(scores) for name, scores in found.items()}


def decibels_of(image_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    """PSNR of each image, [B] in dB, at most 40."""
    return -10 * torch.log10((image_BCHW - target_BCHW).square().mean(dim=(1, 2, 3)).clamp(min=UNSEEN))


def _score(batch: Batch, restored_BCHW: Tensor, with_ssim: bool) -> LabelScore:
    degraded_BCHW = batch.degraded_BCHW.clamp(0, 1)
    both = (degraded_BCHW, restored_BCHW)
    before, after = (float(decibels_of(image_BCHW, batch.target_BCHW).mean()) for image_BCHW in both)
    score = LabelScore(images=len(restored_BCHW), psnr_before=before, psnr_after=after)
    if not with_ssim or min(restored_BCHW.shape[2:]) < WINDOW:
        return score
    ssim_before, ssim_after = (_ssim(image_BCHW, batch.target_BCHW) for image_BCHW in both)
    return LabelScore(**{**asdict(score), "ssim_before": ssim_before, "ssim_after": ssim_after})


def _ssim(image_BCHW: Tensor, target_BCHW: Tensor) -> float:
    images, targets = (each.permute(0, 2, 3, 1).cpu().numpy() for each in (image_BCHW, target_BCHW))
    return float(sum(map(ssim, images, targets)) / len(images))
