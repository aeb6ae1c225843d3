"""Tests of all kinds of TIFF files, whose metadata is also read with Pillow and tifffile."""

import io
import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from sanarestore.errors import UnreadableImage, UnwritableImage
from sanarestore.images import (
    Metadata,
    check_header,
    check_writable,
    decode,
    encode,
    exif,
    from_float,
    ifd,
    measure,
    prepared,
    resources,
    result_header,
)
from sanarestore.images.ifd import ByteLayout, Entry
from sanarestore.images.image import to_stored
from sanarestore.images.tiff import _with_entries
from sanarestore.options import WriteOptions
from tests.images.conftest import IPTC, MAKER_NOTE, XMP, codes, exif_values, photograph, saved
from tests.images.rich import CLIPPING_PATH


def tiff(stored, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, stored, **{"metadata": None, **options})
    return buffer.getvalue()


def tags_of(data):
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        return {tag.code: tag.value for tag in file.pages[0].tags}


@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_other_libraries_read_the_codes_that_were_written(depth, channels):
    image = photograph(depth, channels, "tiff")
    data = encode(image)
    reread = tifffile.imread(io.BytesIO(data)).reshape(image.height, image.width, channels)
    assert reread.dtype == depth
    assert np.array_equal(reread, codes(depth, channels))
    assert (tags_of(data)[259], tags_of(data)[317]) == (8, 3 if depth == "float32" else 2)
    decoded = decode(data)
    assert decoded.depth == depth
    assert decoded.notes == ()
    assert np.array_equal(to_stored(decoded), codes(depth, channels))


@pytest.mark.parametrize(
    "options",
    [
        {"byteorder": ">"},
        {"bigtiff": True},
        {"bigtiff": True, "byteorder": ">"},
        {"tile": (16, 16)},
        {"compression": "lzw", "predictor": True},
        {"compression": "zlib", "predictor": True, "byteorder": ">"},
        {"compression": "zstd", "tile": (16, 32)},
        {"compression": "packbits", "rowsperstrip": 5},
    ],
    ids=str,
)
@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
def test_kinds_of_tiff_are_read_exactly(options, depth):
    stored = codes(depth, 3)
    image = decode(tiff(stored, photometric="rgb", **options))
    assert np.array_equal(from_float(image.pixels_HWC, image.depth), stored)


@pytest.mark.parametrize("compression", [None, "lzw"])
def test_separate_planes_are_read(compression):
    stored = codes("uint16", 4)
    data = tiff(
        np.moveaxis(stored, 2, 0),
        photometric="rgb",
        planarconfig="separate",
        extrasamples=["unassalpha"],
        compression=compression,
    )
    assert np.array_equal(to_stored(decode(data)), stored)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_floats_become_float32_with_a_note(dtype):
    stored = codes("float32", 1)[..., 0].astype(dtype)
    image = decode(tiff(stored, photometric="minisblack"))
    assert np.array_equal(image.pixels_HWC[..., 0], stored.astype(np.float32))
    assert image.notes == (f"{dtype} is converted to float32",)


@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
def test_white_is_zero_files_are_inverted(depth):
    stored = codes(depth, 1)[..., 0]
    image = decode(tiff(stored, photometric="miniswhite"))
    expected = 1 - stored if depth == "float32" else np.iinfo(depth).max - stored
    assert np.array_equal(from_float(image.pixels_HWC, image.depth)[..., 0], expected)
    assert image.notes == ("white-is-zero is converted to black-is-zero",)


def test_palettes_become_rgb():
    picture = PillowImage.fromarray(codes("uint8", 3)).quantize(16)
    image = decode(saved(picture, "TIFF"))
    assert np.array_equal(from_float(image.pixels_HWC, "uint8"), np.asarray(picture.convert("RGB")))
    assert image.notes == ("the palette is converted to RGB",)


def test_1_bit_files_become_8_bit_gray():
    picture = PillowImage.fromarray(codes("uint8", 1)[..., 0] > 99)
    image = decode(saved(picture, "TIFF"))
    assert np.array_equal(from_float(image.pixels_HWC, "uint8")[..., 0], np.asarray(picture.convert("L")))
    assert image.notes == ("1-bit gray is converted to 8 bit",)


