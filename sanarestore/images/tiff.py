"""TIFF: tags through our own directory reader and writer, which changes no byte of them; pixels through tifffile."""

import io
import struct
from dataclasses import dataclass

import numpy as np

from sanarestore.errors import UnreadableImage
from sanarestore.images import exif, ifd
from sanarestore.images.codes import Depth, Stored
from sanarestore.images.damage import damaged, hopeless
from sanarestore.images.ifd import ByteLayout, Entry, Source
from sanarestore.images.image import AlphaKind, Image, Metadata, check_size, from_stored, kinds_of, to_stored
from sanarestore.images.segments import decode_segments

_XMP, _IPTC, _ICC, _SUBFILE, _DNG = 700, 33723, 34675, 254, 50706
_ALPHA: dict[int, AlphaKind] = {0: "unspecified", 1: "associated", 2: "unassociated"}
_EXTRASAMPLE = {name: code for code, name in _ALPHA.items()}
_CLASSIC_LIMIT = 4_000_000_000
"""Bytes above which BigTIFF is written: classic TIFF ends at 2**32, and deflate can slightly enlarge noise."""
_MOST_EXTRA = 64
"""Most channels behind the colours; Photoshop has 53."""
_LARGE_TILE = 2**22
"""Pixels that a tile may have even if the image is smaller."""
_INTEGERS = (1, ifd.SHORT, ifd.LONG, ifd.LONG8)
_JPEG = (6, 7, 33007, 34892)
"""Compressions that convert YCbCr to RGB."""
_COLOUR_SPACES = {5: "CMYK", 8: "CIE Lab", 9: "ICC Lab", 10: "ITU Lab", 32844: "LogL", 32845: "LogLuv"}
_CONVERT = "Convert it to RGB first (most photo editors do); sanarestore does not convert it yet."
_RAW = "Develop it with a raw converter and restore the TIFF that it writes."


def decode(data: bytes, *, accept_damaged: bool = False) -> Image:
    """Decode the first page of a TIFF file; UnreadableImage if its content is not supported.

    DamagedImage if tags, strips or tiles are missing or cannot be decoded, unless that is accepted: then what is
    missing is black, and a note says so. Holes in uncompressed pixels cannot be noticed.
    """
    layout, directory, notes = _directory(data, accept_damaged)
    header = TiffHeader.of(directory, layout)
    header.check()
    stored, more = decode_segments(data, directory, layout, accept_damaged)
    notes += more
    stored, more = _codes(stored, header, directory, layout)
    notes += more
    pages = ifd.count_pages(data, ifd.read_header(data)[1], layout)  # type: ignore[index]
    if pages > 1:
        notes.append(f"the first of {pages} pages is used")
    if exif.has_maker_note(directory):
        notes.append("the EXIF maker note is kept byte for byte; offsets inside it may no longer fit")
    if len(header.kinds) > 1:
        count = len(header.kinds) - 1
        notes.append(
            "1 extra channel is kept as it is" if count == 1 else f"{count} extra channels are kept as they are"
        )
    return from_stored(
        stored,
        format="tiff",
        metadata=_metadata(directory, layout),
        colours=header.colours,
        kinds=header.kinds,
        notes=tuple(notes),
    )


def header_of(data: Source) -> "TiffHeader":
    """Read the header of the first page and check it; UnreadableImage if the page is not read."""
    layout, directory, _ = _directory(data, accept_damaged=True)
    header = TiffHeader.of(directory, layout)
    header.check()
    return header


def _directory(data: Source, accept_damaged: bool) -> tuple[ByteLayout, ifd.Directory, list[str]]:
    """Read the first directory, and a note if tags are missing, which tifffile would silently ignore."""
    found = ifd.read_header(data)
    if found is None:
        raise hopeless("it is truncated: its tags are missing")
    layout, offset = found
    try:
        return layout, ifd.read(data, offset, layout, strict=True), []
    except ifd.EndsEarlyError:
        note = damaged("it is truncated: a part of its tags is missing", accepted=accept_damaged)
        return layout, ifd.read(data, offset, layout), [note]


