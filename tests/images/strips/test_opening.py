"""Tests of files read and written in strips: what is read is what the whole reader reads, and the same is written."""

import io
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sanarestore.errors import DamagedImage
from sanarestore.images import (
    Format,
    Image,
    Metadata,
    decode,
    encode,
    measure,
    opened_in_strips,
    prepared,
    read,
    strip_writer,
)
from sanarestore.images.image import kinds_of, to_stored
from sanarestore.images.png import bodies_of
from sanarestore.images.strips.frames import stretched
from tests.images.conftest import photograph
from tests.images.fuzz import seeds

SEEDS = {
    name: data for name, data in seeds().items() if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\x89PNG")
}


@pytest.mark.parametrize("name", SEEDS)
def test_a_file_in_strips_is_what_the_whole_reader_reads(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(SEEDS[name])
    header = measure(path)
    if not header.rows_at_once or header.more or header.format not in ("tiff", "png"):
        pytest.skip("this file is only read whole")
    image = read(path)
    with opened_in_strips(path, name) as strips:
        bands = list(strips.bands())
        again = list(strips.bands())
        frame = strips.frame
    assert all(len(band) for band in bands)
    assert np.array_equal(np.concatenate(bands), to_stored(image))
    assert np.array_equal(np.concatenate(again), to_stored(image))
    assert (frame.metadata, frame.notes, frame.thumbnail) == (image.metadata, image.notes, image.thumbnail)
    assert (frame.pixels_HWC.shape, frame.depth, frame.format) == (image.pixels_HWC.shape, image.depth, image.format)
    assert (kinds_of(frame), frame.alpha_kind) == (kinds_of(image), image.alpha_kind)
    assert frame.pixels_HWC.base is not None
    assert frame.pixels_HWC.strides == (0, 0, 0), "a frame takes no memory"


def test_most_of_those_files_are_read_in_strips(tmp_path: Path) -> None:
    found = []
    for name, data in SEEDS.items():
        (tmp_path / name).write_bytes(data)
        found.append(measure(tmp_path / name).rows_at_once > 0)
    assert sum(found) >= len(found) // 2


def written(image: Image, format: Format, heights: list[int]) -> bytes:  # noqa: A002
    """Write an image in strips of these heights, again and again."""
    ready = prepared(image, format)
    codes, buffer = to_stored(ready), io.BytesIO()
    first = replace(
        ready, pixels_HWC=ready.pixels_HWC[:1], alpha_HW=None if ready.alpha_HW is None else ready.alpha_HW[:1]
    )
    writer = strip_writer(buffer, stretched(first, image.height), format)
    top = number = 0
    while top < image.height:
        height = heights[number % len(heights)]
        writer.write(codes[top : top + height])
        top, number = top + height, number + 1
    writer.finish()
    return buffer.getvalue()


@pytest.mark.parametrize("heights", [[1], [3, 1, 20], [1000]])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("format", "depth"), [("tiff", "uint8"), ("tiff", "float32"), ("png", "uint8"), ("png", "uint16")]
)
def test_what_is_written_in_strips_is_what_is_written_whole(
    format: Format,  # noqa: A002
    depth: Any,
    channels: int,
    heights: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sanarestore.images.tiff.STRIP", 1500)
    monkeypatch.setattr("sanarestore.images.strips.tiff.STRIP", 1500)
    monkeypatch.setattr("sanarestore.images.strips.png._BAND", 1500)
    image = replace(photograph(depth, channels, format), metadata=Metadata(dpi=(300.0, 300.0), xmp=b"<x/>"))
    data = written(image, format, heights)
    whole, strips = decode(encode(image, format)), decode(data)
    assert np.array_equal(to_stored(whole), to_stored(strips))
    assert (whole.metadata, whole.alpha_kind, whole.notes) == (strips.metadata, strips.alpha_kind, strips.notes)
    if format == "png":
        streams = [zlib.decompress(b"".join(bodies_of(each, b"IDAT"))) for each in (encode(image, format), data)]
        # In a band of one row, which has none above it, libpng does not try all filters.
        stride = len(streams[0]) // image.height
        assert streams[0][stride:] == streams[1][stride:], "libpng chooses the same filters"


@pytest.mark.parametrize("big", [False, True])
def test_large_tiff_files_are_bigtiff(big: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    image = photograph("uint16", 3, "tiff")
    if big:
        monkeypatch.setattr("sanarestore.images.tiff._CLASSIC_LIMIT", 100)
    data = written(image, "tiff", [7])
    assert data[2] == (43 if big else 42)
    assert np.array_equal(to_stored(decode(data)), to_stored(image))


def test_a_stream_of_too_few_rows_is_damaged(tmp_path: Path) -> None:
    image = photograph("uint8", 3, "png")
    taller = encode(image)
    size = (image.height + 1).to_bytes(4, "big")
    head = taller[12:20] + size + taller[24:29]
    (tmp_path / "a.png").write_bytes(taller[:12] + head + zlib.crc32(head).to_bytes(4, "big") + taller[33:])
    with pytest.raises(DamagedImage, match="a part of its pixels is missing"):
        read(tmp_path / "a.png")
    with opened_in_strips(tmp_path / "a.png", "a") as strips:
        bands = strips.bands()
        assert len(next(bands)) == image.height
        with pytest.raises(DamagedImage, match="a: a part of its pixels is missing"):
            next(bands)
