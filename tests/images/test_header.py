"""Tests of headers, which are read without decoding, and of the estimates of memory."""

import io
import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from sanarestore.errors import MissingImage, UnreadableImage, UnwritableImage
from sanarestore.images import (
    Image,
    check_header,
    encode,
    measure,
    memory_to_read,
    memory_to_write,
    read,
    result_header,
    to_float,
    write,
)
from tests.images.conftest import photograph, smooth
from tests.images.fuzz import seeds

SEEDS = seeds()


@pytest.mark.parametrize("name", SEEDS)
def test_the_header_says_what_reading_finds(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(SEEDS[name])
    header, image = measure(path), read(path)
    channels = image.pixels_HWC.shape[2] + (image.alpha_HW is not None)
    assert (header.width, header.height, header.channels) == (image.width, image.height, channels)
    assert (header.depth, header.format, header.file_size) == (image.depth, image.format, len(SEEDS[name]))
    assert header.megapixels == image.megapixels
    assert header.decoded_bytes == sum(_bytes(page) for page in (image, *image.more_pages))


def _bytes(image):
    alpha = 0 if image.alpha_HW is None else image.alpha_HW.nbytes
    return image.pixels_HWC.nbytes + alpha + (image.extra.codes_HWS.nbytes if image.extra else 0)


@pytest.mark.parametrize("format", ["tiff", "png", "jpeg", "webp"])
def test_little_of_the_file_is_read(tmp_path, monkeypatch, format):  # noqa: A002
    """At most 64 kB of 2 MB or more, and no pixel is decoded."""
    noise = np.random.default_rng(0).integers(0, 256, (900, 1000, 3), dtype=np.uint8)
    path = tmp_path / "noise"
    image = Image(pixels_HWC=to_float(noise, "uint8"), depth="uint8", format=format, lossless=True)
    path.write_bytes(encode(image))
    assert path.stat().st_size > 2e6
    taken = []

    class Counting(io.FileIO):
        def read(self, size=-1):
            taken.append(size)
            return super().read(size)

    monkeypatch.setattr(Path, "open", lambda path, mode: Counting(path))
    for codec in ("imagecodecs", "simplejpeg", "tifffile"):
        monkeypatch.setitem(sys.modules, codec, None)
    header = measure(path)
    assert (header.width, header.height) == (1000, 900)
    assert all(size >= 0 for size in taken)
    assert sum(taken) <= 2**16


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        (b"", "it is empty"),
        (b"Dear diary", "it is not an image"),
        (b"GIF89a", "it is a GIF file"),
        (b"\xff\xd8\xff", "truncated"),
        (b"II*\0\x08\0\0\0", "0 x 0 pixels"),
        (b"RIFF\x08\0\0\0WEBP", "header"),
        (b"\x89PNG\r\n\x1a\n", "header"),
    ],
)
def test_headers_of_files_that_are_not_read_raise_the_error_of_reading(tmp_path, data, fact):
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(UnreadableImage, match=fact) as caught:
        measure(path)
    assert caught.value.where == str(path)
    assert caught.value.next_step


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(MissingImage, match="no such file"):
        measure(tmp_path / "none.tif")


# Memory. The peak of the process is what counts: codecs take memory that Python does not see.

