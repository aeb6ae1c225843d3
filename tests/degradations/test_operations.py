"""Degradation operations: each is measured against the formula in its docstring."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image as PillowImage
from scipy import stats

from sanarestore.degradations.film import ColourBlotches, FilmGrain
from sanarestore.degradations.lens import Defocus, MotionBlur
from sanarestore.degradations.operations import (
    Blur,
    CameraNoise,
    ColourShift,
    Exposure,
    GaussianNoise,
    Jpeg,
    LowLight,
    LowResolution,
    Operation,
    PoissonNoise,
    decode_srgb,
    encode_srgb,
)
from sanarestore.degradations.photograph import draw_photograph
from sanarestore.degradations.poisson import poisson_quantile
from sanarestore.degradations.storage import JpegTwice, WebP
from sanarestore.images import Pixels, resize

OPERATIONS = (
    GaussianNoise(sigma=25, seed=1),
    PoissonNoise(scale=4, seed=1),
    CameraNoise(gain=1e-3, read=1e-3, seed=1),
    LowLight(stops=2, gain=1e-3, read=1e-3, seed=1),
    Exposure(stops=2),
    Jpeg(quality=30),
    Blur(sigma=1.3),
    LowResolution(factor=3),
    ColourShift(brightness=0.1, contrast=-0.1, gains=(1.1, 0.9, 1.0)),
    FilmGrain(sigma=12, size=0.8, colour=0.4, seed=1),
    ColourBlotches(sigma=8, size=2, seed=1),
    Defocus(radius=2.5),
    MotionBlur(length=7, angle=0.6),
    WebP(quality=50),
    JpegTwice(first=Jpeg(quality=70), second=Jpeg(quality=80), shift=(3, 5)),
    draw_photograph(7, np.random.default_rng(1)),
)
SIZES = ((1, 1), (1, 7), (7, 1), (2, 2), (33, 65))


def flat(value: float, height: int = 256, width: int = 256, channels: int = 3) -> Pixels:
    return np.full((height, width, channels), value, np.float32)


def textured(height: int = 48, width: int = 56, channels: int = 3) -> Pixels:
    """Make gradients with a ripple, in [0.1, 0.9]."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(channels), indexing="ij")
    smooth = 0.5 + 0.25 * np.sin(x / 9 + c) * np.cos(y / 7) + 0.15 * np.sin(x * 1.7 + y * 0.9 + c)
    return smooth.astype(np.float32)


def named(operation: Operation) -> str:
    return type(operation).__name__


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
def test_operations_keep_size_and_type_and_do_not_change_their_input(operation: Operation, channels: int) -> None:
    for height, width in SIZES:
        clean = textured(height, width, channels)
        before = clean.copy()
        degraded = operation(clean)
        assert degraded.shape == clean.shape
        assert degraded.dtype == np.float32
        assert np.isfinite(degraded).all()
        assert np.array_equal(clean, before)
        assert not np.shares_memory(degraded, clean)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("operation", [*OPERATIONS, GaussianNoise(sigma=50, seed=1)], ids=named)
@pytest.mark.parametrize("value", [0.0, 0.04, 0.3, 0.98])
def test_on_average_is_the_mean_of_a_large_degraded_area(operation: Operation, channels: int, value: float) -> None:
    """The mean is taken after clipping, and must agree within a code and a half."""
    expected = np.clip(operation(flat(value, channels=channels)), 0, 1).mean(axis=(0, 1))
    found = operation.on_average(flat(value, 1, 1, channels))
    assert found.shape == (1, 1, channels)
    assert found.dtype == np.float32
    assert found[0, 0] == pytest.approx(expected, abs=1.5 / 255)


@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
def test_operations_are_pure(operation: Operation) -> None:
    clean = textured()
    first = operation(clean)
    GaussianNoise(sigma=3, seed=99)(clean)
    assert np.array_equal(first, operation(clean))
    assert not np.array_equal(first, clean)


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: GaussianNoise(sigma=9, seed=seed),
        lambda seed: PoissonNoise(scale=4, seed=seed),
        lambda seed: CameraNoise(gain=1e-3, read=1e-3, seed=seed),
        lambda seed: LowLight(stops=1, gain=1e-3, read=1e-3, seed=seed),
    ],
)
def test_noise_depends_on_the_seed_only(make: Callable[[int], Operation]) -> None:
    clean = textured()
    assert np.array_equal(make(5)(clean), make(5)(clean))
    assert np.mean(make(5)(clean) != make(6)(clean)) > 0.5


