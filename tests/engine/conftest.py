"""Fixtures of the engine: a random model with a latent path, and tiles below the permitted size."""

from dataclasses import replace

import pytest

from sanarestore import options
from sanarestore.model.loading import RestorationModel
from tests.published import latent_path


@pytest.fixture
def model(tiny_model: RestorationModel) -> RestorationModel:
    """A random model with a latent path whose output the refiner refines."""
    path = latent_path(prompt_width=8)
    return replace(tiny_model, load_latent=lambda: path, defaults={**tiny_model.defaults, "steps": 2})


@pytest.fixture
def tiny_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow tiles smaller than the permitted size, so that small images have many."""
    monkeypatch.setattr(options, "SMALLEST_TILE", 8)
