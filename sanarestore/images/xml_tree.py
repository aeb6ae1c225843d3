"""XML as a tree of byte positions, so that parts of it can be changed while all other bytes stay as they are."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.parsers import expat

_MOST_NODES = 100_000
"""Elements and attributes that are read; hostile packets consist of empty ones, which would fill the memory."""
_MOST_PREFIXES = 200
"""Prefixes that may be declared at one place; each element that declares one copies them."""
_TAG = re.compile(rb"<[^\s/>]+(?:\s+[^\s=/>]+\s*=\s*(?:\"[^\"]*\"|'[^']*'))*\s*/?>")
_ATTRIBUTE = re.compile(rb"\s+([^\s=/>]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
XML = "http://www.w3.org/XML/1998/namespace"


class Name(NamedTuple):
    """A qualified name."""

    namespace: str
    local: str


class Edit(NamedTuple):
    """Bytes from `start` to `end` that are replaced."""

    start: int
    end: int
    new: bytes = b""


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute, or the declaration of a prefix."""

    name: Name
    prefixed: str
    """The name as it is written."""
    value: str
    start: int
    """Start of the white space before it."""
    value_start: int
    value_end: int
    end: int


@dataclass(slots=True)
class Element:
    """An element with the bounds of its tags."""

    name: Name
    start: int
    attributes: tuple[Attribute, ...]
    prefixes: dict[str, str]
    """Namespaces by prefix, as they are declared here and above."""
    inside: int
    """End of the start tag."""
    close: int = 0
    """Start of the end tag; the same as `start` if there is none, as in ``<a/>``."""
    end: int = 0
    children: list["Element"] = field(default_factory=list)

    @property
    def is_single_tag(self) -> bool:
        """Whether it is written as ``<a/>``."""
        return self.close == self.start

    def walk(self) -> Iterator["Element"]:
        """The element and all elements in it, in order."""
        waiting = [self]
        while waiting:
            element = waiting.pop()
            yield element
            waiting += reversed(element.children)


class _UnreadError(Exception):
    """The document is of a kind that is not read."""


def parse(data: bytes) -> Element | None:
    """The root element of a document in UTF-8; None if it cannot be parsed, or declares entities, which XMP never does.

    NUL bytes after the document, which some programs add as padding, are ignored.
    """
    reader = _Reader(data.rstrip(b"\0"))
    try:
        reader.data.decode()
        return reader.read()
    except (expat.ExpatError, _UnreadError, UnicodeDecodeError):
        return None


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self._parser = expat.ParserCreate("UTF-8")
        self._parser.ordered_attributes = True
        self._parser.StartElementHandler = self._begin
        self._parser.EndElementHandler = self._finish
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._root: Element | None = None
        self._open: list[Element] = []
        self._nodes = 0

    def read(self) -> Element | None:
        self._parser.Parse(self.data, True)
        return self._root

    def _refuse(self, *_: object) -> None:
        raise _UnreadError

    def _begin(self, prefixed: str, attributes: list[str]) -> None:
        self._nodes += 1 + len(attributes) // 2
        start = self._parser.CurrentByteIndex
        tag = _TAG.match(self.data, start)
        if tag is None or self._nodes > _MOST_NODES:
            raise _UnreadError
        above = self._open[-1].prefixes if self._open else {"xml": XML, "": ""}
        names, values = attributes[::2], attributes[1::2]
        pairs = list(zip(names, values, strict=True))
        declared = {name[6:]: value for name, value in pairs if name == "xmlns" or name.startswith("xmlns:")}
        prefixes = above | declared if declared else above
        if len(prefixes) > _MOST_PREFIXES:
            raise _UnreadError
        found = list(_ATTRIBUTE.finditer(self.data, start, tag.end()))
        if [each[1].decode() for each in found] != names:
            raise _UnreadError
        element = Element(
            _resolved(prefixed, prefixes, ""),
            start,
            tuple(_attribute(each, value, prefixes) for each, value in zip(found, values, strict=True)),
            prefixes,
            tag.end(),
        )
        if self._open:
            self._open[-1].children.append(element)
        self._root = self._root or element
        self._open.append(element)

    def _finish(self, _: str) -> None:
        element = self._open.pop()
        element.close = self._parser.CurrentByteIndex
        if self.data[element.inside - 2 : element.inside] == b"/>":
            element.close, element.end = element.start, element.inside
        else:
            element.end = self.data.index(b">", element.close) + 1


def _attribute(found: "re.Match[bytes]", value: str, prefixes: dict[str, str]) -> Attribute:
    group = 2 if found[2] is not None else 3
    prefixed = found[1].decode()
    return Attribute(
        _resolved(prefixed, prefixes, None), prefixed, value, found.start(), found.start(group), found.end(group),
        found.end(),
    )  # fmt: skip


def _resolved(prefixed: str, prefixes: dict[str, str], default: str | None) -> Name:
    """The name without its prefix; `default` is the prefix of names that have none, None for no namespace."""
    prefix, colon, local = prefixed.rpartition(":")
    if not colon and default is None:
        return Name("", prefixed)
    if prefix == "xmlns":
        return Name("xmlns", local)
    if prefix not in prefixes:
        raise _UnreadError
    return Name(prefixes[prefix], local)


def edited(data: bytes, edits: Iterable[Edit]) -> bytes:
    """The document after changes, of which no two overlap."""
    parts, at = [], 0
    for edit in sorted(edits):
        parts += [data[at : edit.start], edit.new]
        at = edit.end
    return b"".join((*parts, data[at:]))


def escaped(text: str) -> str:
    """Text as it stands in an element or an attribute; characters that XML forbids become U+FFFD."""
    allowed = re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
    for letter, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("\r", "&#13;")):
        allowed = allowed.replace(letter, entity)
    return allowed
