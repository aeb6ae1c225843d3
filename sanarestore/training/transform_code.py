"""Initialise a new autoencoder as a transform code, so that training only has to improve on it.

Shape suffixes: N kept coefficients of a block, M coefficients of its four parts, P pixels times channels of a block;
O I h w outputs, inputs, height and width of a kernel.

An autoencoder with random weights takes hours to find what is known in closed form: the few numbers that describe most
of a block of natural pixels. Here they are the principal components of random fields with the power spectrum and the
channel correlation of photographs; no photo is needed. A block of 2, 4 ... 32 pixels is analysed from the coefficients
of its four parts, so that each resampling layer performs one such step. The weights of the layer cancel its shortcut,
and all residual branches output zero at first.

The decoder's last convolution follows a norm and a ReLU. Its input coefficients therefore come in pairs of opposite
sign, raised above zero, beside channels of a constant, which keep the norm nearly the same everywhere.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Matrix = npt.NDArray[np.float64]

POWER = 2.2
"""Exponent p of the power spectra of photographs, about 1 / f^p (Field 1987; Torralba & Oliva 2003)."""

PERIOD = 256
"""Period of the fields in pixels."""

VARIANCE = 0.25
"""Variance of pixel values in [-1, 1]."""

CORRELATION = ((1.0, 0.93, 0.86), (0.93, 1.0, 0.95), (0.86, 0.95, 1.0))
"""Correlation of red, green and blue."""

FLOOR = 0.006
"""Added to variances before hidden coefficients are scaled to unit variance: the variance of noise of 10 codes, so that
fine coefficients do not hold mostly noise."""

RAISED, CONSTANT = 1.25, 4.0
"""Offset of the pairs above zero, and value of the channels beside them, as multiples of the pairs' bound."""

INSIDE = ((1, 1), (1, 2), (2, 1), (2, 2))
"""Places in a strided 3 x 3 kernel of the four positions that become one."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Coefficients of blocks of one size. Part order: top left, top right, bottom left, bottom right; channels last."""

    analysis_NM: Matrix
    """Matrix from the coefficients of the parts to those of the block; rows are orthonormal."""
    basis_NP: Matrix
    """Matrix from pixels to coefficients."""
    variance_N: Matrix
    scale_N: Matrix
    """Factors by which the network multiplies the coefficients."""


@torch.no_grad()
def begin_as_transform_code(autoencoder: Any) -> None:
    """Initialise a new `AutoencoderDC` with equal channels in encoder and decoder as a transform code, in place.

    ValueError unless it downsamples by strided convolutions and upsamples by pixel shuffles.
    """
    encoder, decoder = autoencoder.encoder, autoencoder.decoder
    downs, ups = (list(_changes(stages)) for stages in (encoder.down_blocks, reversed(decoder.up_blocks)))
    if any(down.downsample for down in downs) or any(up.interpolate for up in ups):
        raise ValueError("a transform code goes down by strided convolutions and up by pixel shuffles")
    _silence(autoencoder)
    entry = encoder.conv_in
    halves = not isinstance(entry, nn.Conv2d)
    found = stages(halves, (entry.conv if halves else entry).out_channels, *(down.conv.out_channels for down in downs))
    outermost, innermost = found[0], found[-1]

    if halves:
        _place(entry.conv, _strided(outermost.analysis_NM, entry.conv))
    else:
        _place(entry, _central(outermost.analysis_NM, entry))
    for down, (fine, coarse) in zip(downs, pairwise(found), strict=True):
        matrix_NM = coarse.scale_N[:, None] * coarse.analysis_NM / np.tile(fine.scale_N, 4)
        _place(down.conv, _strided(matrix_NM, down.conv), _averaging(down))
    _to_and_from_latents(encoder, decoder, innermost)
    for up, (fine, coarse) in zip(ups[:-1], reversed(list(pairwise(found))[1:]), strict=True):
        matrix_MN = np.tile(fine.scale_N, 4)[:, None] * coarse.analysis_NM.T / coarse.scale_N
        _place(up.conv, _shuffled(matrix_MN, up.conv), _repeating(up))
    _end(decoder, ups[-1], outermost, found[1], halves=halves)


