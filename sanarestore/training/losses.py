"""What is made small, in formulas. Shape suffixes: B batch, C channels, H W pixels."""

import torch
from torch import Tensor

COARSE = 16
"""Side of the means that `psnr_loss` weighs apart, in pixels."""


def psnr_loss(restored_BCHW: Tensor, target_BCHW: Tensor, floor: float, coarse_weight: float = 0.0) -> Tensor:
    """Minus the mean PSNR in dB of the samples (Chen et al. 2022), with `floor` added to each squared error.

    With a `coarse_weight`, errors of 16 by 16 means leave that term and get one of their own, with this weight and a
    tenth of the floor. H and W are multiples of 16 then.
    """
    error_BCHW = restored_BCHW - target_BCHW
    if not coarse_weight:
        return decibels(error_BCHW.square().mean(dim=(1, 2, 3)), floor).mean()
    # Not by a pool and its interpolation, and one axis after the other: compiled for a CPU, those take a quarter of a
    # training step, and a mean over both axes starts threads for every block.
    batch, channels, height, width = error_BCHW.shape
    rows = error_BCHW.reshape(batch, channels, height // COARSE, COARSE, width).mean(dim=3)
    coarse_BCHW = rows.reshape(batch, channels, height // COARSE, width // COARSE, COARSE).mean(dim=4)
    coarse_B = coarse_BCHW.square().mean(dim=(1, 2, 3))
    # Rounding may take a difference of equals below zero.
    fine_B = (error_BCHW.square().mean(dim=(1, 2, 3)) - coarse_B).clamp(min=0)
    return decibels(fine_B, floor).mean() + coarse_weight * decibels(coarse_B, floor / 10).mean()


def charbonnier(restored_BCHW: Tensor, target_BCHW: Tensor, floor: float) -> Tensor:
    """Mean of sqrt(error^2 + floor): L1 that is smooth at zero (Charbonnier et al. 1994)."""
    return (restored_BCHW - target_BCHW).square().add(floor).sqrt().mean()


def off_unit_variance(latent_BCHW: Tensor) -> Tensor:
    """How far the channels are from unit variance and zero mean: squares of log std and of mean, averaged."""
    means, deviations = latent_BCHW.mean(dim=(0, 2, 3)), latent_BCHW.std(dim=(0, 2, 3))
    return deviations.clamp(min=1e-6).log().square().mean() + means.square().mean()


def decibels(squared_error_B: Tensor, floor: float) -> Tensor:
    """Mean squared errors as minus the PSNR in dB, [B]; what is below `floor` hardly differs."""
    return 10 * torch.log10(squared_error_B + floor)
