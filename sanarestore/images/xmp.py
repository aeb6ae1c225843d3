"""XMP packets: properties read, removed, rewritten and added; every other byte of a packet stays as it is."""

import html
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from sanarestore.images.xml_tree import Attribute, Edit, Element, Name, edited, escaped, parse

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_ABOUT, _DESCRIPTION, _LIST = Name(RDF, "about"), Name(RDF, "Description"), Name(RDF, "li")
_EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    f' <rdf:RDF xmlns:rdf="{RDF}">\n </rdf:RDF>\n</x:xmpmeta>\n<?xpacket end="w"?>'
).encode()
_PACKET = Name("adobe:ns:meta/", "xmpmeta")
_PREFIXES = re.compile(rb"([\w.-]+):(?=\w)")
_TAGS = re.compile(rb"<!--.*?-->|<[^>]*>", re.DOTALL)


class UnparsableError(Exception):
    """The packet cannot be parsed, so that nothing can be added to it."""


@dataclass(frozen=True, slots=True)
class Property:
    """A property of the photograph: an attribute of a description, or an element in it."""

    name: Name
    place: Attribute | Element
    value: str
    """Its text; of a list that of the first item."""


def find(packet: bytes) -> Iterator[Property]:
    """The properties of a packet; none if it cannot be parsed."""
    for description in _descriptions(packet):
        for attribute in description.attributes:
            if attribute.name.namespace not in ("", "xmlns", RDF):
                yield Property(attribute.name, attribute, attribute.value)
        for child in description.children:
            yield Property(child.name, child, _text(packet, child))


def value_of(packet: bytes | None, name: Name) -> str | None:
    """The text of a property; None if the packet has none of this name."""
    return next((each.value for each in find(packet or b"") if each.name == name), None)


def items_of(packet: bytes, name: Name) -> tuple[str, ...]:
    """The texts of a list's items; none if the packet has no such list."""
    lists = [each.place for each in find(packet) if each.name == name]
    found = [item for one in lists if isinstance(one, Element) for item in one.walk() if item.name == _LIST]
    return tuple(_plain(packet, item) for item in found)


def without(packet: bytes, is_gone: Callable[[Property], bool]) -> tuple[bytes, list[Name]]:
    """Remove properties, with declarations of prefixes that nothing uses any more; return the names removed too."""
    gone = [each for each in find(packet) if is_gone(each)]
    if not gone:
        return packet, []
    kept = edited(packet, [_removal(packet, each.place) for each in gone])
    return _undeclared(kept, {each.name.namespace for each in gone}), [each.name for each in gone]


def with_values(packet: bytes, values: Mapping[Name, str]) -> bytes:
    """Rewrite simple properties that the packet has."""
    edits = []
    for each in find(packet):
        if each.name not in values or each.value == values[each.name]:
            continue
        new, place = escaped(values[each.name]).encode(), each.place
        if isinstance(place, Attribute):
            edits.append(Edit(place.value_start, place.value_end, new))
        elif not place.children and not place.is_single_tag:
            edits.append(Edit(place.inside, place.close, new))
    return edited(packet, edits)


def with_description(packet: bytes | None, prefixes: Mapping[str, str], properties: str) -> bytes:
    """Add a description that holds these properties, in XML, with prefixes declared; without a packet, make one.

    UnparsableError if the packet cannot be parsed.
    """
    whole = packet or _EMPTY
    rdf = _rdf(whole)
    if rdf is None:
        return _with_rdf(whole, prefixes, properties)
    abouts = (each.value for one in rdf.children for each in one.attributes if each.name in (_ABOUT, Name("", "about")))
    about = escaped(next(abouts, ""))
    named = "".join(f' xmlns:{prefix}="{escaped(uri)}"' for prefix, uri in {"rdf": RDF, **prefixes}.items())
    return _added(whole, rdf, f'<rdf:Description rdf:about="{about}"{named}>{properties}</rdf:Description>'.encode())


def _with_rdf(packet: bytes, prefixes: Mapping[str, str], properties: str) -> bytes:
    """Add RDF with a description to a packet that has none."""
    root = parse(packet)
    if root is None or root.name != _PACKET:
        raise UnparsableError
    rdf = f'<rdf:RDF xmlns:rdf="{RDF}"></rdf:RDF>'.encode()
    return with_description(_added(packet, root, rdf), prefixes, properties)


def merged(packet: bytes, extension: bytes) -> bytes | None:
    """The packet with the descriptions of another one; None if one of the two cannot be parsed."""
    rdf, other = _rdf(packet), _rdf(extension)
    if rdf is None or other is None:
        return None
    added = []
    for each in other.children:
        own = {attribute.name.local for attribute in each.attributes if attribute.name.namespace == "xmlns"}
        missing = {
            prefix: uri for prefix, uri in each.prefixes.items() if prefix and prefix != "xml" and prefix not in own
        }
        declared = "".join(f' xmlns:{prefix}="{escaped(uri)}"' for prefix, uri in missing.items()).encode()
        end = each.inside - (2 if each.is_single_tag else 1)
        added.append(extension[each.start : end] + declared + extension[end : each.end])
    return _added(packet, rdf, b"\n  ".join(added))


def _added(packet: bytes, rdf: Element, new: bytes) -> bytes:
    if not rdf.is_single_tag:
        before = packet[rdf.inside : rdf.close]
        place = rdf.inside + len(before.rstrip())
        return edited(packet, [Edit(place, place, b"\n  " + new)])
    name = packet[rdf.start + 1 : rdf.inside].split()[0].rstrip(b"/>")
    return edited(packet, [Edit(rdf.inside - 2, rdf.inside, b">" + new + b"</" + name + b">")])


def _rdf(packet: bytes) -> Element | None:
    root = parse(packet)
    found = [] if root is None else [each for each in (root, *root.children) if each.name == Name(RDF, "RDF")]
    return found[0] if found else None


def _descriptions(packet: bytes) -> list[Element]:
    rdf = _rdf(packet)
    return [] if rdf is None else [each for each in rdf.children if each.name == _DESCRIPTION]


def _text(packet: bytes, element: Element) -> str:
    items = [each for each in element.walk() if each.name == _LIST]
    return _plain(packet, items[0] if items else element)


def _plain(packet: bytes, place: Element) -> str:
    if place.is_single_tag:
        return ""
    return html.unescape(_TAGS.sub(b"", packet[place.inside : place.close]).decode().strip())


def _removal(packet: bytes, place: Attribute | Element) -> Edit:
    """The edit that removes an attribute or an element with the white space before it."""
    start = place.start
    while isinstance(place, Element) and packet[start - 1 : start].isspace():
        start -= 1
    return Edit(start, place.end)


def _undeclared(packet: bytes, namespaces: set[str]) -> bytes:
    """Remove declarations of prefixes for these namespaces, and for those nested in them, that nothing uses."""
    root = parse(packet)
    if root is None:
        return packet
    related, used = tuple(namespaces), set(_PREFIXES.findall(packet))
    declared = (each for element in root.walk() for each in element.attributes if each.name.namespace == "xmlns")
    unused = (each for each in declared if each.value.startswith(related) and each.name.local.encode() not in used)
    return edited(packet, [Edit(each.start, each.end) for each in unused])
