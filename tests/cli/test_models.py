"""Tests of `sanarestore models`."""

import json
from pathlib import Path
from typing import Any

import pytest

from sanarestore import weights
from sanarestore.cli.app import run
from tests.test_catalogue import cached, sana


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no records of licences."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("platformdirs.user_data_path", lambda _: tmp_path / "data")
    weights._from_hub.cache_clear()
    return folder


def printed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_list_fits_80_columns_and_says_what_needs_an_adapter(hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cached(hub, "someone/sana", sana)
    assert run(["models", "list"]) == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert lines[:2] == [weights.EMBEDDED, lines[1]]
    assert "restoration model" in lines[1]
    assert lines[lines.index("someone/sana") + 1].startswith("  base, needs an adapter, 48 parameters; ")
    assert "cached, licence strict" in shown
    assert "SANA1.5_4.8B_1024px_diffusers\n  base, needs an adapter, 4.72 B parameters; published" in shown
    assert max(map(len, lines)) <= 84
    assert run(["models", "list", "--json"]) == 0
    assert [each["name"] for each in printed(capsys)][:2] == [weights.EMBEDDED, "someone/sana"]


def test_a_model_is_described(tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "info", str(tiny_folder)]) == 0
    shown = capsys.readouterr().out
    assert "restoration/refiner" in shown
    assert f"folder    {tiny_folder}" in shown
    assert "licence   not stated" in shown
    assert run(["models", "info", str(tiny_folder), "--json"]) == 0
    (found,) = printed(capsys)
    assert found["sha256"]["restoration/refiner.safetensors"]


def test_verify_ends_with_4_if_a_hash_differs(tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "verify", str(tiny_folder)]) == 0
    assert "5 of 5 files have the right hash" in capsys.readouterr().out
    refiner = tiny_folder / "restoration" / "refiner.safetensors"
    refiner.write_bytes(refiner.read_bytes()[:-1] + b"x")
    assert run(["models", "verify", weights.EMBEDDED, str(tiny_folder)]) == 4
    shown = capsys.readouterr()
    assert "refiner.safetensors: the file is damaged" in " ".join(shown.err.split())
    assert f"{weights.EMBEDDED}: 14 of 14" in shown.out
    assert run(["models", "verify", str(tiny_folder), "--json"]) == 4
    assert len(printed(capsys)[0]["wrong"]) == 1


def test_verify_without_names_looks_at_everything_here(hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cached(hub, "someone/sana", sana)
    assert run(["models", "verify", "--json"]) == 0
    assert [each["name"] for each in printed(capsys)] == [weights.EMBEDDED, "someone/sana"]


def test_pull_fetches_and_shows_the_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched = tmp_path / "3f2a"
    sana(fetched)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(fetched))
    assert run(["models", "pull", "someone/sana@main"]) == 0
    shown = capsys.readouterr()
    assert "licence 'strict'" in " ".join(shown.err.split())
    assert shown.out.startswith("someone/sana@main: ")
    assert run(["models", "pull", "someone/sana", "--json"]) == 0
    (found,) = printed(capsys)
    assert (found["pinned"], found["licence"], found["folder"]) == ("someone/sana@3f2a", "strict", str(fetched))


def test_pull_without_a_network_ends_with_4(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def download(*_: object, **__: object) -> str:
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert run(["models", "pull", "owner/model"]) == 4
    assert "offline, give the folder of a downloaded copy" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("name", [weights.EMBEDDED, "./folder", "a/b/c"])
def test_only_hub_ids_are_fetched(name: str) -> None:
    assert run(["models", "pull", name]) == 2


def test_the_ids_of_published_models_can_be_described_once_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "info", "Efficient-Large-Model/SANA1.5_4.8B_1024px_diffusers"]) == 4
    assert "sanarestore models pull Efficient-Large-Model/SANA1.5_4.8B_1024px_diffusers" in " ".join(
        capsys.readouterr().err.split()
    )


def test_quantize_writes_a_model_that_restores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "small"
    command = ["models", "quantize", "sanarestore-mini", "--precision", "int4", "-o", str(folder), "--json"]
    assert run(command) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["name"] == "sanarestore-mini"
    assert made["precision"] == "int4"
    assert 0.25 < made["share"] < 0.45
    assert run(["models", "verify", str(folder)]) == 0
    assert run(command) == 2, "the folder exists"
    assert run([*command[:3], "--precision", "int3", "-o", str(tmp_path / "other")]) == 2
    assert "'int3' is not int8, int4 or fp8" in " ".join(capsys.readouterr().err.split())


def test_export_names_what_is_wrong(tmp_path: Path) -> None:
    assert run(["models", "export", "--onnx", str(tmp_path / "a.onnx"), "--expert", "rain"]) == 2
    assert list(tmp_path.glob("*.onnx")) == []
