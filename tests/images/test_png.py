"""Tests of 8-bit and 16-bit PNG files and of their chunks."""

import gc
import io
import struct
import sys
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image as PillowImage

from sanarestore.errors import DamagedImage, UnreadableImage, UnwritableImage
from sanarestore.images import Metadata, decode, encode, from_float, prepared
from sanarestore.images.image import to_stored
from sanarestore.options import WriteOptions
from tests.images.conftest import IPTC, XMP, codes, exif_values, photograph, png_chunk, saved
from tests.images.rich import TEXTS


def chunks_of(data):
    at, chunks = 8, []
    while at < len(data):
        (length,) = struct.unpack_from(">L", data, at)
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert data[at + 8 + length : at + 12 + length] == struct.pack(">L", zlib.crc32(name + body))
        chunks.append((name, body))
        at += 12 + length
    return chunks


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_codes_survive_a_round_trip(depth, channels):
    data = encode(photograph(depth, channels, "png"))
    assert struct.unpack_from(">BB", data, 24) == (
        {"uint8": 8, "uint16": 16}[depth],
        {1: 0, 2: 4, 3: 2, 4: 6}[channels],
    )
    image = decode(data)
    assert image.depth == depth
    assert np.array_equal(to_stored(image), codes(depth, channels))
    if depth == "uint8":
        seen = np.asarray(PillowImage.open(io.BytesIO(data))).reshape(image.height, image.width, channels)
        assert np.array_equal(seen, codes(depth, channels))


def test_all_16_bit_codes_survive_a_round_trip():
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image = decode(encode(photograph("uint16", 1, "png")))
    image = type(image)(
        pixels_HWC=(every / np.float32(65535)).astype(np.float32)[..., None], depth="uint16", format="png"
    )
    assert np.array_equal(to_stored(decode(encode(image)))[..., 0], every)


def test_16_bit_files_of_pillow_are_read_exactly():
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(to_stored(decode(saved(PillowImage.fromarray(every), "PNG")))[..., 0], every)


def test_metadata_is_kept(metadata, exif):
    data = encode(photograph("uint16", 4, "png", metadata=metadata))
    names = [name for name, _ in chunks_of(data)]
    assert names[0] == b"IHDR"
    assert names[-1] == b"IEND"
    assert max(map(names.index, (b"iCCP", b"pHYs", b"eXIf", b"iTXt", b"zTXt"))) < names.index(b"IDAT")
    with PillowImage.open(io.BytesIO(data)) as file:
        file.load()
        assert file.info["icc_profile"] == metadata.icc
        assert exif_values(file.info["exif"].removeprefix(b"Exif\0\0")) == exif_values(exif)
        assert file.info["XML:com.adobe.xmp"].encode() == XMP
        assert file.info["dpi"] == pytest.approx((300, 240), abs=0.02)
    assert decode(data).metadata == metadata


def test_colour_chunks_are_kept():
    plain = encode(photograph("uint8", 3, "png"))
    colour = png_chunk(b"sRGB", b"\0") + png_chunk(b"gAMA", struct.pack(">L", 45455))
    data = plain[:33] + colour + plain[33:]
    image = decode(data)
    assert np.array_equal(to_stored(image), codes("uint8", 3))
    assert image.metadata.png_colour == colour
    assert encode(image) == data


def test_palettes_become_rgb_and_transparency_becomes_alpha():
    picture = PillowImage.fromarray(codes("uint8", 3)).quantize(16)
    image = decode(saved(picture, "PNG"))
    assert np.array_equal(from_float(image.pixels_HWC, "uint8"), np.asarray(picture.convert("RGB")))
    assert image.notes == ("the palette is converted to RGB",)
    clear = decode(saved(picture, "PNG", transparency=3))
    assert np.array_equal(clear.alpha_HW == 0, np.asarray(picture) == 3)
    assert len(clear.notes) == 2


