"""Tests of quantized transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sanarestore.engine.live_bytes import LiveBytes
from sanarestore.errors import WeightsError
from sanarestore.model.base import load_transformer, read_json, write_module
from sanarestore.model.quantization import (
    QuantizedLinear,
    group_size,
    int4_codes,
    precision_of,
    prepare,
    quantization,
    quantize,
)
from sanarestore.model.tensors import write_json
from sanarestore.options import PRECISIONS, Precision
from tests.published import SPRINT, tiny_transformer

CLOSE = {"int8": 0.02, "fp8": 0.06, "int4": 0.2}
"""Largest relative error of a random layer's output that each precision may have, by the norm."""

PUBLISHED = {
    "0.6B": {
        "num_attention_heads": 36, "num_layers": 28, "num_cross_attention_heads": 16, "cross_attention_head_dim": 72
    },
    "1.6B": {
        "num_attention_heads": 70, "num_layers": 20, "num_cross_attention_heads": 20, "cross_attention_head_dim": 112
    },
}  # fmt: skip


def inputs(transformer: Any, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    config = transformer.config
    return {
        "hidden_states": torch.randn(2, config.in_channels, 5, 7, generator=generator),
        "encoder_hidden_states": torch.randn(2, 3, config.caption_channels, generator=generator),
        "timestep": torch.tensor([0.2, 1.0]) * (1 if config.guidance_embeds else 1000),
        "guidance": torch.full((2,), 0.45) if config.guidance_embeds else None,
    }


def output(transformer: Any) -> Tensor:
    with torch.inference_mode():
        found: Tensor = transformer(**inputs(transformer), return_dict=False)[0]
    return found


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shape", [(24, 64, 1), (40, 96, 0)], ids=str)
def test_a_quantized_layer_is_close_to_its_layer(precision: Precision, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(shape[1], shape[0], bias=bool(shape[2]))
    quantized = QuantizedLinear(layer, precision)
    quantized.read(layer.weight)
    given = torch.randn(3, 7, shape[1])
    with torch.no_grad():
        error = relative(quantized(given), layer(given))
    assert 0 < error < CLOSE[precision]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_quantized_convolution_is_its_layer_on_every_position(precision: Precision) -> None:
    torch.manual_seed(0)
    convolution, linear = nn.Conv2d(32, 16, 1), nn.Linear(32, 16)
    with torch.no_grad():
        linear.weight.copy_(convolution.weight.flatten(1))
        linear.bias.copy_(convolution.bias)  # type: ignore[arg-type]
    made = [QuantizedLinear(each, precision) for each in (convolution, linear)]
    for each, layer in zip(made, (convolution, linear), strict=True):
        each.read(layer.weight)
    given = torch.randn(2, 32, 3, 5)
    found = made[0](given)
    assert found.shape == (2, 16, 3, 5)
    assert torch.equal(found, made[1](given.movedim(1, -1)).movedim(-1, 1))


def test_codes_of_8_bits_are_exact_where_the_weights_are_codes() -> None:
    layer = nn.Linear(16, 4, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.randint(-127, 128, (4, 16), generator=torch.Generator().manual_seed(0)))
        layer.weight[:, 0] = 127
    quantized = QuantizedLinear(layer, "int8")
    quantized.read(layer.weight)
    assert torch.equal(quantized.codes.float(), layer.weight)
    given = torch.randint(-127, 128, (5, 16), generator=torch.Generator().manual_seed(1)).float()
    given[:, 3] = 127  # so that the input's scale is 1
    assert torch.equal(quantized(given), layer(given))


def test_codes_of_4_bits_have_an_error_of_half_a_step_at_most_without_clipping() -> None:
    weight = torch.rand(6, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    codes, scale, zero = int4_codes(weight)
    assert codes.shape == (6, 32)
    assert codes.dtype == torch.uint8
    assert scale.shape == zero.shape == (6, 64 // group_size(64))
    low, high = codes & 15, codes >> 4
    read = (torch.stack([low, high], dim=2).flatten(1).float() - zero.float()) * scale.float()
    # Clipping helps in some groups even of random weights; no error exceeds what clipping may cut off.
    assert (read - weight).abs().max() < 0.2
    assert (read - weight).square().mean().sqrt() < 2 / 15 / 12**0.5 * 1.05
    constant = int4_codes(torch.zeros(2, 64))
    assert not ((constant[0] & 15).float() - constant[2].float()).any()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("changes", [{}, SPRINT], ids=["plain", "sprint"])
def test_a_quantized_transformer_predicts_nearly_the_same(precision: Precision, changes: dict[str, Any]) -> None:
    transformer = tiny_transformer(**changes)
    expected = output(transformer)
    quantize(transformer, precision)
    assert quantization(transformer) == precision
    assert 0 < relative(output(transformer), expected) < 2 * CLOSE[precision]


@pytest.mark.parametrize("size", PUBLISHED)
def test_at_least_95_percent_of_a_published_transformer_are_quantized(size: str) -> None:
    width = 32 * PUBLISHED[size]["num_attention_heads"]
    with torch.device("meta"):
        transformer = tiny_transformer(
            in_channels=32, out_channels=32, attention_head_dim=32, cross_attention_dim=width, caption_channels=2304,
            **PUBLISHED[size],
        )  # fmt: skip
        prepare(transformer, "int4")
    layers = [each for each in transformer.modules() if isinstance(each, QuantizedLinear)]
    quantized = sum(each.inputs * each.outputs for each in layers)
    whole = sum(each.numel() for each in transformer.parameters())
    assert quantized / (quantized + whole) > (0.95 if size == "1.6B" else 0.94)
    sizes = {
        each.inputs % group_size(each.inputs) for each in transformer.modules() if isinstance(each, QuantizedLinear)
    }
    assert sizes == {0}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_casting_keeps_codes_and_scales(precision: Precision) -> None:
    transformer = tiny_transformer()
    quantize(transformer, precision)
    before = {name: each.clone() for name, each in transformer.named_buffers()}
    transformer.to(torch.bfloat16)
    after = dict(transformer.named_buffers())
    for name, each in before.items():
        if name.endswith((".codes", ".scale", ".zero")):
            assert after[name].dtype == each.dtype
            assert torch.equal(after[name], each)
    assert transformer.patch_embed.proj.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_stored_transformer_is_the_same_when_loaded(precision: Precision, tmp_path: Path) -> None:
    transformer = tiny_transformer().half().float()
    quantize(transformer, precision)
    write_module(tmp_path / "transformer", transformer)
    loaded = load_transformer(tmp_path / "transformer", torch.float32)
    assert torch.equal(output(loaded), output(transformer))
    assert {path.name for path in (tmp_path / "transformer").iterdir()} == {
        "config.json", "diffusion_pytorch_model.safetensors"
    }  # fmt: skip


def test_the_whole_weights_are_not_allocated_when_a_stored_transformer_is_loaded(tmp_path: Path) -> None:
    transformer = tiny_transformer(
        num_attention_heads=16, attention_head_dim=16, num_cross_attention_heads=16, cross_attention_head_dim=16,
        cross_attention_dim=256,
    )  # fmt: skip
    whole = sum(each.numel() * 4 for each in transformer.parameters())
    quantize(transformer, "int4")
    write_module(tmp_path / "transformer", transformer)
    stored = (tmp_path / "transformer/diffusion_pytorch_model.safetensors").stat().st_size
    with LiveBytes("cpu") as live:
        load_transformer(tmp_path / "transformer", torch.float32)
    assert live.most < 1.6 * stored < whole / 2, "embeddings are stored in float16 and loaded in float32"


def test_an_unknown_precision_is_refused(tmp_path: Path) -> None:
    transformer = tiny_transformer()
    quantize(transformer, "int8")
    write_module(tmp_path / "transformer", transformer)
    config = tmp_path / "transformer/config.json"
    write_json(config, {**read_json(config), "quantization": "int3"})
    with pytest.raises(WeightsError, match="'int3' is not a precision"):
        load_transformer(tmp_path / "transformer", torch.float32)
    write_json(config, {**read_json(config), "quantization": "int4"})
    with pytest.raises(WeightsError, match="do not fit the configuration"):
        load_transformer(tmp_path / "transformer", torch.float32)
    with pytest.raises(ValueError, match="in int8 already"):
        quantize(transformer, "int4")
    with pytest.raises(ValueError, match="'int2' is not a precision"):
        precision_of("int2")
