"""Tests of arrays and Pillow images as images: nothing is lost on the way in and back, and the rest is refused."""

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as Pillow

from sanarestore import images
from sanarestore.engine.pixels import host_tensor
from sanarestore.errors import UnreadableImage
from sanarestore.images.arrays import MODES, array_like, from_array, from_pillow, pillow_like
from tests.conftest import photo


def random_array(shape: tuple[int, ...], dtype: str, seed: int = 0) -> npt.NDArray[Any]:
    """Return random values of every code, or floats in [0,1]."""
    rng = np.random.default_rng(seed)
    if dtype.startswith("float"):
        return rng.random(shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "float16", "float32"])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 2), (5, 7, 3), (5, 7, 4), (1, 1)])
def test_arrays_come_back_as_they_went_in(shape: tuple[int, ...], dtype: str) -> None:
    array = random_array(shape, "uint16" if dtype == ">u2" else dtype).astype(dtype)
    before = array.copy()
    image = images.from_array(array)
    assert image.pixels_HWC.shape[2] == (3 if len(shape) == 3 and shape[2] > 2 else 1)
    back = array_like(image, array)
    assert back.dtype == array.dtype
    assert back.shape == shape
    assert np.array_equal(back, before)
    assert np.array_equal(array, before)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
def test_an_unchanged_result_is_a_copy(shape: tuple[int, ...]) -> None:
    array = random_array(shape, "float32")
    assert not np.may_share_memory(array_like(images.from_array(array), array), array)


def test_an_array_that_is_read_only_is_restored_without_a_warning() -> None:
    array = random_array((5, 7, 3), "float32")
    array.flags.writeable = False
    assert host_tensor(images.from_array(array).pixels_HWC).shape == (3, 5, 7)


def test_a_view_with_negative_strides_is_read() -> None:
    array = random_array((6, 8, 3), "uint8")
    assert np.array_equal(images.to_array(images.from_array(array[::-1, ::2])), array[::-1, ::2])


def test_floats_a_little_outside_of_the_range_are_kept() -> None:
    array = np.array([[-0.2, 1.3], [0.5, 0.25]], np.float32)
    assert np.array_equal(images.to_array(images.from_array(array)), array)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((4, 4), bool), "type bool.*mask"),
        (np.zeros((4, 4, 3), np.int64), r"type int64.*astype\('uint8'\)"),
        (np.zeros((4, 4, 3), np.float64), r"type float64.*astype\('float32'\)"),
        (np.zeros((4, 4, 3), np.complex64), "type complex64: uint8, uint16, float16 and float32 are restored"),
        (np.zeros(4, np.uint8), r"two or three dimensions.*\[H, W\]"),
        (np.zeros((2, 4, 4, 3), np.uint8), "two or three dimensions.*one image at a time"),
        (np.zeros((3, 40, 50), np.uint8), r"50 channels.*transpose\(1, 2, 0\)"),
        (np.zeros((4, 4, 0), np.uint8), "0 channels"),
        (np.zeros((0, 4, 3), np.uint8), "empty.*cut out"),
        (np.full((4, 4, 3), 117, np.float32), "mean is 117.*range 0 to 1.*Divide"),
    ],
)
def test_arrays_that_are_no_photographs_are_refused_with_advice(array: npt.NDArray[Any], said: str) -> None:
    with pytest.raises(UnreadableImage, match=said):
        images.from_array(array)


def test_files_have_the_array_of_their_depth() -> None:
    pixels = photo(6, 8)
    color = images.Image(pixels_HWC=pixels, depth="uint16", format="png")
    assert images.to_array(color).dtype == np.uint16
    assert images.to_array(color).shape == (6, 8, 3)
    gray = images.Image(pixels_HWC=pixels[..., :1], depth="uint8", format="png")
    assert images.to_array(gray).shape == (6, 8)


def picture(mode: str) -> Pillow.Image:
    """Make a Pillow image of a mode, of random values."""
    if mode == "I;16":
        return Pillow.fromarray(random_array((6, 8), "uint16"))
    bands = len(Pillow.new(mode, (1, 1)).getbands())
    made = random_array((6, 8) if bands == 1 else (6, 8, bands), "uint8")
    return Pillow.fromarray(made)


@pytest.mark.parametrize("mode", MODES)
def test_pillow_images_come_back_in_their_mode(mode: str) -> None:
    given = picture(mode)
    assert given.mode == mode
    given.info.update(icc_profile=b"profile", dpi=(300.0, 300.0))
    image = from_pillow(given)
    back = pillow_like(image, given)
    assert back.mode == mode
    assert back.tobytes() == given.tobytes()
    assert back.info == given.info
    assert back.info is not given.info


def test_metadata_of_a_pillow_image_goes_into_a_file() -> None:
    given = picture("RGB")
    given.info.update(icc_profile=b"profile", exif=b"Exif\0\0II*\0", xmp=b"<x/>", dpi=(72, 96))
    expected = images.Metadata(icc=b"profile", exif=b"II*\0", xmp=b"<x/>", dpi=(72.0, 96.0))
    assert from_pillow(given).metadata == expected


@pytest.mark.parametrize("mode", ["1", "P", "YCbCr", "HSV", "RGBX", "La", "RGBa", "I", "I;16B", "F"])
def test_other_pillow_modes_are_refused_with_a_conversion_that_works(mode: str) -> None:
    given = Pillow.new(mode, (6, 8))
    with pytest.raises(UnreadableImage, match=rf"mode {mode}: L, LA, RGB, RGBA and I;16 are restored") as caught:
        from_pillow(given)
    (advised,) = re.findall(
        r"(image\.convert\('\w+'\)|np\.asarray\(image\)(?:\.astype\('\w+'\))?)", caught.value.next_step
    )
    made = eval(advised, {"image": given, "np": np})
    assert (from_pillow if isinstance(made, Pillow.Image) else from_array)(made).width == 6


@pytest.mark.parametrize("mode", ["I", "I;16B", "F"])
def test_no_conversion_is_advised_that_clips_values(mode: str) -> None:
    with pytest.raises(UnreadableImage) as caught:
        from_pillow(Pillow.new(mode, (6, 8)))
    assert "convert('" not in caught.value.next_step


@pytest.mark.parametrize("mode", ["CMYK", "LAB"])
def test_colours_that_need_a_profile_are_sent_to_the_file(mode: str) -> None:
    with pytest.raises(UnreadableImage, match="Give the path of its file"):
        from_pillow(Pillow.new(mode, (6, 8)))


def test_an_empty_pillow_image_is_refused() -> None:
    with pytest.raises(UnreadableImage, match="empty"):
        from_pillow(Pillow.new("RGB", (0, 5)))
