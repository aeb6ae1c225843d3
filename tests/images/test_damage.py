"""Tests of damage: what is noticed in each format, and what becomes of it when the user accepts it."""

import contextlib
import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from sanarestore.errors import DamagedImage, UnreadableImage
from sanarestore.images import decode, from_float
from tests.conftest import photo
from tests.images.conftest import codes, png_chunk, saved, smooth


def scene():
    """A scene with some noise, so that files have the size of photographs."""
    noise = np.random.default_rng(0).normal(0, 0.02, (192, 256, 3))
    return (np.clip(photo(192, 256) + noise, 0, 1) * 255).astype(np.uint8)


def jpeg(stored=None, **options):
    return saved(PillowImage.fromarray(scene() if stored is None else stored), "JPEG", **{"quality": 90, **options})


def webp(**options):
    return saved(PillowImage.fromarray(scene()), "WEBP", **{"quality": 90, **options})


def png():
    return saved(PillowImage.fromarray(scene()), "PNG")


def tiff(stored=None, **options):
    buffer = io.BytesIO()
    stored = scene() if stored is None else stored
    tifffile.imwrite(buffer, stored, **{"photometric": "rgb", "metadata": None, "rowsperstrip": 16, **options})
    return buffer.getvalue()


FILES = {
    "jpeg": jpeg, "jpeg 4:4:4": lambda: jpeg(subsampling=0), "jpeg optimised": lambda: jpeg(optimize=True),
    "jpeg progressive": lambda: jpeg(progressive=True), "jpeg restarts": lambda: jpeg(restart_marker_rows=1),
    "jpeg gray": lambda: jpeg(scene()[..., 0]), "png": png, "webp": webp, "webp lossless": lambda: webp(lossless=True),
    "tiff": tiff, "tiff deflate": lambda: tiff(compression="zlib", predictor=True),
    "tiff lzw": lambda: tiff(compression="lzw"), "tiff packbits": lambda: tiff(compression="packbits"),
    "tiff jpeg": lambda: tiff(compression="jpeg"), "tiff tiles": lambda: tiff(compression="zlib", tile=(64, 64)),
}  # fmt: skip

TRIES = 25


def places(data, length, first):
    return np.random.default_rng(0).integers(first, len(data) - length, TRIES)


def refused(data):
    try:
        decode(data)
    except UnreadableImage:
        return True
    return False


@pytest.mark.parametrize("kind", FILES)
def test_whole_files_have_no_damage(kind):
    data = FILES[kind]()
    assert decode(data).notes == ()
    assert decode(data, accept_damaged=True).notes == ()


@pytest.mark.parametrize("kind", [kind for kind in FILES if kind != "tiff"])
def test_holes_of_zeros_are_noticed(kind):
    """Uncompressed TIFF is left out: there, zeros are black pixels."""
    data = FILES[kind]()
    for at in places(data, 512, 900):
        assert refused(data[:at] + bytes(512) + data[at + 512 :]), at


@pytest.mark.parametrize(
    ("kind", "least"),
    [("jpeg", 0.7), ("jpeg progressive", 0.7), ("jpeg restarts", 0.7), ("png", 1), ("tiff deflate", 1),
     ("tiff lzw", 0.9), ("tiff jpeg", 0.7), ("tiff packbits", 0.2), ("webp", 0), ("tiff", 0)],
)  # fmt: skip
def test_most_random_bytes_are_noticed_where_the_format_allows_it(kind, least):
    """JPEG has no checksum, and its codes often fall into step again. WebP hardly ever shows a change."""
    data, generator = FILES[kind](), np.random.default_rng(1)
    found = [refused(data[:at] + generator.bytes(64) + data[at + 64 :]) for at in places(data, 64, 900)]
    assert np.mean(found) >= least


@pytest.mark.parametrize("kind", FILES)
def test_all_truncations_are_noticed(kind):
    data = FILES[kind]()
    for end in [*places(data, 0, 12), len(data) - 1, len(data) - 3]:
        # The last byte of a JPEG or TIFF file may be unneeded.
        if end > len(data) - 3 and kind.startswith(("jpeg", "tiff")):
            continue
        assert refused(data[:end]), end


# Damage that the user accepts.


