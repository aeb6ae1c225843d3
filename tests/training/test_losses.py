"""Losses: values checked against their formulas."""

import pytest
import torch

from sanarestore.training.losses import COARSE, off_unit_variance, psnr_loss

TARGET = torch.full((2, 3, 32, 48), 0.5)


def test_the_psnr_loss_is_minus_the_mean_psnr() -> None:
    restored = TARGET.clone()
    restored[0] += 0.1  # 20 dB
    restored[1] += 0.01  # 40 dB
    assert psnr_loss(restored, TARGET, floor=0.0).item() == pytest.approx(-30, abs=1e-3)
    # The floor bounds the loss of a nearly perfect sample.
    assert psnr_loss(TARGET, TARGET, floor=1e-3).item() == pytest.approx(-30, abs=1e-4)


def test_a_coarse_error_has_its_own_weighted_term() -> None:
    """A brightness error counts in the coarse term only, with the given weight."""
    dark = TARGET - 0.1
    fine_alone = 10 * torch.log10(torch.tensor(1e-3)).item()
    assert psnr_loss(dark, TARGET, 1e-3, coarse_weight=0.05).item() == pytest.approx(
        fine_alone + 0.05 * 10 * torch.log10(torch.tensor(0.01 + 1e-4)).item(), abs=1e-4
    )
    # An error that averages out over 16 by 16 pixels counts in the fine term only.
    chequered = TARGET + 0.1 * (torch.arange(48) % 2 * 2 - 1)
    assert psnr_loss(chequered, TARGET, 1e-3, coarse_weight=0.05).item() == pytest.approx(
        10 * torch.log10(torch.tensor(0.01 + 1e-3)).item() + 0.05 * -40, abs=1e-3
    )


def test_fine_and_coarse_terms_split_the_squared_error() -> None:
    """Block means and deviations are orthogonal: with weight 1 and no floor, squared errors add up."""
    error = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.03
    zero = torch.zeros_like(error)
    coarse = torch.nn.functional.avg_pool2d(error, COARSE).repeat_interleave(COARSE, 2).repeat_interleave(COARSE, 3)
    fine = psnr_loss(error - coarse, zero, 0.0)
    both_terms = psnr_loss(error, zero, 1e-12, coarse_weight=1.0)
    assert both_terms.item() == pytest.approx((fine + 10 * torch.log10(coarse.square().mean())).item(), abs=1e-3)
    whole = error.square().mean()
    assert ((error - coarse).square().mean() + coarse.square().mean()).item() == pytest.approx(whole.item(), rel=1e-5)


def test_latents_of_unit_variance_have_no_variance_loss() -> None:
    latent = torch.randn(8, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    assert off_unit_variance(latent).item() < 1e-3
    assert off_unit_variance(latent * torch.e).item() == pytest.approx(1, abs=0.05)
    assert off_unit_variance(latent + 2).item() == pytest.approx(4, abs=0.1)
    assert off_unit_variance(torch.zeros(1, 4, 8, 8)).isfinite()
