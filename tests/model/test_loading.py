"""Model folders: saved and loaded unchanged, or refused with the reason."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sanarestore import images, weights
from sanarestore.degradations.requests import Request, every_request
from sanarestore.engine.restorer import Restorer
from sanarestore.errors import WeightsError
from sanarestore.files import hash_file
from sanarestore.model.base import Base, load_base
from sanarestore.model.condition import KINDS, ConditionKind
from sanarestore.model.loading import PROMPTS, REFINER, load_model, save_model
from sanarestore.model.prompts import PromptEncoder
from sanarestore.model.reading import Reader, load_reader
from sanarestore.options import RestoreOptions
from sanarestore.training.parts import plain_wordings
from sanarestore.weights import EMBEDDED, READER
from tests.conftest import photo, random_refiner, worded
from tests.published import latent_path


def rehash(folder: Path) -> None:
    """Update the manifest's hashes to match the files."""
    path = folder / weights.MANIFEST
    manifest = json.loads(path.read_text())
    manifest["sha256"] = {name: hash_file(folder / name) for name in manifest["sha256"]}
    path.write_text(json.dumps(manifest))


def test_a_saved_model_loads_unchanged(tiny_folder: Path) -> None:
    model = load_model(str(tiny_folder))
    expected = {name: tensor.half().float() for name, tensor in random_refiner().state_dict().items()}
    loaded = model.refiner.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32}
    assert model.name == "tiny"
    assert model.defaults["prompt"] == "Restore this image"
    assert not any(parameter.requires_grad for parameter in model.refiner.parameters())


