"""Tests of the ONNX file: it equals PyTorch at any size and in tiles, and says how to run it."""

import copy
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sanarestore.engine.onnx_file import export_onnx
from sanarestore.engine.restorer import Restorer
from sanarestore.errors import UnwritableImage, UsageError
from sanarestore.model.exporting import AGREEMENT, PortableRefiner, export_refiner
from sanarestore.model.loading import RestorationModel
from sanarestore.options import RestoreOptions
from tests.conftest import photo, random_refiner

PROMPT_1D = torch.linspace(-1, 1, 8)[None]


def test_the_spectrum_by_convolution_equals_the_one_by_transforms() -> None:
    refiner = random_refiner(spectrum=14)
    image = torch.from_numpy(photo(64, 96)).permute(2, 0, 1)[None]
    portable = PortableRefiner.of(refiner)
    assert torch.allclose(portable.spectrum(image), refiner.spectrum(image), atol=1e-4, rtol=0)
    noisy = image + 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(portable(noisy, noisy, PROMPT_1D), refiner(noisy, noisy, PROMPT_1D), atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A refiner, its file, and a session of onnxruntime."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    path = tmp_path_factory.mktemp("onnx") / "refiner.onnx"
    refiner = random_refiner(spectrum=14)
    difference = export_refiner(refiner, PROMPT_1D, path, {"model": "tiny"})
    assert difference <= AGREEMENT
    return refiner, path, runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 160), (176, 48)])
def test_the_file_equals_pytorch_at_any_size(height: int, width: int, exported: Any) -> None:
    refiner, _, session = exported
    image = torch.from_numpy(photo(height, width)).permute(2, 0, 1)[None].contiguous()
    (found,) = session.run(None, {"photograph": image.numpy()})
    expected = refiner(image, image, PROMPT_1D).numpy()
    assert np.abs(found - expected).max() <= AGREEMENT
    assert np.abs(found - image.numpy()).max() > 0.01


def test_a_prompt_may_be_given_instead_of_the_default(exported: Any) -> None:
    refiner, _, session = exported
    image, other_1D = torch.from_numpy(photo(64, 96)).permute(2, 0, 1)[None].contiguous(), -PROMPT_1D
    (found,) = session.run(None, {"photograph": image.numpy(), "prompt": other_1D.numpy()})
    assert np.abs(found - refiner(image, image, other_1D).numpy()).max() <= AGREEMENT
    assert np.abs(found - refiner(image, image, PROMPT_1D).numpy()).max() > AGREEMENT


def test_metadata_says_how_to_cut_tiles_that_change_nothing(exported: Any) -> None:
    """Two tiles with the halo that the file states equal the whole image."""
    refiner, _, session = exported
    about = session.get_modelmeta().custom_metadata_map
    assert about == {
        "model": "tiny", "stride": str(refiner.stride), "halo": str(refiner.halo), "margin": str(refiner.margin),
    }  # fmt: skip
    halo, cut = int(about["halo"]), 64
    image = photo(64, cut + halo + 64).transpose(2, 0, 1)[None]
    (whole,) = session.run(None, {"photograph": image})
    (left,) = session.run(None, {"photograph": np.ascontiguousarray(image[..., : cut + halo])})
    assert np.abs(left[..., :cut] - whole[..., :cut]).max() < 1e-5


def test_the_loop_of_the_page_equals_the_restorer(exported: Any, tiny_model: RestorationModel) -> None:
    """Sizes that are no multiples of the stride, in several tiles."""
    refiner, _, session = exported
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    (loop,) = re.findall(r"```python\n(def refined.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {"np": np}
    exec(loop.replace("512", "64"), names)
    restorer = Restorer(RestoreOptions(tile=64), device="cpu", model=replace(tiny_model, refiner=refiner))
    restorer._refinement._prompt_1D = PROMPT_1D
    image = photo(75, 203)
    assert np.abs(names["refined"](session, image) - restorer(image)).max() <= AGREEMENT
    assert np.abs(restorer(image) - image).max() > 0.01


def test_an_expert_and_what_it_is_for(
    tiny_model: RestorationModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: dict[str, Any] = {}

    def write(refiner: Any, prompt_1D: Any, path: Path, about: dict[str, str]) -> float:
        path.write_bytes(b"graph")
        seen.update(about, refiner=copy.deepcopy(refiner))
        return 1e-6

    monkeypatch.setattr("sanarestore.engine.onnx_file.export_refiner", write)
    monkeypatch.setattr("sanarestore.engine.onnx_file.load_model", lambda _: tiny_model)
    made = export_onnx("tiny", tmp_path / "a.onnx", prompt="remove noise")
    assert (made.size, made.stride, made.halo) == (5, tiny_model.refiner.stride, tiny_model.refiner.halo)
    assert (seen["model"], seen["expert"], seen["prompt"]) == ("tiny", "", made.prompt)
    with pytest.raises(UsageError, match=r"--expert: 'noise' is not an expert of tiny"):
        export_onnx("tiny", tmp_path / "b.onnx", expert="noise")
    with pytest.raises(UsageError, match=r"--prompt: light and colour"):
        export_onnx("tiny", tmp_path / "b.onnx", prompt="brighten this photo")
    with pytest.raises(UnwritableImage, match="exists already"):
        export_onnx("tiny", tmp_path / "a.onnx")
