"""LoRA: the identity at first, trained beside the weights, and equivalent once merged into them."""

from pathlib import Path

import torch
from torch import Tensor

from sanarestore.model.adapter import PREFIX, merge_lora
from sanarestore.model.colour_correction import COLOUR_STATISTICS, WholePhoto
from sanarestore.model.condition import new_condition
from sanarestore.model.lora import Lora
from sanarestore.model.refiner import Refiner
from sanarestore.model.tensors import write_tensors
from sanarestore.model.transformer import ConditionedTransformer, Tokens
from tests.conftest import random_refiner
from tests.published import CHANNELS, WIDTH, tiny_transformer


def velocity(transformer: torch.nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    latent, condition = (torch.randn(2, CHANNELS, 3, 4, generator=generator) for _ in range(2))
    tokens = Tokens.of([torch.randn(5, WIDTH, generator=generator)] * 2)
    model = ConditionedTransformer(transformer, new_condition("projection", transformer))
    with torch.no_grad():
        found: Tensor = model(latent, condition, tokens, torch.full((2,), 0.7))
    return found


def test_a_new_lora_is_the_identity_and_covers_every_linear_layer() -> None:
    transformer = tiny_transformer()
    before, names = velocity(transformer), set(transformer.state_dict())
    lora = Lora.of_transformer(transformer, rank=2)
    assert torch.equal(velocity(transformer), before)
    assert set(transformer.state_dict()) == names, "the transformer's own weights stay as published"
    adapted = {name.rsplit(".lora_", 1)[0] for name in lora.tensors()}
    layers = ["attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ff.conv_inverted", "ff.conv_point"]
    layers += ["attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"]
    assert adapted == {f"transformer_blocks.{block}.{layer}" for block in range(2) for layer in layers}
    for name, change in lora.changes.items():
        for parameter in change.parameters():
            with torch.no_grad():
                parameter.add_(0.1)
        assert not torch.equal(velocity(transformer), before), name
        before = velocity(transformer)


def test_a_merged_lora_gives_the_same_result_as_an_attached_one(tmp_path: Path) -> None:
    transformer = tiny_transformer()
    lora = Lora.of_transformer(transformer, rank=3)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in lora.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    path = tmp_path / "lora.safetensors"
    write_tensors(path, {f"transformer.{name}": tensor for name, tensor in lora.tensors().items()})
    merged = tiny_transformer()
    untouched = velocity(merged)
    merge_lora(merged, path, PREFIX)
    assert torch.allclose(velocity(merged), velocity(transformer), atol=1e-5)
    assert (velocity(merged) - untouched).abs().max() > 0.01


def test_gradients_reach_the_lora_and_not_the_frozen_weights() -> None:
    transformer = tiny_transformer().requires_grad_(False)
    lora = Lora.of_transformer(transformer, rank=2).requires_grad_(True)
    model = ConditionedTransformer(transformer, new_condition("projection", transformer))
    tokens = Tokens.of([torch.randn(5, WIDTH)])
    latent = torch.randn(1, CHANNELS, 2, 2)
    model(latent, latent, tokens, torch.ones(1)).square().mean().backward()
    assert all(change.lora_B.grad is not None and change.lora_B.grad.any() for change in lora.changes.values())
    assert all(parameter.grad is None for parameter in transformer.parameters())


def refined(refiner: Refiner) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    image = torch.rand(1, 3, 48, 64, generator=generator)
    statistics = torch.randn(1, COLOUR_STATISTICS, generator=generator)
    whole = WholePhoto(statistics_BK=statistics, asked_B2=torch.ones(1, 2))
    with torch.no_grad():
        found: Tensor = refiner(image, image, torch.randn(1, 8, generator=generator), whole)
    return found


def test_a_lora_covers_every_matrix_of_a_refiner(tmp_path: Path) -> None:
    """Convolutions keep their strides, paddings and kernel sizes; linear layers of the prompt are covered too."""
    refiner, merged = (random_refiner(spectrum=4, colour_correction=8) for _ in range(2))
    before = refined(refiner)
    lora = Lora.of_refiner(refiner, rank=3)
    assert torch.equal(refined(refiner), before)
    matrices = {name.removesuffix(".weight") for name, tensor in refiner.state_dict().items() if tensor.dim() > 1}
    assert {name.rsplit(".lora_", 1)[0] for name in lora.tensors()} == matrices
    for change in lora.changes.values():
        with torch.no_grad():
            for parameter in change.parameters():
                parameter.add_(0.02)
        assert not torch.equal(refined(refiner), before)
        before = refined(refiner)
    path = tmp_path / "lora.safetensors"
    write_tensors(path, lora.tensors())
    merge_lora(merged, path)
    assert torch.allclose(refined(merged), before, atol=1e-4, rtol=1e-4)
