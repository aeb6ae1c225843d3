"""A mutation fuzz over all readers: `python -m tests.images.fuzz --minutes 30 --seed 1`.

Small valid files of all formats are changed at random: bits are flipped, blocks zeroed or moved, ends cut off, parts of
other files put in, numbers set to extreme values. A case passes if reading returns an image or raises a
SanarestoreError, within limits of time and memory, and prints nothing. Cases that fail are kept in a folder.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import importlib.util
import io
import os
import re
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image as PillowImage

from sanarestore.errors import SanarestoreError
from sanarestore.images import Image, Metadata, encode, measure, read
from tests.images.conftest import IPTC, XMP, photograph, png_chunk, saved, smooth
from tests.images.foreign_files import foreign_files
from tests.images.heic_files import heic
from tests.images.rich import files

SECONDS = 10
"""CPU time that a case may take."""

GROWTH = 512 * 2**20
"""Bytes of address space that a case may take beyond those that a process has after its start."""

EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


# Files to change.


def seeds() -> dict[str, bytes]:
    """Return small valid files by name: formats, depths, channels, compressions, with metadata and without."""
    block = PillowImage.Exif()
    block[271], block[274], block[306] = "ACME", 6, "2024:05:06 07:08:09"
    block[34665] = {33434: 0.004, 37500: b"ACME\0" + bytes(range(256)), 40965: {1: "R98"}}
    block[34853] = {2: (1.0, 2.0, 3.5)}
    metadata = Metadata(icc=bytes(range(200)), exif=block.tobytes()[6:], xmp=XMP, iptc=IPTC, dpi=(300.0, 300.0))
    deep = smooth()[:16, :32].astype(np.uint16) * 4
    found: dict[str, bytes] = {}
    for depth in ("uint8", "uint16", "float32"):
        for channels in (1, 2, 3, 4):
            image = photograph(depth, channels, "tiff", metadata=metadata)
            found[f"{depth}-{channels}.tif"] = encode(image, "tiff")
            if depth != "float32":
                found[f"{depth}-{channels}.png"] = encode(image, "png")
    for channels in (3, 4):
        plain = dataclasses.replace(metadata, iptc=None)
        for lossless in (False, True):
            image = photograph("uint8", channels, "webp", lossless=lossless, metadata=plain)
            found[f"{channels}-{lossless}.webp"] = encode(image)
    for channels in (1, 3):
        found[f"{channels}.jpg"] = encode(photograph("uint8", channels, "jpeg", metadata=metadata))
    if importlib.util.find_spec("pi_heif"):
        found |= {
            "8.heic": heic(smooth()[:16, :32], exif=block.tobytes()[6:], xmp=XMP),
            "10.heic": heic(deep, 10, turn=1),
        }
    rich = {f"rich.{name}": data for name, data in files(bytes(range(200))).items()}
    return found | rich | _foreign() | foreign_files()


def _foreign() -> dict[str, bytes]:
    """Return files in kinds that sanarestore reads and does not write."""
    picture = PillowImage.fromarray(smooth())
    stored = smooth()
    found = {
        "progressive.jpg": saved(picture, "JPEG", progressive=True), "420.jpg": saved(picture, "JPEG", quality=60),
        "restarts.jpg": saved(picture, "JPEG", restart_marker_blocks=2),
        "palette.png": saved(picture.quantize(16), "PNG", transparency=3),
        "bits.png": saved(picture.convert("1"), "PNG"),
        "palette.tif": saved(picture.quantize(16), "TIFF"), "bits.tif": saved(picture.convert("1"), "TIFF"),
        "text.png": _with_texts(saved(picture, "PNG")),
    }  # fmt: skip
    kinds: dict[str, dict[str, Any]] = {
        "plain": {}, "big": {"bigtiff": True, "byteorder": ">"}, "lzw": {"compression": "lzw", "predictor": True},
        "tiles": {"tile": (16, 16), "compression": "zlib"}, "packbits": {"compression": "packbits", "rowsperstrip": 5},
        "jpeg": {"compression": "jpeg", "rowsperstrip": 16}, "zstd": {"compression": "zstd"},
        "lzma": {"compression": "lzma"}, "webp": {"compression": "webp"}, "jpeg2000": {"compression": "jpeg2000"},
    }  # fmt: skip
    for name, options in kinds.items():
        found[f"{name}.tif"] = _tiff(stored, photometric="rgb", **options)
    found["pages.tif"] = _tiff(np.stack([stored, stored]), photometric="rgb")
    ink = picture.convert("CMYK")
    found |= {"cmyk.tif": saved(ink, "TIFF"), "lab.tif": saved(PillowImage.new("LAB", (9, 9)), "TIFF")}
    found |= {
        "cmyk.jpg": saved(ink, "JPEG"),
        "12.jpg": imagecodecs.jpeg8_encode(stored.astype("u2") * 16, bitspersample=12),
    }
    found["12.tif"] = _tiff(stored[..., 0].astype(np.uint16), photometric="minisblack", bitspersample=12)
    found["extra.tif"] = _tiff(np.dstack([stored, stored]), photometric="rgb", planarconfig="contig")
    return found


def _tiff(stored: np.ndarray[Any, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, stored, metadata=None, **options)
    return buffer.getvalue()


def _with_texts(data: bytes) -> bytes:
    text = b"\niptc\n       8\n" + b"8BIM".hex().encode() + b"\n"
    chunks = png_chunk(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(text))
    chunks += png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP))
    return data[:33] + chunks + data[33:]


# Changes.


def mutate(data: bytes, others: list[bytes], generator: np.random.Generator) -> bytes:
    """Return the file after one to four changes at random."""
    changed = bytearray(data)
    for _ in range(int(generator.integers(1, 5))):
        if len(changed) < 16:
            break
        at, kind = int(generator.integers(0, len(changed))), int(generator.integers(0, 8))
        if generator.random() < 0.4:  # headers and directories lie at the ends
            near = int(generator.integers(0, min(200, len(changed))))
            at = near if generator.random() < 0.6 else len(changed) - 1 - near
        size = int(generator.integers(1, 65))
        if kind == 0:
            changed[at] ^= 1 << int(generator.integers(0, 8))
        elif kind == 1:
            changed[at : at + size] = bytes(len(changed[at : at + size]))
        elif kind == 2:
            del changed[at:]
        elif kind == 3:
            other = others[int(generator.integers(0, len(others)))]
            start = int(generator.integers(0, len(other)))
            changed[at : at + size] = other[start : start + size]
        elif kind == 4:
            changed[at : at + size] = generator.bytes(size)
        elif kind == 5:
            del changed[at : at + size]
        else:
            _set_number(changed, at, generator)
    if bytes(changed[:8]) == b"\x89PNG\r\n\x1a\n" and generator.random() < 0.7:
        _right_checksums(changed)
    return bytes(changed)


def _set_number(changed: bytearray, at: int, generator: np.random.Generator) -> None:
    """Write an extreme number, in either byte order."""
    value = EXTREMES[int(generator.integers(0, len(EXTREMES)))]
    letter = "BHL"[int(generator.integers(0, 3))]
    packed = struct.pack(
        "<>"[int(generator.integers(0, 2))] + letter, value & (1 << 8 * struct.calcsize("=" + letter)) - 1
    )
    changed[at : at + len(packed)] = packed


def _right_checksums(changed: bytearray) -> None:
    """Make the checksums of a PNG file right, so that changes are not refused because of them alone."""
    at = 8
    while at + 12 <= len(changed):
        length = int.from_bytes(changed[at : at + 4], "big")
        if at + 12 + length > len(changed):
            return
        checksum = zlib.crc32(bytes(changed[at + 4 : at + 8 + length]))
        changed[at + 8 + length : at + 12 + length] = checksum.to_bytes(4, "big")
        at += 12 + length


def cases(seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield changed files without end, with the name of the file that each was made of."""
    files = seeds()
    names, contents = sorted(files), [files[name] for name in sorted(files)]
    generator = np.random.default_rng(seed)
    while True:
        name = names[int(generator.integers(0, len(names)))]
        yield name, mutate(files[name], contents, generator)