def odd(stored, bits, compression):
    """Make a TIFF whose samples have this number of bits; tifffile writes compressed ones only as bytes."""
    kind = "rgb" if stored.shape[2] == 3 else "minisblack"
    if compression is None:
        return tiff(stored if kind == "rgb" else stored[..., 0], photometric=kind, bitspersample=bits)
    rows = np.stack([np.frombuffer(imagecodecs.packints_encode(row, bits), np.uint8) for row in stored[..., 0]])
    data = bytearray(tiff(rows, photometric=kind, compression=compression))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        places = {tag: file.pages[0].tags[tag].valueoffset for tag in (256, 258)}
    struct.pack_into("<H", data, places[256], stored.shape[1])
    struct.pack_into("<H", data, places[258], bits)
    return bytes(data)


@pytest.mark.parametrize("bits", [3, 6, 9, 10, 12, 14])
@pytest.mark.parametrize(("colours", "compression"), [(1, None), (3, None), (1, "lzw"), (1, "zlib")])
def test_odd_bit_depths_are_scaled_to_8_or_16_bits(bits, colours, compression):
    """Every code is rounded to nearest; black and white stay black and white."""
    stored = np.random.default_rng(bits).integers(0, 2**bits, (13, 24, colours)).astype("u1" if bits < 9 else "u2")
    stored[0, :2] = [[0] * colours, [2**bits - 1] * colours]
    image = decode(odd(stored, bits, compression))
    assert image.depth == ("uint8" if bits < 8 else "uint16")
    assert np.array_equal(to_stored(image), np.rint(stored / (2**bits - 1) * (255 if bits < 8 else 65535)))
    what = "gray" if colours == 1 else "colour"
    assert image.notes == (f"{bits}-bit {what} is converted to {8 if bits < 8 else 16} bit",)


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        (lambda: tiff(np.zeros((9, 9), np.uint32), photometric="minisblack"), "32-bit integer"),
        (lambda: tiff(np.zeros((9, 9), np.int16), photometric="minisblack"), "16-bit signed"),
        (lambda: tiff(np.zeros((9, 9), np.uint32), photometric="minisblack", bitspersample=24), "24-bit integer"),
        (lambda: tiff(np.zeros((9, 9, 4), np.float32), photometric="separated"), "CMYK"),
        (lambda: tiff(np.zeros((9, 9, 68), np.uint8), photometric="rgb", planarconfig="contig"), "68 channels"),
    ],
    ids=["uint32", "int16", "24 bit", "float CMYK", "channels"],
)
def test_unsupported_kinds_are_refused_by_name(data, fact):
    with pytest.raises(UnreadableImage, match=fact) as caught:
        decode(data(), "x.tif")
    assert caught.value.next_step
    assert caught.value.where == "x.tif"


@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(
    ("colours", "kinds", "alpha"),
    [
        (3, ["unassalpha", "unspecified"], 0),
        (3, ["unspecified", "assocalpha", "unspecified"], 1),
        (1, ["unspecified"] * 4, 0),
        (3, ["unspecified"] * 7, 0),
    ],
)
def test_extra_channels_are_kept_in_place_and_written_back(depth, colours, kinds, alpha):
    stored = codes(depth, colours + len(kinds))
    data = tiff(stored, photometric="rgb" if colours == 3 else "minisblack", planarconfig="contig", extrasamples=kinds)
    image = decode(data)
    assert np.array_equal(image.alpha_HW, stored[..., colours + alpha])
    assert image.extra.count == len(kinds) - 1
    assert np.array_equal(to_stored(image), stored)
    written = encode(image)
    assert tags_of(written)[338] == tags_of(data)[338]
    assert np.array_equal(tifffile.imread(io.BytesIO(written)), stored)
    assert len(image.notes) == 1
    count = len(kinds) - (set(kinds) != {"unspecified"})
    assert image.notes[0] == f"{count} extra channel{'s are' if count > 1 else ' is'} kept, and not restored"


def test_extra_channels_without_a_tag_are_kept():
    stored = codes("uint8", 5)
    data = tiff(stored, photometric="rgb", planarconfig="contig").replace(b"\x52\x01\x03", b"\x52\x81\x03", 1)
    assert 338 not in tags_of(data)
    assert np.array_equal(to_stored(decode(data)), stored)


