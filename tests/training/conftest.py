"""Photographs to learn from, on disk."""

from pathlib import Path

import pytest

from sanarestore import images
from tests.conftest import photo


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = []
    for index, size in enumerate([(90, 120), (40, 200), (150, 70)]):
        path = tmp_path / f"{index}.png"
        images.write(images.Image(pixels_HWC=photo(*size, seed=index), depth="uint8", format="png"), path)
        paths.append(path)
    return paths
