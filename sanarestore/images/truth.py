"""Metadata that restoring makes untrue is removed: thumbnails, and what XMP says of pictures that are left out."""

from dataclasses import replace
from hashlib import md5

from sanarestore.images import exif, exif_edit, resources, thumbnail, xmp
from sanarestore.images.image import Image, Metadata
from sanarestore.images.jpeg_segments import EXTENSION
from sanarestore.images.xml_tree import Name

_GOOGLE, _XAP = "http://ns.google.com/photos/1.0/", "http://ns.adobe.com/xap/1.0/"
_GAIN_MAP = "a gain map"
_GONE = {
    "http://ns.adobe.com/hdr-gain-map/1.0/": _GAIN_MAP,
    "http://ns.apple.com/HDRGainMap/1.0/": _GAIN_MAP,
    "http://ns.apple.com/pixeldatainfo/1.0/": _GAIN_MAP,
    f"{_GOOGLE}container/": "pictures that follow",
    f"{_GOOGLE}container/item/": "pictures that follow",
    "http://ns.google.com/photos/dd/1.0/device/": "pictures that follow",
    f"{_GOOGLE}camera/": "a motion photo",
    _XAP: "a thumbnail",
    EXTENSION.namespace: "extended XMP",
    "http://purl.org/dc/terms/": "content credentials",
}
"""What properties of these namespaces speak of, as far as `_is_gone` says that they do."""
_POINTS_AT_EXTENSION = (f"{_GOOGLE}depthmap/", f"{_GOOGLE}image/", f"{_GOOGLE}audio/")
"""Namespaces of properties whose data is in the extended packet."""
_CREDENTIALS = Name("http://purl.org/dc/terms/", "provenance")
_THUMBNAILS = Name(_XAP, "Thumbnails")


def still_true(image: Image) -> Image:
    """The image without metadata that restoring makes untrue, and with notes on that."""
    metadata, notes, side = image.metadata, list(image.notes), None
    for step in (_photoshop, _extension, _packet):
        metadata, more = step(metadata)
        notes += more
    if metadata.exif is not None:
        side = thumbnail.side_of(metadata.exif)
        metadata = replace(metadata, exif=exif_edit.without_thumbnail(metadata.exif))
    return (
        image if metadata == image.metadata else replace(image, metadata=metadata, thumbnail=side, notes=tuple(notes))
    )


def _photoshop(metadata: Metadata) -> tuple[Metadata, list[str]]:
    """Leave out thumbnails; take blocks out that have a place of their own."""
    if metadata.photoshop is None:
        return metadata, []
    found = {each.number: each.body for each in resources.split(metadata.photoshop)}
    own = {resources.ICC, resources.EXIF, resources.EXIF_3, resources.XMP, *resources.THUMBNAILS}
    if not own & found.keys():
        return metadata, []
    block = found.get(resources.EXIF, b"").removeprefix(b"Exif\0\0")
    notes = []
    if found.keys() & set(resources.THUMBNAILS):
        notes.append("Photoshop's thumbnail is left out, because it shows the photograph before restoring")
    kept = replace(
        metadata,
        photoshop=resources.without(metadata.photoshop, own),
        icc=metadata.icc or found.get(resources.ICC) or None,
        xmp=metadata.xmp or found.get(resources.XMP) or None,
        exif=metadata.exif or (block if exif.is_block(block) else None),
    )
    return kept, notes


def _extension(metadata: Metadata) -> tuple[Metadata, list[str]]:
    """Leave out an extended packet to which nothing points; clean one that is kept, and point to what it is then."""
    packet, extension = metadata.xmp, metadata.xmp_extension
    if extension is None:
        return metadata, []
    if packet is None or xmp.value_of(packet, EXTENSION) is None:
        return replace(metadata, xmp_extension=None), ["extended XMP is left out, because no packet belongs to it"]
    cleaned, gone = xmp.without(extension, lambda each: _is_gone(each, has_extension=True))
    if not gone:
        return metadata, []
    # The hash of the extension is how the packet points to it (XMP specification, part 3, section 1.1.3.1).
    pointing = xmp.with_values(packet, {EXTENSION: md5(cleaned, usedforsecurity=False).hexdigest().upper()})
    return replace(metadata, xmp=pointing, xmp_extension=cleaned), [_note(gone)]


def _packet(metadata: Metadata) -> tuple[Metadata, list[str]]:
    if metadata.xmp is None:
        return metadata, []
    has_extension = metadata.xmp_extension is not None
    cleaned, gone = xmp.without(metadata.xmp, lambda each: _is_gone(each, has_extension=has_extension))
    return (replace(metadata, xmp=cleaned), [_note(gone)]) if gone else (metadata, [])


def _is_gone(each: xmp.Property, *, has_extension: bool) -> bool:
    """Return whether the property speaks of what is left out."""
    namespace, local = each.name
    if namespace == f"{_GOOGLE}camera/":
        return local.startswith(("MotionPhoto", "MicroVideo"))
    if namespace == _XAP:
        return each.name == _THUMBNAILS
    if namespace == EXTENSION.namespace:
        return each.name == EXTENSION and not has_extension
    if each.name.namespace == _CREDENTIALS.namespace:
        return each.name == _CREDENTIALS and each.value.startswith("self#")
    return namespace in _GONE or (namespace in _POINTS_AT_EXTENSION and not has_extension)


def _note(gone: list[Name]) -> str:
    spoken = dict.fromkeys(_GONE.get(name.namespace, "extended XMP") for name in gone)
    return f"XMP no longer speaks of what the result does not have: {', '.join(spoken)}"
