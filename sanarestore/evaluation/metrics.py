"""PSNR and SSIM, as the restoration literature computes them.

Images are arrays [H, W, C], float in [0, 1]; nothing is clipped or rounded here. Papers compare 8-bit files: for
figures comparable with theirs, pass both images through `to_8bit` first.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sanarestore.images import quantize

Array = npt.NDArray[np.float32] | npt.NDArray[np.float64]

WINDOW = 11
"""Side of SSIM's window in pixels."""


def psnr(image_HWC: Array, reference_HWC: Array) -> float:
    """Peak signal-to-noise ratio in dB over all values, peak 1; infinite for equal images."""
    _check(image_HWC, reference_HWC)
    error = np.mean(np.square(image_HWC.astype(np.float64) - reference_HWC.astype(np.float64)))
    return math.inf if error == 0 else float(-10 * np.log10(error))


def ssim(image_HWC: Array, reference_HWC: Array) -> float:
    """Mean structural similarity: 11x11 Gaussian window of sigma 1.5, valid region, mean over channels.

    Wang et al. 2004, eq. 13, with K1 = 0.01, K2 = 0.03 and population (not sample) covariances. ValueError below 11 px.
    """
    _check(image_HWC, reference_HWC)
    if min(image_HWC.shape[:2]) < WINDOW:
        raise ValueError(f"SSIM needs at least {WINDOW} pixels a side, not {image_HWC.shape[:2]}")
    channels = zip(np.moveaxis(image_HWC, 2, 0), np.moveaxis(reference_HWC, 2, 0), strict=True)
    return float(
        np.mean([_ssim_plane(image.astype(np.float64), reference.astype(np.float64)) for image, reference in channels])
    )


def psnr_b(image_HWC: Array, reference_HWC: Array, block: int = 8) -> float:
    """PSNR with the image's blocking added to its error, in dB (Yim & Bovik 2011, eqs. 5 to 12), peak 1.

    Blocks are those of JPEG, from the corner; channels are averaged. ValueError below two blocks a side.
    """
    _check(image_HWC, reference_HWC)
    height, width = image_HWC.shape[:2]
    if min(height, width) < 2 * block:
        raise ValueError(f"PSNR-B needs at least {2 * block} pixels a side, not {height} x {width}")
    image_HWC, reference_HWC = image_HWC.astype(np.float64), reference_HWC.astype(np.float64)
    at_edges, elsewhere = [], []
    for axis in (0, 1):
        steps = np.square(np.moveaxis(np.diff(image_HWC, axis=axis), axis, 0))
        is_edge = np.arange(len(steps)) % block == block - 1
        at_edges.append(steps[is_edge].reshape(-1))
        elsewhere.append(steps[~is_edge].reshape(-1))
    edge, other = float(np.concatenate(at_edges).mean()), float(np.concatenate(elsewhere).mean())
    blocking = max(edge - other, 0) * math.log2(block) / math.log2(min(height, width))
    error = float(np.mean(np.square(image_HWC - reference_HWC))) + blocking
    return math.inf if error == 0 else -10 * math.log10(error)


def sharpness(image_HWC: Array, reference_HWC: Array) -> float:
    """Mean absolute difference of neighbours over the reference's: below 1 softer, above 1 sharper or noisier.

    It is 1 if both images are flat, infinite if only the reference is.
    """
    _check(image_HWC, reference_HWC)
    ours, theirs = (_steps(each.astype(np.float64)) for each in (image_HWC, reference_HWC))
    if theirs == 0:
        return 1.0 if ours == 0 else math.inf
    return ours / theirs


def _steps(image_HWC: npt.NDArray[np.float64]) -> float:
    return float(sum(np.abs(np.diff(image_HWC, axis=axis)).sum() for axis in (0, 1)))


def frechet_distance(features_ND: npt.NDArray[np.float64], others_MD: npt.NDArray[np.float64]) -> float:
    """Squared Frechet distance of the Gaussians that fit two sets of features: FID, if they are Inception's.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Dowson & Landau 1982, eq. 4). The trace of (C1 C2)^(1/2) is the sum of
    the singular values of X1 X2^T, where X is the centred features over sqrt(N - 1). ValueError below two samples.
    """
    if min(len(features_ND), len(others_MD)) < 2:
        raise ValueError("a covariance takes two samples")
    centred = [(each - each.mean(axis=0)) / math.sqrt(len(each) - 1) for each in (features_ND, others_MD)]
    # R has at most as many rows as there are features, and leaves the singular values of the product unchanged.
    first, second = (np.asarray(np.linalg.qr(each, mode="r")) for each in centred)
    shared = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    apart = np.square(features_ND.mean(axis=0) - others_MD.mean(axis=0)).sum()
    return float(apart + sum(np.square(each).sum() for each in centred) - 2 * shared)


def luma(image_HWC: Array) -> npt.NDArray[np.float64]:
    """Luma of BT.601 in studio swing, [H, W, 1] in 16/255 to 235/255, as super-resolution is judged; gray is kept."""
    if image_HWC.shape[2] == 1:
        return image_HWC.astype(np.float64)
    weights = np.array([[65.481], [128.553], [24.966]]) / 255
    brightness: npt.NDArray[np.float64] = image_HWC.astype(np.float64) @ weights + 16 / 255
    return brightness


def to_8bit(image_HWC: Array) -> npt.NDArray[np.float64]:
    """Clip to [0, 1] and round to 8-bit codes in float64, returned as float in [0, 1]."""
    return quantize(image_HWC.astype(np.float64))


def _ssim_plane(image: npt.NDArray[np.float64], reference: npt.NDArray[np.float64]) -> float:
    mean_i, mean_r = _window_mean(image), _window_mean(reference)
    variance_i = _window_mean(image * image) - mean_i**2
    variance_r = _window_mean(reference * reference) - mean_r**2
    covariance = _window_mean(image * reference) - mean_i * mean_r
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_i * mean_r + c1) * (2 * covariance + c2)) / (
        (mean_i**2 + mean_r**2 + c1) * (variance_i + variance_r + c2)
    )
    return float(similarity.mean())


def _window_mean(plane: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * 1.5**2))
    weights /= weights.sum()
    half = WINDOW // 2
    mean = ndimage.correlate1d(ndimage.correlate1d(plane, weights, axis=0), weights, axis=1)
    return mean[half:-half, half:-half]


def _check(image_HWC: Array, reference_HWC: Array) -> None:
    if image_HWC.shape != reference_HWC.shape or image_HWC.ndim != 3:
        raise ValueError(f"images of one shape [H, W, C] are compared, not {image_HWC.shape} and {reference_HWC.shape}")
