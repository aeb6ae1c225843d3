"""Names become folders, or a sentence that says what to do."""

import json
from pathlib import Path

import pytest

from sanarestore import weights
from sanarestore.errors import WeightsError


def test_the_embedded_model_is_found() -> None:
    folder = weights.resolve(weights.EMBEDDED)
    assert weights.read_manifest(folder)["name"] == weights.EMBEDDED


def test_a_folder_is_itself(tmp_path: Path) -> None:
    assert weights.resolve(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["no-such-model", "./no/such", "a/b/c", "~/nowhere-at-all"])
def test_what_is_nowhere_is_refused(name: str) -> None:
    with pytest.raises(WeightsError, match="no such model folder"):
        weights.resolve(name)


def test_a_hub_name_is_asked_for_with_its_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = {}

    def download(repository: str, revision: str | None = None) -> str:
        asked[repository] = revision
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert weights.resolve("owner/model@v2") == tmp_path
    assert weights.resolve("owner/other") == tmp_path
    assert asked == {"owner/model": "v2", "owner/other": None}


def test_a_hub_that_does_not_answer_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> str:
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(WeightsError, match=r"owner/model.*ConnectionError.*offline"):
        weights.resolve("owner/model")


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"format": 2}), json.dumps({})])
def test_a_manifest_that_is_not_ours_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "restoration").mkdir()
    (tmp_path / weights.MANIFEST).write_text(text)
    with pytest.raises(WeightsError):
        weights.read_manifest(tmp_path)


def test_verify_names_the_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"right")
    good = weights.hash_file(tmp_path / "a")
    weights.verify(tmp_path, {"a": good})
    (tmp_path / "a").write_bytes(b"wrong")
    with pytest.raises(WeightsError, match="damaged"):
        weights.verify(tmp_path, {"a": good})
    with pytest.raises(WeightsError, match="missing"):
        weights.verify(tmp_path, {"b": good})