@pytest.mark.parametrize("sigma", [5, 25, 50])
def test_gaussian_noise_has_its_standard_deviation_and_is_white(sigma: float) -> None:
    noise = (GaussianNoise(sigma=sigma, seed=3)(flat(0.5)) - 0.5) * 255
    assert noise.std() == pytest.approx(sigma, rel=0.01)
    assert abs(noise.mean()) < sigma * 0.01
    assert stats.kurtosis(noise.ravel()) == pytest.approx(0, abs=0.05)
    for left, right in ((noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1]), (noise[..., 0], noise[..., 1])):
        assert abs(np.corrcoef(left.ravel(), right.ravel())[0, 1]) < 0.02


def test_gaussian_noise_does_not_depend_on_the_image_and_is_not_clipped() -> None:
    operation = GaussianNoise(sigma=25, seed=8)
    dark, bright = operation(flat(0)), operation(flat(1))
    assert np.allclose(bright - 1, dark, atol=1e-6)
    assert dark.min() < 0
    assert bright.max() > 1


@pytest.mark.parametrize("scale", [0.5, 2.0, 8.0, 100.0])
@pytest.mark.parametrize("value", [0.1, 0.5, 0.9])
def test_poisson_noise_has_the_mean_and_variance_of_its_law(scale: float, value: float) -> None:
    codes = PoissonNoise(scale=scale, seed=4)(flat(value)).astype(np.float64) * 255
    assert codes.mean() == pytest.approx(value * 255, rel=0.01)
    assert codes.var() == pytest.approx(value * 255 * scale, rel=0.03)
    assert np.allclose(codes / scale, np.rint(codes / scale), atol=1e-3), "values are whole numbers of photons"


def test_poisson_noise_of_a_pixel_does_not_depend_on_other_pixels() -> None:
    clean, other = textured(200, 40), textured(200, 40)
    other[3, 5] = 0.99
    operation = PoissonNoise(scale=4, seed=4)
    changed = (operation(clean) != operation(other)).any(axis=2)
    assert changed[3, 5]
    assert changed.sum() == 1


def test_poisson_noise_does_not_depend_on_blocks_of_rows() -> None:
    clean = textured(150, 20)
    uniform = np.random.default_rng(4).random(clean.shape)
    photons = poisson_quantile(uniform, clean.astype(np.float64) * (255 / 4))
    assert np.array_equal(PoissonNoise(scale=4, seed=4)(clean), (photons * (4 / 255)).astype(np.float32))


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2", "4:4:4"])
@pytest.mark.parametrize("quality", [10, 40, 95])
def test_jpeg_matches_pillow_for_quality_and_subsampling(quality: int, subsampling: str) -> None:
    clean = textured(33, 65)
    codes = np.rint(clean * 255).astype(np.uint8)
    file = io.BytesIO()
    PillowImage.fromarray(codes).save(file, "JPEG", quality=quality, subsampling=subsampling)
    stored = np.asarray(PillowImage.open(file))
    degraded = Jpeg(quality=quality, subsampling=subsampling)(clean)
    assert np.array_equal(degraded, stored.astype(np.float32) / np.float32(255))


def test_jpeg_of_a_gray_image_is_a_gray_jpeg() -> None:
    clean = textured(33, 65, channels=1)
    file = io.BytesIO()
    PillowImage.fromarray(np.rint(clean[..., 0] * 255).astype(np.uint8)).save(file, "JPEG", quality=20)
    assert np.array_equal(Jpeg(quality=20)(clean)[..., 0] * 255, np.asarray(PillowImage.open(file)).astype(np.float32))


def test_jpeg_defaults_to_420_and_is_worse_at_lower_quality() -> None:
    clean = textured()
    assert np.array_equal(Jpeg(quality=50)(clean), Jpeg(quality=50, subsampling="4:2:0")(clean))
    errors = [np.square(Jpeg(quality=quality)(clean) - clean).mean() for quality in (10, 30, 60, 90)]
    assert errors == sorted(errors, reverse=True)


