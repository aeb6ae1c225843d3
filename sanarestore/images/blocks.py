"""Blocks of metadata that a format holds in another way, or not at all."""

from dataclasses import replace

from sanarestore.images import colour, exif, jpeg_segments, tiff_tags, xmp
from sanarestore.images.foreign import code_points_of
from sanarestore.images.image import FORMAT_NAMES, Format, Image
from sanarestore.images.texts import Carried

_SRGB_GAMMA, _SRGB_PRIMARIES = 45455, (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


def without_srgb_profile(image: Image, _: Format) -> Carried:
    """Leave out a profile equivalent to sRGB, for formats that state sRGB by code points."""
    if image.metadata.icc is None or not colour.is_srgb(image.metadata.icc):
        return image.metadata, []
    return replace(image.metadata, icc=None), []


def iptc_left_out(image: Image, target: Format) -> Carried:
    """Leave out IPTC records."""
    if image.metadata.iptc is None:
        return image.metadata, []
    note = f"IPTC records are left out, because {FORMAT_NAMES[target]} has no place for them"
    return replace(image.metadata, iptc=None), [note]


def photoshop_left_out(image: Image, target: Format) -> Carried:
    """Leave out Photoshop's image resources."""
    if image.metadata.photoshop is None:
        return image.metadata, []
    note = f"Photoshop's image resources are left out, because {FORMAT_NAMES[target]} has no place for them"
    return replace(image.metadata, photoshop=None), [note]


def merged_extension(image: Image, _: Format) -> Carried:
    """One packet of two; without what points from one to the other."""
    metadata = image.metadata
    if metadata.xmp is None or metadata.xmp_extension is None:
        return metadata, []
    alone, _names = xmp.without(metadata.xmp, lambda each: each.name == jpeg_segments.EXTENSION)
    whole = xmp.merged(alone, metadata.xmp_extension)
    notes = [] if whole else ["extended XMP is left out, because it cannot be parsed"]
    return replace(metadata, xmp=whole or alone, xmp_extension=None), notes


def colour_chunks_left_out(image: Image, target: Format) -> Carried:
    """Leave out PNG's colour chunks; a note says so where the picture may look different."""
    chunks = image.metadata.png_colour
    if chunks is None:
        return image.metadata, []
    left = replace(image.metadata, png_colour=None)
    if _is_plain(chunks, has_profile=image.metadata.icc is not None):
        return left, []
    names = " and ".join(name for name, _ in _chunks(chunks))
    note = (
        f"PNG's {names} are left out, because {FORMAT_NAMES[target]} has no place for them: colours may look different"
    )
    return left, [note]


def code_points_said(image: Image, target: Format) -> Carried:
    """Keep code points, which the format holds too, and leave out PNG's other colour chunks."""
    points = code_points_of(image.metadata)
    if points is None:
        return colour_chunks_left_out(image, target)
    chunks = image.metadata.png_colour or b""
    at = chunks.index(b"cICP") - 4
    only = replace(image.metadata, png_colour=chunks[at : at + 16])
    lost = [name for name, _ in _chunks(chunks) if name not in ("cICP", "sRGB", "gAMA", "cHRM")]
    note = f"PNG's {' and '.join(lost)} are left out, because {FORMAT_NAMES[target]} is written without them"
    return only, [note] if lost else []


def fitting_codes(image: Image, _: Format) -> Carried:
    """Leave out tags with a value for every code, if the number of codes is another one."""
    block = image.metadata.exif
    if block is None:
        return image.metadata, []
    count = {"uint8": 2**8, "uint16": 2**16}.get(image.depth, 0)
    directory = exif.parse(block)[1]
    unfit = set()
    for tag in exif.OF_CODES & directory.keys():
        size = len(directory[tag].data) // 2
        fits = size in (count, 3 * count) if tag != exif.HALFTONE else size == 2 and count > 0
        if not fits:
            unfit.add(tag)
    if not unfit:
        return image.metadata, []
    notes = [f"{tiff_tags.named(unfit)} left out, because the depth changed"]
    return replace(image.metadata, exif=exif.without(block, frozenset(unfit))), notes


def resolution_in_exif(image: Image, _: Format) -> Carried:
    """Put the resolution into the EXIF block, if that has none."""
    metadata = image.metadata
    if metadata.dpi is None or exif.dpi_of_block(metadata.exif) is not None:
        return metadata, []
    layout, directory = exif.parse(metadata.exif or b"")
    block = exif.build({**directory, **exif.resolution_entries(metadata.dpi, layout)}, layout)
    return replace(metadata, exif=block), []


def other_tags_left_out(image: Image, _: Format) -> Carried:
    """Leave out tags that TIFF has for pixels, or that are not known."""
    unknown = tiff_tags.unknown_of(image.metadata.exif) if image.metadata.exif else frozenset()
    if not unknown:
        return image.metadata, []
    assert image.metadata.exif is not None
    notes = [f"{tiff_tags.named(unknown)} left out, because it is not known if that still fits"]
    return replace(image.metadata, exif=exif.without(image.metadata.exif, unknown)), notes


def _chunks(given: bytes) -> list[tuple[str, bytes]]:
    found, at = [], 0
    while at + 12 <= len(given):
        size = int.from_bytes(given[at : at + 4], "big")
        found.append((given[at + 4 : at + 8].decode("latin-1"), given[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def _is_plain(chunks: bytes, *, has_profile: bool) -> bool:
    """Return whether the picture looks the same without these chunks: they say sRGB, or a profile replaces them."""
    present = dict(_chunks(chunks))
    if present.keys() - {"sRGB", "gAMA", "cHRM"}:
        return False
    if has_profile or "sRGB" in present:
        return True
    primaries = present.get("cHRM", b"".join(each.to_bytes(4, "big") for each in _SRGB_PRIMARIES))
    near = all(
        abs(int.from_bytes(primaries[4 * index : 4 * index + 4], "big") - each) <= 10
        for index, each in enumerate(_SRGB_PRIMARIES)
    )
    return near and abs(int.from_bytes(present.get("gAMA", _SRGB_GAMMA.to_bytes(4, "big")), "big") - _SRGB_GAMMA) <= 100
