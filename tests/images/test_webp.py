"""Tests of lossy and lossless WebP files, whose metadata is also read with Pillow."""

import io
import struct

import numpy as np
import pytest
from PIL import Image as PillowImage

from sanarestore.errors import UnreadableImage, UnwritableImage
from sanarestore.images import Image, Metadata, decode, encode, from_float, to_float
from sanarestore.images.image import to_stored
from sanarestore.options import WriteOptions
from tests.images.conftest import XMP, codes, exif_values, photograph, smooth


def test_lossy_files_stay_lossy_and_close():
    data = encode(Image(pixels_HWC=to_float(smooth(), "uint8"), depth="uint8", format="webp"))
    image = decode(data)
    assert not image.lossless
    assert np.abs(from_float(image.pixels_HWC, "uint8").astype(int) - smooth()).max() <= 12


@pytest.mark.parametrize("channels", [3, 4])
def test_lossless_files_are_exact_even_under_transparency(channels):
    image = decode(encode(photograph("uint8", channels, "webp", lossless=True)))
    assert image.lossless
    assert np.array_equal(to_stored(image), codes("uint8", channels))


def test_gray_becomes_three_equal_channels():
    image = decode(encode(photograph("uint8", 1, "webp", lossless=True)))
    assert np.array_equal(to_stored(image), np.repeat(codes("uint8", 1), 3, axis=2))


def test_metadata_is_kept_byte_for_byte(icc, exif):
    data = encode(photograph("uint8", 4, "webp", metadata=Metadata(icc=icc, exif=exif, xmp=XMP)))
    with PillowImage.open(io.BytesIO(data)) as file:
        assert file.info["icc_profile"] == icc
        assert file.info["exif"].removeprefix(b"Exif\0\0") == exif
        assert file.info["xmp"] == XMP
    reread = decode(data).metadata
    assert (reread.icc, reread.exif, reread.xmp) == (icc, exif, XMP)


def test_resolution_is_kept():
    image = photograph("uint8", 3, "webp", metadata=Metadata(dpi=(300.0, 240.0)))
    assert decode(encode(image)).metadata.dpi == (300.0, 240.0)


def test_the_resolution_joins_an_exif_block_that_has_none(exif):
    metadata = Metadata(exif=exif, dpi=(300.0, 240.0))
    reread = decode(encode(photograph("uint8", 3, "webp", metadata=metadata))).metadata
    assert reread.dpi == (300.0, 240.0)
    assert exif_values(reread.exif) == exif_values(exif)


def test_unknown_chunks_are_left_out_and_said():
    plain = encode(photograph("uint8", 3, "webp", metadata=Metadata(xmp=XMP)))
    data = plain[:4] + struct.pack("<L", len(plain) + 4) + plain[8:] + b"MINE" + struct.pack("<L", 4) + b"abcd"
    assert decode(data).notes == ("MINE chunks are left out, because their meaning is not known",)


@pytest.mark.parametrize(
    ("image", "fact"),
    [
        (lambda: photograph("uint16", 3, "webp"), "8 bits"),
        (lambda: photograph("uint8", 4, "webp", alpha_kind="unspecified"), "not marked as alpha"),
        (lambda: photograph("uint8", 1, "webp", metadata=Metadata(icc=bytes(16) + b"GRAY" + bytes(108))), "gray"),
        (lambda: Image(pixels_HWC=np.zeros((1, 16384, 3), np.float32), depth="uint8", format="webp"), "16383"),
    ],
)
def test_images_that_webp_cannot_hold_are_refused(image, fact):
    with pytest.raises(UnwritableImage, match=fact):
        encode(image())


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.95])
def test_truncated_files_are_refused(kept):
    data = encode(photograph("uint8", 3, "webp"))
    with pytest.raises(UnreadableImage):
        decode(data[: int(len(data) * kept)])


def test_a_chosen_quality_decides_the_size_and_makes_lossless_files_lossy():
    image = photograph("uint8", 3, "webp", lossless=True)
    sizes = [len(encode(image, options=WriteOptions(quality=quality))) for quality in (20, 60, 100)]
    assert sizes == sorted(set(sizes))
    assert not decode(encode(image, options=WriteOptions(quality=90))).lossless
    plain = photograph("uint8", 3, "webp")
    assert encode(plain) == encode(plain, options=WriteOptions(quality=90))
