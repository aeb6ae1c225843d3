"""Fixtures for tests of measurements."""

from pathlib import Path

import pytest

from sanarestore.model.loading import save_model
from sanarestore.model.prompts import PromptEncoder
from tests.conftest import random_refiner, worded
from tests.published import latent_path


@pytest.fixture
def whole(tmp_path: Path, encoder: PromptEncoder) -> str:
    """A folder of a model with a latent path."""
    save_model(
        tmp_path / "whole", name="whole", refiner=random_refiner(), **worded(encoder),
        defaults={"prompt": "remove noise"}, training={}, latent=latent_path(prompt_width=8),
    )  # fmt: skip
    return str(tmp_path / "whole")
