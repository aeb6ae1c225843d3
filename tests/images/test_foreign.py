"""Tests of the formats that are only read: against other decoders, with metadata, truncated, and turned upright."""

import io
import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageCms

from sanarestore.errors import DamagedImage, UnreadableImage, UnwritableImage
from sanarestore.images import (
    check_header,
    decode,
    encode,
    from_float,
    measure,
    read,
    result_header,
    write,
    written_instead,
)
from sanarestore.images.boxes import Items, boxes, items_of
from sanarestore.images.colour import has_profile, rgb_profile, srgb_profile
from sanarestore.images.foreign import scaled, turned, upright
from sanarestore.images.image import to_stored
from sanarestore.images.jxl_header import parse
from sanarestore.options import WriteOptions
from tests.images.conftest import XMP, codes, exif_values, png_chunk, saved, smooth
from tests.images.foreign_files import avif, bmp_v5, box, dng, foreign_files, jp2, jxl, with_jxl_metadata
from tests.images.rich import packet

FILES = foreign_files()
DEEP = smooth().astype(np.uint16) * 257
WITH_ALPHA = np.dstack([smooth(), smooth()[..., 0]])


def stored_of(data):
    stored = to_stored(decode(data))
    return stored if stored.shape[2] > 1 else stored[..., 0]


@pytest.mark.parametrize("name", FILES)
def test_files_are_written_as_tiff_or_png_by_default_unless_their_format_can_be_kept(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    image, header = read(path), measure(path)
    written = encode(image)
    again = decode(written)
    assert again.format == image.written_as == header.written_as
    if image.format == "avif" or (image.format == "jxl" and image.depth == "uint8"):
        assert (again.format, written_instead(path)) == (image.format, None)
        return
    assert written_instead(path) == again.format
    assert again.format == ("png" if image.depth == "uint8" else "tiff")
    assert np.array_equal(to_stored(again), to_stored(image))
    assert (again.metadata.icc, again.metadata.xmp) == (image.metadata.icc, image.metadata.xmp)
    check_header(header, "o")


@pytest.mark.parametrize("stored", [codes("uint8", 3), codes("uint8", 1)[..., 0], WITH_ALPHA], ids=["rgb", "gray", "a"])
@pytest.mark.parametrize("make", [jxl, jp2])
def test_lossless_8_bit_codes_are_read_exactly(make, stored):
    assert np.array_equal(stored_of(make(stored)), stored)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("make", [jxl, jp2])
def test_lossless_16_bit_codes_are_read_exactly(make, channels):
    stored = codes("uint16", channels)
    stored = stored if channels > 1 else stored[..., 0].copy()
    image = decode(make(stored))
    assert image.depth == "uint16"
    assert np.array_equal(stored_of(make(stored)), stored)


def test_float_jpeg_xl_is_read_exactly():
    stored = (DEEP / 65535).astype(np.float32)
    image = decode(jxl(stored))
    assert image.depth == "float32"
    assert np.array_equal(image.pixels_HWC, stored)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "I;16"])
def test_jpeg_2000_is_read_as_pillow_and_imagecodecs_read_it(mode):
    picture = PillowImage.fromarray(smooth())
    picture = PillowImage.fromarray(DEEP[..., 0].copy()) if mode == "I;16" else picture.convert(mode)
    data = saved(picture, "JPEG2000", quality_mode="dB", quality_layers=[45])
    with PillowImage.open(io.BytesIO(data)) as file:
        assert np.array_equal(stored_of(data), np.asarray(file))
    assert np.array_equal(stored_of(data), imagecodecs.jpeg2k_decode(data))


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA"])
def test_bmp_is_read_as_pillow_and_imagecodecs_read_it(mode):
    picture = PillowImage.fromarray(smooth())
    picture = picture.quantize(16) if mode == "P" else picture.convert(mode)
    data = saved(picture, "BMP")
    found = stored_of(data)
    if mode != "RGBA":
        with PillowImage.open(io.BytesIO(data)) as file:
            assert np.array_equal(found, np.asarray(file.convert("L" if file.mode in "1L" else "RGB")))
    other = imagecodecs.bmp_decode(data)
    assert np.array_equal(found, other if other.ndim == found.ndim else other[..., 0])


