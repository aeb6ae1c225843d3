"""Fixtures of the engine: a random model with a latent path, and tiles below the permitted size."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sanarestore.model.loading import RestorationModel
from sanarestore.model.refiner import Refiner
from sanarestore.model.refiner_config import RefinerConfig
from tests import fake_ray
from tests.published import latent_path


@pytest.fixture
def model(tiny_model: RestorationModel) -> RestorationModel:
    """A random model with a latent path whose output the refiner refines."""
    path = latent_path(prompt_width=8)
    return replace(tiny_model, load_latent=lambda: path, defaults={**tiny_model.defaults, "steps": 2})


@pytest.fixture
def tiny_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow tiles smaller than the permitted size, so that small images have many."""
    monkeypatch.setattr("sanarestore.options.restoring.SMALLEST_TILE", 8)


@pytest.fixture
def small_model(tiny_model: RestorationModel) -> RestorationModel:
    """A model with so small a halo that small images have many windows, none of which covers the image."""
    torch.manual_seed(1)
    refiner = Refiner(RefinerConfig(widths=(8, 8, 8), encoder_blocks=(1, 0), decoder_blocks=(0, 0), prompt_width=8))
    with torch.no_grad():
        for parameter in refiner.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    assert (refiner.halo, refiner.stride) == (32, 8)
    return replace(tiny_model, refiner=refiner.eval().requires_grad_(False))


@pytest.fixture
def marked_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Mark the workers that a test starts on a cluster by the name of a folder, which is theirs to leave marks in."""
    monkeypatch.setenv(fake_ray.MARK, str(tmp_path))
    return tmp_path
