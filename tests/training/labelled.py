"""Validation batches for tests."""

import torch

from sanarestore.degradations.requests import DEFAULT_PROMPT, Request
from sanarestore.model.colour_correction import colour_statistics, overview
from sanarestore.training.batching import Batch
from tests.conftest import photo


def labelled(label: str, count: int, side: int = 64, *, prompt: str = DEFAULT_PROMPT, seed: int = 0) -> Batch:
    """Make a batch of small noisy photographs."""
    clean = torch.stack(
        [torch.from_numpy(photo(side, side, seed + index)).permute(2, 0, 1) for index in range(count)]
    )  # fmt: skip
    degraded = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    request = Request() if prompt == DEFAULT_PROMPT else Request.of("noise")
    return Batch(
        degraded_BCHW=degraded, target_BCHW=clean, prompts=[prompt] * count, requests=(request,) * count, label=label,
        statistics_BK=torch.stack([colour_statistics(overview(image)) for image in degraded]),
    )  # fmt: skip
