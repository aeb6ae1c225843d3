"""Tests of models and adapters that are stored with a quantized transformer."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sanarestore import weights
from sanarestore.engine.restorer import Restorer
from sanarestore.errors import UsageError, WeightsError
from sanarestore.model.loading import load_model
from sanarestore.model.prompts import PromptEncoder
from sanarestore.model.quantized_copy import write_quantized
from sanarestore.options import RestoreOptions
from sanarestore.training.starting import Start
from tests.conftest import photo
from tests.published import TINY_RECIPE, write_adapted, write_published


def restored(**chosen: object) -> np.ndarray:  # type: ignore[type-arg]
    options = RestoreOptions(fidelity=0, **chosen)  # type: ignore[arg-type]
    return Restorer(options, device="cpu")(photo(64, 96, 0))  # type: ignore[arg-type, return-value]


def test_a_stored_model_restores_as_one_that_is_quantized_on_the_way(tmp_path: Path) -> None:
    folder = tmp_path / "int8"
    share = write_quantized("sanarestore-mini", folder, "int8")
    assert 0.5 < share < 0.65, "embeddings stay in 16 bits"
    stored = restored(model=str(folder))
    assert np.array_equal(stored, restored(quantize="int8"))
    assert np.array_equal(stored, restored(model=str(folder), quantize="int8"))
    assert not np.array_equal(stored, restored())
    assert load_model(str(folder)).fingerprint != load_model().fingerprint
    with pytest.raises(UsageError, match="weights are stored in int8"):
        restored(model=str(folder), quantize="int4")
    with pytest.raises(UsageError, match="it is in int8 already"):
        write_quantized(str(folder), tmp_path / "again", "int4")
    with pytest.raises(UsageError, match="it exists already"):
        write_quantized("sanarestore-mini", folder, "int4")
    with pytest.raises(UsageError, match="in int8, which cannot be trained"):
        Start(base=str(folder), rank=2).parts(TINY_RECIPE)


def test_a_stored_adapter_needs_no_transformer_of_its_base(tmp_path: Path, encoder: PromptEncoder) -> None:
    write_adapted(tmp_path, encoder)
    folder = tmp_path / "int8"
    write_quantized(str(tmp_path / "adapter"), folder, "int8")
    wanted = restored(adapter=str(tmp_path / "adapter"), quantize="int8", prompt="remove noise")
    # What is not quantized is stored in float16, and this base is float32.
    assert np.allclose(restored(adapter=str(folder), prompt="remove noise"), wanted, atol=2e-3, rtol=0)
    index = json.loads((folder / "adapter.json").read_text())
    assert index["change"] == "full"
    assert weights.is_adapter(folder)


def test_a_damaged_copy_is_refused(tmp_path: Path, encoder: PromptEncoder) -> None:
    write_adapted(tmp_path, encoder)
    folder = tmp_path / "int4"
    write_quantized(str(tmp_path / "adapter"), folder, "int4")
    path = folder / "transformer/diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(WeightsError):
        load_model(None, str(folder))


def test_what_has_no_transformer_is_refused(tmp_path: Path, encoder: PromptEncoder) -> None:
    base = write_published(tmp_path / "base", encoder)
    with pytest.raises(UsageError, match="a base restores only with an adapter"):
        write_quantized(str(base), tmp_path / "int8", "int8")
    assert not (tmp_path / "int8").exists()
    source = weights.resolve("sanarestore-mini")
    only = tmp_path / "refiner"
    shutil.copytree(source, only, ignore=shutil.ignore_patterns("transformer"))
    with pytest.raises(UsageError, match="it has no transformer"):
        write_quantized(str(only), tmp_path / "int8", "int8")