def test_the_refiner_is_loaded_without_torchs_compiler(tiny_folder: Path) -> None:
    """Importing the compiler would take more than a second at every start."""
    script = (
        "import sys; from sanarestore.model.loading import load_model; load_model(sys.argv[1]); "
        "print('torch._dynamo' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(tiny_folder)], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_plain_wordings_need_neither_encoder_nor_reader(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("load_encoder", "load_reader"):
        monkeypatch.setattr(f"sanarestore.model.loading.{name}", lambda *_: pytest.fail("loaded"))
    prompts = load_model(str(tiny_folder)).prompts
    for request in every_request():
        assert prompts.request(request.plain) == request
        assert prompts.pooled(prompts.wording(request.plain, request)).shape == (8,)
    assert prompts.tokens("").shape[1] == 8, "guidance needs the empty prompt as its negative"


def saved_reader(folder: Path, encoder: PromptEncoder) -> Reader:
    """Save a model whose reader has random, nontrivial weights, and load that reader."""
    torch.manual_seed(7)
    reader = Reader().eval()
    with torch.no_grad():
        reader.groups.weight.mul_(20)
        reader.end.bias[-1] = 0.0
    save_model(
        folder, name="read", refiner=random_refiner(), encoder=encoder, reader=reader,
        prompts=encoder.table(plain_wordings()), defaults={"prompt": "Restore this image"}, training={},
    )  # fmt: skip
    return load_reader(folder)


USUAL = ["Remove noise", "remove  noise!", "Denoise", "sharper", "a cat", "brighten", "sharpen", "xyz", "upscale it"]


def test_a_model_with_a_reader_uses_it(tmp_path: Path, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = saved_reader(tmp_path, encoder)
    monkeypatch.setattr("sanarestore.weights.EMBEDDED", str(tmp_path / "none"))
    prompts = load_model(str(tmp_path)).prompts
    for text in (*USUAL, "something else", "noise, please"):
        assert prompts.request(text) == reader.read([text])[0], text


def test_a_model_without_a_reader_uses_the_embedded_one(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    class Yes:
        def read(self, prompts: list[str]) -> list[Request]:
            return [Request.of("blur")] * len(prompts)

    monkeypatch.setattr("sanarestore.model.reading.load_reader", lambda folder: asked.append(folder) or Yes())
    prompts = load_model(str(tiny_folder)).prompts
    assert prompts.request("whatever this may be") == Request.of("blur")
    assert asked == [weights.resolve(EMBEDDED)]


def test_the_fingerprint_depends_on_the_borrowed_reader(
    tmp_path: Path, tiny_folder: Path, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new reader may give a prompt another meaning, so files finished with the old one must not be skipped."""
    before = load_model(str(tiny_folder)).fingerprint
    saved_reader(tmp_path / "other", encoder)
    monkeypatch.setattr("sanarestore.weights.EMBEDDED", str(tmp_path / "other"))
    assert load_model(str(tiny_folder)).fingerprint != before


def test_a_damaged_reader_is_refused(tmp_path: Path, encoder: PromptEncoder) -> None:
    saved_reader(tmp_path, encoder)
    (tmp_path / READER).write_bytes((tmp_path / READER).read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match=r"sha256|damaged"):
        load_model(str(tmp_path))


def test_the_fingerprint_depends_on_the_weights(tiny_folder: Path) -> None:
    before = load_model(str(tiny_folder)).fingerprint
    state = load_file(tiny_folder / REFINER)
    state["head.bias"] += 1
    save_file(state, tiny_folder / REFINER)
    rehash(tiny_folder)
    assert load_model(str(tiny_folder)).fingerprint != before


@pytest.mark.parametrize("name", [REFINER, PROMPTS, "text_encoder/model.safetensors", "tokenizer/tokenizer.json"])
def test_a_missing_file_is_reported(tiny_folder: Path, name: str) -> None:
    (tiny_folder / name).unlink()
    with pytest.raises(WeightsError, match=f"{Path(name).name}: the file is missing"):
        load_model(str(tiny_folder))


@pytest.mark.parametrize("name", [REFINER, "text_encoder/model.safetensors", "tokenizer/tokenizer.json"])
def test_a_file_with_one_changed_byte_is_refused(tiny_folder: Path, name: str) -> None:
    path = tiny_folder / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(WeightsError, match=r"sha256.*Fetch the model again"):
        load_model(str(tiny_folder))


def test_a_truncated_file_with_a_matching_hash_is_refused(tiny_folder: Path) -> None:
    path = tiny_folder / REFINER
    path.write_bytes(path.read_bytes()[:-100])
    rehash(tiny_folder)
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        load_model(str(tiny_folder))


@pytest.mark.parametrize("change", ["missing", "surplus", "shape"])
def test_tensors_that_do_not_fit_the_configuration_are_refused(tiny_folder: Path, change: str) -> None:
    state = load_file(tiny_folder / REFINER)
    if change == "missing":
        del state["head.bias"]
    elif change == "surplus":
        state["extra"] = torch.zeros(1)
    else:
        state["head.bias"] = torch.zeros(5)
    save_file(state, tiny_folder / REFINER)
    rehash(tiny_folder)
    messages = {"missing": "missing: head.bias", "surplus": "not expected: extra", "shape": "another shape: head.bias"}
    with pytest.raises(WeightsError, match=messages[change]):
        load_model(str(tiny_folder))


def test_an_unknown_configuration_field_is_refused(tiny_folder: Path) -> None:
    path = tiny_folder / weights.MANIFEST
    manifest = json.loads(path.read_text())
    manifest["refiner"]["attention"] = True
    path.write_text(json.dumps(manifest))
    with pytest.raises(WeightsError, match="attention"):
        load_model(str(tiny_folder))


def test_a_folder_without_restoration_is_refused_with_a_remedy(tiny_folder: Path) -> None:
    shutil.rmtree(tiny_folder / "restoration")
    with pytest.raises(WeightsError, match=r"ignore the photograph.*sanarestore train"):
        load_model(str(tiny_folder))


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_latent_path_loads_unchanged(tmp_path: Path, encoder: PromptEncoder, kind: ConditionKind) -> None:
    path = latent_path(prompt_width=encoder.width, kind=kind)
    save_model(
        tmp_path / "whole", name="whole", refiner=random_refiner(), **worded(encoder),
        defaults={"prompt": "remove noise"}, training={}, latent=path,
    )  # fmt: skip
    loaded = load_model(str(tmp_path / "whole")).latent
    assert loaded is not None
    assert loaded.flow == path.flow
    assert loaded.transformer.condition.kind == kind
    for ours, theirs in ((loaded.transformer, path.transformer), (loaded.autoencoder, path.autoencoder)):
        expected = theirs.state_dict()
        assert ours.state_dict().keys() == expected.keys()
        for name, tensor in ours.state_dict().items():
            exact = name.startswith("condition.")
            assert torch.equal(tensor, expected[name] if exact else expected[name].half().float()), name
            assert not tensor.requires_grad


def test_a_latent_path_is_loaded_once_and_only_when_needed(
    tmp_path: Path, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(
        tmp_path / "whole", name="whole", refiner=random_refiner(), **worded(encoder),
        defaults={"prompt": "remove noise", "latent": False}, training={}, latent=latent_path(prompt_width=8),
    )  # fmt: skip
    loads: list[str] = []

    def recorded(name: str, **rest: Any) -> Base:
        loads.append(name)
        return load_base(name, **rest)

    monkeypatch.setattr("sanarestore.model.loading.load_base", recorded)
    model = load_model(str(tmp_path / "whole"))
    image = images.Image(pixels_HWC=photo(32, 32), depth="uint8", format="png")
    Restorer(RestoreOptions(), device="cpu", model=model)(image)
    assert loads == []
    Restorer(RestoreOptions(fidelity=0.5), device="cpu", model=model)(image)
    assert model.latent is model.latent
    assert len(loads) == 1


def test_diffusers_reads_the_parts_of_a_saved_latent_path(tmp_path: Path, encoder: PromptEncoder) -> None:
    from diffusers import AutoencoderDC, DPMSolverMultistepScheduler, SanaTransformer2DModel

    path = latent_path(prompt_width=encoder.width)
    save_model(
        tmp_path, name="whole", refiner=random_refiner(), **worded(encoder), defaults={}, training={},
        latent=path,
    )  # fmt: skip
    transformer = SanaTransformer2DModel.from_pretrained(tmp_path / "transformer")
    assert transformer.config.num_layers == 2
    assert AutoencoderDC.from_pretrained(tmp_path / "vae").config.latent_channels == path.autoencoder.latent_channels
    assert DPMSolverMultistepScheduler.from_pretrained(tmp_path / "scheduler").config.flow_shift == 3.0


@pytest.mark.parametrize("name", [REFINER, "transformer/config.json", "vae/diffusion_pytorch_model.safetensors"])
def test_a_file_without_a_hash_is_refused(tmp_path: Path, encoder: PromptEncoder, name: str) -> None:
    save_model(
        tmp_path, name="whole", refiner=random_refiner(), **worded(encoder), defaults={}, training={},
        latent=latent_path(prompt_width=encoder.width),
    )  # fmt: skip
    path = tmp_path / weights.MANIFEST
    manifest = json.loads(path.read_text())
    del manifest["sha256"][name]
    path.write_text(json.dumps(manifest))
    with pytest.raises(WeightsError, match=f"there is no hash for {name}"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_a_damaged_part_of_the_latent_path_is_refused(tmp_path: Path, encoder: PromptEncoder, part: str) -> None:
    save_model(
        tmp_path, name="whole", refiner=random_refiner(), **worded(encoder), defaults={}, training={},
        latent=latent_path(prompt_width=encoder.width),
    )  # fmt: skip
    weights_file = tmp_path / part / "diffusion_pytorch_model.safetensors"
    weights_file.write_bytes(weights_file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(WeightsError, match="damaged"):
        load_model(str(tmp_path))
