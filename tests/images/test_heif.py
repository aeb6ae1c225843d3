"""Tests of HEIF files, whose pixels are stored without loss: exactness, metadata, turns and damage."""

import struct

import numpy as np
import pytest

pytest.importorskip("pi_heif")

from sanarestore.errors import DamagedImage, UnreadableImage
from sanarestore.images import decode, measure, read, written_instead
from sanarestore.images.colour import rgb_profile, srgb_profile
from sanarestore.images.foreign import Foreign
from sanarestore.images.image import to_stored
from tests.images.conftest import XMP, exif_values, smooth
from tests.images.heic_files import heic

DEEP = smooth().astype(np.uint16) * 4 + 1


def test_8_bit_codes_are_read_exactly():
    image = decode(heic(smooth()))
    assert (image.depth, image.format, image.written_as, image.notes) == ("uint8", "heif", "png", ())
    assert np.array_equal(to_stored(image), smooth())


def test_10_bit_codes_become_16_bits():
    image = decode(heic(DEEP, 10))
    assert (image.depth, image.written_as) == ("uint16", "tiff")
    assert np.array_equal(to_stored(image), np.rint(DEEP / 1023 * 65535))
    assert image.notes == ("10-bit values are converted to 16 bits",)


def test_profile_exif_and_xmp_are_kept(exif):
    image = decode(heic(smooth(), exif=exif, xmp=XMP, icc=srgb_profile()))
    assert (image.metadata.icc, image.metadata.xmp) == (srgb_profile(), XMP)
    found, expected = exif_values(image.metadata.exif), exif_values(exif)
    assert (found["main"].pop(274), expected["main"].pop(274)) == (1, 6)
    assert found == expected


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_pictures_are_turned_upright_once(tmp_path, exif, turn):
    path = tmp_path / "a.heic"
    path.write_bytes(heic(smooth(), turn=turn, exif=exif))
    image, header = read(path), measure(path)
    assert np.array_equal(to_stored(image), np.rot90(smooth(), turn))
    assert (header.width, header.height) == (image.width, image.height)
    assert image.notes == ("the picture is turned upright",)
    assert exif_values(image.metadata.exif)["main"][274] == 1


def test_the_header_is_read_without_pixels(tmp_path):
    path = tmp_path / "a.heic"
    path.write_bytes(heic(DEEP, 10)[:1200])
    header = measure(path)
    assert (header.width, header.height, header.channels, header.depth) == (64, 48, 3, "uint16")
    assert written_instead(path) == "tiff"


def test_code_points_become_a_profile_or_stay():
    assert decode(heic(smooth(), points=(12, 13))).metadata.icc == rgb_profile(12, 13)
    hdr = decode(heic(DEEP, 10, points=(9, 16)))
    assert hdr.metadata.png_colour is not None
    assert hdr.written_as == "png"
    assert decode(heic(smooth(), points=(2, 2))).metadata.icc is None


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files_are_damaged(kept):
    data = heic(smooth())
    with pytest.raises(DamagedImage):
        decode(data[: int(len(data) * kept)])


def test_sequences_are_refused_with_the_number_of_frames():
    sizes = struct.pack(">L4s", 20, b"stsz") + struct.pack(">LLL", 0, 9, 7)
    for kind in (b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        sizes = struct.pack(">L", 8 + len(sizes)) + kind + sizes
    with pytest.raises(UnreadableImage, match="it is an animation of 7 frames"):
        decode(heic(smooth()) + sizes)


def test_metadata_is_kept_from_libheif_which_crashes_on_unknown_kinds(monkeypatch):
    import pi_heif

    given, open_heif = [], pi_heif.open_heif
    monkeypatch.setattr(pi_heif, "open_heif", lambda data, **options: given.append(data) or open_heif(data, **options))
    data = heic(smooth(), xmp=XMP).replace(b"mime", b"E\xeaif")
    assert np.array_equal(to_stored(decode(data)), smooth())
    assert b"cdsc" in data
    assert len(given[0]) == len(data)
    assert b"cdsc" not in given[0]


def test_gray_with_alpha_which_libheif_gives_as_rgba_stays_gray(monkeypatch):
    class Opened:
        size, premultiplied_alpha = (64, 48), False

        def __array__(self, *_, **__):
            gray, alpha = smooth()[..., :1], smooth()[..., 1:2]
            return np.concatenate([gray, gray, gray, alpha], axis=2)

    monkeypatch.setattr("pi_heif.open_heif", lambda *_, **__: Opened())
    header = Foreign(width=64, height=48, colours=1, has_alpha=True)
    monkeypatch.setattr("sanarestore.images.heif.header_of", lambda _: header)
    assert np.array_equal(to_stored(decode(heic(smooth()))), smooth()[..., :2])
