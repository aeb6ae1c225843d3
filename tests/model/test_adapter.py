"""Adapters: written, loaded and applied to a base, or refused with the reason."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sanarestore import weights
from sanarestore.errors import WeightsError
from sanarestore.model.adapter import PREFIX, merge_lora, read_adapter, write_adapter
from sanarestore.model.condition import KINDS, ConditionKind
from sanarestore.model.loading import RestorationModel, load_model
from sanarestore.model.lora import Lora
from sanarestore.model.prompts import PromptEncoder
from sanarestore.model.transformer import Tokens
from tests.conftest import random_refiner
from tests.published import CHANNELS, latent_path, tiny_transformer, write_published

PROMPT = "remove noise"

CHANGED = ("transformer_blocks.0.attn1.to_q", "transformer_blocks.1.ff.conv_inverted", "proj_out")
"""Modules that the LoRA changes: linear layers and a 1x1 convolution."""


@pytest.fixture
def base(tmp_path: Path, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "cache")
    return write_published(tmp_path / "base", encoder)


def low_rank(width: int) -> dict[str, Tensor]:
    """Make a LoRA of rank 2, keyed by module names."""
    torch.manual_seed(3)
    modules = dict(tiny_transformer(caption_channels=width).named_modules())
    found = {}
    for name in CHANGED:
        weight = modules[name].weight
        found[f"{name}.lora_A.weight"] = torch.randn(2, *weight.shape[1:])
        found[f"{name}.lora_B.weight"] = torch.randn(weight.shape[0], 2, *(1,) * (weight.dim() - 2))
    return found


def written(folder: Path, encoder: PromptEncoder, kind: ConditionKind = "projection", **change: Any) -> Path:
    path = latent_path(prompt_width=encoder.width, kind=kind)
    write_adapter(
        folder / "adapter", base=str(folder / "base"), condition=path.transformer.condition,
        refiner=random_refiner(), prompts={PROMPT: torch.full((3, encoder.width), 0.5)},
        defaults={"prompt": PROMPT, "steps": 4}, training={}, **change,
    )  # fmt: skip
    return folder / "adapter"


def velocity(model: RestorationModel) -> Tensor:
    assert model.latent is not None
    generator = torch.Generator().manual_seed(0)
    latent, condition = (torch.randn(1, CHANNELS, 3, 4, generator=generator) for _ in range(2))
    tokens = Tokens.of([model.prompts.tokens(PROMPT)])
    with torch.inference_mode():
        found: Tensor = model.latent.transformer(latent, condition, tokens, torch.ones(1))
    return found


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize("kind", KINDS)
def test_a_written_adapter_loads_unchanged(tmp_path: Path, encoder: PromptEncoder, kind: ConditionKind) -> None:
    adapter = written(tmp_path, encoder, kind)
    model = load_model(adapter=str(adapter))
    expected = latent_path(prompt_width=encoder.width, kind=kind)
    assert model.latent is not None
    loaded = model.latent.transformer.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.transformer.state_dict().items())
    refiner = {name: tensor.half().float() for name, tensor in random_refiner().state_dict().items()}
    assert all(torch.equal(tensor, refiner[name]) for name, tensor in model.refiner.state_dict().items())
    assert model.prompts.tokens(PROMPT).eq(0.5).all(), "the adapter's own embeddings, not the encoder's"
    assert (model.defaults, model.latent.flow.shift) == ({"prompt": PROMPT, "steps": 4}, 3.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_lora_is_merged_into_the_weights(
    base: Path, tmp_path: Path, encoder: PromptEncoder, kind: ConditionKind
) -> None:
    lora = low_rank(encoder.width)
    plain = velocity(load_model(str(base), str(written(tmp_path, encoder, kind))))
    model = load_model(str(base), str(written(tmp_path, encoder, kind, lora=lora)))
    assert model.latent is not None
    changed, original = model.latent.transformer.transformer, tiny_transformer(caption_channels=encoder.width)
    for name in CHANGED:
        down, up = (lora[f"{name}.lora_{side}.weight"].flatten(1) for side in "AB")
        before, after = (dict(module.named_parameters())[f"{name}.weight"] for module in (original, changed))
        assert torch.allclose(after, before + (up @ down).view_as(before), atol=1e-6)
    assert (velocity(model) - plain).abs().max() > 0.01


def test_diffusers_loads_the_same_lora(base: Path, tmp_path: Path, encoder: PromptEncoder) -> None:
    from diffusers import SanaTransformer2DModel

    adapter = written(tmp_path, encoder, lora=low_rank(encoder.width))
    theirs = SanaTransformer2DModel.from_pretrained(base / "transformer")
    theirs.load_lora_adapter(adapter, weight_name="pytorch_lora_weights.safetensors", prefix="transformer")
    theirs.fuse_lora()
    theirs.unload_lora()
    model = load_model(str(base), str(adapter))
    assert model.latent is not None
    ours = dict(model.latent.transformer.transformer.named_parameters())
    for name in CHANGED:
        weight = dict(theirs.named_parameters())[f"{name}.weight"]
        assert torch.allclose(ours[f"{name}.weight"], weight, atol=1e-6), name


def test_a_full_transformer_replaces_that_of_the_base(base: Path, tmp_path: Path, encoder: PromptEncoder) -> None:
    other = tiny_transformer(seed=9, caption_channels=encoder.width)
    model = load_model(str(base), str(written(tmp_path, encoder, transformer=other)))
    assert model.latent is not None
    loaded = model.latent.transformer.transformer.state_dict()
    assert all(torch.equal(loaded[name], tensor.half().float()) for name, tensor in other.state_dict().items())


@pytest.mark.parametrize("layers", [1, 5])
def test_a_full_transformer_may_have_another_number_of_blocks(
    base: Path, tmp_path: Path, encoder: PromptEncoder, layers: int
) -> None:
    transformer = tiny_transformer(caption_channels=encoder.width, num_layers=layers)
    adapter = written(tmp_path, encoder, transformer=transformer)
    latent = load_model(str(base), str(adapter)).latent
    assert latent is not None
    assert len([*latent.transformer.blocks]) == latent.transformer.config.num_layers == layers


@pytest.mark.parametrize("change", [{"num_attention_heads": 4}, {"patch_size": 2}, {"mlp_ratio": 3.0}])
def test_a_full_transformer_of_another_shape_is_refused(
    base: Path, tmp_path: Path, encoder: PromptEncoder, change: dict[str, Any]
) -> None:
    transformer = tiny_transformer(caption_channels=encoder.width, **change)
    adapter = written(tmp_path, encoder, transformer=transformer)
    with pytest.raises(WeightsError, match="of another shape than the base's"):
        load_model(str(base), str(adapter))


def test_a_base_without_an_adapter_is_refused(base: Path) -> None:
    with pytest.raises(WeightsError, match=r"not a restoration model.*would ignore the photograph.*sanarestore train"):
        load_model(str(base))


@pytest.mark.usefixtures("base")
def test_an_adapter_trained_on_another_base_is_refused(
    tmp_path: Path, tiny_folder: Path, encoder: PromptEncoder
) -> None:
    with pytest.raises(WeightsError, match=r"trained on other weights than these of .*tiny-model"):
        load_model(str(tiny_folder), str(written(tmp_path, encoder)))


def adapter_of_tiny_model(folder: Path, base: Path, **change: Any) -> Path:
    lora = Lora.of_refiner(random_refiner(), rank=2)
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in lora.parameters():
            parameter.copy_(0.1 * torch.randn_like(parameter))
    write_adapter(
        folder / "adapter", base=str(base), prompts={PROMPT: torch.full((3, 8), 0.5)}, defaults={"prompt": PROMPT},
        training={}, **{"refiner_lora": lora.tensors(), **change},
    )  # fmt: skip
    return folder / "adapter"


def test_an_adapter_can_hold_a_lora_of_the_refiner(tmp_path: Path, tiny_folder: Path) -> None:
    plain, model = load_model(str(tiny_folder)), load_model(adapter=str(adapter_of_tiny_model(tmp_path, tiny_folder)))
    assert model.load_latent is None
    assert model.prompts.tokens(PROMPT).eq(0.5).all()
    changed, before = model.refiner.state_dict(), plain.refiner.state_dict()
    unchanged = {name for name, tensor in before.items() if torch.equal(tensor, changed[name])}
    assert unchanged == {name for name in before if name.endswith("bias")}, "the LoRA changes every matrix and no bias"
    assert model.fingerprint != plain.fingerprint


def test_an_adapter_can_replace_the_refiner(tmp_path: Path, tiny_folder: Path) -> None:
    other = random_refiner(seed=5)
    model = load_model(adapter=str(adapter_of_tiny_model(tmp_path, tiny_folder, refiner=other)))
    assert torch.equal(model.refiner.head.weight, other.head.weight.half().float())


def test_an_adapter_of_a_published_base_needs_condition_and_refiner(base: Path, tmp_path: Path) -> None:
    lacking = adapter_of_tiny_model(tmp_path, base)
    with pytest.raises(WeightsError, match="it has no condition for its base"):
        load_model(adapter=str(lacking))
    path = latent_path(prompt_width=8)
    lacking = adapter_of_tiny_model(tmp_path, base, condition=path.transformer.condition)
    with pytest.raises(WeightsError, match="it has no refiner for its base"):
        load_model(adapter=str(lacking))


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize(
    "name", ["condition.safetensors", "refiner.safetensors", "prompts.safetensors", "pytorch_lora_weights.safetensors"]
)
def test_a_missing_or_damaged_file_is_reported(tmp_path: Path, encoder: PromptEncoder, name: str) -> None:
    adapter = written(tmp_path, encoder, lora=low_rank(encoder.width))
    content = (adapter / name).read_bytes()
    (adapter / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(WeightsError, match=rf"{name}: the file is damaged"):
        read_adapter(str(adapter))
    (adapter / name).unlink()
    with pytest.raises(WeightsError, match=rf"{name}: the file is missing"):
        read_adapter(str(adapter))


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2 is not known"),
        ({"condition": "sum"}, "'sum' is not a kind of condition"),
        ({"change": "half"}, "'half' is not a change"),
        ({"refiner": {"widths": [8, 8]}}, "not as this version writes it"),
        ({"sha256": {}}, "there is no hash for condition.safetensors"),
        ({"base": None}, "it does not name its base model"),
        ({"defaults": {"steps": 1}}, "not as this version writes it"),
        ({"change": "full"}, "there is no hash for transformer/"),
    ],
)
def test_an_invalid_adapter_index_is_refused(
    tmp_path: Path, encoder: PromptEncoder, change: dict[str, Any], message: str
) -> None:
    path = written(tmp_path, encoder) / weights.ADAPTER
    (path.parent / "transformer").mkdir()
    (path.parent / "transformer/config.json").write_text("{}")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(WeightsError, match=message):
        read_adapter(str(path.parent))


def test_a_base_whose_weights_changed_since_training_is_refused(
    base: Path, tmp_path: Path, encoder: PromptEncoder
) -> None:
    adapter = written(tmp_path, encoder)
    tiny_transformer(seed=5, caption_channels=encoder.width).save_pretrained(base / "transformer")
    with pytest.raises(WeightsError, match=r"trained on other weights.*Leave out --model"):
        load_model(str(base), str(adapter))


def test_a_folder_without_an_adapter_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="this is not an adapter"):
        read_adapter(str(tmp_path))


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize("spoil", ["surplus", "missing", "shape", "name"])
def test_a_lora_that_does_not_fit_is_refused(tmp_path: Path, encoder: PromptEncoder, spoil: str) -> None:
    transformer = tiny_transformer(caption_channels=encoder.width)
    adapter = written(tmp_path, encoder, lora=low_rank(encoder.width))
    path = adapter / "pytorch_lora_weights.safetensors"
    tensors, first = load_file(path), f"transformer.{CHANGED[0]}"
    if spoil == "surplus":
        tensors[f"{first}.alpha"] = torch.ones(1)
    elif spoil == "missing":
        del tensors[f"{first}.lora_B.weight"]
    elif spoil == "shape":
        tensors[f"{first}.lora_A.weight"] = torch.zeros(2, 5)
    else:
        for side in "AB":
            tensors[f"transformer.elsewhere.lora_{side}.weight"] = tensors[f"{first}.lora_{side}.weight"].clone()
    save_file(tensors, path)
    with pytest.raises(WeightsError, match=r"is missing or not expected|fits no weight"):
        merge_lora(transformer, path, PREFIX)


def test_the_fingerprint_depends_on_base_and_adapter(base: Path, tmp_path: Path, encoder: PromptEncoder) -> None:
    adapter = written(tmp_path, encoder)
    first = load_model(str(base), str(adapter)).fingerprint
    assert first == weights.fingerprint(str(base), str(adapter))
    written(tmp_path, encoder, lora=low_rank(encoder.width))
    second = weights.fingerprint(str(base), str(adapter))
    (base / "README.md").write_text("another card")
    assert weights.fingerprint(str(base), str(adapter)) == second, "the model card is not part of the fingerprint"
    (base / "scheduler/scheduler_config.json").write_text("{}")
    assert len({first, second, weights.fingerprint(str(base), str(adapter))}) == 3
