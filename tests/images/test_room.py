"""Tests of the memory that reading and writing take, as counted by the allocators of Python and NumPy."""

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sanarestore.images import Depth, Format, Image, decode, encode, from_float, to_float
from sanarestore.images.image import to_stored

HEIGHT, WIDTH = 1500, 1000


def room(work: Callable[[], Any]) -> float:
    """Return the peak memory of a piece of work in bytes per pixel, with its result."""
    tracemalloc.start()
    try:
        kept = work()
        del kept
        return tracemalloc.get_traced_memory()[1] / (HEIGHT * WIDTH)
    finally:
        tracemalloc.stop()


def noise(depth: Depth, channels: int = 3) -> Image:
    """Make an image of noise, which does not compress, so that files are as large as possible."""
    codes = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, channels), dtype=np.uint16)
    kinds = {"uint8": (codes >> 8).astype(np.uint8), "uint16": codes, "float32": codes.astype(np.float32) / 65535}
    stored = kinds[depth]
    alpha = stored[..., 3] if channels == 4 else None
    return Image(pixels_HWC=to_float(stored[..., :3], depth), depth=depth, format="tiff", alpha_HW=alpha)


# Reading holds floats (12) and codes (3, 6 or 12); writing holds codes and the file, PNG and JPEG two copies of the
# file. The rest is temporary. The arguments of reading and writing are not counted.
@pytest.mark.parametrize(
    ("format", "depth", "reading", "writing"),
    [
        ("png", "uint8", 16, 10.5), ("png", "uint16", 19.5, 20), ("tiff", "uint8", 16, 7.5),
        ("tiff", "uint16", 19.5, 14), ("tiff", "float32", 35, 12.5), ("jpeg", "uint8", 19, 11.5),
        ("webp", "uint8", 16, 6.5),
    ],
)  # fmt: skip
def test_reading_and_writing_hold_few_copies(format: Format, depth: Depth, reading: float, writing: float) -> None:  # noqa: A002
    image = noise(depth)
    data = encode(image, format)
    decode(data)  # imports happen here, so that the measurement does not count them
    assert room(lambda: encode(image, format)) < writing
    assert room(lambda: decode(data)) < reading


@pytest.mark.parametrize(
    ("format", "depth"), [("png", "uint16"), ("tiff", "uint16"), ("jpeg", "uint8"), ("webp", "uint8")]
)
def test_only_the_image_is_held_after_reading(format: Format, depth: Depth) -> None:  # noqa: A002
    """No reference cycle keeps the bytes of the file until garbage collection."""
    data = encode(noise(depth), format)
    decode(data)
    gc.disable()
    tracemalloc.start()
    try:
        image = decode(bytes(bytearray(data)))
        assert tracemalloc.get_traced_memory()[0] / (HEIGHT * WIDTH) < 12.5
        assert image.depth == depth
    finally:
        tracemalloc.stop()
        gc.enable()


def test_joining_alpha_and_colours_makes_no_extra_copy() -> None:
    image = noise("uint16", 4)
    assert room(lambda: to_stored(image)) < 8 + 3


def test_float_values_are_not_copied() -> None:
    values = noise("float32").pixels_HWC
    assert np.shares_memory(values, to_float(values, "float32"))
    assert np.shares_memory(values, from_float(values, "float32"))
