"""Tests of the diagnosis: what is right is said to be right, and each fault comes with what mends it."""

import importlib.metadata
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sanarestore import weights
from sanarestore.engine import device_trial, diagnosis
from sanarestore.errors import WeightsError

ROOT = Path(__file__).parents[2]

NEEDS = ["numpy>=1.26", "torch>=2.7", "rich>=1; platform_system == 'Nowhere'", "ray>=2.40; extra == 'ray'"]


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Versions of installed libraries, that tests change; the package needs `NEEDS`."""
    versions = {"numpy": "2.0", "torch": "2.8+cpu"}

    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr("importlib.metadata.requires", lambda _: NEEDS)
    monkeypatch.setattr("importlib.metadata.version", version)
    return versions


def statuses(findings: Any) -> dict[str, str]:
    return {each.name: each.status for each in findings}


def test_right_versions_are_shown(metadata: dict[str, str]) -> None:
    assert statuses(diagnosis.versions()) == {"sanarestore": "ok", "Python": "ok", "numpy": "ok", "torch": "ok"}


def test_old_and_absent_libraries_are_problems_with_a_command(metadata: dict[str, str]) -> None:
    metadata["numpy"] = "1.20"
    del metadata["torch"]
    problems = {each.name: each for each in diagnosis.versions() if each.status == "problem"}
    assert problems["numpy"].found == "1.20; >=1.26 is needed"
    assert problems["torch"].found == "not installed; >=2.7 is needed"
    assert problems["torch"].next_step.endswith("pip install 'torch>=2.7'")


def test_extras_are_missing_or_there(metadata: dict[str, str]) -> None:
    (found,) = diagnosis.optional()
    assert (found.name, found.status) == ("ray", "missing")
    assert found.next_step.endswith("pip install 'ray>=2.40'")
    metadata["ray"] = "2.50"
    (found,) = diagnosis.optional()
    assert (found.status, found.next_step) == ("ok", "")
    assert "ray 2.50" in found.found


def test_every_extra_for_users_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["optional-dependencies"]) - {"demo", "test"} <= diagnosis.GIVES.keys()


def test_too_little_memory_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert statuses(diagnosis.memory()) == {"RAM": "ok"}
    monkeypatch.setattr(diagnosis, "free_memory", lambda: 10**9)
    (found,) = diagnosis.memory()
    assert found.status == "problem"
    assert "1.0 GB can be used" in found.found


def test_folders_are_tried_and_not_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda _: tmp_path / "a" / "cache")
    found = {each.name: each for each in diagnosis.folders()}
    assert set(statuses(found.values()).values()) == {"ok"}
    assert str(tmp_path / "a" / "cache") in found["cache"].found
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "status"), [("temporary", "problem"), ("cache", "missing")])
def test_only_a_folder_for_temporary_files_is_needed(
    name: str, status: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    found = diagnosis._folder(name, tmp_path)
    assert found.status == status
    assert "Permission denied" in found.found
    assert found.next_step


def test_a_damaged_model_is_a_problem(monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> None:
    assert statuses(diagnosis.model()) == {weights.EMBEDDED: "ok"}
    monkeypatch.setattr(weights, "resolve", lambda _: tiny_folder)
    (tiny_folder / "restoration" / "refiner.safetensors").write_bytes(b"x")
    (found,) = diagnosis.model()
    assert found.status == "problem"
    assert "damaged" in found.found
    assert "--force-reinstall" in found.next_step


def test_a_device_that_computes_wrongly_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_trial, "_restored", lambda *_: (0.9, 1.0))
    (found,) = [each for each in diagnosis.devices() if each.name == "cpu"]
    assert found.status == "problem"
    assert "leaves 90% of the noise" in found.found
    monkeypatch.setattr(device_trial, "_restored", lambda *_: (0.2, 1.0))
    assert statuses(diagnosis.devices())["cpu"] == "ok"
    right = torch.nn.functional.conv2d
    off = SimpleNamespace(
        conv2d=lambda image, *rest, **more: right(image, *rest, **more) + (image.dtype == torch.float32)
    )
    monkeypatch.setattr(device_trial, "F", off)
    (found,) = [each for each in diagnosis.devices() if each.name == "cpu"]
    assert "a convolution in float32 has a wrong result" in found.found


def test_restoring_on_the_cpu_removes_the_noise() -> None:
    assert "computes rightly and restores" in device_trial.tried("cpu")


def test_a_model_that_cannot_be_loaded_is_one_problem_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise WeightsError("the file is missing", where="refiner", next_step="Fetch it.")

    monkeypatch.setattr(device_trial, "Restorer", fail)
    (found,) = [each for each in diagnosis.devices() if each.name == "cpu"]
    assert "it fails (refiner: the file is missing. Fetch it.)" in found.found


def test_a_driver_without_a_gpu_for_pytorch_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    (found,) = diagnosis._unused_gpu(["cpu"])
    assert "nvidia-smi" in found.next_step
    assert list(diagnosis._unused_gpu(["cuda:0", "cpu"])) == []
