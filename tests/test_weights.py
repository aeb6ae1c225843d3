"""Tests of resolving model names to folders, of licences, and of damaged or missing weights."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from sanarestore import weights
from sanarestore.errors import WeightsError
from sanarestore.files import hash_file


@pytest.fixture(autouse=True)
def _clear_hub_cache() -> None:
    weights._from_hub.cache_clear()


def test_the_embedded_model_is_found() -> None:
    folder = weights.resolve(weights.EMBEDDED)
    assert weights.read_manifest(folder)["name"] == weights.EMBEDDED


def test_the_path_of_a_folder_is_kept(tmp_path: Path) -> None:
    assert weights.resolve(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["no-such-model", "./no/such", "a/b/c", "~/nowhere-at-all"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(WeightsError, match="no such model folder"):
        weights.resolve(name)


def test_a_hub_name_is_downloaded_at_its_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = {}

    def download(repository: str, revision: str | None = None, allow_patterns: Sequence[str] = ()) -> str:
        asked[repository] = revision
        assert "LICENSE*" in allow_patterns, "the licence is downloaded with the weights"
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert weights.resolve("owner/model@v2") == tmp_path
    assert weights.resolve("owner/other") == tmp_path
    assert asked == {"owner/model": "v2", "owner/other": None}


def test_a_licence_is_shown_once_and_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fetched = tmp_path / "3f2a"
    fetched.mkdir()
    (fetched / "README.md").write_text("---\nlicense: other\nlicense_name: strict\n---\n")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(fetched))
    records = tmp_path / "data" / "licences.json"
    assert weights.licence_notice("someone/base@main", records) == (
        f"someone/base@main: its weights come under the licence 'strict'; its text is in {fetched}"
    )
    assert weights.licence_notice("someone/base@main", records) is None
    assert json.loads(records.read_text()) == {"someone/base@3f2a": "strict"}
    (fetched / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    assert "apache-2.0" in str(weights.licence_notice("someone/base@main", records))


def test_a_pinned_name_does_not_depend_on_the_current_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fetched = tmp_path / "hub" / "3f2a"
    fetched.mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(fetched))
    monkeypatch.chdir(tmp_path)
    assert weights.pinned("hub/3f2a") == str(fetched), "an existing folder takes precedence over a hub id"
    assert weights.pinned("someone/base") == "someone/base@3f2a"
    assert weights.pinned("someone/base@main") == "someone/base@3f2a"
    assert weights.pinned(weights.EMBEDDED) == weights.EMBEDDED


def test_the_name_of_a_folder_is_anchored_and_other_names_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "sanarestore-mini"):
        Path(name).mkdir()
    assert weights.anchored("mine") == str(tmp_path / "mine")
    for name in ("sanarestore-mini", "owner/model@abc", "missing"):
        assert weights.anchored(name) == name


def test_local_weights_have_no_licence_notice(tmp_path: Path) -> None:
    assert weights.licence_notice(weights.EMBEDDED, tmp_path / "records") is None
    assert weights.licence_notice(str(tmp_path), tmp_path / "records") is None
    assert not (tmp_path / "records").exists()


def test_an_unreachable_hub_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> str:
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(WeightsError, match=r"owner/model.*ConnectionError.*offline"):
        weights.resolve("owner/model")


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"format": 2}), json.dumps({})])
def test_a_foreign_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "restoration").mkdir()
    (tmp_path / weights.MANIFEST).write_text(text)
    with pytest.raises(WeightsError):
        weights.read_manifest(tmp_path)


def test_verify_reports_damaged_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"right")
    good = hash_file(tmp_path / "a")
    weights.verify(tmp_path, {"a": good})
    (tmp_path / "a").write_bytes(b"wrong")
    with pytest.raises(WeightsError, match="damaged"):
        weights.verify(tmp_path, {"a": good})
    with pytest.raises(WeightsError, match="missing"):
        weights.verify(tmp_path, {"b": good})


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\n---\nLicense: other", "mit"),
        ("---\nlicense: other\nlicense_name: own\n---\n", "own"),
        ("---\ntags: [a]\n---\n# Sana\n- **License:** [NSCL v2-custom](./LICENSE.txt). Terms: X", "NSCL v2-custom"),
        ("# Sana\n\nLicence: Apache 2.0.", "Apache 2.0"),
        ("## License\n\nSee below: it is long.", "not stated"),
        ("", "not stated"),
    ],
)
def test_a_licence_is_read_from_the_fields_or_else_from_the_text_of_a_card(
    card: str, licence: str, tmp_path: Path
) -> None:
    assert weights.licence(tmp_path) == "not stated"
    (tmp_path / "README.md").write_text(card)
    assert weights.licence(tmp_path) == licence


def test_the_name_of_a_hub_base_holds_its_revision(tmp_path: Path) -> None:
    assert weights.revision_of("owner/sana@0123") == "0123"
    assert weights.revision_of("owner/sana") is None
    assert weights.revision_of(f"{tmp_path}@x") is None
    assert weights.revision_of(weights.EMBEDDED) is None
