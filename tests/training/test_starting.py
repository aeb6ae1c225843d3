"""What a training begins from: types of frozen weights, and adapters of every kind."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sanarestore.errors import UsageError, WeightsError
from sanarestore.model.prompts import PromptEncoder
from sanarestore.training.objectives import new_objective
from sanarestore.training.starting import Start
from tests.published import TINY_RECIPE, write_published

FLOW = replace(TINY_RECIPE, objective="flow")


@pytest.fixture
def base(tmp_path: Path, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "cache")
    return str(write_published(tmp_path / "base", encoder))


def test_frozen_weights_below_low_rank_ones_take_half_the_memory(base: str) -> None:
    parts = Start(base=base, rank=2, dtype=torch.bfloat16).parts(FLOW)
    latent = parts.path
    assert latent.transformer.dtype == latent.autoencoder.dtype == torch.bfloat16
    trained = {parameter.dtype for module in parts.flowing.values() for parameter in module.parameters()}
    assert trained == {torch.float32}


def test_a_transformer_that_is_trained_whole_is_float32(base: str) -> None:
    parts = Start(base=base, dtype=torch.bfloat16).parts(FLOW)
    assert parts.path.transformer.dtype == torch.float32
    assert parts.path.autoencoder.dtype == torch.bfloat16


@pytest.mark.parametrize("rank", [None, 2])
def test_an_adapter_goes_on_as_it_was_saved(base: str, rank: int | None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = new_objective(FLOW, Start(base=base, rank=rank))
    with torch.no_grad():
        for parameter in first.modules.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    first.save(tmp_path / "adapter", FLOW, {})
    second = new_objective(FLOW, Start(base=str(tmp_path / "adapter")))
    before, after = first.modules.state_dict(), second.modules.state_dict()
    # A whole transformer is stored in float16.
    limit = 0 if rank else 2e-3
    assert before.keys() == after.keys()
    assert all((before[name] - after[name]).abs().max() <= limit for name in before)


def test_an_adapter_of_all_weights_is_not_trained_further_by_low_rank_ones(base: str, tmp_path: Path) -> None:
    new_objective(FLOW, Start(base=base)).save(tmp_path / "adapter", FLOW, {})
    with pytest.raises(UsageError, match="this adapter changes all weights"):
        Start(base=str(tmp_path / "adapter"), rank=2).parts(FLOW)


def test_an_adapter_is_refused_if_its_base_has_changed(base: str, tmp_path: Path) -> None:
    new_objective(FLOW, Start(base=base)).save(tmp_path / "adapter", FLOW, {})
    weights = Path(base, "transformer/diffusion_pytorch_model.safetensors")
    changed = bytearray(weights.read_bytes())
    changed[-4:] = b"\0\0\0\1"
    weights.write_bytes(bytes(changed))
    with pytest.raises(WeightsError, match="it was trained on other weights"):
        Start(base=str(tmp_path / "adapter")).parts(FLOW)