@pytest.mark.parametrize("kind", FILES)
def test_a_truncated_file_is_decoded_as_far_as_it_goes_if_that_is_accepted(kind):
    data = FILES[kind]()
    whole = from_float(decode(data).pixels_HWC, "uint8").astype(int)
    cut = data[: len(data) * 3 // 4]
    with pytest.raises(DamagedImage, match=r"truncated|missing|damaged") as caught:
        decode(cut, "a.file")
    assert caught.value.where == "a.file"
    assert "--accept-damaged" in caught.value.next_step
    image = decode(cut, accept_damaged=True)
    assert len(image.notes) >= 1
    assert all("damaged" in note or "missing" in note for note in image.notes)
    part = from_float(image.pixels_HWC, "uint8").astype(int)
    assert part.shape == whole.shape
    top = slice(0, 64)  # a third, which is whole; the later passes of a progressive file are missing everywhere
    allowed = 40 if "progressive" in kind else 0
    assert np.abs(part[top] - whole[top]).max() <= allowed
    if "progressive" not in kind:
        assert not np.array_equal(part, whole)


def test_rows_before_a_hole_in_a_png_file_are_whole():
    data = png()
    at = len(data) // 2
    image = decode(data[:at] + bytes(64) + data[at + 64 :], accept_damaged=True)
    part = from_float(image.pixels_HWC, "uint8")
    same = (part == scene()).all(axis=(1, 2))
    assert 60 < same.argmin() < 130, "the rows before the hole, which is in the middle, are whole"
    assert image.notes == ("the file is damaged: the checksum of a part of its pixels is wrong",)


def test_interlaced_and_palette_png_files_are_decoded_in_part_too():
    stored = codes("uint8", 3, 40, 50)
    rows = []
    for left, top, across, down in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
                                    (0, 1, 1, 2)):  # fmt: skip
        rows += [b"\0" + row.tobytes() for row in stored[top::down, left::across]]
    header = png_chunk(b"IHDR", struct.pack(">LLBBBBB", 50, 40, 8, 2, 0, 0, 1))
    packed = zlib.compress(b"".join(rows))
    end = png_chunk(b"IEND", b"")
    whole = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", packed) + end
    assert np.array_equal(from_float(decode(whole).pixels_HWC, "uint8"), stored)
    # The last pass holds every second row; without it, the other rows are complete.
    part = decode(whole[: len(whole) * 6 // 10], accept_damaged=True)
    assert np.array_equal(from_float(part.pixels_HWC, "uint8")[::2], stored[::2])
    palette = saved(PillowImage.fromarray(scene()).quantize(64), "PNG")
    assert decode(palette[: len(palette) // 2], accept_damaged=True).pixels_HWC.any()


@pytest.mark.parametrize("name", [b"PLTE", b"tRNS"])
def test_a_damaged_palette_or_transparency_is_noticed(name):
    """libpng passes over transparency with a wrong checksum, and the image would be opaque."""
    data = bytearray(saved(PillowImage.fromarray(scene()).quantize(16), "PNG", transparency=3))
    data[data.index(name) + 4] ^= 1
    with pytest.raises(DamagedImage, match="palette or its transparency"):
        decode(bytes(data))
    assert decode(bytes(data), accept_damaged=True).alpha_HW is not None


def test_rows_that_a_png_file_lacks_are_noticed():
    stored = smooth()
    rows = b"".join(b"\0" + row.tobytes() for row in stored[:20])
    header = png_chunk(b"IHDR", struct.pack(">LLBBBBB", 64, 48, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    with pytest.raises(DamagedImage, match="missing"):
        decode(data)
    image = decode(data, accept_damaged=True)
    assert np.array_equal(from_float(image.pixels_HWC[:20], "uint8"), stored[:20])


@pytest.mark.parametrize("data", [b"\xff\xd8\xff", b"II*\0\x08\0\0\0", b"RIFF\x08\0\0\0WEBP", b"\x89PNG\r\n\x1a\n"])
def test_a_file_of_which_nothing_is_left_is_damaged_whatever_is_accepted(data):
    with pytest.raises(UnreadableImage):
        decode(data, accept_damaged=True)


# JPEG.


def test_a_missing_end_marker_alone_is_a_note():
    data = jpeg()
    assert decode(data[:-2]).notes == ("the end marker of the JPEG file is missing",)
    assert np.array_equal(decode(data[:-2]).pixels_HWC, decode(data).pixels_HWC)


def test_missing_passes_of_a_progressive_file_are_noticed():
    """Cut off between two scans, where libjpeg has nothing to report."""
    data = jpeg(progressive=True)
    last = data.rindex(b"\xff\xda")
    tables = data.rindex(b"\xff\xc4", 0, last)
    with pytest.raises(DamagedImage, match="scans"):
        decode(data[:tables])


@pytest.mark.parametrize("filling", [b"\0", b"\xff"])
@pytest.mark.parametrize("count", [1, 5, 20])
def test_a_few_equal_bytes_before_the_end_are_harmless(filling, count):
    data = jpeg()
    image = decode(data[:-2] + filling * count + data[-2:])
    assert np.array_equal(image.pixels_HWC, decode(data).pixels_HWC)
    assert all("stray" in note for note in image.notes)


def test_many_bytes_before_the_end_are_damage():
    data = jpeg()
    for filling in (bytes(600), np.random.default_rng(0).bytes(20)):
        with pytest.raises(DamagedImage):
            decode(data[:-2] + filling + data[-2:])


def test_bytes_between_segments_are_passed_over():
    data = jpeg()
    first = 4 + struct.unpack_from(">H", data, 4)[0]
    image = decode(data[:first] + bytes(5) + data[first:])
    assert np.array_equal(image.pixels_HWC, decode(data).pixels_HWC)


def test_harmless_oddities_do_not_hide_damage():
    """libjpeg reports only the first warning; those about headers must not be it."""
    data = bytearray(jpeg())
    data[11] = 9  # an unknown revision of JFIF
    scan = data.index(b"\xff\xda")
    data[scan + 11 : scan + 14] = bytes(3)  # a spectral range that is wrong for a sequential file
    assert decode(bytes(data)).notes == ()
    middle = len(data) * 2 // 3
    data[middle : middle + 512] = bytes(512)
    with pytest.raises(DamagedImage):
        decode(bytes(data))


def test_large_flat_areas_are_no_holes():
    """Flat images have long runs of zeros where the tables are optimised, and need hardly any space."""
    flat = np.full((2048, 2048), 128, np.uint8)
    for options in ({}, {"optimize": True}, {"progressive": True}):
        for stored in (flat, np.stack([flat] * 3, axis=2), np.zeros_like(flat)):
            assert decode(jpeg(stored, **options)).notes == ()


def test_many_scans_are_refused():
    """Each scan of a hostile file takes as long as the whole image."""
    data = jpeg(progressive=True)
    scan = data.rindex(b"\xff\xda")
    with pytest.raises(UnreadableImage, match="scans"):
        decode(data[:scan] + data[scan:-2] * 200 + data[-2:])


def test_a_header_that_promises_more_pixels_than_the_file_can_hold_is_damage():
    data = bytearray(jpeg())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 30000, 30000)
    with pytest.raises(DamagedImage, match="cannot hold"):
        decode(bytes(data))


# TIFF.


def half(data):
    """Halve the number of strips that the tags list."""
    changed = bytearray(data)
    start = struct.unpack_from("<L", changed, 4)[0]
    for index in range(struct.unpack_from("<H", changed, start)[0]):
        at = start + 2 + 12 * index
        if struct.unpack_from("<H", changed, at)[0] in (273, 279):
            struct.pack_into("<L", changed, at + 4, struct.unpack_from("<L", changed, at + 4)[0] // 2)
    return bytes(changed)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_missing_strips_are_noticed_and_black_if_accepted(compression):
    data = half(tiff(compression=compression))
    with pytest.raises(DamagedImage, match="6 of its 12 strips are missing"):
        decode(data)
    image = decode(data, accept_damaged=True)
    assert np.array_equal(from_float(image.pixels_HWC[:96], "uint8"), scene()[:96])
    assert not image.pixels_HWC[96:].any()


def test_a_strip_is_decoded_as_far_as_it_goes():
    data = bytearray(tiff(compression="zlib", rowsperstrip=192))
    middle = len(data) // 2
    data[middle : middle + 100] = bytes(100)
    image = decode(bytes(data), accept_damaged=True)
    assert np.array_equal(from_float(image.pixels_HWC[:60], "uint8"), scene()[:60])


# Hostile files.


@pytest.mark.parametrize(
    ("kind", "start", "part"),
    [("png", 33, png_chunk(b"abCD", b"")), ("jpeg", 2, b"\xff\xe3\0\2"), ("webp", -1, b"abcd" + bytes(4))],
)
def test_a_file_of_countless_empty_parts_is_refused(kind, start, part):
    """Lists of the parts would take far more memory than the file."""
    data = FILES[kind]()
    start = start if start >= 0 else len(data)
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableImage, match="too many parts"):
            decode(data[:start] + part * 1_000_000 + data[start:])
        assert tracemalloc.get_traced_memory()[1] < 2**27
    finally:
        tracemalloc.stop()


# Messages.


@pytest.mark.parametrize("kind", FILES)
def test_libraries_print_nothing(kind, capfd):
    data = FILES[kind]()
    for at in places(data, 100, 8)[:8]:
        for changed in (data[:at], data[:at] + bytes(100) + data[at + 100 :]):
            for accepted in (False, True):
                with contextlib.suppress(UnreadableImage):
                    decode(changed, accept_damaged=accepted)
    assert capfd.readouterr() == ("", "")