@cache
def stages(halves: bool, outermost: int, *widths: int) -> tuple[Stage, ...]:
    """Stages of hidden maps with these channels, outermost first; with `halves`, that one has half the resolution."""
    pixels = Stage(np.eye(3), np.eye(3), np.full(3, VARIANCE), np.ones(3))
    # Coefficients come in pairs, and at least one channel holds the constant.
    most = (outermost - 1) // 2
    found = [_coarser(pixels, most, is_end=True) if halves else _kept(pixels, most)]
    for width in widths:
        found.append(_coarser(found[-1], width))
    return tuple(found)


def _coarser(fine: Stage, most: int, *, is_end: bool = False) -> Stage:
    """Join four blocks by principal components; an outermost stage (`is_end`) is unscaled, and unchanged if all fit."""
    count, size = fine.basis_NP.shape
    side = 2 * round((size / 3) ** 0.5)
    covariance = _covariance(side).reshape(4, size, 4, size)
    parts_MM = np.einsum("np,apbq,mq->anbm", fine.basis_NP, covariance, fine.basis_NP, optimize=True)
    parts_MM = parts_MM.reshape(4 * count, 4 * count)
    if is_end and most >= 4 * count:
        analysis_NM, variance_N = np.eye(4 * count), np.diag(parts_MM)
    else:
        analysis_NM, variance_N = _principal(parts_MM, most)
    basis_NP = np.einsum("nam,mp->nap", analysis_NM.reshape(-1, 4, count), fine.basis_NP).reshape(-1, 4 * size)
    scale_N = np.ones(len(variance_N)) if is_end else 1 / np.sqrt(variance_N + FLOOR)
    return Stage(analysis_NM, basis_NP, variance_N, scale_N)


def _kept(pixels: Stage, most: int) -> Stage:
    """Keep the pixels themselves, or `most` principal components of their channels if three do not fit."""
    if most >= 3:
        return pixels
    basis_NP, variance_N = _principal(VARIANCE * np.array(CORRELATION), most)
    return Stage(basis_NP, basis_NP, variance_N, np.ones(most))


def _principal(covariance: Matrix, most: int) -> tuple[Matrix, Matrix]:
    """The `most` components of greatest variance, in rows, and their variances."""
    variances, vectors = torch.linalg.eigh(torch.from_numpy(covariance))
    return vectors.numpy().T[::-1][:most], variances.numpy()[::-1][:most]


def _covariance(side: int) -> Matrix:
    """Covariance [P,P] of the pixels and channels of a square block, in the order of its parts, recursively."""
    frequency = np.fft.fftfreq(PERIOD) * PERIOD
    spectrum = (1 + frequency[:, None] ** 2 + frequency**2) ** (-POWER / 2)
    field = np.fft.ifft2(spectrum).real
    rows, columns = _places(side).T
    between = field[(rows[:, None] - rows) % PERIOD, (columns[:, None] - columns) % PERIOD]
    return np.kron(VARIANCE * between / field[0, 0], np.array(CORRELATION))