@pytest.mark.parametrize("format", ["png", "webp", "jpeg"])
@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (["unassalpha", "unspecified"], "extra channel, which"),
        (["unspecified", "unspecified"], "2 extra channels"),
        (["unspecified"], "extra channel, which is not marked as alpha"),
    ],
)
def test_formats_without_room_for_extra_channels_are_refused_before_the_work(tmp_path, format, kinds, said):  # noqa: A002
    path = tmp_path / "a.tif"
    stored = codes("uint8", 3 + len(kinds))
    path.write_bytes(tiff(stored, photometric="rgb", planarconfig="contig", extrasamples=kinds))
    image = decode(path.read_bytes())
    for check in (
        lambda: check_header(result_header(measure(path), lambda *size: size, format=format), "o"),
        lambda: check_writable(image, "o", format=format),
        lambda: encode(image, format),
    ):
        with pytest.raises(UnwritableImage, match=f"this image's {said}") as caught:
            check()
        assert caught.value.next_step == "Use --format tiff."


@pytest.mark.parametrize("kind", ["associated", "unassociated", "unspecified"])
def test_the_kind_of_alpha_is_kept(kind):
    data = encode(photograph("uint16", 4, "tiff", alpha_kind=kind))
    assert tags_of(data)[338] == ({"associated": 1, "unassociated": 2, "unspecified": 0}[kind],)
    assert decode(data).alpha_kind == kind


@pytest.mark.parametrize("big", [False, True])
def test_16_bits_alpha_and_all_metadata_are_kept_together(metadata, exif, monkeypatch, big):
    """The file has 16 bits, alpha and every metadata block; tifffile and our reader find them all."""
    if big:
        monkeypatch.setattr("sanarestore.images.tiff._CLASSIC_LIMIT", 0)
    image = photograph("uint16", 4, "tiff", metadata=metadata)
    data = encode(image)
    assert data[2:4] in ((b"+\0", b"\0+") if big else (b"*\0", b"\0*"))
    tags = tags_of(data)
    assert list(tags) == sorted(tags)
    assert (tags[34675], tags[700], tags[33723]) == (metadata.icc, XMP, IPTC)
    assert (tags[271], tags[274], tags[296]) == ("ACME", 6, 2)
    assert (tags[282], tags[283]) == ((30000, 100), (24000, 100))
    assert tags[34665]["MakerNote"] == MAKER_NOTE
    assert tags[34665]["ExposureTime"] == (1, 250)
    assert tags[34665]["ExposureBiasValue"] == (-1, 3)
    assert tags[34853]["GPSLatitude"] == (48, 1, 51, 1, 2951, 100)
    decoded = decode(data)
    assert exif_values(decoded.metadata.exif) == exif_values(exif)
    assert (decoded.metadata.icc, decoded.metadata.xmp, decoded.metadata.iptc) == (metadata.icc, XMP, IPTC)
    assert decoded.metadata.dpi == (300.0, 240.0)
    assert np.array_equal(to_stored(decoded), codes("uint16", 4))
    # A second round trip does not change a byte.
    assert encode(decoded) == data


def test_pillow_reads_exif_and_profile(metadata, exif):
    with PillowImage.open(io.BytesIO(encode(photograph("uint8", 3, "tiff", metadata=metadata)))) as file:
        seen = file.getexif()
        assert seen[272] == "One"
        assert seen.get_ifd(34665)[37500] == MAKER_NOTE
        assert file.info["icc_profile"] == metadata.icc


def test_the_byte_order_follows_the_exif_block():
    big_endian = PillowImage.Exif()
    big_endian.endian = ">"
    big_endian[271] = "ACME"
    big_endian[34665] = {33434: 0.5, 37500: b"MM" + MAKER_NOTE}
    block = big_endian.tobytes()[6:]
    assert block[:2] == b"MM"
    data = encode(photograph("uint16", 3, "tiff", metadata=Metadata(exif=block)))
    assert data[:2] == b"MM"
    assert np.array_equal(tifffile.imread(io.BytesIO(data)), codes("uint16", 3))
    assert tags_of(data)[34665]["MakerNote"] == b"MM" + MAKER_NOTE


def with_tags(image_data, entries):
    """The file with more tags in its first directory."""
    layout, _ = ifd.read_header(image_data)
    return _with_entries(io.BytesIO(image_data), layout, [entries])


def entries_of(data, tags):
    """The entries of these tags in a file's first directory."""
    layout, offset = ifd.read_header(data)
    return {tag: entry for tag, entry in ifd.read(data, offset, layout).items() if tag in tags}


