"""Tests that nothing is carried which restoring makes untrue."""

import struct
from hashlib import md5

import pytest
from PIL import Image as PillowImage

from sanarestore.images import Image, Metadata, decode, encode, exif, exif_edit, to_float, xmp
from sanarestore.images.jpeg_segments import EXTENSION as POINTER
from tests.images.conftest import saved, smooth
from tests.images.rich import CLIPPING_PATH, EXTENDED, EXTENSION, LABELLED, block, packet, resource

GOOGLE = "http://ns.google.com/photos/1.0/"
FALSE = packet(
    '<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="image/jpeg"/></rdf:li>'
    "</rdf:Seq></Container:Directory>",
    f' xmlns:Container="{GOOGLE}container/" xmlns:Item="{GOOGLE}container/item/" xmlns:GCamera="{GOOGLE}camera/"'
    ' xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" GCamera:MotionPhoto="1"'
    ' GCamera:BurstID="7" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Label="Red"',
)


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg(*segments: bytes) -> bytes:
    plain = saved(PillowImage.fromarray(smooth()), "JPEG")
    return plain[:20] + b"".join(segments) + plain[20:]


def with_thumbnail() -> bytes:
    """An EXIF block as cameras write it: a maker note, a second directory, and a thumbnail at the end."""
    first = block()
    layout, directory = exif.parse(first)
    thumbnail = saved(PillowImage.fromarray(smooth()[::8, ::8].copy()), "JPEG")
    at = len(first) + len(first) % 2
    count = layout.count.unpack_from(first, 8)[0]
    second = struct.pack("<HHHLLHHLLL", 2, 513, 4, 1, at + 30, 514, 4, 1, len(thumbnail), 0)
    linked = bytearray(first.ljust(at, b"\0"))
    struct.pack_into("<L", linked, 10 + 12 * count, at)
    assert directory
    return bytes(linked) + second + thumbnail


def test_an_exif_thumbnail_is_taken_out_and_nothing_moves() -> None:
    given = with_thumbnail()
    image = decode(jpeg(segment(0xE1, b"Exif\0\0" + given)))
    kept = image.metadata.exif
    assert kept is not None
    assert exif.parse(kept) == exif.parse(given)
    assert (image.notes, image.thumbnail) == ((), 8)
    assert b"\xff\xd8" not in kept
    difference = [at for at in range(len(kept)) if kept[at] != given[at]]
    assert len(difference) <= 4, "only the link to the second directory changes"


def test_a_thumbnail_that_overlaps_other_values_takes_nothing_with_it() -> None:
    given = bytearray(with_thumbnail())
    at = given.index(struct.pack("<HHL", 513, 4, 1))
    struct.pack_into("<L", given, at + 8, 8)
    kept = exif_edit.without_thumbnail(bytes(given))
    assert exif.parse(kept) == exif.parse(bytes(given))


def test_a_block_without_a_thumbnail_is_kept_byte_for_byte() -> None:
    assert exif_edit.without_thumbnail(block()) == block()
    for odd in (b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff"):
        assert exif_edit.without_thumbnail(odd) == odd


def test_xmp_does_not_speak_of_pictures_that_are_left_out() -> None:
    image = decode(jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + FALSE)))
    kept = image.metadata.xmp
    assert kept is not None
    assert not [word for word in (b"hdrgm", b"Container", b"Item", b"MotionPhoto") if word in kept]
    assert {each.name.local: each.value for each in xmp.find(kept)} == {"BurstID": "7", "Label": "Red"}
    assert image.notes == (
        "XMP no longer speaks of what the result does not have: a gain map, a motion photo, pictures that follow",
    )


def extended(extension: bytes, size: int = 60) -> list[bytes]:
    head = b"http://ns.adobe.com/xmp/extension/\0" + md5(EXTENSION).hexdigest().upper().encode()
    return [
        segment(0xE1, head + struct.pack(">LL", len(extension), at) + extension[at : at + size])
        for at in range(0, len(extension), size)
    ]


def test_extended_xmp_is_kept_in_jpeg_and_merged_elsewhere() -> None:
    parts = extended(EXTENSION)
    image = decode(jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + EXTENDED), *reversed(parts)))
    assert (image.metadata.xmp, image.metadata.xmp_extension, image.notes) == (EXTENDED, EXTENSION, ())
    assert decode(encode(image)).metadata == image.metadata
    merged = decode(encode(image, "png")).metadata
    assert merged.xmp_extension is None
    values = {each.name.local: each.value for each in xmp.find(merged.xmp or b"")}
    assert values == {"Label": "Red", "Notes": "A long text"}


def test_extended_xmp_that_is_incomplete_is_left_out() -> None:
    parts = extended(EXTENSION)[:-1]
    image = decode(jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + EXTENDED), *parts))
    assert image.metadata.xmp_extension is None
    assert xmp.value_of(image.metadata.xmp, POINTER) is None
    assert image.notes == ("XMP no longer speaks of what the result does not have: extended XMP",)


def test_a_changed_extension_is_pointed_to_by_its_new_hash() -> None:
    given = Metadata(xmp=EXTENDED, xmp_extension=FALSE)
    image = decode(encode(Image(pixels_HWC=to_float(smooth(), "uint8"), depth="uint8", format="jpeg", metadata=given)))
    extension = image.metadata.xmp_extension
    assert extension is not None
    assert b"hdrgm" not in extension
    assert xmp.value_of(image.metadata.xmp, POINTER) == md5(extension).hexdigest().upper()


def test_photoshop_thumbnails_are_left_out_and_blocks_find_their_place() -> None:
    given = CLIPPING_PATH + resource(0x040C, bytes(99)) + resource(0x0424, LABELLED)
    image = decode(jpeg(segment(0xED, b"Photoshop 3.0\0" + given)))
    assert image.metadata.photoshop == CLIPPING_PATH
    assert image.metadata.xmp == LABELLED
    assert image.notes == ("Photoshop's thumbnail is left out, because it shows the photograph before restoring",)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (segment(0xE0, b"JFXX\0\x10"), "JFIF thumbnail"), (segment(0xEB, b"JP\0\0"), "content credentials"),
        (segment(0xE4, b"maker"), "APP4 segments are left out"),
        (segment(0xE2, b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0"), "only the main picture"),
        (segment(0xE2, b"MPF\0II*\0"), "only the main picture"),
    ],
)  # fmt: skip
def test_other_segments_are_left_out_and_said(extra: bytes, said: str) -> None:
    (note,) = decode(jpeg(extra)).notes
    assert said in note


def test_an_aspect_ratio_is_left_out_and_said() -> None:
    plain = jpeg()
    (note,) = decode(plain[:13] + b"\0\0\2\0\1" + plain[18:]).notes
    assert note == "the aspect ratio of the pixels is left out"
