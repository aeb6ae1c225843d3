"""Fixtures for training: photographs on disk, and bases."""

from pathlib import Path

import pytest

from sanarestore import images
from sanarestore.training.run import Run
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


@pytest.fixture
def data(photos: list[Path], tmp_path: Path) -> Path:
    """A folder of these photographs alone."""
    (tmp_path / "photos").mkdir()
    for path in photos:
        path.rename(tmp_path / "photos" / path.name)
    return tmp_path / "photos"


@pytest.fixture(scope="session")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A base in the published layout that is wide enough to measure its memory."""
    return write_narrow(tmp_path_factory.mktemp("narrow"))


def finished(run: Run, *, stop_at: int | None = None) -> Path:
    """Train to the end, or stop early; return the folder of the model."""
    with run.begun():
        for progress in run.steps():
            if progress.step == stop_at:
                break
        return run.folder if stop_at else run.finish()
