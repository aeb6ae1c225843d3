"""Tests of thumbnails in EXIF, which are replaced by ones of the result."""

import io
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags
from PIL import Image as PillowImage

from sanarestore.images import Format, Image, Metadata, decode, encode, exif, exif_edit, prepared, to_float
from sanarestore.images.exif_edit import thumbnail_of, with_thumbnail
from sanarestore.images.ifd import Entry
from sanarestore.images.thumbnail import side_of
from sanarestore.options import WriteOptions
from tests.images.conftest import saved, smooth
from tests.images.rich import block

SHOWS_THE_RESULT = ("the EXIF thumbnail shows the result",)


def picture(width: int, height: int) -> bytes:
    return saved(PillowImage.fromarray(smooth(height, width)), "JPEG")


def photograph(side: int | None = 160, *, channels: int = 3, height: int = 300, width: int = 400) -> Image:
    stored = smooth(height, width)[..., :channels]
    return Image(
        pixels_HWC=to_float(stored, "uint8"), depth="uint8", format="jpeg", metadata=Metadata(exif=block()),
        thumbnail=side,
    )  # fmt: skip


def shown(data: bytes) -> PillowImage.Image:
    """The thumbnail in the EXIF block of a file, as Pillow finds it."""
    with PillowImage.open(io.BytesIO(data)) as file:
        whole = file.info["exif"].removeprefix(b"Exif\0\0")
        second = file.getexif().get_ifd(ExifTags.IFD.IFD1)
    start, size = second[513], second[514]
    assert second[259] == 6
    with PillowImage.open(io.BytesIO(whole[start : start + size])) as small:
        small.load()
        return small


@pytest.mark.parametrize("format_", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_result_has_a_thumbnail_of_itself(format_: Format, channels: int) -> None:
    image = photograph(channels=channels)
    small = shown(encode(image, format_))
    assert small.size == (160, 120)
    with PillowImage.open(io.BytesIO(encode(replace(image, thumbnail=None), "png"))) as whole:
        expected = np.asarray(whole.convert("RGB").resize((160, 120), PillowImage.Resampling.BOX)).astype(int)
    assert np.abs(np.asarray(small).astype(int) - expected).mean() < 4
    assert prepared(image, format_).notes == SHOWS_THE_RESULT


def test_a_file_that_had_a_thumbnail_gets_one_of_its_size() -> None:
    made = with_thumbnail(block(), picture(96, 64))
    assert made is not None
    given = encode(replace(photograph(None), metadata=Metadata(exif=made)))
    image = decode(given)
    assert (image.thumbnail, image.notes) == (96, ())
    darker = replace(image, pixels_HWC=image.pixels_HWC / 4)
    small = shown(encode(darker))
    assert small.size == (96, 72)
    assert np.asarray(small).mean() < 50


def test_nothing_in_the_block_moves_and_orientation_is_told_twice() -> None:
    given = block()
    made = with_thumbnail(given, picture(16, 8))
    assert made is not None
    assert exif.parse(made) == exif.parse(given)
    assert sum(one != other for one, other in zip(given, made, strict=False)) <= 4, "only the link is new"
    assert thumbnail_of(made) == picture(16, 8)
    assert side_of(made) == 16
    with PillowImage.open(io.BytesIO(encode(photograph()))) as file:
        assert file.getexif().get_ifd(ExifTags.IFD.IFD1)[274] == 6
    again = exif_edit.without_thumbnail(made)
    assert thumbnail_of(again) is None
    assert exif.parse(again) == exif.parse(given)


def test_files_without_a_thumbnail_get_none_and_so_do_stripped_ones() -> None:
    for image, options in ((photograph(None), WriteOptions()), (photograph(), WriteOptions(strip=True))):
        written = decode(encode(image, "jpeg", options))
        assert (written.thumbnail, prepared(image, "jpeg", options).notes) == (None, ())
    assert decode(encode(photograph())).thumbnail == 160


def test_tiff_and_full_jpeg_segments_have_no_room() -> None:
    (note,) = prepared(photograph(), "tiff").notes
    assert note == "the EXIF thumbnail is left out, because TIFF has no room for it"
    layout, directory = exif.parse(block())
    large = exif.build(directory | {270: Entry(2, b"x" * 64000)}, layout)
    image = replace(photograph(), metadata=Metadata(exif=large))
    assert prepared(image, "jpeg").notes == ("the EXIF thumbnail is left out, because JPEG has no room for it",)
    assert decode(encode(image, "jpeg")).thumbnail is None
    assert prepared(image, "png").notes == SHOWS_THE_RESULT


def test_thumbnails_of_other_kinds_and_sizes_are_limited() -> None:
    for content, side in ((picture(320, 240), 160), (b"no JPEG at all", 160), (picture(40, 60), 60)):
        made = with_thumbnail(block(), content)
        assert made is not None
        assert side_of(made) == side
    assert shown(encode(photograph(160, height=20, width=30))).size == (30, 20), "a small result is not enlarged"


def test_writing_what_is_prepared_adds_no_second_thumbnail() -> None:
    once = prepared(photograph(), "jpeg")
    assert prepared(once, "jpeg") == once
    assert decode(encode(once, "jpeg")).thumbnail == 160


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
@pytest.mark.parametrize("format_", ["jpeg", "png", "webp"])
def test_exiftool_finds_the_thumbnail(format_: Format, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(encode(photograph(), format_))
    command = ["exiftool", "-b", "-ThumbnailImage", str(tmp_path / "a")]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    with PillowImage.open(io.BytesIO(data)) as small:
        assert small.size == (160, 120)
    command = ["exiftool", "-s3", "-warning", str(tmp_path / "a")]
    said = subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    assert said in ("", "[minor] Unrecognized MakerNotes")
