"""A restoration model with a latent path, and tiles smaller than anybody would want."""

from dataclasses import replace

import pytest

from sanarestore import options
from sanarestore.model.loading import RestorationModel
from tests.published import latent_path


@pytest.fixture
def model(tiny_model: RestorationModel) -> RestorationModel:
    """Random in all its parts, and the refiner has the last word."""
    path = latent_path(prompt_width=8)
    return replace(tiny_model, load_latent=lambda: path, defaults={**tiny_model.defaults, "steps": 2})


@pytest.fixture
def tiny_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow tiles that nobody would want."""
    monkeypatch.setattr(options, "SMALLEST_TILE", 8)
