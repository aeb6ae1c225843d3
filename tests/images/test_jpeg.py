"""Tests of JPEG files, whose metadata is also read with Pillow."""

import io
import struct

import numpy as np
import pytest
from PIL import Image as PillowImage

from sanarestore.errors import UnreadableImage, UnwritableImage
from sanarestore.images import Image, Metadata, decode, encode, from_float, to_float
from tests.images.conftest import IPTC, XMP, photograph, saved, smooth
from tests.images.rich import CLIPPING_PATH, resource


def photo(**fields):
    return Image(pixels_HWC=to_float(smooth(), "uint8"), depth="uint8", format="jpeg", **fields)


def test_colours_stay_close_and_chroma_is_not_subsampled():
    data = encode(photo())
    with PillowImage.open(io.BytesIO(data)) as file:
        assert [layer[1:3] for layer in file.layer] == [(1, 1)] * 3
    error = from_float(decode(data).pixels_HWC, "uint8").astype(int) - smooth()
    assert np.abs(error).max() <= 4


def test_a_gray_file_stays_gray():
    image = Image(pixels_HWC=to_float(smooth()[..., :1], "uint8"), depth="uint8", format="jpeg")
    reread = decode(encode(image))
    assert reread.pixels_HWC.shape == image.pixels_HWC.shape
    assert np.abs(reread.pixels_HWC - image.pixels_HWC).max() <= 3 / 255


def test_decoded_codes_equal_those_of_pillow():
    data = saved(PillowImage.fromarray(smooth()), "JPEG", progressive=True, quality=60)
    assert np.array_equal(from_float(decode(data).pixels_HWC, "uint8"), np.asarray(PillowImage.open(io.BytesIO(data))))


def test_rgb_files_are_recognised_by_the_adobe_marker():
    data = saved(PillowImage.fromarray(smooth()), "JPEG", keep_rgb=True, quality=95)
    # Channels named R, G and B would also show it; numbered ones, as other writers use, leave only Adobe's marker.
    frame, scan = data.index(b"\xff\xc0") + 10, data.index(b"\xff\xda") + 5
    named = bytearray(data)
    named[frame : frame + 9 : 3] = named[scan : scan + 6 : 2] = b"\1\2\3"
    data = bytes(named)
    assert np.abs(from_float(decode(data).pixels_HWC, "uint8").astype(int) - smooth()).max() <= 4


def test_metadata_is_kept_byte_for_byte(metadata):
    data = encode(photo(metadata=metadata))
    with PillowImage.open(io.BytesIO(data)) as file:
        assert file.info["exif"] == b"Exif\0\0" + metadata.exif
        assert file.info["icc_profile"] == metadata.icc
        assert file.info["xmp"] == XMP
        assert file.info["photoshop"][0x0404] == IPTC
        assert file.info["dpi"] == (300, 240)
    assert decode(data).metadata == metadata


def test_large_profiles_are_split_across_segments():
    profile = np.random.default_rng(0).bytes(200_001)
    data = encode(photo(metadata=Metadata(icc=profile)))
    assert PillowImage.open(io.BytesIO(data)).info["icc_profile"] == profile
    assert decode(data).metadata.icc == profile


def test_resolution_is_read_from_exif():
    block = PillowImage.Exif()
    block[282], block[283], block[296] = 118.0, 118.0, 3
    data = saved(PillowImage.fromarray(smooth()), "JPEG", exif=block.tobytes())
    assert decode(data).metadata.dpi == (299.72, 299.72)


@pytest.mark.parametrize("block", ["exif", "xmp"])
def test_metadata_blocks_that_are_too_large_are_refused(block):
    with pytest.raises(UnwritableImage, match="larger than"):
        encode(photo(metadata=Metadata(**{block: b"II*\0" + bytes(70_000)})))


def test_large_photoshop_blocks_take_several_segments():
    """Resources stay whole where they fit into a segment; a larger one goes on in the next."""
    many = b"".join(resource(2000 + index, bytes([index]) * 20_000) for index in range(9))
    for photoshop in (many, resource(2000, bytes(range(256)) * 800)):
        metadata = Metadata(iptc=IPTC * 5000, photoshop=photoshop)
        assert decode(encode(photo(metadata=metadata))).metadata == metadata
    data = encode(photo(metadata=Metadata(photoshop=many)))
    with PillowImage.open(io.BytesIO(data)) as file:
        assert [body for marker, body in file.applist if marker == "APP13"][1][14:18] == b"8BIM"


def test_comments_and_clipping_paths_are_kept():
    metadata = Metadata(comments=(b"job 4711", "Zoë".encode("latin-1")), photoshop=CLIPPING_PATH)
    assert decode(encode(photo(metadata=metadata))).metadata == metadata


@pytest.mark.parametrize(("depth", "channels"), [("uint16", 3), ("float32", 1), ("uint8", 4)])
def test_images_that_jpeg_cannot_hold_are_refused(depth, channels):
    with pytest.raises(UnwritableImage) as caught:
        encode(photograph(depth, channels, "jpeg"))
    assert "Write" in caught.value.next_step


def test_cmyk_files_are_refused_with_their_kind():
    with pytest.raises(UnreadableImage, match="CMYK"):
        decode(saved(PillowImage.new("CMYK", (16, 16)), "JPEG"))


def test_12_bit_files_are_refused_with_their_kind():
    data = saved(PillowImage.fromarray(smooth()), "JPEG")
    frame = data.index(b"\xff\xc0")
    with pytest.raises(UnreadableImage, match="12-bit"):
        decode(data[: frame + 4] + b"\x0c" + data[frame + 5 :])


def test_further_pictures_in_a_file_are_noted():
    data = encode(photo())
    pictures = b"\xff\xe2" + struct.pack(">H", 2 + 8) + b"MPF\0II*\0"
    image = decode(data[:2] + pictures + data[2:] + data)
    assert image.notes == ("only the main picture is used; gain map or preview pictures are left out",)


def test_large_photographs_are_read_without_warning(monkeypatch):
    """Pillow's limit, lowered here, causes no warning (an error in tests) and keeps its value."""
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 100)
    assert decode(encode(photo())).width == smooth().shape[1]
    assert PillowImage.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
def test_truncated_files_are_refused(kept, progressive):
    noisy = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = saved(PillowImage.fromarray(noisy), "JPEG", progressive=progressive)
    with pytest.raises(UnreadableImage):
        decode(data[: int(len(data) * kept)])
