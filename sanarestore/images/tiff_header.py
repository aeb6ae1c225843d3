"""The tags of a TIFF page that say how its pixels are stored, and what of that is read."""

from dataclasses import dataclass

from sanarestore.errors import UnreadableImage
from sanarestore.images import ifd
from sanarestore.images.codes import Depth
from sanarestore.images.damage import hopeless
from sanarestore.images.ifd import ByteLayout
from sanarestore.images.image import UNSPECIFIED, AlphaKind, check_size

ALPHA: dict[int, AlphaKind] = {0: "unspecified", 1: "associated", 2: "unassociated"}
"""Kinds of extra samples by their codes."""
CMYK, CIE_LAB, ICC_LAB = 5, 8, 9
"""Photometric interpretations that are converted."""
_MOST_EXTRA = 64
"""Most channels behind the colours; Photoshop has 53."""
_LARGE_TILE = 2**22
"""Pixels that a tile may have even if the image is smaller."""
_INTEGERS = (1, ifd.SHORT, ifd.LONG, ifd.LONG8)
_JPEG = (6, 7, 33007, 34892)
"""Compressions that convert YCbCr to RGB."""
_STORED = {2: 3, CMYK: 4, 6: 3, CIE_LAB: 3, ICC_LAB: 3}
"""Number of stored colour channels by photometric interpretation, where it is not 1."""
_COLOURED = (2, 3, CMYK, 6, CIE_LAB, ICC_LAB)
_COLOUR_SPACES = {10: "ITU Lab", 32844: "LogL", 32845: "LogLuv"}
_CONVERT = "Convert it to RGB first (most photo editors do); sanarestore does not convert it yet."
_EXPORT = "Export it as 8 or 16 bit, or as 32-bit float."


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
    rows: int
    """Rows of a strip; more than the page has if all lie in one."""
    extra: tuple[int, ...]
    ink_set: int
    """1 for CMYK, 2 for other inks."""

    @classmethod
    def of(cls, directory: ifd.Directory, layout: ByteLayout) -> "TiffHeader":
        """Read the tags of a directory."""

        def values(tag: int, *default: int) -> tuple[int, ...]:
            return integers(directory, tag, layout) or default

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
            rows=values(278, 2**32 - 1)[0],
            extra=values(338),
            ink_set=values(332, 1)[0],
        )

    @property
    def stored_colours(self) -> int:
        """Number of colour channels in the file: 1, 3, or 4 for CMYK."""
        return _STORED.get(self.photometric, 1)

    @property
    def colours(self) -> int:
        """Number of colour channels after decoding: 1 or 3."""
        return 3 if self.photometric in _COLOURED else 1

    @property
    def kinds(self) -> tuple[AlphaKind, ...]:
        """Return the kind of each channel after the colours; a single one that no tag describes counts as alpha."""
        count = self.samples - self.stored_colours
        if count == 1 and not self.extra:
            return ("unassociated",)
        named: tuple[AlphaKind, ...] = tuple(ALPHA.get(code, "unspecified") for code in self.extra[:count])
        return named + (UNSPECIFIED,) * (count - len(named))

    @property
    def stored(self) -> Depth:
        """The depth in which the image is held."""
        if self.sample_format == 3:
            return "float32"
        return "uint16" if self.bits[0] > 8 and self.photometric != 3 else "uint8"

    @property
    def rows_at_once(self) -> int:
        """Rows that are decoded together, the least where colours are not converted; 0 if only the whole page is."""
        if self.photometric in (CMYK, CIE_LAB, ICC_LAB):
            return 0
        if self.compression == 1 and not self.tile and self.bits[0] in (8, 16, 32):
            return 1  # uncompressed rows lie one after the other
        return self.tile[1] if self.tile else min(self.rows, self.height)

    def check(self) -> None:
        """Raise UnreadableImage for every page that would be decoded wrongly, or not at all."""
        check_size(self.height, self.width)
        if self.photometric in _COLOUR_SPACES:
            raise UnreadableImage(f"its colours are {_COLOUR_SPACES[self.photometric]}", next_step=_CONVERT)
        if self.photometric not in (0, 1, *_COLOURED):
            raise UnreadableImage(f"its colours are of an unknown kind ({self.photometric})", next_step=_CONVERT)
        if self.photometric == CMYK and self.ink_set != 1:
            raise UnreadableImage("its inks are others than CMYK", next_step=_CONVERT)
        if self.photometric == 6 and self.compression not in _JPEG:
            raise UnreadableImage("its colours are YCbCr without JPEG compression", next_step=_CONVERT)
        if self.depth > 1:
            raise UnreadableImage("it is a volume, not a photograph", next_step="Export one slice of it.")
        if self.tile and not 0 < self.tile[0] * self.tile[1] <= 4 * self.width * self.height + _LARGE_TILE:
            raise hopeless(f"its tiles are {self.tile[0]} x {self.tile[1]} pixels large")
        self._check_samples()

    def _check_samples(self) -> None:
        colours = self.stored_colours
        if not colours <= self.samples <= colours + _MOST_EXTRA:
            raise UnreadableImage(
                f"it has {self.samples} channels where {colours} and up to {_MOST_EXTRA} extra ones are read",
                next_step="Export it as RGB or gray, with fewer channels.",
            )
        bits = self.bits[0]
        if len(self.bits) > 1:
            raise UnreadableImage(f"its samples have {', '.join(map(str, self.bits))} bits", next_step=_EXPORT)
        if bits not in {1: range(1, 17), 3: (16, 32, 64)}.get(self.sample_format, ()):
            kind = {2: "signed integer", 3: "float"}.get(self.sample_format, "integer")
            raise UnreadableImage(f"its samples are {bits}-bit {kind}", next_step=_EXPORT)
        if self.photometric in (CMYK, CIE_LAB, ICC_LAB) and (self.sample_format == 3 or bits not in (8, 16)):
            raise UnreadableImage(
                f"its {'CMYK' if self.photometric == CMYK else 'Lab'} colours have neither 8 nor 16 bits",
                next_step=_CONVERT,
            )


def integers(directory: ifd.Directory, tag: int, layout: ByteLayout) -> tuple[int, ...]:
    """The unsigned integers of a tag; none if it is absent or of another type."""
    entry = directory.get(tag)
    if entry is None or entry.kind not in _INTEGERS:
        return ()
    return tuple(int(value) for value in ifd.value_of(entry.kind, entry.data, layout))
