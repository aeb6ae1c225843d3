"""Tests of the catalogue: what is here is listed, described and verified, and nothing needs torch or a network."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from sanarestore import weights
from sanarestore.catalogue import PUBLISHED, ListedModel, describe, listed, verified
from sanarestore.errors import WeightsError
from sanarestore.evaluation.speed.random_models import CHECKPOINTS

SANA = "someone/sana"


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture
def cached_sana(hub: Path) -> Path:
    """A SANA checkpoint in the cache, laid out as the hub's library does, in two variants."""
    return cached(hub, SANA, sana)


def sana(folder: Path) -> None:
    """Write a checkpoint of two parts; the transformer is there twice, in two types."""
    tensors = {"a.weight": np.zeros((4, 5), np.float32), "a.bias": np.zeros(4, np.float32)}
    for part in ("transformer", "vae"):
        (folder / part).mkdir(parents=True)
        save_file(tensors, folder / part / "diffusion_pytorch_model.safetensors")
    half = {name: values.astype(np.float16) for name, values in tensors.items()}
    save_file(half, folder / "transformer" / "diffusion_pytorch_model.fp16.safetensors")
    index = {"_class_name": "SanaPipeline", "transformer": ["diffusers", "SanaTransformer2DModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: strict\n---\n")


def cached(hub: Path, name: str, write: Callable[[Path], None]) -> Path:
    """Put files into the cache, whose blobs are named after their hashes."""
    made = hub.parent / "made"
    write(made)
    repository = hub / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("c" * 40)
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c" * 40)
    (repository / "blobs").mkdir()
    for path in sorted(each for each in made.rglob("*") if each.is_file()):
        data = path.read_bytes()
        is_large = path.suffix == ".safetensors"
        digest = hashlib.sha256(data).hexdigest() if is_large else hashlib.sha1(data).hexdigest()
        (repository / "blobs" / digest).write_bytes(data)
        link = snapshot / path.relative_to(made)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(repository / "blobs" / digest)
    shutil.rmtree(made)
    return snapshot


def test_published_models_need_an_adapter_and_the_embedded_one_does_not() -> None:
    found = list(listed())
    assert [each.name for each in found] == [weights.EMBEDDED, *PUBLISHED]
    assert [each.to_json()["needs_adapter"] for each in found] == [False] + [True] * len(PUBLISHED)
    assert found[0].licence == "apache-2.0"
    assert found[0].parameters is not None
    assert found[0].parameters > 20_000_000
    assert all(each.parameters and each.parameters > 500_000_000 and each.folder is None for each in found[1:])


def test_cached_models_are_listed_with_their_files(cached_sana: Path) -> None:
    (found,) = [each for each in listed() if each.place == "cached"]
    size = sum(path.stat().st_size for path in cached_sana.rglob("*") if path.is_file())
    assert found == ListedModel(
        name=SANA, kind="base", place="cached", parameters=48, size=size, licence="strict", folder=cached_sana
    )


def test_other_repositories_in_the_cache_are_not_listed(hub: Path) -> None:
    def bert(folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    cached(hub, "someone/bert", bert)
    assert [each for each in listed() if each.place == "cached"] == []


def test_a_published_model_that_is_cached_is_listed_once(hub: Path) -> None:
    name = next(iter(PUBLISHED))
    cached(hub, name, sana)
    assert [each.place for each in listed() if each.name == name] == ["cached"]


def test_a_model_is_described_with_parts_stages_and_hashes() -> None:
    found = describe(weights.EMBEDDED)
    manifest = weights.read_manifest(found.folder)
    assert found.kind == "model"
    assert found.experts == tuple(manifest["experts"])
    assert list(found.stages) == manifest["training"]["stages"]
    assert found.sha256 == manifest["sha256"]
    assert {"restoration/refiner", "transformer", "vae"} <= {part.name for part in found.parts}


def test_variants_of_a_part_are_not_counted_twice(cached_sana: Path) -> None:
    parts = {part.name: part for part in describe(SANA).parts}
    assert {name: part.parameters for name, part in parts.items()} == {"transformer": 24, "vae": 24}
    assert parts["transformer"].size > parts["vae"].size
    assert describe(str(cached_sana)).parts == describe(SANA).parts


def test_every_file_is_compared_with_its_hash(tiny_folder: Path) -> None:
    right = verified(str(tiny_folder))
    assert right.wrong == ()
    assert right.files == len(describe(str(tiny_folder)).sha256)
    assert right.unknown == 0
    refiner = tiny_folder / "restoration" / "refiner.safetensors"
    refiner.write_bytes(refiner.read_bytes()[:-1] + b"x")
    (tiny_folder / "restoration" / "prompts.safetensors").unlink()
    wrong = verified(str(tiny_folder)).wrong
    assert len(wrong) == 2
    assert "prompts.safetensors: the file is missing" in wrong[0]
    assert "refiner.safetensors: the file is damaged" in wrong[1]


def test_files_of_the_cache_are_compared_with_the_names_of_their_blobs(cached_sana: Path) -> None:
    assert (verified(SANA).files, verified(SANA).wrong) == (3, ())
    blob = (cached_sana / "vae" / "diffusion_pytorch_model.safetensors").resolve()
    blob.write_bytes(blob.read_bytes() + b"x")
    # Both parts have the same bytes, and therefore one blob.
    assert [name.split(": ")[0].split("/")[-2] for name in verified(SANA).wrong] == ["transformer", "vae"]


def test_a_folder_without_hashes_says_so(tmp_path: Path) -> None:
    sana(tmp_path / "plain")
    found = verified(str(tmp_path / "plain"))
    assert (found.files, found.unknown, found.wrong) == (0, 3, ())


def test_what_is_not_here_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("the hub was asked"))
    for look in (describe, verified):
        with pytest.raises(WeightsError, match=r"someone/other: it is not on this machine.*models pull someone/other"):
            look("someone/other")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="neither a restoration model nor an adapter nor a SANA checkpoint"):
        describe(str(tmp_path / "empty"))


def test_looking_imports_no_torch() -> None:
    code = (
        "import sys; from sanarestore import catalogue; list(catalogue.listed()); "
        "catalogue.describe('sanarestore-mini'); print('torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "False"


def test_published_parameters_are_those_that_are_built_in_tests() -> None:
    names = {name: name.split("/")[1].removesuffix("_diffusers").replace("_BF16", "") for name in PUBLISHED}
    assert {name: CHECKPOINTS[short].parameters for name, short in names.items()} == PUBLISHED