def _places(side: int) -> npt.NDArray[np.int64]:
    """Row and column of every pixel of a block, in the order of its parts, recursively."""
    if side == 1:
        return np.zeros((1, 2), np.int64)
    part, half = _places(side // 2), side // 2
    return np.concatenate([part + corner for corner in ((0, 0), (0, half), (half, 0), (half, half))])


def _to_and_from_latents(encoder: Any, decoder: Any, innermost: Stage) -> None:
    """Make latents of the coefficients of greatest variance, which come first, scaled to unit variance."""
    kept = min(encoder.conv_out.out_channels, len(innermost.variance_N))
    unit = np.sqrt(innermost.variance_N[:kept]) * innermost.scale_N[:kept]
    into_latent, from_latent = (
        np.zeros((each.out_channels, each.in_channels)) for each in (encoder.conv_out, decoder.conv_in)
    )
    into_latent[range(kept), range(kept)] = 1 / unit
    from_latent[range(kept), range(kept)] = unit
    if encoder.out_shortcut:
        size = encoder.out_shortcut_average_group_size
        into_latent -= np.repeat(np.eye(len(into_latent)), size, axis=1) / size
    if decoder.in_shortcut:
        from_latent -= np.repeat(np.eye(from_latent.shape[1]), decoder.in_shortcut_repeats, axis=0)
    _place(encoder.conv_out, _central(into_latent, encoder.conv_out))
    _place(decoder.conv_in, _central(from_latent, decoder.conv_in))


def _end(decoder: Any, up: Any, outermost: Stage, coarse: Stage, *, halves: bool) -> None:
    """Set the decoder's end: the last upsampling of hidden maps, which fills all channels, norm and convolution."""
    count, width = len(outermost.variance_N), up.conv.out_channels // 4
    pairs = np.concatenate([np.eye(count), -np.eye(count), np.zeros((width - 2 * count, count))])
    parts = (coarse.analysis_NM.T / coarse.scale_N).reshape(4, count, -1)
    _place(up.conv, _shuffled((pairs @ parts).reshape(4 * width, -1), up.conv), _repeating(up))
    bound = np.abs(outermost.basis_NP).sum(axis=1).max()
    level = bound * np.repeat([RAISED, CONSTANT], [2 * count, width - 2 * count])
    up.conv.bias.copy_(torch.from_numpy(np.repeat(level, 4)))
    squares = np.square(level).sum() + 2 * outermost.variance_N.sum()
    decoder.norm_out.weight.fill_(float(np.sqrt(squares / width)))
    synthesis = np.concatenate([outermost.basis_NP, -outermost.basis_NP]).T / 2
    if halves:
        _place(decoder.conv_out.conv, _shuffled(synthesis, decoder.conv_out.conv))
    else:
        _place(decoder.conv_out, _central(synthesis, decoder.conv_out))


def _changes(stages: Iterable[nn.Module]) -> Iterable[Any]:
    """The downsampling or upsampling blocks of an encoder or a decoder."""
    for stage in stages:
        for block in stage:  # type: ignore[attr-defined]
            if type(block).__name__ in ("DCDownBlock2d", "DCUpBlock2d"):
                yield block


def _silence(autoencoder: nn.Module) -> None:
    """Zero the last norm of every residual branch, which would add noise as strong as the signal."""
    for module in autoencoder.modules():
        last = {"ResBlock": "norm", "GLUMBConv": "norm", "SanaMultiscaleLinearAttention": "norm_out"}
        name = last.get(type(module).__name__)
        if name is not None:
            nn.init.zeros_(module.get_submodule(name).weight)  # type: ignore[arg-type]


def _place(convolution: nn.Conv2d, kernel_OIhw: Matrix, cancelled_OIhw: Matrix | None = None) -> None:
    """Set a convolution's first outputs, less a cancelled kernel; the others stay random, as nothing reads them yet."""
    count = len(kernel_OIhw)
    kernel_OIhw = kernel_OIhw if cancelled_OIhw is None else kernel_OIhw - cancelled_OIhw[:count]
    convolution.weight[:count] = torch.from_numpy(kernel_OIhw).to(convolution.weight)
    if convolution.bias is not None:
        convolution.bias[:count] = 0


def _central(matrix: Matrix, like: nn.Conv2d) -> Matrix:
    """Convert a matrix from inputs to outputs to a 3 x 3 kernel."""
    kernel_OIhw = np.zeros((len(matrix), like.in_channels, 3, 3))
    kernel_OIhw[:, : matrix.shape[1], 1, 1] = matrix
    return kernel_OIhw


def _strided(matrix_NM: Matrix, like: nn.Conv2d) -> Matrix:
    """Build the strided kernel from the coefficients of four positions to those of the one they become."""
    kernel_OIhw = np.zeros((len(matrix_NM), like.in_channels, 3, 3))
    for (row, column), part in zip(INSIDE, np.split(matrix_NM, 4, axis=1), strict=True):
        kernel_OIhw[:, : part.shape[1], row, column] = part
    return kernel_OIhw


def _shuffled(matrix_MN: Matrix, like: nn.Conv2d) -> Matrix:
    """Build the kernel from the coefficients of one position to those of four, in the order of a pixel shuffle."""
    parts = matrix_MN.reshape(4, -1, matrix_MN.shape[1])
    return _central(parts.transpose(1, 0, 2).reshape(matrix_MN.shape), like)


def _averaging(down: Any) -> Matrix:
    """The shortcut around a strided convolution as a kernel: means of adjacent pixel-unshuffled channels."""
    outputs, inputs = down.conv.out_channels, down.conv.in_channels
    means = np.repeat(np.eye(outputs), down.group_size, axis=1) / down.group_size
    return _strided(means.reshape(outputs, inputs, 4).transpose(0, 2, 1).reshape(outputs, -1), down.conv)


def _repeating(up: Any) -> Matrix:
    """The shortcut around a pixel shuffle as a kernel: every channel repeated."""
    return _central(np.repeat(np.eye(up.conv.in_channels), up.repeats, axis=0), up.conv)
