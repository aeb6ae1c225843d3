"""File format detection: supported formats from the first bytes, never from the suffix."""

from pathlib import PurePath

from sanarestore.images.image import Format

HEAD = 64
"""Number of bytes that `sniff` and `name_foreign` need at most."""

SUFFIXES = frozenset((".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp"))
"""Suffixes of the supported formats, in lower case: a file with one of them claims to be a photograph."""

_FOREIGN: tuple[tuple[int, bytes, str], ...] = (
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"8BPS", "Photoshop (PSD)"),
    (0, b"%PDF", "PDF"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"FUJIFILMCCD-RAW", "camera raw (RAF)"),
    (0, b"IIU\x00", "camera raw (RW2)"),
    (0, b"IIRO", "camera raw (ORF)"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypcrx", "camera raw (CR3)"),
    (4, b"ftyp", "HEIF"),
)
_MOVIES = (b"ftypisom", b"ftypmp4", b"ftypqt", b"ftypM4", b"ftypavc1", b"ftyp3g", b"ftypMSNV", b"ftypdash")
_FOREIGN_SUFFIXES = {
    ".avif": "AVIF", ".bmp": "BMP", ".dib": "BMP", ".exr": "OpenEXR", ".gif": "GIF", ".heic": "HEIF", ".heif": "HEIF",
    ".hif": "HEIF", ".jp2": "JPEG 2000", ".j2k": "JPEG 2000", ".jxl": "JPEG XL", ".pdf": "PDF",
    ".psb": "Photoshop (PSB)", ".psd": "Photoshop (PSD)",
    **dict.fromkeys((".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos",
                     ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw",
                     ".x3f"), "camera raw"),
}  # fmt: skip


def sniff(head: bytes) -> Format | None:
    """The format of a file that begins with `head`; None if it is not supported."""
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    return None


def name_foreign(head: bytes) -> str | None:
    """The name of a known image format that is not supported; None for anything else."""
    if head[4:].startswith(_MOVIES):
        return None
    return next((name for start, magic, name in _FOREIGN if head[start:].startswith(magic)), None)


def with_article(name: str) -> str:
    """The name of a format with its indefinite article: "a GIF file", "an AVIF file"."""
    return f"{'an' if name[0] in 'AEIO' else 'a'} {name} file"


def is_image_suffix(suffix: str) -> bool:
    """Whether a suffix is that of an image format, supported or not."""
    return suffix.lower() in SUFFIXES or suffix.lower() in _FOREIGN_SUFFIXES


def name_foreign_suffix(path: PurePath) -> str | None:
    """The name of the image format that a suffix stands for, if it is known and not supported."""
    return _FOREIGN_SUFFIXES.get(path.suffix.lower())
