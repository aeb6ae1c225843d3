"""Optimizers: learning rate schedule, weight decay, Muon and EMA."""

import pytest
import torch
from torch import nn

from sanarestore.training.optimizers import EMA, Muon, lr_scale, optimizers, orthogonal
from sanarestore.training.recipe import TrainingRecipe


def test_the_learning_rate_warms_up_and_then_follows_a_cosine() -> None:
    recipe = TrainingRecipe(final_rate=0.1, warmup=10, steps=100)
    assert lr_scale(recipe, 0, 0.0) == pytest.approx(0.1)
    assert lr_scale(recipe, 9, 0.0) == pytest.approx(1.0)
    assert lr_scale(recipe, 50, 0.5) == pytest.approx(0.55)
    assert lr_scale(recipe, 99, 1.0) == pytest.approx(0.1)
    assert lr_scale(recipe, 99, 7.0) == pytest.approx(0.1)


def test_only_matrices_and_kernels_are_decayed() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(2, 2, bias=False), nn.LayerNorm(2))
    (adamw,) = optimizers(module, TrainingRecipe(weight_decay=0.5))
    decayed, kept = adamw.param_groups
    assert [tuple(parameter.shape) for parameter in decayed["params"]] == [(2, 1, 3, 3), (2, 2)]
    assert decayed["weight_decay"] == 0.5
    assert len(kept["params"]) == 3
    assert kept["weight_decay"] == 0


def test_muon_gets_only_large_kernels() -> None:
    module = nn.Sequential(nn.Conv2d(32, 32, 3), nn.Conv2d(32, 12, 1), nn.Linear(64, 64))
    adamw, muon = optimizers(module, TrainingRecipe(learning_rate=0.1, muon_rate=0.4))
    assert [group["initial_lr"] for group in (*adamw.param_groups, *muon.param_groups)] == [0.1, 0.1, 0.4]
    assert [tuple(parameter.shape) for parameter in muon.param_groups[0]["params"]] == [(32, 32, 3, 3)]
    assert len(optimizers(module, TrainingRecipe(muon_rate=0.0))) == 1


@pytest.mark.parametrize("shape", [(32, 288), (288, 32), (64, 64)])
def test_orthogonal_keeps_directions_with_singular_values_near_one(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(shape[0], min(shape), generator=generator))
    right, _ = torch.linalg.qr(torch.randn(shape[1], min(shape), generator=generator))
    values = torch.linspace(1, 100, min(shape))
    (update,) = orthogonal((left * values @ right.T)[None])
    diagonal = left.T @ update @ right
    assert diagonal.diagonal().min() > 0.5
    assert diagonal.diagonal().max() < 1.3
    assert (diagonal - diagonal.diagonal().diag()).abs().max() < 1e-3


def test_a_muon_step_has_an_rms_of_a_fifth_of_its_rate() -> None:
    kernel = nn.Parameter(torch.zeros(64, 32, 3, 3))
    muon = Muon([kernel], lr=0.01)
    kernel.grad = 1e-6 * torch.randn(kernel.shape, generator=torch.Generator().manual_seed(0))
    muon.step()
    assert kernel.square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.2)
    assert (kernel * kernel.grad).sum() < 0


def test_muon_is_nearly_the_same_in_bfloat16() -> None:
    kernels = [nn.Parameter(torch.zeros(64, 32, 3, 3)) for _ in range(2)]
    for kernel, dtype in zip(kernels, (torch.float32, torch.bfloat16), strict=True):
        kernel.grad = torch.randn(kernel.shape, generator=torch.Generator().manual_seed(0))
        Muon([kernel], lr=0.01, dtype=dtype).step()
    assert torch.nn.functional.cosine_similarity(*(kernel.flatten() for kernel in kernels), dim=0) > 0.99
    assert kernels[1].dtype == torch.float32


def test_tall_kernels_are_orthogonalised_in_blocks() -> None:
    """Each block moves like a separate kernel, so large gradients in one do not slow the others."""
    gradient = torch.randn(512, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    gradient[:256] *= 1000
    whole = nn.Parameter(torch.zeros(512, 4, 3, 3))
    halves = [nn.Parameter(torch.zeros(256, 4, 3, 3)) for _ in range(2)]
    for parameter, grad in zip([whole, *halves], [gradient, *gradient.split(256)], strict=True):
        parameter.grad = grad.clone()
    Muon([whole, *halves], lr=0.01).step()
    assert torch.allclose(whole, torch.cat(halves), atol=1e-7)


def test_the_ema_follows_the_weights_and_swaps_with_them() -> None:
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(0.0)
    average = EMA(module, decay=0.9)
    with torch.no_grad():
        module.weight.fill_(1.0)
    average.update(module, step=10**6)
    assert average.state()["weight"].item() == pytest.approx(0.1)
    average.swap(module)
    assert module.weight.item() == pytest.approx(0.1)
    average.swap(module)
    assert module.weight.item() == 1.0
    assert average.state()["weight"].item() == pytest.approx(0.1)


def test_the_ema_decays_faster_at_early_steps() -> None:
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(0.0)
    average = EMA(module, decay=0.999)
    with torch.no_grad():
        module.weight.fill_(1.0)
    average.update(module, step=0)
    assert average.state()["weight"].item() == pytest.approx(0.9)
