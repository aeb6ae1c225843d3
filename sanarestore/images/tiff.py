"""TIFF: pixels through tifffile, tags through our own directory reader and writer, which changes no byte of them."""

import io
import struct
from typing import Any

import numpy as np

from sanarestore.errors import UnreadableImage
from sanarestore.images import exif, ifd
from sanarestore.images.codes import Stored
from sanarestore.images.ifd import ByteLayout, Entry
from sanarestore.images.image import AlphaKind, Image, Metadata, check_size, from_stored, to_stored

_XMP, _IPTC, _ICC, _SUBFILE, _DNG = 700, 33723, 34675, 254, 50706
_ALPHA: dict[int, AlphaKind] = {0: "unspecified", 1: "associated", 2: "unassociated"}
_EXTRASAMPLE = {name: code for code, name in _ALPHA.items()}
_CLASSIC_LIMIT = 4_000_000_000
"""Bytes above which BigTIFF is written: classic TIFF ends at 2**32, and deflate can slightly enlarge noise."""
_READ_AT_ONCE = 2**24
"""Bytes of the file that tifffile copies before it decodes them; its default is hundreds of megabytes."""
_COLOUR_SPACES = {5: "CMYK", 8: "CIE Lab", 9: "ICC Lab", 10: "ITU Lab", 32844: "LogL", 32845: "LogLuv"}
_CONVERT = "Convert it to RGB first (most photo editors do); sanarestore does not convert it yet."
_RAW = "Develop it with a raw converter and restore the TIFF that it writes."
_BACKUP = "Restore the file from a backup or copy it again."


def decode(data: bytes) -> Image:
    """Decode the first page of a TIFF file; UnreadableImage if it is truncated or its content is not supported."""
    import tifffile

    layout, directory = _directory(data)
    # Closed, because tifffile's pages and files refer to each other and would keep all bytes of the file for long.
    with io.BytesIO(data) as source, tifffile.TiffFile(source) as file:
        page = file.pages[0]
        _check(page, directory, len(data))
        pages = len(file.pages)
        stored, notes = _codes(page)
    if pages > 1:
        notes = (*notes, f"the first of {pages} pages is used")
    if exif.has_maker_note(directory):
        notes = (*notes, "the EXIF maker note is kept byte for byte; offsets inside it may no longer fit")
    return from_stored(
        stored,
        format="tiff",
        metadata=_metadata(directory, layout),
        alpha_kind=_ALPHA.get(int(page.extrasamples[0]), "unspecified") if page.extrasamples else "unassociated",
        notes=notes,
    )


def _directory(data: bytes) -> tuple[ByteLayout, ifd.Directory]:
    """Read the first directory; UnreadableImage if tags are missing, which tifffile would silently ignore."""
    header = ifd.read_header(data)
    try:
        if header is not None:
            return header[0], ifd.read(data, header[1], header[0], strict=True)
    except ifd.EndsEarlyError:
        pass
    raise UnreadableImage("it is truncated: a part of its tags is missing", next_step=_BACKUP)


def _metadata(directory: ifd.Directory, layout: ByteLayout) -> Metadata:
    def block(tag: int) -> bytes | None:
        return directory[tag].data if tag in directory else None

    return Metadata(
        icc=block(_ICC),
        exif=exif.from_tiff(directory, layout),
        xmp=block(_XMP),
        iptc=_unswapped(directory[_IPTC]) if _IPTC in directory else None,
        dpi=exif.dpi_of(directory, layout),
    )


def _unswapped(entry: Entry) -> bytes:
    """IPTC records, which begin with 0x1C; the byte swap of some writers that store them as LONG is undone."""
    data = entry.data
    if entry.kind == ifd.LONG and data[:1] != b"\x1c" and data[3:4] == b"\x1c":
        return struct.pack(f">{len(data) // 4}L", *struct.unpack(f"<{len(data) // 4}L", data))
    return data


def _check(page: Any, directory: ifd.Directory, size: int) -> None:
    """Raise UnreadableImage for every page that would be decoded wrongly, or not at all."""
    check_size(page.imagelength, page.imagewidth)
    photometric = int(page.photometric if page.photometric is not None else 1)
    if _DNG in directory or photometric in (32803, 34892) or page.is_reduced:
        raise UnreadableImage("it is a camera raw file, not a finished photograph", next_step=_RAW)
    if photometric in _COLOUR_SPACES:
        raise UnreadableImage(f"its colours are {_COLOUR_SPACES[photometric]}", next_step=_CONVERT)
    if photometric not in (0, 1, 2, 3, 6):
        raise UnreadableImage(f"its colours are of an unknown kind ({photometric})", next_step=_CONVERT)
    if page.imagedepth > 1:
        raise UnreadableImage("it is a volume, not a photograph", next_step="Export one slice of it.")
    _check_samples(page, photometric)
    for start, length in zip(page.dataoffsets, page.databytecounts, strict=True):
        if length == 0 or start + length > size:
            raise UnreadableImage("it is truncated: a part of its pixels is missing", next_step=_BACKUP)