MEASURE = """
import dataclasses, io, json, sys
from pathlib import Path
import numpy as np
import tifffile
from PIL import Image as PillowImage
from sanarestore.images import Image, encode, read, to_float
from sanarestore.options import WriteOptions

# Most is taken in a high quality without chroma subsampling.
HIGH = WriteOptions(quality=95)
folder, small, kinds = Path(sys.argv[1]), sys.argv[2].split(","), json.loads(sys.argv[3])

def status():
    lines = Path("/proc/self/status").read_text().splitlines()
    values = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
    return int(values["VmHWM"]) * 1024, int(values["VmRSS"]) * 1024

def peak(work):
    Path("/proc/self/clear_refs").write_text("5")
    before = status()[1]
    kept = work()
    return status()[0] - before, kept

def noise(format, depth, channels, side):
    # Noise does not compress, so that it takes as much memory as an image of its size can.
    stored = np.random.default_rng(0).integers(0, 65536, (side, side, channels), dtype=np.uint16)
    stored = {"uint8": stored >> 8, "uint16": stored, "float32": stored / 65535}[depth].astype(depth)
    colours = 3 if channels >= 3 else 1
    alpha = stored[..., colours].copy() if channels > colours else None
    pixels = to_float(np.ascontiguousarray(stored[..., :colours]), depth)
    bits = 12 if (format, depth) == ("avif", "uint16") else None
    return stored, Image(pixels_HWC=pixels, depth=depth, format=format, alpha_HW=alpha, bits=bits)

for path in small:
    encode(read(path), options=HIGH)
for number, (kind, depth, channels, side) in enumerate(kinds):
    path, format = folder / str(number), kind.split()[0]
    stored, image = noise(format, depth, channels, side)
    if kind == "jpeg progressive":
        PillowImage.fromarray(stored).save(path, "JPEG", quality=90, progressive=True)
    elif kind == "tiff plain":
        tifffile.imwrite(path, stored, photometric="rgb", metadata=None)
    elif kind == "tiff planes":
        planes = np.ascontiguousarray(np.moveaxis(stored, 2, 0))
        tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate", metadata=None)
        del planes
    del stored
    writing, data = peak(lambda: encode(image, options=HIGH))
    if not path.exists():
        path.write_bytes(data)
    del image, data
    reading, image = peak(lambda: read(path))
    del image
    print(json.dumps([reading, writing]), flush=True)
"""

# AVIF and JPEG XL take seconds for a megapixel.
KINDS = [
    ("png", "uint8", 3, 2000), ("png", "uint16", 4, 2000), ("tiff", "uint8", 3, 2000), ("tiff", "uint16", 3, 2000),
    ("tiff", "float32", 3, 2000), ("tiff plain", "uint16", 3, 2000), ("tiff planes", "uint8", 3, 2000),
    ("jpeg", "uint8", 3, 2000), ("jpeg", "uint8", 1, 2000), ("jpeg progressive", "uint8", 3, 2000),
    ("webp", "uint8", 3, 2000), ("avif", "uint8", 3, 1400), ("avif", "uint8", 1, 1400), ("avif", "uint16", 3, 1400),
    ("jxl", "uint8", 3, 1400),
    ("jxl", "uint16", 3, 1400), ("jxl", "uint16", 4, 1400),
]  # fmt: skip
"""Formats, depths, channels, and the height and width of the image in pixels."""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is measured as Linux does")
def test_estimates_of_memory_hold_and_are_close(tmp_path):
    """At least the peak, and at most 1.6 times that; images of 2 to 4 megapixels."""
    small = []
    for format in ("tiff", "png", "jpeg", "webp", "avif", "jxl"):  # noqa: A001
        path = tmp_path / f"small.{format}"
        path.write_bytes(encode(Image(pixels_HWC=to_float(smooth(), "uint8"), depth="uint8", format=format)))
        small.append(str(path))
    command = [sys.executable, "-c", MEASURE, str(tmp_path), ",".join(small), json.dumps(KINDS)]
    # Freed memory is given back at once, so that the next piece of work takes it anew.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    ratios = {}
    for number, (kind, line) in enumerate(zip(KINDS, run.stdout.splitlines(), strict=True)):
        header, (reading, writing) = measure(tmp_path / str(number)), json.loads(line)
        ratios[kind] = round(memory_to_read(header) / reading, 2), round(memory_to_write(header) / writing, 2)
    # Reading lossless JPEG XL takes up to three times as much memory; the header does not say how much.
    most = {kind: (3 if kind[0] == "jxl" else 1.6, 1.6) for kind in KINDS}
    assert all(1 <= ratio <= limit for kind in KINDS for ratio, limit in zip(ratios[kind], most[kind], strict=True)), (
        ratios
    )


@pytest.mark.parametrize("kind", ["associated", "unassociated", "unspecified"])
def test_alpha_that_a_format_cannot_hold_is_known_from_the_header(tmp_path, kind):
    path = tmp_path / "a.tif"
    write(photograph("uint16", 4, "tiff", alpha_kind=kind), path)
    assert measure(path).alpha_kind == kind
    result = result_header(measure(path), lambda *size: size, format="png")
    with pytest.raises(UnwritableImage, match="not marked as alpha") if kind == "unspecified" else nullcontext():
        check_header(result, "o.png")