def test_1_bit_files_become_8_bit_gray():
    picture = PillowImage.fromarray(codes("uint8", 1)[..., 0] > 99)
    image = decode(saved(picture, "PNG"))
    assert np.array_equal(from_float(image.pixels_HWC, "uint8")[..., 0], np.asarray(picture.convert("L")))
    assert image.notes == ("1-bit gray is converted to 8 bit",)


def test_iptc_in_a_raw_profile_chunk_is_read():
    resources = b"8BIM\x04\x04\0\0" + struct.pack(">L", len(IPTC)) + IPTC
    text = f"\niptc\n{len(resources):8d}\n{resources.hex()}\n".encode()
    plain = encode(photograph("uint8", 1, "png"))
    data = plain[:33] + png_chunk(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(text)) + plain[33:]
    assert decode(data).metadata.iptc == IPTC


def with_chunks(data, *chunks):
    return data[:33] + b"".join(png_chunk(*each) for each in chunks) + data[33:]


def test_texts_time_and_other_chunks_are_kept_byte_for_byte():
    ratio = (b"pHYs", struct.pack(">LLB", 2, 1, 0))
    chunks = (*TEXTS, ratio, (b"tEXt", b"Raw profile type exif\0not hexadecimal"), (b"ruSt", b"mine, safe to copy"))
    image = decode(with_chunks(encode(photograph("uint8", 3, "png")), *chunks))
    assert image.metadata.png_chunks == chunks
    assert image.notes == ()
    assert decode(encode(image)).metadata == image.metadata


def test_a_chunk_that_is_there_twice_is_kept_once():
    image = decode(with_chunks(encode(photograph("uint8", 3, "png")), (b"sBIT", b"\5\6\5"), (b"sBIT", b"\7\7\7")))
    assert image.metadata.png_chunks == ((b"sBIT", b"\5\6\5"),)


def test_chunks_that_may_not_fit_new_pixels_are_left_out_and_said():
    chunks = ((b"ruST", b"mine, unsafe to copy"), (b"caBX", b"signed"), (b"iDOT", b"offsets"))
    image = decode(with_chunks(encode(photograph("uint8", 3, "png")), *chunks))
    assert image.metadata == Metadata()
    credentials, other = image.notes
    assert "content credentials" in credentials
    assert other == "ruST chunks are left out, because they may not fit the restored pixels"


def test_the_background_is_converted_with_the_pixels():
    picture = PillowImage.fromarray(codes("uint8", 3)).quantize(16)
    colour = bytes(picture.getpalette()[3 * 5 : 3 * 6])
    data = saved(picture, "PNG")
    place = data.index(b"IDAT") - 4
    image = decode(data[:place] + png_chunk(b"bKGD", b"\5") + data[place:])
    assert dict(image.metadata.png_chunks) == {b"bKGD": bytes((0, colour[0], 0, colour[1], 0, colour[2]))}
    data = saved(PillowImage.fromarray(codes("uint8", 1)[..., 0] > 99), "PNG")
    image = decode(with_chunks(data, (b"bKGD", b"\0\1")))
    assert dict(image.metadata.png_chunks) == {b"bKGD": b"\0\xff"}


def test_chunks_about_samples_are_left_out_where_the_depth_changes():
    metadata = Metadata(png_chunks=((b"sBIT", b"\x0a\x0a\x0a"), (b"bKGD", bytes(range(6)))))
    image = photograph("uint16", 3, "png", metadata=metadata)
    assert decode(encode(image)).metadata == metadata
    smaller = prepared(image, options=WriteOptions(bit_depth=8))
    assert smaller.metadata == Metadata()
    assert smaller.notes == ("PNG's bKGD and sBIT are left out, because depth or channels changed",)


def test_significant_bits_cover_an_alpha_channel_that_was_a_transparent_colour():
    metadata = Metadata(png_chunks=((b"sBIT", b"\5\6\5"),))
    assert decode(encode(photograph("uint8", 4, "png", metadata=metadata))).metadata.png_chunks == (
        (b"sBIT", b"\5\6\5\x08"),
    )


