"""Tests of writing: a file appears complete or not at all."""

import os
import stat
from dataclasses import replace

import numpy as np
import pytest

from sanarestore.errors import UnwritableImage
from sanarestore.images import SUFFIXES, Image, check_writable, decode, encode, prepared, read, to_float, write
from sanarestore.images.image import to_stored
from sanarestore.options import OUTPUT_FORMATS, WriteOptions
from tests.images.conftest import codes, photograph


def test_missing_folders_are_created_under_any_name(tmp_path):
    path = tmp_path / "été" / "日本 📷" / "a b.jpg"
    write(photograph("uint16", 3, "png"), path)
    assert np.array_equal(to_stored(read(path)), codes("uint16", 3))
    assert list(path.parent.iterdir()) == [path]


def test_the_format_can_be_chosen(tmp_path):
    write(photograph("uint16", 3, "png"), tmp_path / "a", format="tiff")
    assert read(tmp_path / "a").format == "tiff"


@pytest.mark.parametrize("overwrite", [True, False])
def test_files_are_overwritten_only_when_allowed(tmp_path, overwrite):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    if overwrite:
        write(photograph("uint8", 3, "png"), path)
        assert read(path).depth == "uint8"
    else:
        with pytest.raises(UnwritableImage, match="exists"):
            write(photograph("uint8", 3, "png"), path, overwrite=False)
        assert path.read_bytes() == b"old"


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_only_the_old_file(tmp_path, monkeypatch, step, error):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(*(("os.fsync",) if step == "fsync" else ("pathlib.Path.replace",)), fail)
    expected = UnwritableImage if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        write(photograph("uint8", 3, "png"), path)
    if isinstance(error, OSError):
        assert "No space left" in str(caught.value)
        assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_encoding_leaves_no_folder(tmp_path):
    path = tmp_path / "new" / "a.jpg"
    with pytest.raises(UnwritableImage) as caught:
        write(photograph("uint16", 3, "jpeg"), path)
    assert caught.value.where == str(path)
    assert not path.parent.exists()


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write(photograph("uint8", 1, "png"), tmp_path / "a.png")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o640


def test_every_format_that_is_offered_is_written_and_has_suffixes():
    assert {"preserve", *SUFFIXES.values()} == set(OUTPUT_FORMATS)
    for format_ in set(SUFFIXES.values()):
        image = photograph("uint8", 3, "png")
        assert decode(encode(image, options=WriteOptions(format=format_))).format == format_
        assert decode(encode(image, format_, WriteOptions(format="png"))).format == format_


def test_values_are_rounded_once_in_the_depth_that_is_asked_for():
    """Between the codes of 8 bits there are 256 of 16, which a first rounding to 8 bits would lose."""
    ramp = np.linspace(0, 1, 4096, dtype=np.float32).reshape(64, 64, 1)
    image = Image(pixels_HWC=ramp, depth="uint8", format="png")
    deep = to_stored(decode(encode(image, options=WriteOptions(bit_depth=16))))
    assert np.array_equal(deep, np.rint(ramp * 65535).astype(np.uint16))
    shallow = decode(encode(Image(pixels_HWC=ramp, depth="uint16", format="png"), options=WriteOptions(bit_depth=8)))
    assert np.array_equal(to_stored(shallow), np.rint(ramp * 255).astype(np.uint8))


@pytest.mark.parametrize(("depth", "asked"), [("uint8", 16), ("uint16", 8)])
def test_alpha_follows_the_depth(depth, asked):
    image = photograph(depth, 4, "png")
    written = decode(encode(image, options=WriteOptions(bit_depth=asked)))
    expected = to_float(image.alpha_HW, depth) * (2**asked - 1)
    assert np.abs(written.alpha_HW - expected).max() <= 0.51


@pytest.mark.parametrize(
    ("depth", "channels", "format_", "asked", "step"),
    [
        ("uint16", 3, "jpeg", None, "--bit-depth 8"),
        ("uint16", 3, "webp", None, "--bit-depth 8"),
        ("float32", 3, "png", None, "--bit-depth 16"),
        ("uint8", 3, "jpeg", 16, "--format tiff or png"),
        ("uint8", 4, "jpeg", None, "--format png, tiff or webp"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_with_the_option_that_helps(depth, channels, format_, asked, step):
    image = photograph(depth, channels, format_)
    with pytest.raises(UnwritableImage, match=step):
        check_writable(image, "a", options=WriteOptions(bit_depth=asked))


@pytest.mark.parametrize(("depth", "format_", "asked"), [("uint16", "jpeg", 8), ("float32", "png", 16)])
def test_the_depth_that_is_asked_for_makes_a_format_possible(depth, format_, asked):
    image = photograph(depth, 3, format_)
    check_writable(image, "a", options=WriteOptions(bit_depth=asked))
    assert decode(encode(image, options=WriteOptions(bit_depth=asked))).depth == f"uint{asked}"


def test_floats_that_codes_cannot_hold_are_said_to_be_clipped():
    image = Image(pixels_HWC=np.full((4, 4, 3), 2, np.float32), depth="float32", format="tiff")
    (note,) = prepared(image, options=WriteOptions(bit_depth=16)).notes
    assert "clipped" in note
    dark = Image(pixels_HWC=np.full((4, 4, 3), 0.5, np.float32), depth="float32", format="tiff")
    assert prepared(dark, options=WriteOptions(bit_depth=16)).notes == ()


def test_premultiplied_colours_are_divided_where_a_format_does_not_hold_them():
    """TIFF keeps them; in PNG and WebP, viewers would multiply by alpha a second time, which darkens edges."""
    alpha_HW = np.array([[0, 1, 128, 255]], np.uint8)
    colour = np.float32(0.6)
    pixels_HWC = np.repeat(alpha_HW[..., None] / np.float32(255) * colour, 3, axis=2)
    image = Image(pixels_HWC=pixels_HWC, depth="uint8", format="tiff", alpha_HW=alpha_HW, alpha_kind="associated")
    assert decode(encode(image)).alpha_kind == "associated"
    for format_ in ("png", "webp"):
        check_writable(image, "o", format=format_)
        found = decode(encode(replace(image, lossless=True), format_))
        assert (found.alpha_kind, found.alpha_HW.tolist()) == ("unassociated", alpha_HW.tolist())
        assert np.abs(found.pixels_HWC[0, 1:] - colour).max() < 0.5 / 255
        (note,) = prepared(image, format_).notes
        assert "divided by alpha" in note


@pytest.mark.parametrize(
    ("note", "depth", "said"),
    [
        ("10-bit values are converted to 16 bits", 8, "10-bit values are converted to 8 bits"),
        ("1-bit gray is converted to 8 bit", 16, "1-bit gray is converted to 16 bits"),
        ("float16 is converted to float32", 16, "float16 is converted to 16 bits"),
        ("the palette is converted to RGB", 16, "the palette is converted to RGB"),
    ],
)
def test_notes_on_the_depth_are_those_of_the_depth_that_is_written(note, depth, said):
    image = Image(pixels_HWC=np.zeros((2, 2, 3), np.float32), depth="float32", format="tiff", notes=(note,))
    assert prepared(image, options=WriteOptions(bit_depth=depth)).notes == (said,)
