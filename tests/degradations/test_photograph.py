"""The simulated camera: its noise matches that of photographs, and without noise it keeps the scene."""

from dataclasses import replace

import numpy as np
import pytest

from sanarestore.degradations.operations import Jpeg
from sanarestore.degradations.photograph import NoiseReduction, Photograph, draw_photograph
from sanarestore.degradations.recipes import Recipe, stream
from sanarestore.images import Pixels

LEVELS = (16, 48, 80, 112, 144, 176, 208, 240)
"""Codes at which the noise of photographs was measured."""

PLAIN = Photograph(
    shot=(4e-4, 2e-4, 4e-4), read=(1e-7, 1e-7, 1e-7), contrast=0.6, saturation=0.15, pattern="bayer", phase=(0, 0),
    method="bilinear", softness=0.0, reduction=None, sharpening=0.0, sharpening_radius=1.0, optics=0.0, scale=1.0,
    jpegs=(), seed=1,
)  # fmt: skip


def scene(side: int = 128, channels: int = 3) -> Pixels:
    """Make shades from black to white with some texture, every level equally often."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    shades = x / (side - 1) * 0.9 + 0.05 + 0.03 * np.sin(y / 6)
    colours = np.array([1.0, 0.95, 0.9], np.float32)[:channels]
    return (shades[..., None] * colours).astype(np.float32)


def noise_of(photograph: Photograph, clean: Pixels) -> Pixels:
    """Estimate noise from the difference of two exposures, which cancels most of the error of JPEG."""
    twice = [replace(photograph, seed=seed)(clean) for seed in (1, 2)]
    return (twice[0] - twice[1]) / np.float32(2**0.5)


def correlation(noise_HWC: Pixels, distance: int) -> float:
    luma = noise_HWC @ np.array([0.299, 0.587, 0.114], np.float32)
    luma -= luma.mean()
    pairs = (luma[:, distance:] * luma[:, :-distance]).mean() + (luma[distance:] * luma[:-distance]).mean()
    return float(pairs / 2 / luma.var())


def between_channels(noise_HWC: Pixels) -> float:
    return float(np.corrcoef(noise_HWC.reshape(-1, 3).T)[np.triu_indices(3, 1)].mean())


@pytest.fixture(scope="module")
def noises() -> list[Pixels]:
    """Measure the noise of eighty cameras sampled from the preset."""
    sampled = [Recipe.parse("photograph").draw(stream("camera", number), 0).operations[0] for number in range(80)]
    return [noise_of(photograph, scene()) * 255 for photograph in sampled if isinstance(photograph, Photograph)]


def test_noise_deviations_cover_those_of_photographs(noises: list[Pixels]) -> None:
    """Three sets of real photographs have 2.2 to 8.3 codes, with medians from 3.6 to 5.1."""
    low, middle, high = np.quantile([noise.std() for noise in noises], (0.1, 0.5, 0.9))
    assert low < 2.2
    assert 2.8 < middle < 5.1
    assert high > 8.3


@pytest.mark.parametrize(
    ("distance", "measured"), [(1, (0.67, 0.70)), (2, (0.36, 0.40)), (3, (0.21, 0.28)), (4, (0.14, 0.25))]
)
def test_noise_correlations_cover_those_of_photographs(
    noises: list[Pixels], distance: int, measured: tuple[float, float]
) -> None:
    low, high = np.quantile([correlation(noise, distance) for noise in noises], (0.1, 0.9))
    assert low < measured[0]
    assert high > measured[1]


def test_correlations_between_channels_cover_those_of_photographs(noises: list[Pixels]) -> None:
    low, high = np.quantile([between_channels(noise) for noise in noises], (0.1, 0.9))
    assert low < 0.31
    # One camera in twelve has at least the measured 0.70.
    assert high > 0.6


def test_noise_is_strongest_in_the_midtones(noises: list[Pixels]) -> None:
    """Noise by level has the profile of photographs.

    Relative to the largest deviation, photographs have 0.55 to 0.58 at 16 codes and 0.38 to 0.42 at 240; the largest is
    at 80 to 144.
    """
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    code_HW = scene() @ weights * 255
    at_level = [np.abs(code_HW - level) < 16 for level in LEVELS]
    deviations = np.array([[(noise @ weights)[place].std() for place in at_level] for noise in noises])
    low, middle, high = np.quantile(deviations / deviations.max(axis=1, keepdims=True), (0.1, 0.5, 0.9), axis=0)
    assert low[0] < 0.55
    assert high[0] > 0.58
    assert low[-1] < 0.38
    assert high[-1] > 0.42
    assert np.argmax(middle) in (2, 3, 4)


def test_noise_has_zero_mean() -> None:
    """The mean is near zero in shadows, midtones and highlights; clipping at black and white shifts it a little."""
    for number in range(30):
        photograph = Recipe.parse("photograph").draw(stream("mean", number), 0).operations[0]
        assert isinstance(photograph, Photograph)
        for code in (40, 128, 220):
            flat = np.full((96, 96, 3), code / 255, np.float32)
            noise = (replace(photograph, jpegs=())(flat) - photograph.without_noise()(flat)) * 255
            assert abs(noise.mean()) < 0.25 + 0.12 * noise.std()


def test_a_camera_without_noise_keeps_the_scene() -> None:
    """The scene is kept exactly at full size; only sharpening, and a little resampling, change it."""
    scene_HWC = np.random.default_rng(2).random((48, 48, 3)).astype(np.float32)
    assert np.array_equal(PLAIN.without_noise()(scene_HWC), scene_HWC)
    assert np.abs(replace(PLAIN, scale=0.6).without_noise()(scene()) - scene()).max() < 2 / 255
    assert np.ptp(replace(PLAIN, sharpening=0.8).without_noise()(scene_HWC) - scene_HWC) > 0.1


def test_the_target_keeps_the_softness_of_the_optics() -> None:
    """Most photographs are soft at the pixel level, and so are their targets: only noise is removed."""
    soft = replace(PLAIN, optics=1.0)
    lines = np.where(np.arange(64)[None, :, None] % 2, 0.8, 0.2) * np.ones((64, 64, 3), np.float32)
    assert np.ptp(soft.without_noise()(lines.astype(np.float32))[:, 8:-8]) < 0.02
    sampled = [Recipe.parse("photograph").draw(stream("optics", number), 0).operations[0] for number in range(100)]
    sharp = [photograph.optics == 0 for photograph in sampled if isinstance(photograph, Photograph)]
    assert 0.15 < np.mean(sharp) < 0.45


def test_fine_gray_lines_get_no_false_colour() -> None:
    """Bilinear demosaicing alone would add false colour, but a camera without noise has none."""
    lines = np.where(np.arange(64)[None, :, None] % 2, 0.8, 0.2) * np.ones((64, 64, 3), np.float32)
    stored = replace(PLAIN, shot=(0.0, 1e-9, 0.0))(lines.astype(np.float32))
    assert np.ptp(stored, axis=2).max() < 0.01


def test_without_noise_drops_the_jpeg_compression() -> None:
    stored = replace(PLAIN, jpegs=(Jpeg(quality=85), Jpeg(quality=90)))
    assert stored.without_noise().jpegs == ()
    assert np.array_equal(stored.without_noise()(scene()), replace(PLAIN).without_noise()(scene()))
    assert not np.array_equal(stored(scene()), PLAIN(scene()))


def test_the_target_of_a_pair_is_the_same_camera_without_noise() -> None:
    for number in range(40):
        plan = Recipe.parse("photograph:8").draw(stream("pair", number), 0)
        (photograph,) = plan.operations
        assert isinstance(photograph, Photograph)
        assert plan.kept == (photograph.without_noise(),)
        assert plan.request.removes in (None, ("noise",))


def test_shot_noise_has_its_variance() -> None:
    light = np.full((256, 256, 1), 0.5, np.float32)
    plain = replace(PLAIN, contrast=0.0)
    noise = noise_of(plain, light)
    slope = 1.055 / 2.4 * 0.2140 ** (1 / 2.4 - 1)  # of sRGB's curve at the linear value of 0.5
    assert noise.std() == pytest.approx(slope * np.sqrt(2e-4 * 0.2140), rel=0.03)


def test_noise_reduction_is_weaker_at_edges() -> None:
    noise = np.random.default_rng(3).normal(0, 0.02, (96, 96, 3)).astype(np.float32)
    clean = np.where(np.arange(96)[None, :, None] < 48, 0.2, 0.8) * np.ones((96, 96, 3), np.float32)
    left = NoiseReduction(luma=0.8, chroma=0.95, radius=3, chroma_radius=4, edge=0.1, shadows=0.0, highlights=0.0)(
        noise, clean.astype(np.float32)
    )
    away, at_edge = left[:, 8:32], left[:, 47:49]
    assert away.std() < 0.5 * noise[:, 8:32].std()
    assert at_edge.std() > 0.8 * noise[:, 47:49].std()
    assert between_channels(away) > 0.5
    assert correlation(away, 3) > 0.02


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (33, 20)])
def test_the_camera_takes_any_size_and_gray_images(size: tuple[int, int], channels: int) -> None:
    clean = np.full((*size, channels), 0.4, np.float32)
    for number in range(8):
        photograph = draw_photograph(6, stream("size", number))
        stored = photograph(clean)
        assert stored.shape == clean.shape
        assert stored.dtype == np.float32
        assert np.isfinite(stored).all()
        assert np.array_equal(stored, photograph(clean))


def test_higher_sensitivity_is_noisier() -> None:
    deviations = [
        np.median([noise_of(draw_photograph(stops, stream("iso", i)), scene(64)).std() for i in range(24)])
        for stops in (1, 5, 9)
    ]
    assert deviations[0] < deviations[1] < deviations[2]


@pytest.mark.parametrize("code", [0, 6, 60, 250, 255])
def test_on_average_predicts_the_mean_of_large_areas(code: int) -> None:
    """Clipping at black and white shifts the mean; the prediction is within two codes for nine in ten cameras."""
    flat = np.full((128, 128, 3), code / 255, np.float32)
    errors = []
    for number in range(30):
        photograph = replace(draw_photograph(7 + number % 6, stream("area", number)), jpegs=())
        found = photograph(flat).mean(axis=(0, 1)) - photograph.on_average(flat[:1, :1])[0, 0]
        errors.append(float(np.abs(found).max()) * 255)
    assert np.quantile(errors, 0.9) < 2