def test_jpeg_ignores_pillows_limit_on_large_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 100)
    assert Jpeg(quality=50)(textured()).shape == textured().shape


@pytest.mark.parametrize("sigma", [0.6, 1.3, 2.5])
def test_blur_turns_a_point_into_a_gaussian_of_its_sigma(sigma: float) -> None:
    point = flat(0, 41, 41, 1)
    point[20, 20] = 1
    response = Blur(sigma=sigma)(point)[..., 0].astype(np.float64)
    y, x = np.mgrid[-20:21, -20:21]
    assert response.sum() == pytest.approx(1, abs=1e-5)
    # Truncation at four sigmas, rounded to whole pixels, narrows it a little: by 2.4% for the smallest sigma.
    for square in (x * x, y * y):
        assert (response * square).sum() == pytest.approx(sigma**2, rel=0.03 if sigma < 1 else 0.005)
    assert (response * x * y).sum() == pytest.approx(0, abs=1e-6)
    assert response[20, 21] / response[20, 20] == pytest.approx(np.exp(-0.5 / sigma**2), rel=1e-3)


def test_blur_does_not_mix_channels_and_keeps_flat_fields() -> None:
    red = flat(0, 21, 21)
    red[10, 10, 0] = 1
    blurred = Blur(sigma=2)(red)
    assert blurred[..., 1:].max() == 0
    assert np.allclose(Blur(sigma=2)(flat(0.3, 9, 5)), 0.3, atol=1e-6)


@pytest.mark.parametrize(("size", "sigma"), [(3, 0.8), (5, 1.1), (7, 1.4), (9, 1.7), (21, 3.5)])
def test_blur_of_a_kernel_size_follows_the_formula(size: int, sigma: float) -> None:
    assert Blur.of_kernel(size).sigma == pytest.approx(sigma)


def test_low_resolution_is_antialiased_bicubic_down_and_bicubic_up() -> None:
    clean = textured(48, 60)
    down = resize(clean, 20, 16)
    assert np.array_equal(LowResolution(factor=3)(clean), resize(down, 60, 48))
    checkers = np.indices((48, 60)).sum(axis=0)[..., None].astype(np.float32) % 2
    assert np.abs(LowResolution(factor=4)(checkers)[8:-8, 8:-8] - 0.5).max() < 0.05, "there is no aliasing"


def test_low_resolution_keeps_smooth_parts_and_flat_fields() -> None:
    assert np.allclose(LowResolution(factor=3)(flat(0.7, 32, 47)), 0.7, atol=1e-5)
    ramp = np.broadcast_to(np.linspace(0, 1, 64, dtype=np.float32)[None, :, None], (64, 64, 3))
    assert np.abs(LowResolution(factor=2)(ramp) - ramp)[:, 8:-8].max() < 1e-3, "there is no shift"


def test_colour_shift_follows_its_formula_and_is_clipped() -> None:
    clean = textured()
    shift = ColourShift(brightness=0.05, contrast=0.2, gains=(1.2, 1.0, 0.8))
    wanted = ((clean * np.array([1.2, 1.0, 0.8]) - 0.5) * 1.2 + 0.55).clip(0, 1)
    assert np.allclose(shift(clean), wanted, atol=1e-6)
    strong = ColourShift(brightness=0.2, contrast=0.2, gains=(1.2, 1.2, 1.2))(clean)
    assert strong.min() >= 0
    assert strong.max() == 1
    assert np.allclose(ColourShift(brightness=0, contrast=0, gains=(1, 1, 1))(clean), clean, atol=1e-6)


def test_the_srgb_curve_round_trips_and_has_known_values() -> None:
    codes = np.linspace(0, 1, 65536, dtype=np.float32)
    assert np.abs(encode_srgb(decode_srgb(codes)) - codes).max() < 1e-5
    assert decode_srgb(np.float32([0.5]))[0] == pytest.approx(0.21404, abs=1e-5)
    assert encode_srgb(np.float32([0.18]))[0] == pytest.approx(0.46136, abs=1e-5)
    assert (np.diff(decode_srgb(codes)) > 0).all()


