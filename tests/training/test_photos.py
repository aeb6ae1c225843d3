"""Training photographs: crops, the cache of decoded files, and photographs held back for validation."""

from pathlib import Path

import numpy as np
import pytest

from sanarestore import images
from sanarestore.model.colour_correction import overview
from sanarestore.training import photos as photos_module
from sanarestore.training.photos import CropWindow, PhotoCache, to_tensor


def test_the_cache_stays_within_its_size(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos_module, "CACHE_BYTES", 90 * 120 * 3 + 40 * 200 * 3)
    cache = PhotoCache()
    for path in [*photos, photos[1]]:
        cache.read(path)
    assert list(cache._kept) == [photos[2]] or cache._bytes <= photos_module.CACHE_BYTES


def test_a_crop_larger_than_the_photo_is_mirrored(photos: list[Path]) -> None:
    crop = PhotoCache().photo(photos[1]).crop(-8, 0, 64, 16)
    whole = images.read(photos[1]).pixels_HWC
    assert crop.shape == (64, 16, 3)
    assert np.array_equal(crop[8:48], whole[:, :16])
    assert np.array_equal(crop[7], whole[0, :16])
    assert np.array_equal(crop[48], whole[39, :16])


@pytest.mark.parametrize("scale", [2, 3])
def test_a_part_of_an_enlarged_photo_is_that_of_the_whole(photos: list[Path], scale: int) -> None:
    """As `restore --scale` enlarges it: bicubically, in float, neither clipped nor rounded."""
    stored = images.read(photos[1]).pixels_HWC
    height, width = (scale * side for side in stored.shape[:2])
    whole = images.resize(stored, width, height)
    enlarged = PhotoCache().photo(photos[1], scale)
    assert enlarged.size == (height, width)
    for top, left, rows, columns in ((0, 0, 16, 24), (17, 31, 20, 9), (height - 30, width - 25, 30, 25)):
        part = enlarged.crop(top, left, rows, columns)
        assert np.allclose(part, whole[top : top + rows, left : left + columns], atol=1e-6)
    mirrored = enlarged.crop(-8, width - 8, 24, 16)
    assert np.allclose(mirrored[8:, :8], whole[:16, -8:], atol=1e-6)
    assert np.allclose(mirrored[7, :8], whole[0, -8:], atol=1e-6)
    assert np.allclose(mirrored[8:, 8], whole[:16, -1], atol=1e-6)
    assert np.allclose(enlarged.overview, overview(to_tensor(whole)).numpy().transpose(1, 2, 0), atol=1e-6)


def test_a_square_is_a_crop_resized_and_clipped(photos: list[Path]) -> None:
    photo = PhotoCache().photo(photos[0])
    assert np.array_equal(photo.square(CropWindow(10, 20, 32), 32), photo.crop(10, 20, 32, 32))
    shrunk = photo.square(CropWindow(10, 20, 48), 32)
    assert np.array_equal(shrunk, np.clip(images.resize(photo.crop(10, 20, 48, 48), 32, 32), 0, 1))


def test_detail_is_the_mean_difference_at_the_given_distance(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64, 1), np.float32)
    stripes[:, 1::2] = 10 / 255
    images.write(images.Image(pixels_HWC=stripes, depth="uint8", format="png"), tmp_path / "stripes.png")
    photo = PhotoCache().photo(tmp_path / "stripes.png")
    assert photo.detail(CropWindow(8, 8, 32), every=1) == pytest.approx(10)
    assert photo.detail(CropWindow(8, 8, 32), every=2) == 0
    assert photo.detail(CropWindow(8, 8, 1), every=1) == 0


def test_size_and_overview_of_a_photo_survive_eviction_of_its_pixels(
    photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photos_module, "CACHE_BYTES", 1)
    cache = PhotoCache()
    first = cache.photo(photos[0])
    size, overview = first.size, first.overview
    cache.read(photos[1])
    monkeypatch.setattr(images, "read", lambda _: pytest.fail("decoded again"))
    assert cache.photo(photos[0]) is first
    assert (first.size, first.overview is overview) == (size, True)


def test_a_16_bit_photo_keeps_its_depth_in_the_cache(tmp_path: Path) -> None:
    pixels = np.full((40, 40, 1), 12345 / 65535, np.float32)
    images.write(images.Image(pixels_HWC=pixels, depth="uint16", format="tiff"), tmp_path / "deep.tif")
    cache = PhotoCache()
    assert cache.read(tmp_path / "deep.tif").dtype == np.uint16
    assert cache.photo(tmp_path / "deep.tif").crop(0, 0, 4, 4) == pytest.approx(12345 / 65535, abs=1e-7)


def test_photos_are_decoded_once_for_all_workers(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Path] = []
    decode = images.read

    def count(path: Path) -> images.Image:
        decoded.append(path)
        return decode(path)

    monkeypatch.setattr(images, "read", count)
    for _ in range(3):
        cache = PhotoCache(tmp_path / "decoded")
        for path in photos:
            assert np.array_equal(cache.read(path), PhotoCache().read(path))
            crops = [each.photo(path).crop(-3, 2, 20, 30) for each in (cache, PhotoCache())]
            assert np.array_equal(*crops)
    # Caches without a folder decode twice per round; the cache with a folder decodes once in total.
    assert len(decoded) == (2 * 3 + 1) * len(photos)
    assert not list(tmp_path.glob("decoded/*.part"))


def test_a_photo_that_changes_is_decoded_again(photos: list[Path], tmp_path: Path) -> None:
    own = tmp_path / "own.png"
    own.write_bytes(photos[0].read_bytes())
    before = PhotoCache(tmp_path / "decoded").read(own).copy()
    images.write(images.read(photos[1]), own, overwrite=True)
    assert PhotoCache(tmp_path / "decoded").read(own).shape != before.shape


@pytest.mark.parametrize(("bound", "most"), [("DECODED_BYTES", 100), ("LEFT_FREE", 2**62)])
def test_photos_are_not_stored_when_there_is_no_room(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    monkeypatch.setattr(photos_module, bound, most)
    assert np.array_equal(PhotoCache(tmp_path / "decoded").read(photos[0]), PhotoCache().read(photos[0]))
    assert not list(tmp_path.glob("decoded/*"))


def test_a_failed_write_to_the_cache_leaves_no_file(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    for _ in range(2):
        assert np.array_equal(PhotoCache(tmp_path / "decoded").read(photos[0]), PhotoCache().read(photos[0]))
    assert not list(tmp_path.glob("decoded/*"))


@pytest.mark.parametrize("left", [b"", b"no array"])
def test_a_damaged_decoded_photo_is_decoded_again(photos: list[Path], tmp_path: Path, left: bytes) -> None:
    PhotoCache(tmp_path / "decoded").read(photos[0])
    (file,) = tmp_path.glob("decoded/*.npy")
    file.write_bytes(left)
    assert np.array_equal(PhotoCache(tmp_path / "decoded").read(photos[0]), PhotoCache().read(photos[0]))
    assert file.stat().st_size > 1000


def test_large_photos_are_memory_mapped_and_small_ones_read(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PhotoCache(tmp_path / "decoded").read(photos[0])
    assert not isinstance(PhotoCache(tmp_path / "decoded").read(photos[0]), np.memmap)
    monkeypatch.setattr(photos_module, "MAPPED_FROM", 100)
    assert isinstance(PhotoCache(tmp_path / "decoded").read(photos[0]), np.memmap)
