"""Tests of parsing and building EXIF blocks."""

import struct
import time

import pytest
from PIL import Image as PillowImage

from sanarestore.images import exif, ifd
from sanarestore.images.ifd import ByteLayout, Entry
from tests.images.conftest import MAKER_NOTE, exif_values


def test_a_parsed_and_rebuilt_block_keeps_its_values():
    for order in "<>":
        block = PillowImage.Exif()
        block.endian = order
        block[270], block[274] = "text", 8
        block[34665] = {33434: 0.004, 37500: MAKER_NOTE, 40965: {1: "R98"}}
        block[34853] = {2: (1.0, 2.0, 3.5)}
        data = block.tobytes()[6:]
        layout, directory = exif.parse(data)
        assert layout.order == order
        rebuilt = exif.build(directory, layout)
        assert exif_values(rebuilt) == exif_values(data)
        assert directory[ifd.EXIF].directory[37500].data == MAKER_NOTE


def test_unusual_types_and_text_are_kept():
    """Libraries that rewrite EXIF would change these: UTF-8 text, a rational with denominator 0, a byte for a short."""
    layout = ByteLayout("<")
    directory = {
        315: Entry(2, "Zoë 日本\0".encode()),
        18246: Entry(1, b"\5"),
        34665: Entry(4, b"", {33434: Entry(5, struct.pack("<LL", 0, 0))}),
    }
    assert exif.parse(exif.build(directory, layout)) == (layout, directory)


def test_damaged_blocks_are_parsed_as_far_as_possible():
    assert exif.parse(b"")[1] == {}
    assert exif.parse(b"II*\0\xff\xff\0\0")[1] == {}
    loop = b"II*\0\x08\0\0\0" + struct.pack("<HHHLL", 1, 34665, 4, 1, 8) + bytes(4)
    assert exif.parse(loop)[1].keys() <= {34665}


def test_resolution_per_centimetre_is_converted_to_inches():
    layout = ByteLayout(">")
    tags = dict(exif.resolution_entries((100.0, 50.0), layout))
    assert exif.dpi_of(tags, layout) == (100.0, 50.0)
    tags[296] = Entry(3, struct.pack(">H", 3))
    assert exif.dpi_of(tags, layout) == (254.0, 127.0)
    tags[296] = Entry(3, struct.pack(">H", 1))
    assert exif.dpi_of(tags, layout) is None


def repeated(order, count, *entries):
    """A block of `count` entries that all are one of a few, each tag, type, number of values and value field."""
    table = b"".join(struct.pack(order + "HHLL", *entries[index % len(entries)]) for index in range(count))
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "LH", 8, count) + table + bytes(4)


def test_pointers_that_repeat_are_read_once():
    """400 pointers to the directory itself would otherwise take 400 ** 3 readings."""
    begun = time.process_time()
    for order in "<>":
        assert exif.parse(repeated(order, 400, (34665, 4, 1, 8), (40965, 4, 1, 8), (34853, 4, 1, 8)))[1] == {}
    assert time.process_time() - begun < 1


def test_values_have_no_more_bytes_in_all_than_the_block():
    """Each of 2000 tags claims the whole block: together 200 times its size and more."""
    entries = [(1000 + index, 7, 20_000, 8) for index in range(2000)]
    block = repeated("<", 2000, *entries)
    directory = exif.parse(block)[1]
    assert sum(len(entry.data) for entry in directory.values()) <= len(block)
    with pytest.raises(ifd.EndsEarlyError):
        ifd.read(block, 8, ByteLayout("<"), strict=True)


def test_directories_that_overlap_have_no_more_entries_than_fit():
    """Pointers to many places in the same table would otherwise read it again from each of them."""
    inner = [(34665, 4, 1, 8 + 12 * index) for index in range(1, 400)]
    block = repeated("<", 399, *inner)
    begun = time.process_time()
    exif.parse(block)
    assert time.process_time() - begun < 1


def test_pointers_of_a_strange_type_are_passed_over():
    nan = struct.unpack("<L", struct.pack("<f", float("nan")))[0]
    assert exif.parse(repeated("<", 1, (34665, 11, 1, nan)))[1] == {}


def test_pages_in_a_circle_are_counted_once():
    page = struct.pack("<H", 0)
    data = b"II*\0\x08\0\0\0" + page + struct.pack("<L", 14) + page + struct.pack("<L", 8)
    assert ifd.offsets(data, 8, ByteLayout("<"), 10) == ([8, 14], True)
    assert ifd.offsets(data, 8, ByteLayout("<"), 1) == ([8], True)
    assert ifd.offsets(data[:17], 8, ByteLayout("<"), 10) == ([8, 14], False)
    assert ifd.offsets(data[:15], 8, ByteLayout("<"), 10) == ([8], False)