@pytest.mark.parametrize("linear", [0.05, 0.2, 0.6])
def test_camera_noise_has_its_variance_at_the_mosaic_sites(linear: float) -> None:
    """The variance is gain * x + read^2 in linear light at the mosaic's red, green and blue sites."""
    gain, read = 4e-4, 6e-3
    clean = encode_srgb(flat(linear))
    noise = decode_srgb(CameraNoise(gain=gain, read=read, seed=6)(clean)).astype(np.float64) - linear
    sites = {"red": noise[0::2, 0::2, 0], "green": noise[0::2, 1::2, 1], "green below": noise[1::2, 0::2, 1],
             "blue": noise[1::2, 1::2, 2]}  # fmt: skip
    for site, values in sites.items():
        assert values.var() == pytest.approx(gain * linear + read**2, rel=0.05), site
        assert values.mean() == pytest.approx(0, abs=4e-4), site


def test_demosaicing_correlates_camera_noise_except_in_gray() -> None:
    noise = decode_srgb(CameraNoise(gain=1e-3, read=0, seed=6)(encode_srgb(flat(0.3)))) - 0.3
    red = noise[..., 0]
    assert np.corrcoef(red[:, 1:].ravel(), red[:, :-1].ravel())[0, 1] > 0.3
    between = red[0::2, 1:-1:2]
    assert np.allclose(between, (red[0::2, 0:-2:2] + red[0::2, 2::2]) / 2, atol=1e-5), (
        "missing samples are interpolated bilinearly"
    )
    gray = decode_srgb(CameraNoise(gain=1e-3, read=0, seed=6)(encode_srgb(flat(0.3, channels=1)))) - 0.3
    assert gray.var() == pytest.approx(3e-4, rel=0.05)
    assert abs(np.corrcoef(gray[:, 1:].ravel(), gray[:, :-1].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("size", [*SIZES, (3, 2)])
def test_camera_without_noise_keeps_flat_colours_at_any_size(size: tuple[int, int]) -> None:
    clean = flat(0.5, *size) * np.float32([0.4, 1.0, 1.6])
    assert np.allclose(CameraNoise(gain=0, read=0, seed=1)(clean), clean, atol=1e-4)


def test_low_light_reduces_linear_light_by_its_stops() -> None:
    clean = textured()
    dark = LowLight(stops=2, gain=0, read=0, seed=1)(np.repeat(clean[..., :1], 3, axis=2))[..., 0]
    sites = dark[0::2, 0::2]
    assert np.allclose(decode_srgb(sites), decode_srgb(clean[0::2, 0::2, 0]) / 4, atol=1e-5)


def test_low_light_has_the_noise_of_the_remaining_light() -> None:
    noisy = LowLight(stops=3, gain=1e-3, read=1e-3, seed=2)(encode_srgb(flat(0.8)))
    sites = decode_srgb(noisy)[0::2, 0::2, 0].astype(np.float64)
    assert sites.mean() == pytest.approx(0.1, rel=0.01)
    assert sites.var() == pytest.approx(1e-3 * 0.1 + 1e-6, rel=0.06)


@pytest.mark.parametrize("channels", [1, 3])
def test_low_light_without_noise_is_the_mean_of_noisy_shots(channels: int) -> None:
    clean = flat(0.6, 64, 64, channels)
    shots = [LowLight(stops=1.5, gain=1e-4, read=1e-4, seed=seed)(clean) for seed in range(20)]
    quiet = LowLight(stops=1.5, gain=1e-4, read=1e-4, seed=0).without_noise()
    assert quiet == Exposure(stops=1.5)
    assert quiet.kind == "lowlight"
    assert np.mean(shots) == pytest.approx(quiet(clean)[0, 0, 0], abs=5e-4)
    assert np.ptp(quiet(clean)) == 0 < np.std(shots)


def test_an_exposure_scales_linear_light() -> None:
    clean = textured()
    assert np.allclose(decode_srgb(Exposure(stops=2)(clean)) * 4, decode_srgb(clean), atol=1e-6)
    dark = LowLight(stops=2, gain=0.0, read=0.0, seed=0)
    assert np.allclose(Exposure(stops=2)(flat(0.5)), dark(flat(0.5)), atol=1e-6)


def test_without_noise_returns_a_noiseless_operation_itself() -> None:
    shift = ColourShift(brightness=0.1, contrast=-0.1, gains=(1.1, 0.9, 1.0))
    for quiet in (shift, Exposure(stops=1)):
        assert quiet.without_noise() is quiet
