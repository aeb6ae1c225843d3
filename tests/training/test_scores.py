"""Validation scores: means, SSIM, and omissions."""

from dataclasses import replace

import pytest
import torch

from sanarestore.evaluation.metrics import psnr, ssim
from sanarestore.training.batching import Batch
from sanarestore.training.scores import LabelScore, Validation, measure, measure_each
from tests.training.labelled import labelled


def halfway(batch: Batch) -> torch.Tensor:
    return (batch.degraded_BCHW + batch.target_BCHW) / 2


def test_scores_are_means_of_the_metrics_of_each_image() -> None:
    given = labelled("noise:25", 2)
    found = measure(halfway, [given]).scores["noise:25"]
    for after, result in ((False, given.degraded_BCHW.clamp(0, 1)), (True, halfway(given).clamp(0, 1))):
        pairs = [
            [image.permute(1, 2, 0).numpy() for image in pair]
            for pair in zip(result, given.target_BCHW, strict=True)
        ]  # fmt: skip
        expected = sum(psnr(*pair) for pair in pairs) / 2, sum(ssim(*pair) for pair in pairs) / 2
        got = (found.psnr_after, found.ssim_after) if after else (found.psnr_before, found.ssim_before)
        assert got == pytest.approx(expected, abs=1e-4)
    assert found.images == 2
    assert found.gain == pytest.approx(6.02, abs=0.3)


def test_the_gain_weighs_every_image_equally() -> None:
    scores = {
        "a": LabelScore(images=3, psnr_before=20, psnr_after=24, ssim_before=0.5, ssim_after=0.6),
        "b": LabelScore(images=1, psnr_before=30, psnr_after=30, ssim_before=0.9, ssim_after=0.8),
    }
    found = Validation(scores)
    assert found.gain == 3
    assert found.gains == {"a": 4, "b": 0}
    assert (found.mean.images, found.mean.psnr_before, found.mean.ssim_after) == (4, 22.5, pytest.approx(0.65))
    assert Validation.from_dict(found.to_dict()) == found


def test_ssim_is_left_out_where_it_means_nothing() -> None:
    given = labelled("noise:25", 1)
    assert measure(halfway, [given], with_ssim=False).scores["noise:25"].ssim_after is None
    small = replace(given, degraded_BCHW=given.degraded_BCHW[..., :8, :8], target_BCHW=given.target_BCHW[..., :8, :8])
    found = measure(halfway, [small])
    assert found.scores["noise:25"].ssim_before is None
    assert found.mean.ssim_before is None


def test_several_results_of_a_batch_are_measured_apart() -> None:
    batches = [labelled("noise:25", 1), labelled("noise:50", 1)]
    found = measure_each(lambda batch: {"same": batch.degraded_BCHW, "clean": batch.target_BCHW}, batches)
    assert set(found) == {"same", "clean"}
    assert found["same"].gain == 0
    assert found["clean"].scores["noise:50"].psnr_after == pytest.approx(40)
