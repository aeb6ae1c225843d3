"""TIFF: tags through our own directory reader and writer, which changes no byte of them; pixels through tifffile."""

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sanarestore.errors import UnwritableImage
from sanarestore.images import colour, exif, ifd
from sanarestore.images.codes import Pixels, Stored, rescale
from sanarestore.images.damage import hopeless
from sanarestore.images.ifd import ByteLayout, Source
from sanarestore.images.image import Image, count_extra, from_stored, kinds_of, to_stored
from sanarestore.images.pages import Pages, numbered, read_pages
from sanarestore.images.segments import decode_segments
from sanarestore.images.tiff_header import ALPHA, CIE_LAB, CMYK, ICC_LAB, TiffHeader
from sanarestore.images.tiff_tags import SHARED, entries_of, metadata_of, notes_on, size_of
from sanarestore.options import WriteOptions

_EXTRASAMPLE = {name: code for code, name in ALPHA.items()}
STRIP = 2**18
"""Bytes of the codes of a strip, as far as rows allow."""
_CLASSIC_LIMIT = 4_000_000_000
"""Bytes above which BigTIFF is written: classic TIFF ends at 2**32, and deflate can slightly enlarge noise."""


def decode(data: bytes, *, accept_damaged: bool = False) -> Image:
    """Decode the full-size pages of a TIFF file; UnreadableImage if their content is not supported.

    DamagedImage if tags, strips or tiles are missing or cannot be decoded, unless that is accepted: then what is
    missing is black, and a note says so. Holes in uncompressed pixels cannot be noticed.
    """
    pages = read_pages(data, accept_damaged=accept_damaged)
    found, notes = [], list(pages.notes)
    for number, header in enumerate(pages.headers, start=1):
        with numbered(number, len(pages.full)):
            directory = directory_of(pages, number)
            stored, more = decode_segments(data, directory, pages.layout, accept_damaged)
            image = image_of(stored, directory, header, pages.layout, more)
        found.append(replace(image, notes=()))
        notes += image.notes
    return replace(found[0], more_pages=tuple(found[1:]), notes=tuple(dict.fromkeys(notes)))


def directory_of(pages: Pages, number: int = 1) -> ifd.Directory:
    """The directory of a full-size page, counted from 1."""
    # A thumbnail that comes first has the metadata of the whole file.
    shared = {tag: entry for tag, entry in pages.first.items() if tag in SHARED} if number == 1 else {}
    return {**shared, **pages.full[number - 1]}


def headers_of(data: Source) -> tuple[TiffHeader, ...]:
    """Read the headers of the full-size pages and check them; UnreadableImage if one is not read."""
    return read_pages(data, accept_damaged=True).headers


def image_of(
    stored: Stored, directory: ifd.Directory, header: TiffHeader, layout: ByteLayout, notes: Sequence[str] = ()
) -> Image:
    """The image of a page from its codes as they are stored, [H, W, S]; `notes` are those of decoding."""
    stored, more = codes_of(stored, directory, header, layout)
    notes = [*notes, *more, *notes_on(directory, layout)]
    metadata = metadata_of(directory, layout)
    pixels_HWC = None
    if header.photometric in (CMYK, CIE_LAB, ICC_LAB):
        pixels_HWC, note = _rgb(stored, header, metadata.icc)
        notes.append(note)
        metadata = replace(metadata, icc=colour.srgb_profile())
    if exif.has_maker_note(directory):
        notes.append("the EXIF maker note is kept byte for byte; offsets inside it may no longer fit")
    if count := count_extra(header.kinds):
        notes.append(f"{count} extra channel{'s are' if count > 1 else ' is'} kept, and not restored")
    return from_stored(
        stored,
        format="tiff",
        metadata=metadata,
        colours=header.stored_colours if pixels_HWC is not None else header.colours,
        pixels_HWC=pixels_HWC,
        kinds=header.kinds,
        notes=tuple(notes),
    )


def _rgb(stored_HWS: Stored, header: TiffHeader, profile: bytes | None) -> tuple[Pixels, str]:
    """The colours of a CMYK or Lab page in sRGB, and a note."""
    if header.photometric == CMYK:
        return colour.ink_to_rgb(stored_HWS[..., :4], profile)
    lab_HWC = np.ascontiguousarray(stored_HWS[..., :3])
    return colour.lab_to_rgb(lab_HWC, is_signed=header.photometric == CIE_LAB), "Lab is converted to sRGB"


def codes_of(
    stored: Stored, directory: ifd.Directory, header: TiffHeader, layout: ByteLayout
) -> tuple[Stored, list[str]]:
    """The page's codes [H, W, S] as uint8, uint16 or float32, and notes on the conversions made."""
    notes: list[str] = []
    bits = header.bits[0]
    if header.photometric == 3:
        notes.append("the palette is converted to RGB")
        stored, bits = _from_palette(stored, _palette(directory, layout)), 8
    if header.sample_format == 1 and bits not in (8, 16):
        what = "gray" if header.colours == 1 else "colour"
        notes.append(f"{bits}-bit {what} is converted to {8 if bits < 8 else 16} bit")
        stored = rescale(stored, bits)
    if stored.dtype.name in ("float16", "float64"):
        notes.append(f"{stored.dtype.name} is converted to float32")
        with np.errstate(over="ignore", invalid="ignore"):  # too large values become infinite, and are reported later
            stored = stored.astype(np.float32)
    if header.photometric == 0:
        notes.append("white-is-zero is converted to black-is-zero")
        stored = stored.copy()
        stored[..., 0] = 1 - stored[..., 0] if stored.dtype.kind == "f" else ~stored[..., 0]
    return stored, notes


