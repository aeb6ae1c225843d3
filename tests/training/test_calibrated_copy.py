"""A calibrated copy of a model restores as the model does, and in 8 bits nearly so."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sanarestore import weights
from sanarestore.engine.restorer import Restorer
from sanarestore.errors import UsageError, WeightsError
from sanarestore.kernels import int8_convolution
from sanarestore.model.loading import CALIBRATION, load_model
from sanarestore.training.calibrated_copy import write_calibrated
from tests.conftest import photo


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(2):
        Image.fromarray(np.uint8(photo(224, 240, seed) * 255)).save(folder / f"{seed}.png")
    return folder


def test_a_calibrated_copy_restores_as_the_model_does(tiny_folder: Path, photos: Path, tmp_path: Path) -> None:
    folder, seen = tmp_path / "calibrated", list[str]()
    write_calibrated(str(tiny_folder), photos, folder, seen.append, count=6)
    assert seen == ["general"]
    model, own = load_model(str(folder)), load_model(str(tiny_folder))
    assert model.calibrations.keys() == {None}
    assert not own.calibrations
    assert model.fingerprint != own.fingerprint, "a batch does not go on with other arithmetic"
    image = photo(96, 80, seed=5)
    expected = Restorer(model=str(tiny_folder))(image)
    assert np.abs(expected - image).max() > 0.003
    assert np.abs(Restorer(model=str(folder))(image) - expected).max() < 1e-5
    if int8_convolution.available():
        difference = Restorer(model=str(folder), dtype="int8")(image) - expected
        assert 0 < np.square(difference).mean() < np.square(expected - image).mean() / 300


def test_a_damaged_calibration_is_refused(tiny_folder: Path, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "calibrated"
    write_calibrated(str(tiny_folder), photos, folder, str, count=1)
    path = folder / CALIBRATION
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(WeightsError):
        load_model(str(folder))


def test_only_whole_models_are_calibrated_into_new_folders(tiny_folder: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exists already"):
        write_calibrated(str(tiny_folder), photos, photos, str)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / weights.ADAPTER).write_text("{}")
    with pytest.raises(UsageError, match="only whole models"):
        write_calibrated(str(tmp_path / "adapter"), photos, tmp_path / "new", str)


def test_8_bits_need_a_calibration_and_a_cpu(tiny_folder: Path) -> None:
    with pytest.raises(UsageError, match=r"not calibrated|no 8-bit convolutions"):
        Restorer(model=str(tiny_folder), dtype="int8")
