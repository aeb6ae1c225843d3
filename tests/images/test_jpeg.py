"""Tests of JPEG files, whose metadata is also read with Pillow."""

import io
import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image as PillowImage

from sanarestore.errors import DamagedImage, UnreadableImage, UnwritableImage
from sanarestore.images import Image, Metadata, decode, encode, from_float, to_float
from sanarestore.images.image import JpegCoding
from sanarestore.images.quantization import coding_of
from sanarestore.options import WriteOptions
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
    assert "--format" in caught.value.next_step


def deep(colours):
    """Make a 12-bit JPEG, and its codes."""
    stored = (smooth().astype(np.uint16) * 16 + np.arange(64, dtype=np.uint16)[:, None] // 8)[..., :colours]
    stored = stored if colours == 3 else stored[..., 0].copy()
    chosen = {"subsampling": "444"} if colours == 3 else {}
    return imagecodecs.jpeg8_encode(stored, level=99, bitspersample=12, **chosen), stored


@pytest.mark.parametrize("colours", [1, 3])
def test_12_bit_files_become_16_bits(colours):
    data, stored = deep(colours)
    image = decode(data)
    assert (image.depth, image.notes) == ("uint16", ("12-bit values are converted to 16 bits",))
    found = from_float(image.pixels_HWC, "uint16").reshape(stored.shape)
    assert np.abs(found / 65535 - stored / 4095).max() < 5 / 4095
    assert len(np.unique(found)) > 150
    with pytest.raises(UnwritableImage, match="JPEG holds 8 bits"):
        encode(image)


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.99])
def test_truncated_12_bit_files_are_refused(kept):
    data, _ = deep(3)
    with pytest.raises(DamagedImage):
        decode(data[: int(len(data) * kept)])


def test_lossless_files_of_other_depths_are_refused():
    data = saved(PillowImage.fromarray(smooth()), "JPEG")
    frame = data.index(b"\xff\xc0")
    with pytest.raises(UnreadableImage, match="16-bit JPEG"):
        decode(data[: frame + 4] + b"\x10" + data[frame + 5 :])


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


@pytest.mark.parametrize("quality", range(1, 101))
def test_the_quality_of_a_file_is_read_from_its_tables(quality: int) -> None:
    data = saved(PillowImage.fromarray(smooth(16, 16)), "JPEG", quality=quality)
    found = decode(data).jpeg
    assert found is not None
    assert found.quality == quality


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_a_file_keeps_its_quality_and_subsampling(subsampling: str) -> None:
    for quality, written in ((76, 90), (90, 90), (93, 93), (100, 100)):
        image = decode(saved(PillowImage.fromarray(smooth()), "JPEG", quality=quality, subsampling=subsampling))
        assert decode(encode(image)).jpeg == JpegCoding(quality=written, subsampling=subsampling)  # type: ignore[arg-type]


def test_a_file_of_low_quality_gets_full_chroma() -> None:
    image = decode(saved(PillowImage.fromarray(smooth()), "JPEG", quality=60, subsampling="4:2:0"))
    assert decode(encode(image)).jpeg == JpegCoding(quality=90, subsampling="4:4:4")


@pytest.mark.parametrize(("quality", "subsampling"), [(None, "4:4:4"), (90, "4:4:4"), (89, "4:2:0")])
def test_what_was_no_jpeg_file_is_subsampled_only_in_a_low_quality(quality: int | None, subsampling: str) -> None:
    found = decode(encode(photo(), options=WriteOptions(quality=quality))).jpeg
    assert found == JpegCoding(quality=quality or 95, subsampling=subsampling)  # type: ignore[arg-type]


def test_a_chosen_quality_is_written_whatever_the_input_has() -> None:
    image = decode(saved(PillowImage.fromarray(smooth()), "JPEG", quality=97, subsampling="4:2:2"))
    assert decode(encode(image, options=WriteOptions(quality=30))).jpeg == JpegCoding(quality=30, subsampling="4:2:2")


def test_odd_tables_and_samplings_are_no_error() -> None:
    frame = (0xC0, struct.pack(">BHHB", 8, 16, 16, 3) + bytes((1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1)))
    wide = (0xDB, b"\x10" + struct.pack(">64H", *[300] * 64))
    assert coding_of([wide, frame]) == JpegCoding(quality=1, subsampling="4:2:0")
    assert coding_of([(0xDB, wide[1][:50]), frame]) is None, "the table is cut off"
    assert coding_of([wide]) is None
    assert coding_of([wide, (0xC0, frame[1][:7])]) is None
    nothing = (0xC0, frame[1].replace(b"\x11", b"\x00"))
    assert coding_of([wide, nothing]) == JpegCoding(quality=1, subsampling="4:4:4")