# Trying.


def outcome(path: Path, accept_damaged: bool) -> str:
    """Read a file and return what came of it; any exception other than a SanarestoreError passes through."""
    try:
        header = measure(path)
    except SanarestoreError:
        header = None
    try:
        image = read(path, accept_damaged=accept_damaged)
    except SanarestoreError as error:
        return error.reason
    assert isinstance(image, Image)
    assert header is not None, "an image is read whose header was refused"
    assert (header.width, header.height, header.format) == (image.width, image.height, image.format)
    channels = image.pixels_HWC.shape[2] + (image.alpha_HW is not None)
    is_same = (header.channels, header.depth) == (channels, image.depth)
    assert [page.pixels for page in header.more] == [page.height * page.width for page in image.more_pages]
    assert is_same or image.format == "webp", f"{header.channels}, {header.depth}, not {channels}, {image.depth}"
    return "noted" if image.notes else "read"


def child() -> None:
    """Read the paths on stdin one by one, under limits; answer each on stdout with the outcome."""
    sys.stdout.flush()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever is printed goes to stderr, which the parent watches
    for path in seed_files(Path(sys.argv[2])):
        outcome(path, True)  # every library is loaded
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + GROWTH, resource.RLIM_INFINITY))
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(usage.ru_utime + usage.ru_stime) + 1 + SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))
        try:
            answer = outcome(Path(line[2:].rstrip("\n")), line[0] == "1")
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}".replace("\n", " ")[:300]
        print(answer, file=answers, flush=True)