def test_damaged_metadata_does_not_affect_the_pixels():
    plain = encode(photograph("uint8", 3, "png"))
    broken = (
        png_chunk(b"iCCP", b"x\0\0not deflate") + png_chunk(b"eXIf", b"??") + png_chunk(b"iTXt", b"XML:com.adobe.xmp\0")
    )
    image = decode(plain[:33] + broken + plain[33:])
    assert np.array_equal(to_stored(image), codes("uint8", 3))
    assert image.metadata == Metadata()


@pytest.mark.parametrize("kept", [0.05, 0.4, 0.9, 0.995])
def test_truncated_files_are_refused(kept):
    data = encode(photograph("uint16", 3, "png"))
    with pytest.raises(UnreadableImage):
        decode(data[: int(len(data) * kept)])


def test_a_missing_end_chunk_is_refused():
    with pytest.raises(UnreadableImage, match="truncated"):
        decode(encode(photograph("uint8", 3, "png"))[:-12])


def test_an_odd_profile_causes_no_warning(caplog):
    """Warnings of libpng about profiles would otherwise appear on the terminal through the log."""
    decode(encode(photograph("uint8", 3, "png", metadata=Metadata(icc=bytes(range(256))))))
    assert caplog.messages == []


def test_a_changed_byte_is_detected():
    data = bytearray(encode(photograph("uint16", 3, "png")))
    data[len(data) // 2] ^= 0x10
    with pytest.raises(UnreadableImage):
        decode(bytes(data))


@pytest.mark.parametrize(
    ("fields", "fact"),
    [
        ({"depth": "float32", "channels": 3}, "float"),
        ({"depth": "uint8", "channels": 4, "alpha_kind": "unspecified"}, "not marked as alpha"),
    ],
)
def test_images_that_png_cannot_hold_are_refused(fields, fact):
    with pytest.raises(UnwritableImage, match=fact):
        encode(photograph(format="png", **fields))


def test_a_file_without_pixels_is_damaged():
    whole = encode(photograph("uint8", 4, "png"))
    bare = whole[: whole.index(b"IDAT") - 4] + png_chunk(b"IEND", b"")
    with pytest.raises(DamagedImage, match="its pixels are missing"):
        decode(bare)
    with pytest.raises(DamagedImage, match="nothing of its pixels"):
        decode(bare, accept_damaged=True)


def test_compressed_texts_have_a_limit_in_all():
    """Ten profiles of 30 MB each, in 300 kB: two are decompressed, the others are left out."""
    bomb = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(30_000_000), 9))
    plain = encode(photograph("uint8", 3, "png"))
    data = plain[:33] + bomb * 10 + plain[33:]
    tracemalloc.start()
    try:
        begun = time.process_time()
        decode(data)
        assert time.process_time() - begun < 3
        assert tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()


def test_a_raw_profile_of_many_words_takes_little_memory():
    plain = encode(photograph("uint8", 3, "png"))
    text = b"Raw profile type iptc\0\0" + zlib.compress(b"\niptc\n 8\n" + b"a " * 5_000_000, 9)
    tracemalloc.start()
    try:
        decode(plain[:33] + png_chunk(b"zTXt", text) + plain[33:])
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


def test_files_that_libpng_refuses_cost_no_reference_to_none():
    """imagecodecs gives one up with every error, and Python would abort after some ten thousand such files."""
    plain = encode(photograph("uint8", 3, "png"))
    rows = b"".join(b"\x09" + bytes(69) for _ in range(19))  # a filter that does not exist
    data = plain[:33] + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    gc.collect()
    before = sys.getrefcount(None)
    for _ in range(200):
        with pytest.raises(UnreadableImage):
            decode(data)
    gc.collect()
    assert sys.getrefcount(None) > before - 100