@pytest.mark.parametrize("order", "<>")
def test_geo_colour_and_page_tags_are_kept_in_the_order_of_the_file(order):
    tags = [
        (33550, 12, 3, (10.0, 10.0, 0.0), True), (42112, 2, 0, "<GDALMetadata/>", True),
        (318, 5, 2, (3127, 10000, 3290, 10000), True), (301, 3, 256, tuple(range(0, 65536, 256)), True),
        (285, 2, 0, "Page 7", True), (321, 3, 2, (10, 245), True), (34377, 7, len(CLIPPING_PATH), CLIPPING_PATH, True),
    ]  # fmt: skip
    given = tiff(codes("uint8", 3), photometric="rgb", byteorder=order, extratags=tags)
    result = encode(decode(given))
    assert result[:2] == {"<": b"II", ">": b"MM"}[order]
    numbers = {tag for tag, *_ in tags}
    before = entries_of(given, numbers)
    assert before.keys() == numbers
    assert entries_of(result, numbers) == before
    # The other formats hold the tags in their EXIF blocks, from which TIFF gets them back.
    assert entries_of(encode(decode(encode(decode(given), "png")), "tiff"), numbers) == before


def test_tags_about_stored_pixels_are_left_out_and_said():
    plain = tiff(codes("uint8", 3), photometric="rgb", software=False)
    unknown = {37724: Entry(7, b"layers"), 50839: Entry(7, b"mine"), 280: Entry(3, b"\0\0"), 65000: Entry(2, b"x\0")}
    image = decode(with_tags(plain, unknown))
    assert image.metadata == Metadata()
    assert image.notes == (
        "Photoshop's layers are left out, because they hold the photograph before restoring",
        "the TIFF tags 50839, 65000 are left out, because it is not known if that still fits",
    )


def test_two_sets_of_iptc_records_are_said():
    plain = tiff(codes("uint8", 3), photometric="rgb", software=False)
    block = resources.with_iptc(IPTC + IPTC, CLIPPING_PATH)
    image = decode(with_tags(plain, {33723: Entry(7, IPTC), 34377: Entry(7, block)}))
    assert image.metadata == Metadata(iptc=IPTC, photoshop=CLIPPING_PATH)
    (note,) = image.notes
    assert note.startswith("IPTC records in Photoshop's block are left out")
    assert decode(with_tags(plain, {34377: Entry(7, block)})).metadata.iptc == IPTC + IPTC


def test_curves_of_codes_are_left_out_where_the_codes_changed():
    curve = (301, 3, 256, tuple(range(0, 65536, 256)), True)
    white = decode(tiff(codes("uint8", 1)[..., 0], photometric="miniswhite", software=False, extratags=[curve]))
    assert "the TIFF tag 301 is left out, because the stored values were converted" in white.notes
    assert white.metadata.exif is None
    image = decode(tiff(codes("uint8", 3), photometric="rgb", extratags=[curve]))
    deeper = prepared(image, options=WriteOptions(bit_depth=16))
    assert deeper.notes == ("the TIFF tag 301 is left out, because the depth changed",)
    assert 301 not in tags_of(encode(deeper))


def test_reference_values_of_ycbcr_are_not_kept_for_rgb():
    of_chroma = struct.pack("<12L", 0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1)
    given = exif.build({271: Entry(2, b"ACME\0"), 532: Entry(5, of_chroma)}, ByteLayout("<"))
    tags = tags_of(encode(photograph("uint8", 3, "tiff", metadata=Metadata(exif=given))))
    assert 532 not in tags
    assert tags[271] == "ACME"


def test_no_metadata_is_added():
    """The file gets no software, date or other tag that the image lacked; TIFF requires a resolution, which is 1."""
    tags = tags_of(encode(photograph("uint8", 3, "tiff")))
    assert not {305, 306, 270, 34665, 34675, 700} & tags.keys()
    assert decode(encode(photograph("uint8", 3, "tiff"))).metadata == Metadata()


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.95, 0.999])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_truncated_files_are_refused(kept, compression, metadata):
    for data in (
        tiff(codes("uint8", 3), photometric="rgb", compression=compression, rowsperstrip=4),
        encode(photograph("uint16", 4, "tiff", metadata=metadata)),
    ):
        with pytest.raises(UnreadableImage):
            decode(data[: int(len(data) * kept)])