def _palette(directory: ifd.Directory, layout: ByteLayout) -> Stored:
    """The colours [3, N]; UnreadableImage if there are none."""
    entry = directory.get(320)
    if entry is None or entry.kind != ifd.SHORT or len(entry.data) % 6:
        raise hopeless("its palette is missing")
    return np.frombuffer(entry.data, f"{layout.order}u2").reshape(3, -1)


def _from_palette(stored_HWS: Stored, colours_3N: Stored) -> Stored:
    """Convert indices to 8-bit RGB, keeping an alpha channel; palettes usually hold 8-bit codes in the upper byte."""
    codes_N3 = (colours_3N >> 8 if colours_3N.max(initial=0) > 255 else colours_3N).astype(np.uint8).T
    if stored_HWS[..., 0].max(initial=0) >= len(codes_N3):
        raise hopeless("its pixels have numbers that its palette lacks")
    return np.concatenate([codes_N3[stored_HWS[..., 0].astype(np.intp)], stored_HWS[..., 1:].astype(np.uint8)], axis=2)


def encode(image: Image, options: WriteOptions = WriteOptions()) -> bytes:  # noqa: B008 - frozen
    """Encode a TIFF file: deflate with a predictor, all pages, strips; metadata blocks are unchanged.

    UnwritableImage if EXIF blocks of several pages have different byte orders.
    """
    pages = (image, *image.more_pages)
    layout = layout_of(pages)
    buffer = io.BytesIO()
    with writer(buffer, layout) as file:
        for page in pages:
            add_page(file, to_stored(page), page)
    return _with_entries(buffer, layout, [entries(page, layout) for page in pages])


def layout_of(pages: Sequence[Image]) -> ByteLayout:
    """The layout of a file with these pages; UnwritableImage if their EXIF blocks have different byte orders."""
    found = [exif.for_tiff(page.metadata.exif) for page in pages if page.metadata.exif]
    if len({layout.order for layout, _ in found}) > 1:
        raise UnwritableImage("the EXIF blocks of its pages have different byte orders", next_step="Write each page.")
    size = sum(_bytes_of(page) + size_of(page.metadata) for page in pages)
    return ByteLayout(found[0][0].order if found else "<", big=size > _CLASSIC_LIMIT)


def writer(buffer: io.BytesIO, layout: ByteLayout) -> Any:
    """tifffile's writer of a file with a layout."""
    import tifffile

    return tifffile.TiffWriter(buffer, bigtiff=layout.big, byteorder=layout.order)


def add_page(file: Any, stored_HWS: Stored, page: Image) -> None:
    """Add a page of codes to a `writer`; `page` says what its channels are."""
    file.write(
        stored_HWS if stored_HWS.shape[2] > 1 else stored_HWS[..., 0],
        photometric="rgb" if page.pixels_HWC.shape[2] == 3 else "minisblack",
        planarconfig="contig" if stored_HWS.shape[2] > 1 else None,
        extrasamples=[_EXTRASAMPLE[kind] for kind in kinds_of(page)] or None,
        compression="zlib",
        predictor=True,
        rowsperstrip=max(STRIP // stored_HWS[0].nbytes, 1),
        metadata=None,
        software=False,
    )


def entries(page: Image, layout: ByteLayout) -> ifd.Directory:
    """The tags that hold the metadata of a page."""
    described = exif.for_tiff(page.metadata.exif)[1] if page.metadata.exif else {}
    return {**described, **entries_of(page.metadata, layout)}


def _bytes_of(image: Image) -> int:
    """Bytes of the codes of a page."""
    samples = image.pixels_HWC.shape[2] + len(kinds_of(image))
    return int(image.height * image.width * samples * np.dtype(image.depth).itemsize)


def _with_entries(buffer: io.BytesIO, layout: ByteLayout, entries: Sequence[ifd.Directory]) -> bytes:
    """The file with new directories at its end, which also have these entries; the old ones stay there, unused.

    tifffile cannot write inner directories (it drops EXIF with only a log line), and converts the values it writes.
    """
    directories, end = directories_at_end(buffer.getvalue(), layout, len(entries))
    # Nothing else refers to the buffer's bytes now, so it grows in place without copying them first.
    link = len(layout.header)
    for written, more in zip(directories, entries, strict=True):
        directory = {**written, **more}
        buffer.seek(end)
        packed = ifd.pack(directory, end, layout)
        buffer.write(packed)
        buffer.seek(link)
        buffer.write(layout.offset.pack(end))
        link = end + layout.count.size + len(directory) * layout.entry.size
        end += len(packed)
    return buffer.getvalue()


def directories_at_end(data: bytes, layout: ByteLayout, pages: int) -> tuple[list[ifd.Directory], int]:
    """The directories of a file, and the even offset at its end where others can be added."""
    _, first = ifd.read_header(data) or (layout, 0)
    found: list[ifd.Directory] = [ifd.read(data, each, layout) for each in ifd.offsets(data, first, layout, pages)[0]]
    return found, len(data) + len(data) % 2
