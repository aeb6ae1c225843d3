"""Comments of JPEG and texts of PNG, carried from one to the other and into XMP."""

from collections.abc import Callable, Collection
from dataclasses import replace

from sanarestore.images import jpeg_segments, png_chunks, xmp
from sanarestore.images.image import FORMAT_NAMES, Format, Image, Metadata
from sanarestore.images.xml_tree import Name, escaped

_XAP, _DC = "http://ns.adobe.com/xap/1.0/", "http://purl.org/dc/elements/1.1/"
_EXIF = "http://ns.adobe.com/exif/1.0/"
_PLACES: dict[str, tuple[str, Name, str]] = {
    "Title": ("dc", Name(_DC, "title"), '<rdf:Alt><rdf:li xml:lang="x-default">{}</rdf:li></rdf:Alt>'),
    "Author": ("dc", Name(_DC, "creator"), "<rdf:Seq><rdf:li>{}</rdf:li></rdf:Seq>"),
    "Description": ("dc", Name(_DC, "description"), '<rdf:Alt><rdf:li xml:lang="x-default">{}</rdf:li></rdf:Alt>'),
    "Copyright": ("dc", Name(_DC, "rights"), '<rdf:Alt><rdf:li xml:lang="x-default">{}</rdf:li></rdf:Alt>'),
    "Software": ("xmp", Name(_XAP, "CreatorTool"), "{}"),
    "Comment": ("exif", Name(_EXIF, "UserComment"), '<rdf:Alt><rdf:li xml:lang="x-default">{}</rdf:li></rdf:Alt>'),
    "tIME": ("xmp", Name(_XAP, "ModifyDate"), "{}"),
}
"""XMP properties, with their prefixes and forms, that mean the same as texts of PNG (PNG 3, section 11.3.3.1)."""
TEXTS = ("Title", "Author", "Description", "Copyright", "Software")
Carried = tuple[Metadata, list[str]]
"""Metadata as a format holds it, with notes on what is left out."""


def comments_to_text(image: Image, _: Format) -> Carried:
    """Make texts of PNG of JPEG's comments."""
    texts = tuple(png_chunks.text_chunk("Comment", _decoded(each)) for each in image.metadata.comments)
    if not texts:
        return image.metadata, []
    return replace(image.metadata, comments=(), png_chunks=image.metadata.png_chunks + texts), []


def comments_to_xmp(image: Image, target: Format) -> Carried:
    """Put JPEG's comments into XMP, where its place for them is free."""
    metadata = image.metadata
    if not metadata.comments:
        return metadata, []
    first, *others = metadata.comments
    packet = _with_text(metadata.xmp, "Comment", _decoded(first), target)
    note = f"a JPEG comment is left out, because {FORMAT_NAMES[target]} has no place for it"
    lost = packet is None or any(other != first for other in others)
    return replace(metadata, comments=(), xmp=packet or metadata.xmp), [note] if lost else []


def texts_to_xmp(keywords: Collection[str]) -> Callable[[Image, Format], Carried]:
    """Put PNG's texts of these keywords into XMP, where the property that means the same is free."""

    def carry(image: Image, target: Format) -> Carried:
        metadata, kept, lost = image.metadata, [], []
        tried: set[str] = set()
        for name, body in metadata.png_chunks:
            keyword, text = _text(name, body)
            if keyword not in keywords:
                kept.append((name, body))
                continue
            # A property holds one text: the first of each keyword.
            packet = None if keyword in tried else _with_text(metadata.xmp, keyword, text, target)
            tried.add(keyword)
            if packet is None:
                lost.append(keyword)
            metadata = replace(metadata, xmp=packet or metadata.xmp)
        if len(kept) == len(metadata.png_chunks):
            return image.metadata, []
        return replace(metadata, png_chunks=tuple(kept)), _lost(lost, target)

    return carry


def text_to_comment(image: Image, _: Format) -> Carried:
    """Make a comment of JPEG of PNG's text Comment."""
    kept, comments = [], []
    for chunk in image.metadata.png_chunks:
        keyword, text = _text(*chunk)
        if keyword == "Comment" and len(text.encode()) <= jpeg_segments.ROOM:
            comments.append(text.encode())
        else:
            kept.append(chunk)
    if not comments:
        return image.metadata, []
    return replace(image.metadata, comments=(*image.metadata.comments, *comments), png_chunks=tuple(kept)), []


def chunks_left_out(image: Image, target: Format) -> Carried:
    """Leave out what the ways before have not taken."""
    chunks = image.metadata.png_chunks
    if not chunks:
        return image.metadata, []
    names = [_text(*each)[0] or each[0].decode() for each in chunks]
    return replace(image.metadata, png_chunks=()), _lost(names, target)


def unfit_chunks_left_out(image: Image, _: Format) -> Carried:
    """Leave out chunks about samples that do not fit those of the image."""
    unfit = set(png_chunks.unfit(image))
    if not unfit:
        return image.metadata, []
    kept = tuple(each for each in image.metadata.png_chunks if each not in unfit)
    names = " and ".join(sorted({name.decode() for name, _ in unfit}))
    note = f"PNG's {names} {'are' if len(unfit) > 1 else 'is'} left out, because depth or channels changed"
    return replace(image.metadata, png_chunks=kept), [note]


def _with_text(packet: bytes | None, keyword: str, text: str, target: Format) -> bytes | None:
    """The packet with a text in the place that means the same; None if another text is there, or there is no room."""
    prefix, name, form = _PLACES[keyword]
    there = xmp.value_of(packet, name)
    if there is not None:
        return packet if there == text.strip() else None
    element = f"<{prefix}:{name.local}>{form.format(escaped(text))}</{prefix}:{name.local}>"
    try:
        added = xmp.with_description(packet, {prefix: name.namespace}, element)
    except xmp.UnparsableError:
        return None
    return None if target == "jpeg" and len(added) > jpeg_segments.MOST_XMP else added


def _text(name: bytes, body: bytes) -> tuple[str, str]:
    """Keyword and text of a chunk; no keyword if it has none. The time is a text too."""
    if name == b"tIME" and len(body) == 7:
        year = int.from_bytes(body[:2], "big")
        return "tIME", f"{year:04d}-{body[2]:02d}-{body[3]:02d}T{body[4]:02d}:{body[5]:02d}:{body[6]:02d}Z"
    found = png_chunks.text_of(name, body) if name in png_chunks.TEXTS else None
    return found or ("", "")


def _decoded(comment: bytes) -> str:
    """The text of a comment, which JPEG gives no encoding: UTF-8 where it is valid, otherwise Latin-1."""
    plain = comment.rstrip(b"\0")
    try:
        return plain.decode()
    except UnicodeDecodeError:
        return plain.decode("latin-1")


def _lost(names: Collection[str], target: Format) -> list[str]:
    if not names:
        return []
    listed = list(dict.fromkeys(names))
    shown = ", ".join(listed[:8]) + (" and more" if len(listed) > 8 else "")
    verb, them = ("are", "them") if len(listed) > 1 else ("is", "it")
    return [f"PNG's {shown} {verb} left out, because {FORMAT_NAMES[target]} has no place for {them}"]
