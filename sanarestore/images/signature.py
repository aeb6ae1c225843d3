"""File format detection: supported formats from the first bytes, never from the suffix."""

from pathlib import PurePath

from sanarestore.images.image import Format

HEAD = 64
"""Number of bytes that `sniff` and `name_foreign` need at most."""

READ = "TIFF, PNG, JPEG, WebP, JPEG XL, AVIF, HEIF, JPEG 2000, BMP and camera raw"

SUFFIXES = frozenset((
    ".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".jp2", ".j2k", ".j2c", ".jpf",
    ".jpx", ".avif", ".jxl", ".heic", ".heif", ".hif",
    # Camera raw files.
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef",
    ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
))  # fmt: skip
"""Suffixes of the supported formats, in lower case: a file with one of them claims to be a photograph."""

VIDEO_SUFFIXES = frozenset((
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".mts", ".m2ts", ".wmv", ".mxf", ".3gp", ".ogv",
    ".y4m", ".flv", ".vob", ".nut",
))  # fmt: skip
"""Suffixes of video files, in lower case."""

_MAGIC: tuple[tuple[int, bytes, Format], ...] = (
    (8, b"CR\2\0", "raw"),
    (0, b"II*\0", "tiff"),
    (0, b"MM\0*", "tiff"),
    (0, b"II+\0", "tiff"),
    (0, b"MM\0+", "tiff"),
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"\xff\x0a", "jxl"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "jp2"),
    (0, b"\xff\x4f\xff\x51", "jp2"),
    (0, b"FUJIFILMCCD-RAW", "raw"),
    (0, b"IIU\0", "raw"),
    (0, b"IIRO", "raw"),
    (0, b"IIRS", "raw"),
    (0, b"MMOR", "raw"),
    (0, b"FOVb", "raw"),
    (0, b"\0MRM", "raw"),
    (6, b"HEAPCCDR", "raw"),
    (4, b"ftypcrx ", "raw"),
)
_BRANDS: dict[bytes, Format] = {
    b"avif": "avif", b"avis": "avif", **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "heif"),
}  # fmt: skip
_IMAGE_BRANDS = (b"mif1", b"msf1", b"mif2", b"mif3", *_BRANDS)
"""Brands of still images and image sequences; other files of this structure are films."""
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
"""Lengths of the header that follows the first 14 bytes of a BMP file."""
_FOREIGN: tuple[tuple[int, bytes, str], ...] = (
    (0, b"GIF8", "GIF"),
    (0, b"8BPS", "Photoshop (PSD)"),
    (0, b"%PDF", "PDF"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
)
_FOREIGN_SUFFIXES = {
    ".exr": "OpenEXR", ".gif": "GIF", ".pdf": "PDF", ".psb": "Photoshop (PSB)", ".psd": "Photoshop (PSD)",
    ".tga": "TGA",
}  # fmt: skip


def sniff(head: bytes) -> Format | None:
    """The format of a file that begins with `head`; None if it is not supported. Some raw files are TIFF so far."""
    for start, magic, format in _MAGIC:  # noqa: A001 - the word users say
        if head[start:].startswith(magic) and (start != 8 or head[:2] in (b"II", b"MM")):
            return format
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp" and head[8:12] in _IMAGE_BRANDS:
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(int.from_bytes(head[:4], "big"), HEAD), 4))]
        return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), "heif")
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS and head[6:10] == bytes(4):
        return "bmp"
    return None


def name_foreign(head: bytes) -> str | None:
    """The name of a known image format that is not supported; None for anything else."""
    return next((name for start, magic, name in _FOREIGN if head[start:].startswith(magic)), None)


def with_article(name: str) -> str:
    """The name of a format with its indefinite article: "a GIF file", "an AVIF file"."""
    return f"{'an' if name[0] in 'AEIO' else 'a'} {name} file"


def is_image_suffix(suffix: str) -> bool:
    """Return whether a suffix is that of an image format, supported or not."""
    return suffix.lower() in SUFFIXES or suffix.lower() in _FOREIGN_SUFFIXES


def name_foreign_suffix(path: PurePath) -> str | None:
    """The name of the image format that a suffix stands for, if it is known and not supported."""
    return _FOREIGN_SUFFIXES.get(path.suffix.lower())
