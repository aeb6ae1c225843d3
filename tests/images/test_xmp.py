"""Tests of XMP packets: what is changed is changed, and every other byte stays."""

import time

import pytest

from sanarestore.images import xml_tree, xmp
from sanarestore.images.xml_tree import Name
from tests.images.rich import EXTENSION, LABELLED, packet

LABEL = Name("http://ns.adobe.com/xap/1.0/", "Label")
GAIN = "http://ns.adobe.com/hdr-gain-map/1.0/"
ODD = packet(
    '\n   <hdrgm:GainMapMax a="x">1 &lt; 2<!-- > --></hdrgm:GainMapMax>\n   <dc:title><rdf:Alt>'
    '<rdf:li xml:lang="x-default">Zoë &amp; 日本</rdf:li></rdf:Alt></dc:title>',
    f' xmlns:hdrgm=\'{GAIN}\'\n hdrgm:Version = "1.0" xmlns:dc="http://purl.org/dc/elements/1.1/"',
)


def is_gain(each: xmp.Property) -> bool:
    return each.name.namespace == GAIN


def test_properties_are_found_as_attributes_and_as_elements() -> None:
    found = {each.name.local: each.value for each in xmp.find(ODD)}
    assert found == {"Version": "1.0", "GainMapMax": "1 < 2", "title": "Zoë & 日本"}


def test_removing_leaves_every_other_byte() -> None:
    kept, gone = xmp.without(ODD, is_gain)
    expected = ODD.decode().replace(f" xmlns:hdrgm='{GAIN}'", "").replace('\n hdrgm:Version = "1.0"', "")
    expected = expected.replace('\n   <hdrgm:GainMapMax a="x">1 &lt; 2<!-- > --></hdrgm:GainMapMax>', "")
    assert kept.decode() == expected
    assert [name.local for name in gone] == ["Version", "GainMapMax"]


def test_a_packet_without_such_properties_is_returned_itself() -> None:
    assert xmp.without(LABELLED, is_gain)[0] is LABELLED


def test_a_prefix_that_is_still_used_stays_declared() -> None:
    used = packet("<a:b><hdrgm:c/></a:b>", f' xmlns:a="urn:a" xmlns:hdrgm="{GAIN}" hdrgm:Version="1"')
    assert b"xmlns:hdrgm" in xmp.without(used, is_gain)[0]


def test_values_are_rewritten_in_place() -> None:
    size = Name("http://ns.adobe.com/tiff/1.0/", "ImageWidth")
    for body, attributes in (("<t:ImageWidth>640</t:ImageWidth>", ""), ("", ' t:ImageWidth="640"')):
        before = packet(body, f' xmlns:t="{size.namespace}"{attributes}')
        assert xmp.with_values(before, {size: "1280"}) == before.replace(b"640", b"1280")


@pytest.mark.parametrize("given", [LABELLED, ODD, None, LABELLED + b"\0\0"])
def test_descriptions_are_added_beside_the_others(given: bytes | None) -> None:
    added = xmp.with_description(given, {"e": "urn:e/"}, "<e:Place>Zo\xeb</e:Place>")
    assert xmp.value_of(added, Name("urn:e/", "Place")) == "Zoë"
    if given is not None:
        before, _, after = added.partition(b'\n  <rdf:Description rdf:about="" xmlns:rdf=')
        assert before + after.partition(b"</rdf:Description>")[2] == given


def test_an_empty_rdf_element_is_opened() -> None:
    given = b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>'
    added = xmp.with_description(given, {"e": "urn:e/"}, "<e:Place>here</e:Place>")
    assert xmp.value_of(added, Name("urn:e/", "Place")) == "here"


def test_a_packet_without_rdf_gets_it() -> None:
    added = xmp.with_description(b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>", {"e": "urn:e/"}, "<e:Place>here</e:Place>")
    assert added.startswith(b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF")
    assert xmp.value_of(added, Name("urn:e/", "Place")) == "here"


def test_an_extension_is_merged_with_its_prefixes() -> None:
    merged = xmp.merged(LABELLED, EXTENSION)
    assert merged is not None
    assert xmp.value_of(merged, Name("urn:example:b/", "Notes")) == "A long text"
    assert xmp.value_of(merged, LABEL) == "Red"


@pytest.mark.parametrize(
    "broken",
    [
        b"", b"<a", b"\xff\xfe<\0a\0", LABELLED[:-80], LABELLED.replace(b"Red", b"R\xe9d"),
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', b"<a:b/>",
    ],
)  # fmt: skip
def test_packets_that_cannot_be_parsed_stay_as_they_are(broken: bytes) -> None:
    assert xml_tree.parse(broken) is None
    assert list(xmp.find(broken)) == []
    assert xmp.without(broken, lambda _: True) == (broken, [])
    assert xmp.with_values(broken, {LABEL: "Blue"}) == broken
    if broken:
        with pytest.raises(xmp.UnparsableError):
            xmp.with_description(broken, {"e": "urn:e/"}, "<e:a/>")


HOSTILE = [
    b"<a>" * 110_000,
    b"<a>" + b"<b/>" * 110_000 + b"</a>",
    b"<a " + b"b='' " * 100_000 + b"/>",
    b"".join(b"<a xmlns:b%d='c'>" % number for number in range(20_000)),
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_packets_end_quickly(hostile: bytes) -> None:
    begun = time.process_time()
    assert xml_tree.parse(hostile) is None
    assert time.process_time() - begun < 5


def test_many_declarations_end_quickly() -> None:
    declared = "".join(f'<a:b xmlns:c{number}="{GAIN}"/>' for number in range(20_000))
    given = packet(declared, f' xmlns:a="urn:a" xmlns:hdrgm="{GAIN}" hdrgm:Version="1"')
    begun = time.process_time()
    assert GAIN.encode() not in xmp.without(given, is_gain)[0]
    assert time.process_time() - begun < 10