def _check_samples(page: Any, photometric: int) -> None:
    colours = 3 if photometric in (2, 6) else 1
    if not colours <= page.samplesperpixel <= colours + 1:
        raise UnreadableImage(
            f"it has {page.samplesperpixel} channels where {colours} and one alpha are read",
            next_step="Export it as flat RGB or gray.",
        )
    if page.dtype is None or page.dtype.name not in ("bool", "uint8", "uint16", "float16", "float32", "float64"):
        kind = {2: "signed integer", 3: "float"}.get(int(page.sampleformat or 1), "integer")
        raise UnreadableImage(
            f"its samples are {page.bitspersample}-bit {kind}",
            next_step="Export it as 8 or 16 bit, or as 32-bit float.",
        )
    whole = {"float16": (16,), "float32": (32,), "float64": (64,), "uint16": (16,)}.get(page.dtype.name, (1, 2, 4, 8))
    if page.bitspersample not in whole:
        raise UnreadableImage(
            f"its samples have {page.bitspersample} bits", next_step="Export it as 8 or 16 bit, or as 32-bit float."
        )


def _codes(page: Any) -> tuple[Stored, tuple[str, ...]]:
    """The page's codes [H, W, S] as uint8, uint16 or float32, and notes on the conversions made."""
    stored: Stored = page.asarray(buffersize=_READ_AT_ONCE)
    notes: list[str] = []
    if page.samplesperpixel > 1 and int(page.planarconfig) == 2:
        stored = np.moveaxis(stored, 0, -1)
    stored = stored.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)
    photometric, bits = int(page.photometric if page.photometric is not None else 1), int(page.bitspersample)
    if photometric == 3:
        notes.append("the palette is converted to RGB")
        stored, bits = _from_palette(stored, np.asarray(page.colormap)), 8
    if bits < 8:
        notes.append(f"{bits}-bit gray is converted to 8 bit")
        stored = stored.astype(np.uint8) * np.uint8(255 // (2**bits - 1))
    if stored.dtype.name in ("float16", "float64"):
        notes.append(f"{stored.dtype.name} is converted to float32")
        stored = stored.astype(np.float32)
    if photometric == 0:
        notes.append("white-is-zero is converted to black-is-zero")
        stored = stored.copy()
        stored[..., 0] = 1 - stored[..., 0] if stored.dtype.kind == "f" else ~stored[..., 0]
    return stored, tuple(notes)


def _from_palette(stored_HWS: Stored, colours_3N: Stored) -> Stored:
    """Convert indices to 8-bit RGB, keeping an alpha channel; palettes usually hold 8-bit codes in the upper byte."""
    codes_N3 = (colours_3N >> 8 if colours_3N.max(initial=0) > 255 else colours_3N).astype(np.uint8).T
    return np.concatenate([codes_N3[stored_HWS[..., 0].astype(np.intp)], stored_HWS[..., 1:].astype(np.uint8)], axis=2)


def encode(image: Image) -> bytes:
    """Encode a TIFF file: deflate with a predictor, one page, strips; metadata blocks are unchanged."""
    import tifffile

    stored_HWS = to_stored(image)
    metadata = image.metadata
    layout, described = exif.for_tiff(metadata.exif) if metadata.exif else (ByteLayout("<"), {})
    layout = ByteLayout(layout.order, big=stored_HWS.nbytes + _size(metadata) > _CLASSIC_LIMIT)
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, bigtiff=layout.big, byteorder=layout.order) as file:
        file.write(
            stored_HWS if stored_HWS.shape[2] > 1 else stored_HWS[..., 0],
            photometric="rgb" if image.pixels_HWC.shape[2] == 3 else "minisblack",
            planarconfig="contig" if stored_HWS.shape[2] > 1 else None,
            extrasamples=None if image.alpha_HW is None else [_EXTRASAMPLE[image.alpha_kind]],
            compression="zlib",
            predictor=True,
            metadata=None,
            software=False,
        )
    return _with_entries(buffer, layout, {**described, **_blocks(metadata, layout)})


def _size(metadata: Metadata) -> int:
    return sum(len(block or b"") for block in (metadata.icc, metadata.exif, metadata.xmp, metadata.iptc))


def _blocks(metadata: Metadata, layout: ByteLayout) -> ifd.Directory:
    entries: dict[int, Entry] = {}
    for tag, kind, block in ((_ICC, 7, metadata.icc), (_XMP, 1, metadata.xmp), (_IPTC, 7, metadata.iptc)):
        if block:
            entries[tag] = Entry(kind, block)
    if metadata.dpi:
        entries.update(exif.resolution_entries(metadata.dpi, layout))
    return entries


def _with_entries(buffer: io.BytesIO, layout: ByteLayout, entries: ifd.Directory) -> bytes:
    """The file with a new first directory at its end, which also has these entries; the old directory stays, unused.

    tifffile cannot write inner directories (it drops EXIF with only a log line), and converts the values it writes.
    """
    directory, end = _written(buffer.getvalue(), layout)
    # Nothing else refers to the buffer's bytes now, so it grows in place without copying them first.
    buffer.seek(end)
    buffer.write(ifd.pack({**directory, **entries}, end, layout))
    buffer.seek(len(layout.header))
    buffer.write(layout.offset.pack(end))
    return buffer.getvalue()


def _written(data: bytes, layout: ByteLayout) -> tuple[ifd.Directory, int]:
    """The first directory of a file, and the even offset at its end where another directory can be added."""
    _, offset = ifd.read_header(data) or (layout, 0)
    return ifd.read(data, offset, layout), len(data) + len(data) % 2
