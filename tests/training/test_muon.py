"""Muon: orthogonal updates, their size, and blocks of wide kernels."""

import pytest
import torch
from torch import nn

from sanarestore.training.muon import Muon, orthogonal


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
