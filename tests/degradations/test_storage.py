"""Storage degradations: WebP and double JPEG."""

import io

import numpy as np
import pytest
from PIL import Image as PillowImage

from sanarestore.degradations import storage
from sanarestore.degradations.operations import Jpeg
from sanarestore.degradations.storage import JpegTwice, WebP
from sanarestore.images import Pixels


def photo(height: int = 64, width: int = 72) -> Pixels:
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return (0.5 + 0.3 * np.sin(x / 5 + c) * np.cos(y / 4) + 0.1 * np.sin(x * 1.9 + y)).astype(np.float32)


@pytest.mark.parametrize("quality", [20, 80])
def test_webp_matches_pillow_at_the_same_quality(quality: int) -> None:
    buffer = io.BytesIO()
    codes = np.rint(photo() * 255).astype(np.uint8)
    PillowImage.fromarray(codes).save(buffer, "WEBP", quality=quality, method=2)
    expected = np.asarray(PillowImage.open(buffer).convert("RGB"), dtype=np.float32) / 255
    assert np.array_equal(WebP(quality=quality)(photo()), expected)


def test_webp_keeps_gray_and_is_worse_at_lower_quality() -> None:
    gray = photo()[..., :1]
    assert WebP(quality=50)(gray).shape == gray.shape
    errors = [float(np.mean((WebP(quality=quality)(photo()) - photo()) ** 2)) for quality in (10, 50, 95)]
    assert errors[0] > errors[1] > errors[2]


def test_webp_stores_images_beyond_its_size_limit_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "LONGEST", 40)
    stored = WebP(quality=60)(photo())
    assert np.array_equal(stored[:40, :40], WebP(quality=60)(photo()[:40, :40]))
    assert np.array_equal(stored[40:, 40:], WebP(quality=60)(photo()[40:, 40:]))


def test_a_second_jpeg_has_a_shifted_grid() -> None:
    first, second = Jpeg(quality=15), Jpeg(quality=95, subsampling="4:4:4")
    shifted = JpegTwice(first=first, second=second, shift=(3, 5))(photo())
    assert shifted.shape == photo().shape
    steps_H = np.abs(np.diff(shifted, axis=0)).mean(axis=(1, 2))
    # Blocks of the first grid start at rows 5, 13, ..., so edges lie between rows 4 and 5 of every eight.
    on_grid = steps_H[4::8].mean()
    off_grid = np.delete(steps_H, np.s_[4::8]).mean()
    unshifted = np.abs(np.diff(JpegTwice(first=first, second=second, shift=(0, 0))(photo()), axis=0)).mean(axis=(1, 2))
    assert on_grid / off_grid > unshifted[4::8].mean() / np.delete(unshifted, np.s_[4::8]).mean()
