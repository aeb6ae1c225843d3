"""Tests of provenance in XMP, and of metadata that is stripped."""

import struct

import pytest

from sanarestore.errors import UnwritableImage
from sanarestore.images import (
    Metadata,
    Provenance,
    decode,
    encode,
    exif,
    prepared,
    provenance_of,
    stripped,
    with_provenance,
)
from sanarestore.images.image import WRITTEN
from sanarestore.options import WriteOptions
from tests.images.conftest import IPTC, photograph
from tests.images.rich import CLIPPING_PATH, EXTENDED, LABELLED, TEXTS, block

TOLD = Provenance(
    version="1.2.3", model="sanarestore-mini", weights="ab" * 32, licence="Apache-2.0",
    options=(("prompt", 'remove "noise" & <grain>'), ("strength", "0.5"), ("seed", "0")), input="cd" * 32,
)  # fmt: skip


@pytest.mark.parametrize("given", [None, LABELLED, EXTENDED])
def test_a_provenance_is_read_back_and_everything_else_stays(given: bytes | None) -> None:
    told = with_provenance(Metadata(xmp=given), TOLD)
    assert provenance_of(told) == TOLD
    assert provenance_of(Metadata(xmp=given)) is None
    if given is not None:
        assert told.xmp is not None
        at = told.xmp.index(b"\n  <rdf:Description", 100 + given.index(b"<rdf:Description"))
        end = told.xmp.rindex(b"</rdf:Description>") + len(b"</rdf:Description>")
        assert told.xmp[:at] + told.xmp[end:] == given


def test_an_earlier_provenance_is_replaced() -> None:
    earlier = Provenance(version="1", model="m", weights="w", licence="l", input="i")
    told = with_provenance(with_provenance(Metadata(xmp=LABELLED), earlier), TOLD)
    assert provenance_of(told) == TOLD
    assert told.xmp is not None
    assert told.xmp.count(b"WeightsSHA256>") == 2


def test_a_packet_that_cannot_be_parsed_is_refused() -> None:
    with pytest.raises(UnwritableImage) as refused:
        with_provenance(Metadata(xmp=b"<broken"), TOLD)
    assert "--provenance" in refused.value.next_step


@pytest.mark.parametrize("format", WRITTEN)
def test_files_of_every_format_hold_a_provenance(format: str) -> None:  # noqa: A002
    image = photograph("uint8", 3, format, metadata=with_provenance(Metadata(), TOLD))  # type: ignore[arg-type]
    assert provenance_of(decode(encode(image)).metadata) == TOLD


def test_only_what_decides_the_look_is_left(icc: bytes) -> None:
    colour = b"\0\0\0\1sRGB\0\xae\xce\x1c\xe9"
    full = Metadata(
        icc=icc, exif=block(), xmp=LABELLED, iptc=IPTC, photoshop=CLIPPING_PATH, dpi=(300.0, 300.0),
        comments=(b"job",), png_colour=colour, png_chunks=TEXTS,
    )  # fmt: skip
    left = stripped(full)
    assert (left.icc, left.png_colour) == (icc, colour)
    layout, directory = exif.parse(left.exif or b"")
    assert directory.keys() == {274}
    assert directory[274].data == struct.pack(layout.order + "H", 6)
    assert (left.xmp, left.iptc, left.photoshop, left.comments, left.png_chunks, left.dpi) == (
        None, None, None, (), (), None,
    )  # fmt: skip
    assert stripped(Metadata(exif=exif.build({}, layout))).exif is None


def test_colour_tags_stay_when_everything_else_is_stripped() -> None:
    layout, directory = exif.parse(block())
    white, space = exif.ifd.Entry(5, bytes(16)), exif.ifd.Entry(3, b"\xff\xff")
    inner = {**(directory[34665].directory or {}), 40961: space}
    given = exif.build({**directory, 318: white, 34665: exif.ifd.Entry(4, b"", inner)}, layout)
    found = exif.parse(stripped(Metadata(exif=given)).exif or b"")[1]
    assert found.keys() == {274, 318, 34665}
    assert found[34665].directory == {40961: space}


def test_stripping_keeps_a_provenance_that_is_asked_for() -> None:
    image = photograph("uint8", 3, "png", metadata=with_provenance(Metadata(xmp=LABELLED, comments=(b"job",)), TOLD))
    both = prepared(image, options=WriteOptions(strip=True, provenance=True)).metadata
    assert provenance_of(both) == TOLD
    assert b"Red" not in (both.xmp or b"")
    assert prepared(image, options=WriteOptions(strip=True)).metadata == Metadata()
