"""Weights that a training begins with: types of frozen weights, and adapters of every kind."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sanarestore.errors import UsageError, WeightsError
from sanarestore.model.adapter import read_adapter
from sanarestore.model.prompts import PromptEncoder
from sanarestore.training.objectives import new_objective
from sanarestore.training.order import Order, origin_of
from sanarestore.training.shapes import Shapes
from sanarestore.training.starting import Start
from tests.published import TINY_RECIPE, tiny_autoencoder, write_published

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


@pytest.fixture
def other(tmp_path: Path) -> str:
    """Another autoencoder, with a lighter decoder."""
    changed = tiny_autoencoder(seed=5, decoder_block_out_channels=[4, 4, 8, 8, 8, 8])
    changed.save_pretrained(tmp_path / "other")
    return str(tmp_path / "other")


@pytest.mark.parametrize("rank", [None, 2])
def test_an_adapter_records_the_autoencoder_that_it_is_trained_with(
    base: str, other: str, rank: int | None, tmp_path: Path
) -> None:
    objective = new_objective(FLOW, Start(base=base, rank=rank, autoencoder=other))
    wanted = tiny_autoencoder(seed=5, decoder_block_out_channels=[4, 4, 8, 8, 8, 8]).state_dict()
    objective.save(tmp_path / "adapter", FLOW, {})
    assert read_adapter(str(tmp_path / "adapter")).autoencoder == other
    for name in (other, None):  # trained further, it keeps it
        start = Start(base=str(tmp_path / "adapter"), autoencoder=name)
        again = start.parts(FLOW)
        assert again.autoencoder == other
        assert all(torch.equal(value, wanted[key]) for key, value in again.path.autoencoder.state_dict().items())
        with torch.device("meta"):
            shapes = Shapes(base=start.base, autoencoder=start.autoencoder).parts(FLOW)
        assert shapes.path.autoencoder.decoder.conv_out.weight.shape[1] == 4
    new_objective(FLOW, Start(base=base, rank=rank)).save(tmp_path / "plain", FLOW, {})
    assert read_adapter(str(tmp_path / "plain")).autoencoder is None


def test_an_autoencoder_for_fresh_weights_or_a_refiner_alone_is_refused(other: str, tiny_folder: Path) -> None:
    for name in (None, str(tiny_folder)):
        with pytest.raises(UsageError) as refused:
            Start(base=name, autoencoder=other).parts(replace(TINY_RECIPE, objective="refiner"))
        assert refused.value.where == "--autoencoder"


def test_a_run_is_not_resumed_with_another_autoencoder(base: str, other: str, tmp_path: Path) -> None:
    plain = Order(data=tmp_path, folder=tmp_path, base=base)
    swapped = replace(plain, autoencoder=other)
    assert origin_of(plain) != origin_of(swapped)
    assert origin_of(swapped) == origin_of(replace(plain, autoencoder=other))
    assert origin_of(replace(plain, autoencoder=str(Path(base, "vae")))) not in (origin_of(plain), origin_of(swapped))