def seed_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.startswith("seed-"))


_LIBRAW = re.compile(rb"unknown file: [^\n]*\n")
"""What LibRaw prints about damage, which rawpy cannot switch off."""

GOOD = {"read", "noted", "unreadable", "damaged", "memory", "error"}

CRASH = ".heic: the process ended with -"
"""Beginning of what is said where a signal ended the process: libheif crashes on about one changed file of 40,000. A
batch loses that file only, and starts the worker again."""


class Readers:
    """A process that reads files under limits, and is started again when it ends."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.process, self.printed = folder, None, folder / "printed"
        for name, data in seeds().items():
            (folder / f"seed-{name}").write_bytes(data)

    def start(self) -> "subprocess.Popen[str]":
        # Addresses are a limited resource here, and threads of libraries reserve many.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
        with self.printed.open("wb") as printed:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.images.fuzz", "--child", str(self.folder)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=printed, text=True, env=environment,
                cwd=Path(__file__).parents[2],
            )  # fmt: skip
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first == "ready\n", f"{first}{self.printed.read_text()}"
        return process

    def read(self, data: bytes, accept_damaged: bool) -> str:
        """Return the outcome of reading these bytes: one of `GOOD`, or what went wrong."""
        if self.process is None:
            self.process = self.start()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        path = self.folder / "case"
        path.write_bytes(data)
        before = self.printed.stat().st_size
        try:
            self.process.stdin.write(f"{int(accept_damaged)} {path}\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline().strip()
        except BrokenPipeError:
            answer = ""
        if not answer:
            code = self.process.wait()
            self.process.stdout.close()
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
            self.process = None
            answer = f"the process ended with {code}"
        printed = _LIBRAW.sub(b"", self.printed.read_bytes()[before:])
        return answer if not printed else f"{answer}, and printed {printed[:200]!r}"

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            self.process.stdin.close()
            self.process.wait(timeout=60)
            self.process.stdout.close()


def fuzz(seed: int, *, seconds: float, most: int | None = None, keep: Path | None = None) -> Counter[str]:
    """Try cases until the time or their number ends; return how often every outcome came."""
    counts: Counter[str] = Counter()
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        readers = Readers(Path(folder))
        for number, (name, data) in enumerate(cases(seed)):
            if time.monotonic() > end or number == most:
                break
            result = readers.read(data, accept_damaged=number % 2 == 1)
            counts[result if result in GOOD else f"{Path(name).suffix}: {result}"] += 1
            if result not in GOOD and keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{hashlib.sha256(data).hexdigest()[:12]}-{number % 2}-{name}").write_bytes(data)
        readers.close()
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="folder for the cases that fail")
    given = parser.parse_args()
    counts = fuzz(given.seed, seconds=60 * given.minutes, keep=given.keep)
    for result, count in counts.most_common():
        print(f"{count:8}  {result}")
    sys.exit(any(what not in GOOD and not what.startswith(CRASH) for what in counts))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child()
    else:
        main()
