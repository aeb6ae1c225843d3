"""How a photograph was restored, told by its XMP packet; and metadata without anything but what decides its look."""

from dataclasses import dataclass, replace

from sanarestore.errors import UnwritableImage
from sanarestore.images import exif, exif_edit, xmp
from sanarestore.images.image import Image, Metadata
from sanarestore.images.xml_tree import Name, escaped

NAMESPACE = "urn:sanarestore:provenance/1.0/"
"""The namespace of the properties."""
_PREFIX = "sanarestore"
_FIELDS = {
    "version": "Version",
    "model": "Model",
    "weights": "WeightsSHA256",
    "licence": "Licence",
    "input": "InputSHA256",
}
_OPTIONS = "Options"


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """A record of how a photograph was restored."""

    version: str
    """Version of sanarestore."""
    model: str
    """Name of the model."""
    weights: str
    """SHA-256 hash of its weights."""
    licence: str
    """Licence of the weights."""
    options: tuple[tuple[str, str], ...] = ()
    """Names and values of the options that decide the result."""
    input: str
    """SHA-256 hash of the input file."""


def with_provenance(metadata: Metadata, provenance: Provenance) -> Metadata:
    """Add a provenance to the XMP packet, in place of an earlier one; everything else in the packet stays as it is.

    UnwritableImage if the packet cannot be parsed.
    """
    simple = "".join(
        f"<{_PREFIX}:{name}>{escaped(getattr(provenance, field))}</{_PREFIX}:{name}>" for field, name in _FIELDS.items()
    )
    items = "".join(f"<rdf:li>{escaped(f'{name}={value}')}</rdf:li>" for name, value in provenance.options)
    options = f"<{_PREFIX}:{_OPTIONS}><rdf:Seq>{items}</rdf:Seq></{_PREFIX}:{_OPTIONS}>"
    earlier = metadata.xmp and xmp.without(metadata.xmp, lambda each: each.name.namespace == NAMESPACE)[0]
    try:
        packet = xmp.with_description(earlier, {_PREFIX: NAMESPACE}, simple + options)
    except xmp.UnparsableError as error:
        raise UnwritableImage(
            "its XMP packet cannot be parsed, so that no provenance can be added",
            next_step="Leave out --provenance, or add --strip to remove the packet.",
        ) from error
    return replace(metadata, xmp=packet)


def without_provenance(image: Image) -> Image:
    """The image without the provenance of an earlier restoration, of which a new result is not the result."""
    if image.metadata.xmp is None:
        return image
    packet, gone = xmp.without(image.metadata.xmp, lambda each: each.name.namespace == NAMESPACE)
    if not gone:
        return image
    note = "the provenance of an earlier restoration is left out"
    return replace(image, metadata=replace(image.metadata, xmp=packet), notes=(*image.notes, note))


def provenance_of(metadata: Metadata) -> Provenance | None:
    """The provenance in the XMP packet; None if there is none, or a part of it is missing."""
    found = {each.name.local: each for each in xmp.find(metadata.xmp or b"") if each.name.namespace == NAMESPACE}
    if not found.keys() >= set(_FIELDS.values()):
        return None
    items = xmp.items_of(metadata.xmp or b"", Name(NAMESPACE, _OPTIONS))
    pairs = (item.partition("=") for item in items)
    simple = {field: found[name].value for field, name in _FIELDS.items()}
    return Provenance(options=tuple((name, value) for name, _, value in pairs), **simple)


def stripped(metadata: Metadata) -> Metadata:
    """Only what decides how the picture looks: profile, orientation, colour tags and colour chunks."""
    return Metadata(
        icc=metadata.icc,
        exif=metadata.exif and exif_edit.bare(metadata.exif, exif.COLOUR),
        png_colour=metadata.png_colour,
    )
