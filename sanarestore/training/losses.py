"""Loss functions. Shape suffixes: B batch, C channels, H W pixels."""

import torch
from torch import Tensor

COARSE = 16
"""Side in pixels of the blocks whose mean errors `psnr_loss` weighs separately."""


def psnr_loss(restored_BCHW: Tensor, target_BCHW: Tensor, floor: float, coarse_weight: float = 0.0) -> Tensor:
    """Negative mean PSNR of the samples in dB (Chen et al. 2022), with `floor` added to each squared error.

    With a `coarse_weight`, the error of 16 x 16 block means is taken out of that term and becomes a second one, with
    this weight and a tenth of the floor. H and W must then be multiples of 16.
    """
    error_BCHW = restored_BCHW - target_BCHW
    if not coarse_weight:
        return decibels(error_BCHW.square().mean(dim=(1, 2, 3)), floor).mean()
    # Compiled for a CPU, pooling and interpolation would take a quarter of a training step, and a mean over both axes
    # at once would start threads for every block.
    batch, channels, height, width = error_BCHW.shape
    rows = error_BCHW.reshape(batch, channels, height // COARSE, COARSE, width).mean(dim=3)
    coarse_BCHW = rows.reshape(batch, channels, height // COARSE, width // COARSE, COARSE).mean(dim=4)
    coarse_B = coarse_BCHW.square().mean(dim=(1, 2, 3))
    # Rounding may make the difference of nearly equal values negative.
    fine_B = (error_BCHW.square().mean(dim=(1, 2, 3)) - coarse_B).clamp(min=0)
    return decibels(fine_B, floor).mean() + coarse_weight * decibels(coarse_B, floor / 10).mean()


def off_unit_variance(latent_BCHW: Tensor) -> Tensor:
    """Distance of the channels from unit variance and zero mean: squares of log std and of mean, averaged."""
    means, deviations = latent_BCHW.mean(dim=(0, 2, 3)), latent_BCHW.std(dim=(0, 2, 3))
    return deviations.clamp(min=1e-6).log().square().mean() + means.square().mean()


def decibels(squared_error_B: Tensor, floor: float) -> Tensor:
    """Negative PSNR in dB of mean squared errors, [B]; errors below `floor` hardly differ."""
    return 10 * torch.log10(squared_error_B + floor)
