"""Tests of the table of what becomes of metadata; `test_exiftool` tests all pairs of formats."""

import struct
import time
from pathlib import Path

import pytest

from sanarestore.images import Metadata, decode, encode, prepared, xmp
from sanarestore.images.carriage import as_markdown
from sanarestore.images.image import FORMAT_NAMES, Format
from sanarestore.images.xml_tree import Name
from tests.images.conftest import IPTC, XMP, photograph, png_chunk
from tests.images.rich import CLIPPING_PATH, LABELLED, packet

PAGE = Path(__file__).parents[2] / "docs" / "metadata.md"
COMMENT = Name("http://ns.adobe.com/exif/1.0/", "UserComment")
AUTHOR = Name("http://purl.org/dc/elements/1.1/", "creator")


def carried(metadata: Metadata, target: Format) -> tuple[Metadata, tuple[str, ...]]:
    """The metadata in a file of a format, and the notes on writing it."""
    image = photograph("uint8", 3, "png", metadata=metadata)
    return decode(encode(image, target)).metadata, prepared(image, target).notes


def test_the_documentation_shows_the_table() -> None:
    assert as_markdown() in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("comment", [b"job 4711", "Zoë".encode(), "Zoë".encode("latin-1")])
def test_comments_become_texts_of_png_and_comments_again(comment: bytes) -> None:
    text = "job 4711" if comment.isascii() else "Zoë"
    there, notes = carried(Metadata(comments=(comment,)), "png")
    assert there.png_chunks == ((b"tEXt", b"Comment\0" + text.encode("latin-1")),)
    back, more = carried(there, "jpeg")
    assert back.comments == (text.encode(),)
    assert (notes, more) == ((), ())


def test_a_text_that_is_too_long_for_a_comment_is_said_to_be_lost() -> None:
    there, notes = carried(Metadata(png_chunks=((b"tEXt", b"Comment\0" + b"a" * 65534),)), "jpeg")
    assert there == Metadata()
    assert notes == ("PNG's Comment is left out, because JPEG has no place for it",)


@pytest.mark.parametrize("target", ["tiff", "webp"])
def test_comments_go_to_xmp_where_their_place_is_free(target: Format) -> None:
    there, notes = carried(Metadata(comments=(b"job 4711",), xmp=LABELLED), target)
    assert (xmp.value_of(there.xmp, COMMENT), notes) == ("job 4711", ())
    taken = packet("<exif:UserComment>other</exif:UserComment>", f' xmlns:exif="{COMMENT.namespace}"')
    there, notes = carried(Metadata(comments=(b"job 4711",), xmp=taken), target)
    assert there.xmp == taken
    assert notes == (f"a JPEG comment is left out, because {FORMAT_NAMES[target]} has no place for it",)
    assert carried(Metadata(comments=(b"other",), xmp=taken), target)[1] == ()


@pytest.mark.parametrize("target", ["tiff", "jpeg", "webp"])
def test_texts_of_png_go_to_xmp_or_are_said_to_be_lost(target: Format) -> None:
    chunks = (
        (b"tEXt", b"Author\0Anna"),
        (b"tEXt", b"Warning\0hot"),
        (b"tIME", struct.pack(">HBBBBB", 2024, 5, 6, 7, 8, 9)),
    )
    there, notes = carried(Metadata(png_chunks=chunks), target)
    assert xmp.value_of(there.xmp, AUTHOR) == "Anna"
    assert xmp.value_of(there.xmp, Name("http://ns.adobe.com/xap/1.0/", "ModifyDate")) == "2024-05-06T07:08:09Z"
    assert notes == (f"PNG's Warning is left out, because {FORMAT_NAMES[target]} has no place for it",)


def test_a_packet_that_cannot_be_parsed_is_carried_and_takes_no_text() -> None:
    there, notes = carried(Metadata(xmp=b"<broken", png_chunks=((b"tEXt", b"Author\0Anna"),)), "tiff")
    assert there.xmp == b"<broken"
    assert notes == ("PNG's Author is left out, because TIFF has no place for it",)


def test_webp_has_no_place_for_iptc_and_photoshop() -> None:
    there, notes = carried(Metadata(xmp=XMP, iptc=IPTC, photoshop=CLIPPING_PATH), "webp")
    assert there == Metadata(xmp=XMP)
    assert notes == (
        "IPTC records are left out, because WebP has no place for them",
        "Photoshop's image resources are left out, because WebP has no place for them",
    )


@pytest.mark.parametrize(
    ("chunks", "said"),
    [
        ([(b"gAMA", struct.pack(">L", 100_000))], "gAMA"), ([(b"cICP", b"\x09\x10\0\1")], "cICP"),
        ([(b"sRGB", b"\0"), (b"gAMA", struct.pack(">L", 45455))], ""), ([(b"gAMA", struct.pack(">L", 45455))], ""),
        ([(b"cHRM", struct.pack(">8L", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))], "cHRM"),
    ],
)  # fmt: skip
def test_colour_that_is_lost_is_said(chunks: list[tuple[bytes, bytes]], said: str) -> None:
    colour = b"".join(png_chunk(*each) for each in chunks)
    there, notes = carried(Metadata(png_colour=colour), "jpeg")
    assert there == Metadata()
    assert [said in note and "colours may look different" in note for note in notes] == [True] * bool(said)


def test_writing_twice_says_nothing_new() -> None:
    image = photograph("uint8", 3, "png", metadata=Metadata(iptc=IPTC, png_chunks=((b"tEXt", b"Author\0Anna"),)))
    once = prepared(image, "webp")
    assert prepared(once, "webp") == once


def test_many_texts_end_quickly() -> None:
    """The XMP packet is not parsed again for each of them."""
    metadata = Metadata(xmp=LABELLED, png_chunks=((b"tEXt", b"Author\0Anna"),) * 50_000, comments=(b"job",) * 50_000)
    begun = time.process_time()
    there, notes = carried(metadata, "webp")
    assert time.process_time() - begun < 10
    assert xmp.value_of(there.xmp, AUTHOR) == "Anna"
    assert notes == ("PNG's Author is left out, because WebP has no place for it",)
