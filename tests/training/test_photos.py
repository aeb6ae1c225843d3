"""Photographs are cropped as they are, kept within bounds, and held back whole."""

from pathlib import Path

import numpy as np
import pytest

from sanarestore import images
from sanarestore.degradations.pairs import Pair
from sanarestore.training import photos as photos_module
from sanarestore.training.photos import PhotoCache, hold_back_pairs


def test_the_cache_stays_within_its_bytes(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos_module, "CACHE_BYTES", 90 * 120 * 3 + 40 * 200 * 3)
    cache = PhotoCache()
    for path in [*photos, photos[1]]:
        cache.read(path)
    assert list(cache._kept) == [photos[2]] or cache._bytes <= photos_module.CACHE_BYTES


def test_a_crop_larger_than_the_photo_is_mirrored(photos: list[Path]) -> None:
    crop = PhotoCache().crop(photos[1], -8, 0, 64, 16)
    whole = images.read(photos[1]).pixels_HWC
    assert crop.shape == (64, 16, 3)
    assert np.array_equal(crop[8:48], whole[:, :16])
    assert np.array_equal(crop[7], whole[0, :16])
    assert np.array_equal(crop[48], whole[39, :16])


def test_a_16_bit_photo_keeps_its_depth_in_the_cache(tmp_path: Path) -> None:
    pixels = np.full((40, 40, 1), 12345 / 65535, np.float32)
    images.write(images.Image(pixels_HWC=pixels, depth="uint16", format="tiff"), tmp_path / "deep.tif")
    cache = PhotoCache()
    assert cache.read(tmp_path / "deep.tif").dtype == np.uint16
    assert cache.crop(tmp_path / "deep.tif", 0, 0, 4, 4) == pytest.approx(12345 / 65535, abs=1e-7)


def test_no_photo_is_validated_that_was_trained_on_in_another_pair() -> None:
    pairs = [
        Pair(target=Path(f"{n}.png"), degraded=Path(f"{n}__v{variant}.png"), prompt="") for n in range(10)
        for variant in range(5)
    ]  # fmt: skip
    train, kept = hold_back_pairs(pairs, 4)
    assert len(kept) == len({pair.target for pair in kept}) == 4
    assert not {pair.target for pair in kept} & {pair.target for pair in train}
    assert len(train) == 6 * 5
    assert len({pair.degraded.stem[-2:] for pair in kept}) == 4, "another variant of each"
    assert hold_back_pairs(pairs[:5], 4) == (tuple(pairs[:5]), ())
