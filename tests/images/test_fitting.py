"""Tests of metadata in pixels, fitted to a new size."""

import struct

import pytest

from sanarestore.images import Metadata, exif, fitted, ifd, xmp
from sanarestore.images.ifd import ByteLayout, Entry
from tests.images.conftest import MAKER_NOTE
from tests.images.rich import CLIPPING_PATH, packet, resource

BEFORE, AFTER = (640, 480), (1280, 1440)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("kind", "letter"), [(3, "H"), (4, "L")])
def test_pixel_dimensions_in_exif_are_rewritten_and_nothing_moves(order: str, kind: int, letter: str) -> None:
    layout = ByteLayout(order)
    inner = {
        40962: Entry(kind, struct.pack(order + letter, 640)), 40963: Entry(kind, struct.pack(order + letter, 480)),
        37396: Entry(3, struct.pack(order + "4H", 10, 20, 30, 40)),
        41486: Entry(5, struct.pack(order + "2L", 3000, 1)), 37500: Entry(7, MAKER_NOTE),
    }  # fmt: skip
    block = exif.build({256: Entry(4, struct.pack(order + "L", 640)), 34665: Entry(4, b"", inner)}, layout)
    changed, notes = fitted(Metadata(exif=block), BEFORE, AFTER)
    assert changed.exif is not None
    assert len(changed.exif) == len(block)
    assert changed.exif.index(MAKER_NOTE) == block.index(MAKER_NOTE)
    _, directory = exif.parse(changed.exif)
    found = directory[34665].directory
    assert found is not None
    assert directory[256] == Entry(4, struct.pack(order + "L", 1280))
    assert (found[40962], found[40963]) == tuple(Entry(4, struct.pack(order + "L", each)) for each in AFTER)
    assert ifd.value_of(3, found[37396].data, layout) == (20, 60, 60, 120)
    assert ifd.value_of(5, found[41486].data, layout) == (6000,)
    assert notes == ("pixel dimensions in the metadata are those of the result",)


def test_pixel_dimensions_in_xmp_are_rewritten() -> None:
    def sized(width: int, height: int) -> bytes:
        return packet(
            f"<tiff:ImageLength>{height}</tiff:ImageLength>",
            ' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/"'
            f' tiff:ImageWidth="{width}" exif:PixelXDimension="{width}" exif:PixelYDimension="{height}"',
        )

    assert fitted(Metadata(xmp=sized(*BEFORE)), BEFORE, AFTER)[0].xmp == sized(*AFTER)


def test_metadata_without_sizes_and_of_the_same_size_stays() -> None:
    given = Metadata(xmp=packet(""), photoshop=CLIPPING_PATH, exif=exif.build({271: Entry(2, b"A\0")}, ByteLayout(">")))
    assert fitted(given, BEFORE, AFTER) == (given, ())
    assert fitted(given, BEFORE, BEFORE)[0] is given


@pytest.mark.parametrize("is_point", [False, True])
def test_a_place_in_the_image_keeps_its_place_on_earth(is_point: bool) -> None:
    keys = Entry(3, struct.pack("<8H", 1, 1, 0, 1, 1025, 0, 1, 1 + is_point))
    matrix = (10.0, 2.0, 0.0, 5e5, 1.0, -10.0, 0.0, 4e6, 0, 0, 0, 0, 0, 0, 0, 1)
    given = {
        33550: Entry(12, struct.pack("<3d", 10, 20, 0)), 33922: Entry(12, struct.pack("<6d", 8, 6, 0, 4e5, 5e6, 0)),
        34264: Entry(12, struct.pack("<16d", *matrix)), 34735: keys,
    }  # fmt: skip
    changed, _ = fitted(Metadata(exif=exif.build(given, ByteLayout("<"))), BEFORE, AFTER)
    layout, directory = exif.parse(changed.exif or b"")
    values = {tag: ifd.value_of(12, directory[tag].data, layout) for tag in (33550, 33922, 34264)}
    shift = 0.5 if is_point else 0
    across, down = ((8 + shift) * 2 - shift, (6 + shift) * 3 - shift)
    assert values[33550] == pytest.approx((5, 20 / 3, 0))
    assert values[33922] == pytest.approx((across, down, 0, 4e5, 5e6, 0))
    new = values[34264]
    for row in (0, 4):
        here = new[row] * across + new[row + 1] * down + new[row + 3]
        assert here == pytest.approx(matrix[row] * 8 + matrix[row + 1] * 6 + matrix[row + 3])


def test_places_that_cannot_be_rewritten_are_left_out_and_said() -> None:
    guides = resource(1032, bytes(16))
    chunks = ((b"oFFs", bytes(9)), (b"tEXt", b"Author\0Anna"))
    given = Metadata(
        photoshop=guides + CLIPPING_PATH, png_chunks=chunks,
        exif=exif.build({50844: Entry(12, bytes(16)), 271: Entry(2, b"A\0")}, ByteLayout("<")),
    )  # fmt: skip
    changed, notes = fitted(given, BEFORE, AFTER)
    assert (changed.photoshop, changed.png_chunks) == (CLIPPING_PATH, chunks[1:])
    assert list(exif.parse(changed.exif or b"")[1]) == [271]
    assert [note.partition(" left out")[0] for note in notes if "left out" in note] == [
        "the TIFF tag 50844 is", "Photoshop's guides and slices are", "PNG's oFFs are",
    ]  # fmt: skip


def test_a_packet_that_cannot_be_parsed_stays() -> None:
    assert fitted(Metadata(xmp=b"<broken"), BEFORE, AFTER)[0].xmp == b"<broken"
    assert list(xmp.find(b"<broken")) == []
