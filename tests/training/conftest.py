"""Fixtures for training: photographs on disk, and bases."""

from pathlib import Path

import pytest

from sanarestore import images
from tests.conftest import photo
from tests.published import write_narrow


@pytest.fixture(scope="module", autouse=True)
def _begun_quickly(quick_beginnings: None) -> None:
    """Begin every training of these tests quickly."""


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = []
    for index, size in enumerate([(90, 120), (40, 200), (150, 70)]):
        path = tmp_path / f"{index}.png"
        images.write(images.Image(pixels_HWC=photo(*size, seed=index), depth="uint8", format="png"), path)
        paths.append(path)
    return paths


@pytest.fixture(scope="session")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A base in the published layout that is wide enough to measure its memory."""
    return write_narrow(tmp_path_factory.mktemp("narrow"))