@pytest.mark.parametrize("kind", ["rgb", "gray", "alpha"])
def test_avif_is_read_as_pillow_reads_it(kind):
    stored = {"rgb": smooth(), "gray": smooth()[..., 0].copy(), "alpha": WITH_ALPHA}[kind]
    data = imagecodecs.avif_encode(stored, level=70)
    with PillowImage.open(io.BytesIO(data)) as file:
        expected = np.asarray(file).astype(int)
    found = stored_of(data).astype(int)
    assert np.abs(found - (expected[..., 0] if expected.ndim > found.ndim else expected)).max() <= 2


@pytest.mark.parametrize("bits", [10, 12])
def test_deeper_avif_becomes_16_bits(bits):
    image = decode(avif(DEEP >> (16 - bits), bits))
    assert image.depth == "uint16"
    assert image.notes == (f"{bits}-bit values are converted to 16 bits",)
    assert np.abs(image.pixels_HWC - smooth() / 255).max() < 3 / 2**bits
    assert from_float(image.pixels_HWC, "uint16").max() > 64500


@pytest.mark.parametrize(("asked", "format"), [(None, "avif"), (8, "avif"), (16, "tiff")])
def test_the_format_of_deeper_avif_follows_the_depth_that_is_asked_for(tmp_path, asked, format):  # noqa: A002
    path = tmp_path / "a.avif"
    path.write_bytes(FILES["10.avif"])
    options = WriteOptions(bit_depth=asked)
    assert decode(encode(read(path), options=options)).format == format
    assert written_instead(path, asked) == (None if format == "avif" else format)
    assert result_header(measure(path), lambda *size: size, options=options).format == format


def test_profile_exif_and_xmp_of_avif_are_kept_and_the_picture_is_upright():
    block = PillowImage.Exif()
    block[271], block[274] = "ACME", 6
    picture = PillowImage.fromarray(smooth())
    data = saved(picture, "AVIF", quality=100, exif=block.tobytes(), xmp=XMP, icc_profile=srgb_profile())
    image = decode(data)
    assert "the picture is turned upright" in image.notes
    assert image.pixels_HWC.shape == (64, 48, 3)
    expected = np.rot90(smooth(), -1)  # EXIF's 6: to be turned by 90 degrees clockwise
    assert np.abs(from_float(image.pixels_HWC, "uint8").astype(int) - expected).max() < 12
    assert (image.metadata.icc, image.metadata.xmp) == (srgb_profile(), XMP)
    assert exif_values(image.metadata.exif)["main"] == {271: "ACME"}, "Pillow removes the orientation from EXIF"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_avif_is_turned_upright(orientation):
    picture = PillowImage.fromarray(smooth())
    block = PillowImage.Exif()
    block[274] = orientation
    image = decode(saved(picture, "AVIF", quality=100, exif=block.tobytes()))
    method = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}.get(orientation)
    expected = np.asarray(picture if method is None else picture.transpose(PillowImage.Transpose(method)))
    assert np.abs(from_float(image.pixels_HWC, "uint8").astype(int) - expected).max() < 12


@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_dimensions_and_orientation_in_metadata_are_those_of_upright_pixels(orientation):
    """A program that uses them would turn the picture again, or mistake it for another one."""
    block = PillowImage.Exif()
    block[256], block[257], block[274] = 64, 48, orientation
    block[34665] = {40962: 64, 40963: 48}
    said = (
        ' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/" tiff:Orientation="6"'
        ' tiff:ImageWidth="64" exif:PixelYDimension="48"'
    )
    data = saved(PillowImage.fromarray(smooth()), "AVIF", exif=block.tobytes(), xmp=packet("", said))
    image = decode(data)
    width, height = (64, 48) if orientation == 1 else (48, 64)
    assert (image.width, image.height) == (width, height)
    values = exif_values(image.metadata.exif)
    assert (values["main"][256], values["main"][257]) == (width, height)
    assert (values["exif"][40962], values["exif"][40963]) == (width, height)
    assert b'tiff:Orientation="1"' in image.metadata.xmp
    assert f'tiff:ImageWidth="{width}" exif:PixelYDimension="{height}"'.encode() in image.metadata.xmp