@dataclass(frozen=True, slots=True)
class TiffHeader:
    """The tags that say how the pixels of a page are stored."""

    width: int
    height: int
    depth: int
    """Number of slices of a volume; 1 for a photograph."""
    samples: int
    bits: tuple[int, ...]
    sample_format: int
    """1 for unsigned integers, 2 for signed ones, 3 for floats."""
    photometric: int
    compression: int
    planar: bool
    tile: tuple[int, int] | None
    """Width and height of a tile; None for strips."""
    extra: tuple[int, ...]
    is_raw: bool
    """Whether it is a camera raw file, or a preview."""

    @classmethod
    def of(cls, directory: ifd.Directory, layout: ByteLayout) -> "TiffHeader":
        """Read the tags of a directory."""

        def values(tag: int, *default: int) -> tuple[int, ...]:
            entry = directory.get(tag)
            if entry is None or entry.kind not in _INTEGERS:
                return default
            return tuple(int(value) for value in ifd.value_of(entry.kind, entry.data, layout))

        compression = values(259, 1)[0]
        old_jpeg = compression == 6
        photometric = values(262, 6 if old_jpeg else 1)[0]
        tile = (values(322, 0)[0], values(323, 0)[0]) if 322 in directory else None
        return cls(
            width=values(256, 0)[0],
            height=values(257, 0)[0],
            depth=values(32997, 1)[0],
            samples=values(277, 3 if old_jpeg else 1)[0],
            bits=tuple(dict.fromkeys(values(258, 8 if old_jpeg else 1))),
            sample_format=values(339, 1)[0],
            photometric=6 if old_jpeg and photometric == 2 else photometric,
            compression=compression,
            planar=values(284, 1)[0] == 2,
            tile=tile,
            extra=values(338),
            is_raw=_DNG in directory or photometric in (32803, 34892) or bool(values(_SUBFILE, 0)[0] & 1),
        )

    @property
    def colours(self) -> int:
        """Number of colour channels after decoding."""
        return 3 if self.photometric in (2, 3, 6) else 1

    @property
    def kinds(self) -> tuple[AlphaKind, ...]:
        """What each channel behind the colours is; a single one that no tag describes is taken for alpha."""
        count = self.samples - (1 if self.photometric == 3 else self.colours)
        if count == 1 and not self.extra:
            return ("unassociated",)
        named: tuple[AlphaKind, ...] = tuple(_ALPHA.get(code, "unspecified") for code in self.extra[:count])
        unnamed: tuple[AlphaKind, ...] = ("unspecified",) * (count - len(named))
        return named + unnamed

    @property
    def stored(self) -> Depth:
        """The depth in which the image is held."""
        if self.sample_format == 3:
            return "float32"
        return "uint16" if self.bits[0] == 16 and self.photometric != 3 else "uint8"

    def check(self) -> None:
        """Raise UnreadableImage for every page that would be decoded wrongly, or not at all."""
        check_size(self.height, self.width)
        if self.is_raw:
            raise UnreadableImage("it is a camera raw file, not a finished photograph", next_step=_RAW)
        if self.photometric in _COLOUR_SPACES:
            raise UnreadableImage(f"its colours are {_COLOUR_SPACES[self.photometric]}", next_step=_CONVERT)
        if self.photometric not in (0, 1, 2, 3, 6):
            raise UnreadableImage(f"its colours are of an unknown kind ({self.photometric})", next_step=_CONVERT)
        if self.photometric == 6 and self.compression not in _JPEG:
            raise UnreadableImage("its colours are YCbCr without JPEG compression", next_step=_CONVERT)
        if self.depth > 1:
            raise UnreadableImage("it is a volume, not a photograph", next_step="Export one slice of it.")
        if self.tile and not 0 < self.tile[0] * self.tile[1] <= 4 * self.width * self.height + _LARGE_TILE:
            raise hopeless(f"its tiles are {self.tile[0]} x {self.tile[1]} pixels large")
        self._check_samples()

    def _check_samples(self) -> None:
        colours = 3 if self.photometric in (2, 6) else 1
        if not colours <= self.samples <= colours + _MOST_EXTRA:
            raise UnreadableImage(
                f"it has {self.samples} channels where {colours} and up to {_MOST_EXTRA} extra ones are read",
                next_step="Export it as RGB or gray, with fewer channels.",
            )
        bits = self.bits[0]
        if len(self.bits) > 1 or (self.sample_format == 1 and bits < 16 and bits not in (1, 2, 4, 8)):
            raise UnreadableImage(
                f"its samples have {', '.join(map(str, self.bits))} bits",
                next_step="Export it as 8 or 16 bit, or as 32-bit float.",
            )
        if bits not in {1: (1, 2, 4, 8, 16), 3: (16, 32, 64)}.get(self.sample_format, ()):
            kind = {2: "signed integer", 3: "float"}.get(self.sample_format, "integer")
            raise UnreadableImage(
                f"its samples are {bits}-bit {kind}", next_step="Export it as 8 or 16 bit, or as 32-bit float."
            )


def _codes(
    stored: Stored, header: TiffHeader, directory: ifd.Directory, layout: ByteLayout
) -> tuple[Stored, list[str]]:
    """The page's codes [H, W, S] as uint8, uint16 or float32, and notes on the conversions made."""
    notes: list[str] = []
    bits = header.bits[0]
    if header.photometric == 3:
        notes.append("the palette is converted to RGB")
        stored, bits = _from_palette(stored, _palette(directory, layout)), 8
    if bits < 8:
        notes.append(f"{bits}-bit gray is converted to 8 bit")
        stored = stored.astype(np.uint8) * np.uint8(255 // (2**bits - 1))
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


def _from_palette(stored_HWS: Stored, colours_3N: Stored) -> Stored:
    """Convert indices to 8-bit RGB, keeping an alpha channel; palettes usually hold 8-bit codes in the upper byte."""
    codes_N3 = (colours_3N >> 8 if colours_3N.max(initial=0) > 255 else colours_3N).astype(np.uint8).T
    if stored_HWS[..., 0].max(initial=0) >= len(codes_N3):
        raise hopeless("its pixels have numbers that its palette lacks")
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
            extrasamples=[_EXTRASAMPLE[kind] for kind in kinds_of(image)] or None,
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
