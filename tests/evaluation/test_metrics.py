"""Tests of the metrics against their definitions and independent implementations."""

import math

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from sanarestore.evaluation.metrics import frechet_distance, luma, psnr, psnr_b, sharpness, ssim, to_8bit
from tests.conftest import photo


def test_psnr_equals_that_of_a_known_error() -> None:
    image = photo(20, 30)
    assert psnr(image + np.float32(0.1), image) == pytest.approx(20, abs=1e-4)
    assert psnr(image, image) == math.inf


def test_psnr_averages_errors_and_not_decibels_over_channels() -> None:
    reference = np.zeros((4, 4, 3), np.float32)
    image = reference.copy()
    image[..., 0] = 0.3
    assert psnr(image, reference) == pytest.approx(-10 * math.log10(0.09 / 3), abs=1e-6)


def test_ssim_agrees_with_scikit_image() -> None:
    rng = np.random.default_rng(0)
    reference = photo(70, 91)
    image = to_8bit(reference + rng.normal(0, 0.1, reference.shape))
    theirs = structural_similarity(
        image, reference.astype(np.float64), channel_axis=2, data_range=1.0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, truncate=3.5,
    )  # fmt: skip
    assert ssim(image, reference) == pytest.approx(theirs, abs=1e-9)
    assert ssim(reference, reference) == pytest.approx(1)


def test_images_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        psnr(photo(4, 4), photo(4, 5))
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(photo(10, 40), photo(10, 40))


def test_8_bit_codes_are_rounded_and_clamped() -> None:
    values = np.array([[[-0.2, 0.5 / 255 - 1e-4, 0.5 / 255 + 1e-4, 1.3]]])
    assert (to_8bit(values) * 255).tolist() == [[[0, 0, 1, 255]]]


def test_psnr_b_adds_the_steps_at_block_edges() -> None:
    """Flat blocks of alternating level have steps only at their edges, which can be computed by hand."""
    image = np.zeros((32, 64, 1))
    image[:, 8::16] = 0.2
    for n in range(8):
        image[:, 8 * n : 8 * n + 8] = 0.2 * (n % 2)
    reference = np.full_like(image, 0.1)
    edges = 7 * 32 * 0.04 / (7 * 32 + 3 * 64)  # vertical edges step, horizontal ones do not
    expected = 0.01 + edges * math.log2(8) / math.log2(32)
    assert psnr_b(image, reference) == pytest.approx(-10 * math.log10(expected))
    moved = np.roll(image, 4, axis=1)
    assert psnr_b(moved, reference) == pytest.approx(psnr(moved, reference)), "steps off the grid add nothing"
    assert psnr_b(reference, reference) == math.inf
    with pytest.raises(ValueError, match="16 pixels"):
        psnr_b(reference[:15], reference[:15])


def test_sharpness_is_relative_to_the_reference() -> None:
    reference = photo(20, 30)
    assert sharpness(reference, reference) == 1
    assert sharpness(reference * 0.5 + 0.2, reference) == pytest.approx(0.5)
    blurred = (reference[1:] + reference[:-1]) / 2
    assert sharpness(blurred, reference[1:]) < 1
    flat = np.zeros((4, 4, 1))
    assert (sharpness(flat + 0.5, flat), sharpness(photo(4, 4)[..., :1], flat)) == (1, math.inf)


def test_luma_has_studio_range() -> None:
    corners = np.array([[[0.0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]])
    assert (luma(corners)[0, :, 0] * 255).tolist() == pytest.approx([16, 235, 81.481, 144.553, 40.966])
    gray = photo(4, 5)[..., :1]
    assert np.array_equal(luma(gray), gray)


def test_the_frechet_distance_is_exact_for_known_gaussians() -> None:
    """Features at the corners of boxes have known means and variances, and no covariances."""
    corners = np.stack(np.meshgrid([-1, 1], [-1, 1]), axis=-1).reshape(-1, 2) * math.sqrt(3 / 4)
    one, other = corners * [1, 2], corners * [3, 2] + [5, 0]
    assert frechet_distance(one, other) == pytest.approx(5**2 + (3 - 1) ** 2)
    assert frechet_distance(one, np.repeat(other, 1000, axis=0)) == pytest.approx(5**2 + 2**2, rel=0.15), (
        "the numbers of samples may differ"
    )
    with pytest.raises(ValueError, match="two samples"):
        frechet_distance(one[:1], other)


@pytest.mark.parametrize(("count", "features"), [(300, 8), (10, 40)])
def test_the_frechet_distance_equals_its_definition(count: int, features: int) -> None:
    """The definition uses a matrix root; there may be more samples than features, or fewer."""
    rng = np.random.default_rng(0)
    one = rng.normal(size=(count, features)) @ rng.normal(size=(features, features))
    other = 2 * rng.normal(size=(count + 3, features)) + 1
    first, second = np.cov(one.T), np.cov(other.T)
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
    shared = np.sqrt(np.clip(np.linalg.eigvalsh(root @ second @ root), 0, None)).sum()
    expected = np.square(one.mean(0) - other.mean(0)).sum() + np.trace(first) + np.trace(second) - 2 * shared
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-6)
