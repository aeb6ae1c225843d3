"""Tests of reading: misleading names, files that are not images, and damage."""

import logging
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from sanarestore.errors import MissingImage, OutOfMemory, UnreadableImage
from sanarestore.images import decode, encode, measure, read
from sanarestore.images.image import to_stored
from sanarestore.images.messages import collected
from tests.images.conftest import codes, photograph

FORMATS = ["tiff", "png", "jpeg", "webp"]


@pytest.mark.parametrize("format", FORMATS)
def test_the_suffix_does_not_matter(tmp_path, format):  # noqa: A002
    path = tmp_path / "é 日本 📷.gif"
    path.write_bytes(encode(photograph("uint8", 3, format)))
    assert read(path).format == format
    assert read(str(path)).format == format


@pytest.mark.parametrize("format", FORMATS)
def test_an_image_of_one_pixel_is_read(format):  # noqa: A002
    image = photograph("uint8", 3, format)
    one = type(image)(pixels_HWC=image.pixels_HWC[:1, :1], depth="uint8", format=format)
    assert decode(encode(one)).pixels_HWC.shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "empty"),
        (b"Dear diary", "not an image"),
        (b"GIF89a", "GIF"),
        (b"\0\0\0\x1cftypavif", "truncated"),
        (b"\0\0\0\x1cftypheic", "truncated"),
        (b"\xff\xd8\xff", "truncated"),
        (b"II*\0\x08\0\0\0", "truncated"),
        (b"RIFF\x08\0\0\0WEBP", "truncated|damaged"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
    ],
)
def test_files_that_are_not_readable_images_are_described(tmp_path, content, fact):
    path = tmp_path / "diary.jpg"
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=fact) as caught:
        read(path)
    assert caught.value.where == str(path)
    assert caught.value.next_step


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(MissingImage, match="no such file"):
        read(tmp_path / "none.jpg")
    with pytest.raises(UnreadableImage):
        read(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="making pipes needs rights on Windows")
def test_pipes_and_devices_are_refused_without_opening_them(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", "/dev/zero"):
        for work in (read, measure):
            with pytest.raises(UnreadableImage, match="device"):
                work(path)


def test_messages_of_libraries_are_collected_only_while_reading(caplog):
    logger = logging.getLogger("tifffile")
    with collected() as messages:
        logger.warning("first")
        logger.info("nothing")
        with collected() as inner:
            logger.error("second %d", 2)
        thread = threading.Thread(target=lambda: logger.warning("of another thread"))
        thread.start()
        thread.join()
    logger.warning("later")
    assert (messages, inner) == (["first"], ["second 2"])
    assert caplog.messages == ["of another thread", "later"]


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files_raise_only_unreadable_image(format):  # noqa: A002
    """A changed byte gives an image or UnreadableImage, never an exception of a library."""
    data, generator = encode(photograph("uint8", 3, format)), np.random.default_rng(0)
    refused = 0
    for position in generator.integers(0, len(data), 60):
        broken = bytearray(data)
        broken[position] ^= 0xFF
        try:
            decode(bytes(broken))
        except UnreadableImage:
            refused += 1
    assert refused > 0


def test_running_out_of_memory_names_the_file(monkeypatch):
    def decode_png(_: bytes) -> None:
        raise MemoryError

    data = encode(photograph("uint8", 3, "png"))
    monkeypatch.setattr("imagecodecs.png_decode", decode_png)
    with pytest.raises(OutOfMemory) as caught:
        decode(data, "a.png")
    assert caught.value.where == "a.png"


def test_metadata_survives_conversion_between_formats(metadata):
    """Metadata of a TIFF file is kept through PNG to JPEG."""
    first = photograph("uint8", 3, "tiff", metadata=metadata)
    last = decode(encode(decode(encode(decode(encode(first)), "png")), "jpeg"))
    assert (last.metadata.icc, last.metadata.xmp, last.metadata.iptc) == (metadata.icc, metadata.xmp, metadata.iptc)
    assert last.metadata.dpi == (300.0, 240.0)
    assert last.format == "jpeg"
    assert np.array_equal(to_stored(decode(encode(first, "png"))), codes("uint8", 3))


def test_importing_loads_no_heavy_library():
    """Torch and the codecs are loaded only when an image is read."""
    heavy = "{'torch', 'tifffile', 'imagecodecs', 'PIL'}"
    command = f"import sys, sanarestore.images; assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", command], check=True)
