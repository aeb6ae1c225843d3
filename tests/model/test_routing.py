"""Routing features: they separate degradations, cover the whole photograph, and have a bounded cost."""

import numpy as np
import pytest
import torch

from sanarestore.degradations.recipes import Recipe, stream
from sanarestore.model.routing import ROUTING_FEATURES, SIDE, WINDOWS, routing_features
from sanarestore.model.statistics import Statistics
from tests.conftest import photo


def chw(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)


def degraded(line: str, clean: np.ndarray) -> torch.Tensor:
    return chw(Recipe.parse(line).draw(stream(line), 0).degraded(clean).astype(np.float32))


def quantiles(image: torch.Tensor) -> torch.Tensor:
    """Return routing features as [channels, quantiles]."""
    return routing_features(image).view(3, -1).T


def test_noise_and_jpeg_blocks_raise_their_own_features() -> None:
    clean = photo(256, 320)
    plain, noisy, blocky = (
        quantiles(image) for image in (chw(clean), *(degraded(line, clean) for line in ("noise:25", "jpeg:10")))
    )
    on_grid, on_any, noise = 0, 1, 2
    assert (noisy[noise] > plain[noise] + 0.5).all()
    assert blocky[on_grid, 1] > plain[on_grid, 1] + 0.5
    assert blocky[on_any, 1] > plain[on_any, 1] + 0.5
    # White noise has the same power in every band: log2(25^2) of codes in octaves over four.
    assert noisy[-8:, 1].std() < 0.1
    # The mean of three channels has a third of one channel's variance.
    assert noisy[-4, 1].item() == pytest.approx(np.log2(25**2 / 3) / 4 - 0.5, abs=0.1)


def test_features_of_one_window_are_quantiles_of_its_statistics() -> None:
    image = degraded("noise:25", photo(SIDE, SIDE))
    noise = Statistics.of(image[None]).wide[0, 2]
    levels = torch.tensor([0.1, 0.5, 0.9])
    torch.testing.assert_close(quantiles(image)[2], torch.quantile(noise.flatten(), levels))


@pytest.mark.parametrize("size", [(1, 1), (8, 500), (63, 65), (SIDE * WINDOWS * 3, 70), (130, 200)])
def test_every_image_size_gives_the_same_number_of_features(size: tuple[int, int]) -> None:
    found = routing_features(torch.rand(3, *size, generator=torch.Generator().manual_seed(0)))
    assert found.shape == (ROUTING_FEATURES,)
    assert found.isfinite().all()


def test_windows_align_with_the_jpeg_grid_and_cover_every_corner() -> None:
    """Noise in the last corner alone is detected, and so is the JPEG grid in windows that do not start at zero."""
    clean = photo(776, 904)
    corner = chw(clean.copy())
    corner[:, -SIDE:, -SIDE:] += 0.2 * torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(routing_features(corner), routing_features(chw(clean)))
    blocky = quantiles(degraded("jpeg:10", clean))
    assert blocky[0, 1].item() == pytest.approx(blocky[1, 1].item(), abs=0.05)  # steps are largest on the grid