@pytest.mark.parametrize("format", ["AVIF", "WEBP", "PNG"])
def test_animations_are_refused_with_the_number_of_frames(tmp_path, format):  # noqa: A002
    picture = PillowImage.fromarray(smooth())
    others = [picture.rotate(90), picture.rotate(180)]
    path = tmp_path / "a"
    path.write_bytes(saved(picture, format, save_all=True, append_images=others))
    for work in (measure, read):
        with pytest.raises(UnreadableImage, match="it is an animation of 3 frames"):
            work(path)
    path.write_bytes(jxl(np.stack([smooth(), smooth()])))
    with pytest.raises(UnreadableImage, match="it is an animation"):
        measure(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_exif_and_xmp_of_jpeg_xl_are_kept(exif, compressed):
    image = decode(with_jxl_metadata(jxl(smooth(), usecontainer=True), exif, XMP, compressed))
    assert image.metadata.xmp == XMP
    found, expected = exif_values(image.metadata.exif), exif_values(exif)
    assert expected["main"].pop(274) == 6
    assert found["main"].pop(274) == 1, "pixels are upright in JPEG XL, whatever EXIF says"
    assert found == expected


def test_the_header_of_jpeg_xl_is_read(tmp_path):
    for shape in ((8, 8), (1, 1), (256, 256), (480, 640), (400, 600), (90, 160), (3, 700), (2000, 1000)):
        codestream = imagecodecs.jpegxl_encode(np.zeros((*shape, 3), np.uint8), usecontainer=False)
        found = parse(codestream[:64])
        assert (found.height, found.width) == shape
    assert (parse(jxl(DEEP >> 4, bitspersample=12, usecontainer=False)).bits) == 12


def test_linear_light_gets_a_profile():
    """The encoder marks 16-bit RGB as linear; a program that takes it for sRGB would show it much too dark."""
    image = decode(jxl(DEEP))
    assert image.metadata.icc == rgb_profile(1, 8)
    assert image.metadata.png_colour is None
    profile = ImageCms.ImageCmsProfile(io.BytesIO(image.metadata.icc))
    to_srgb = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), "RGB", "RGB")
    middle = np.asarray(ImageCms.applyTransform(PillowImage.new("RGB", (1, 1), (128, 128, 128)), to_srgb))
    assert abs(int(middle[0, 0, 0]) - 188) <= 1


def nclx(data, primaries, transfer):
    """Set the code points of an AVIF file."""
    at = data.index(b"colrnclx") + 8
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


def test_code_points_of_wide_colours_become_a_profile_and_those_of_hdr_stay(tmp_path):
    path = tmp_path / "a.avif"
    path.write_bytes(nclx(avif(smooth()), 12, 13))
    assert read(path).metadata.icc == rgb_profile(12, 13)
    assert measure(path).written_as == "avif"
    path.write_bytes(nclx(avif(DEEP >> 6, 10), 9, 16))
    assert not has_profile(9, 16)
    assert measure(path).written_as == read(path).written_as == "avif"
    chunk = png_chunk(b"cICP", bytes((9, 16, 0, 1)))
    assert read(path).metadata.png_colour == chunk
    assert chunk in encode(read(path), "png")
    path.write_bytes(nclx(avif(smooth()), 1, 13))
    assert read(path).metadata == type(read(path).metadata)()


