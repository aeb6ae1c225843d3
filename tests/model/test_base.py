"""Published checkpoints: tiny random models in the published layout are loaded, or refused with the reason."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sanarestore.degradations.requests import DEFAULT_PROMPT, Request
from sanarestore.errors import WeightsError
from sanarestore.flow import Flow
from sanarestore.model.base import load_base, read_flow
from sanarestore.model.prompts import PromptCache, PromptEncoder, Prompts
from tests.published import CHANNELS, tiny_autoencoder, tiny_transformer, write_published


@pytest.fixture
def published(tmp_path: Path, encoder: PromptEncoder) -> Path:
    return write_published(tmp_path / "base", encoder)


SHARDS = {"max_shard_size": "5KB"}
VARIANT = {"variant": "bf16"}


@pytest.mark.parametrize("saving", [{}, SHARDS, VARIANT, {**VARIANT, **SHARDS}])
def test_a_checkpoint_saved_by_diffusers_loads_unchanged(
    tmp_path: Path, encoder: PromptEncoder, saving: dict[str, Any]
) -> None:
    folder = write_published(tmp_path / "base", encoder, **saving)
    base = load_base(str(folder), cache=tmp_path / "cache")
    expected = tiny_transformer(caption_channels=encoder.width).state_dict()
    loaded = base.transformer.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)
    latent = torch.randn(1, CHANNELS, 2, 2, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        decoded = tiny_autoencoder().decode(latent / 0.41407).sample / 2 + 0.5
        # Not bit for bit: the order of a library's sums may depend on the alignment of weights in memory.
        assert torch.allclose(base.autoencoder.decode(latent), decoded, atol=1e-5, rtol=0)
    assert base.flow == Flow(shift=3.0, solver="dpm")
    assert not any(parameter.requires_grad for parameter in base.transformer.parameters())


def test_dtype_applies_to_the_transformer_only(published: Path) -> None:
    base = load_base(str(published), dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in base.transformer.parameters()} == {torch.bfloat16}
    assert base.autoencoder.dtype == torch.float32


def test_a_missing_tensor_is_reported(published: Path) -> None:
    path = published / "transformer/diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    del tensors["proj_out.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"proj_out\.weight"):
        load_base(str(published))


def test_a_surplus_tensor_is_reported(published: Path) -> None:
    path = published / "vae/diffusion_pytorch_model.safetensors"
    save_file({**load_file(path), "spare": torch.zeros(1)}, path, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="spare"):
        load_base(str(published))


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_a_truncated_file_is_refused(published: Path, part: str) -> None:
    path = published / part / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=part):
        load_base(str(published))


@pytest.mark.parametrize(
    "missing", ["model_index.json", "scheduler/scheduler_config.json", "transformer/config.json",
                "vae/diffusion_pytorch_model.safetensors"],
)  # fmt: skip
def test_a_missing_file_is_reported(published: Path, missing: str) -> None:
    (published / missing).unlink()
    with pytest.raises(WeightsError, match=missing.split("/")[0]):
        load_base(str(published))


def test_another_kind_of_model_is_refused(published: Path) -> None:
    path = published / "model_index.json"
    index = json.loads(path.read_text())
    index["transformer"] = ["diffusers", "FluxTransformer2DModel"]
    path.write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="FluxTransformer2DModel, not a SanaTransformer2DModel"):
        load_base(str(published))


@pytest.mark.parametrize(
    ("config", "flow"),
    [
        ({"_class_name": "DPMSolverMultistepScheduler", "flow_shift": 6.0}, Flow(shift=6.0, solver="dpm")),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}, Flow(shift=3.0, solver="euler")),
        ({"_class_name": "SCMScheduler"}, Flow(shift=1.0, solver="consistency")),
    ],
)
def test_the_scheduler_decides_flow_shift_and_solver(tmp_path: Path, config: dict[str, Any], flow: Flow) -> None:
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler/scheduler_config.json").write_text(json.dumps(config))
    assert read_flow(tmp_path) == flow


def test_an_unknown_scheduler_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler/scheduler_config.json").write_text('{"_class_name": "DDIMScheduler"}')
    with pytest.raises(WeightsError, match="DDIMScheduler"):
        read_flow(tmp_path)


def test_an_embedding_is_cached_on_disk_for_the_same_encoder(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_base(str(published), cache=tmp_path / "cache").prompts.tokens("sharpen the eyes")
    monkeypatch.setattr("sanarestore.model.base.load_encoder", lambda folder: pytest.fail("the encoder was read"))
    cached = load_base(str(published), cache=tmp_path / "cache").prompts
    assert torch.equal(cached.tokens(" sharpen the eyes "), first)
    weights = published / "text_encoder/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(pytest.fail.Exception, match="the encoder was read"):
        load_base(str(published), cache=tmp_path / "cache").prompts.tokens("sharpen the eyes")


def test_a_published_encoder_receives_prompts_as_typed(published: Path, tmp_path: Path) -> None:
    prompts = load_base(str(published), cache=tmp_path / "cache").prompts
    assert prompts.wording(" Sharpen the eyes ", Request.of("blur")) == "Sharpen the eyes"
    assert prompts.wording("restore my photo", Request()) == DEFAULT_PROMPT


def test_a_damaged_cached_embedding_is_computed_again(tmp_path: Path, encoder: PromptEncoder) -> None:
    cache = PromptCache("a" * 64, tmp_path)
    prompts = Prompts({}, lambda: encoder, lambda: pytest.fail("read"), cache=cache)
    tokens = prompts.tokens("remove noise")
    assert torch.equal(cache.get("remove noise"), tokens)  # type: ignore[arg-type]
    (kept,) = tmp_path.rglob("*.safetensors")
    kept.write_bytes(b"torn")
    assert cache.get("remove noise") is None
    assert torch.equal(
        Prompts({}, lambda: encoder, lambda: pytest.fail("read"), cache=cache).tokens("remove noise"), tokens
    )