def test_the_made_profile_of_display_p3_is_right():
    """Its colours are those of the matrix from Display P3 to sRGB (CSS Color 4, section 18)."""
    profile = ImageCms.ImageCmsProfile(io.BytesIO(rgb_profile(12, 13)))
    to_srgb = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), "RGB", "RGB", renderingIntent=1)
    given = np.array([[[255, 0, 0], [99, 99, 99], [200, 120, 90]]], np.uint8)
    found = np.asarray(ImageCms.applyTransform(PillowImage.fromarray(given), to_srgb)).astype(int)
    x = given / 255
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    to_rgb = [[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]]
    linear = np.clip(linear @ np.transpose(to_rgb), 0, 1)
    expected = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    assert np.abs(found - expected).max() <= 1.5


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.9, 0.99])
def test_truncated_files_are_damaged(tmp_path, name, kept):
    path = tmp_path / name
    path.write_bytes(FILES[name][: int(len(FILES[name]) * kept)])
    with pytest.raises(UnreadableImage) as caught:
        read(path)
    if kept > 0.1:
        assert isinstance(caught.value, DamagedImage), caught.value


def test_a_truncated_bmp_is_read_where_that_is_accepted():
    data = saved(PillowImage.fromarray(smooth()), "BMP")
    image = decode(data[: len(data) // 2], accept_damaged=True)
    found = from_float(image.pixels_HWC, "uint8")
    assert np.array_equal(found[-20:], smooth()[-20:])
    assert (found[:20] == 0).all(), "the first rows of a BMP file come last"
    assert "truncated" in image.notes[0]


def test_kinds_of_bmp_that_are_not_read_are_not_called_damaged():
    data = bytearray(saved(PillowImage.fromarray(smooth()).convert("RGBA"), "BMP"))
    struct.pack_into("<HL3L", data, 28, 32, 3, 0, 0, 0)
    struct.pack_into("<3L", data, 54, 0x12345678, 1, 2)  # masks of red, green and blue
    with pytest.raises(UnreadableImage, match="a kind of BMP that is not read") as caught:
        decode(bytes(data))
    assert not isinstance(caught.value, DamagedImage)


def test_profile_and_resolution_of_bmp_are_kept():
    image = decode(bmp_v5(smooth(), srgb_profile()))
    assert np.array_equal(to_stored(image), smooth())
    assert image.metadata.icc == srgb_profile()
    assert image.metadata.dpi == (300.0, 300.0)


def jp2_with(*added):
    data = jp2(smooth())
    at = data.index(b"jp2c") - 4
    return data[:at] + b"".join(box(b"uuid", body) for body in added) + data[at:]


def test_metadata_of_jpeg_2000_is_kept(exif):
    image = decode(jp2_with(bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + XMP, b"JpgTiffExif->JP2" + exif))
    assert image.metadata.xmp == XMP
    assert image.metadata.exif == exif
    data = jp2(smooth())
    at = data.index(b"colr") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    header = data.index(b"jp2h") - 4
    colour = box(b"colr", b"\2\0\0" + srgb_profile())
    grown = (int.from_bytes(data[header : header + 4], "big") + len(colour) - size).to_bytes(4, "big")
    image = decode(data[:header] + grown + data[header + 4 : at] + colour + data[at + size :])
    assert image.metadata.icc == srgb_profile()


def test_jpeg_2000_in_other_colours_is_refused():
    data = jp2(smooth())
    at = data.index(b"colr") + 4
    assert data[at : at + 7] == b"\1\0\0" + struct.pack(">L", 16)
    with pytest.raises(UnreadableImage, match="YCbCr"):
        decode(data[: at + 3] + struct.pack(">L", 18) + data[at + 7 :])


@pytest.mark.skipif("raw.dng" not in FILES, reason="rawpy is not installed")
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_camera_raw_is_developed_upright(orientation):
    image = decode(dng(orientation=orientation))
    assert image.pixels_HWC.shape == ((60, 40, 3) if orientation in (6, 8) else (40, 60, 3))
    assert image.depth == "uint16"
    assert image.metadata.icc == srgb_profile()
    assert image.metadata.xmp == XMP
    assert exif_values(image.metadata.exif)["main"][274] == 1
    upright_HWC = np.rot90(image.pixels_HWC, {1: 0, 3: 2, 6: 1, 8: -1}[orientation])
    row = upright_HWC[20, 4:-4].mean(axis=1)
    assert (np.diff(row) > -0.01).all(), "the ramp goes from left to right"
    # The middle of the sensor's range, as sRGB encodes it, without automatic brightness.
    linear = (np.linspace(400, 3900, 60)[30] - 256) / (4095 - 256)
    assert abs(upright_HWC[20, 30, 1] - (1.055 * linear ** (1 / 2.4) - 0.055)) < 0.03
    assert "developed to 16-bit sRGB" in image.notes[0]


@pytest.mark.parametrize(
    ("name", "module", "step"),
    [("raw.dng", "rawpy", "sanarestore[raw]"), ("a.heic", "pi_heif", "sanarestore[heif]")],
)
def test_a_missing_library_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch, name, module, step):
    data = dng() if module == "rawpy" else struct.pack(">L", 24) + b"ftypheic" + bytes(4) + b"mif1heic"
    path = tmp_path / name
    path.write_bytes(data)
    monkeypatch.setattr("importlib.util.find_spec", lambda wanted: None if wanted == module else True)
    for work in (measure, read):
        with pytest.raises(UnreadableImage, match=f"needs {module.replace('_', '-')}") as caught:
            work(path)
        assert step in caught.value.next_step
    assert written_instead(path) == "tiff"


def test_a_chosen_format_is_kept(tmp_path):
    image = decode(FILES["8.avif"])
    write(image, tmp_path / "a", format="webp")
    assert read(tmp_path / "a").format == "webp"
    with pytest.raises(UnwritableImage, match="JPEG holds 8 bits"):
        encode(decode(FILES["10.avif"]), "jpeg")


def test_codes_are_scaled_exactly():
    for bits in (1, 5, 8, 10, 12, 15, 16):
        stored = np.unique(np.linspace(0, 2**bits - 1, 300).astype(np.uint16))
        found, notes = scaled(stored, bits)
        most = 255 if bits <= 8 else 65535
        assert np.array_equal(found, np.floor(stored.astype(float) / (2**bits - 1) * most + 0.5))
        assert bool(notes) == (bits not in (8, 16))


def test_codes_are_turned_and_mirrored():
    stored = np.arange(6).reshape(2, 3)
    assert np.array_equal(turned(stored, 1, None), [[2, 5], [1, 4], [0, 3]])
    assert np.array_equal(turned(stored, 0, 0), [[3, 4, 5], [0, 1, 2]])
    assert np.array_equal(turned(stored, 0, 1), [[2, 1, 0], [5, 4, 3]])


def test_only_the_orientation_of_exif_changes(exif):
    changed = upright(exif)
    assert sum(one != other for one, other in zip(exif, changed, strict=True)) == 1
    assert exif_values(changed)["main"][274] == 1
    assert upright(None) is None
    assert upright(changed) == changed


def test_gain_maps_are_told_from_alpha():
    for name, is_alpha in (
        (b"urn:mpeg:hevc:2015:auxid:1\0", True),
        (b"urn:com:apple:photo:2020:aux:hdrgainmap\0", False),
    ):
        items = Items(
            primary=1, references=[(b"auxl", 2, 1)], of_item={2: [1]}, properties=[(b"auxC", bytes(4) + name)]
        )
        assert (items.has_alpha, items.has_others) == (is_alpha, not is_alpha)
    assert Items(primary=1, kinds={1: b"av01", 2: b"tmap"}).has_others
    assert not Items(primary=1).has_others


def test_boxes_end_where_the_file_ends():
    data = box(b"abcd", b"12") + struct.pack(">L4sQ", 1, b"long", 20) + b"1234" + struct.pack(">L", 0) + b"restx"
    assert [(each.kind, each.is_whole) for each in boxes(data)] == [(b"abcd", True), (b"long", True), (b"rest", True)]
    assert [each.is_whole for each in boxes(box(b"abcd", b"12")[:-1])] == [False]
    assert list(boxes(struct.pack(">L4s", 3, b"tiny"))) == []
    with pytest.raises(DamagedImage):
        items_of(data)
