"""Tests of AVIF and JPEG XL as outputs: depth, alpha, colours and metadata come back, and other decoders agree."""

import io
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageCms

from sanarestore.errors import UnwritableImage
from sanarestore.images import Image, Metadata, check_writable, decode, encode, measure, prepared, read, to_float
from sanarestore.images.boxes import items_of
from sanarestore.images.colour import is_srgb, rgb_profile, srgb_profile
from sanarestore.images.image import to_stored
from sanarestore.images.jxl_header import parse
from sanarestore.images.jxl_write import distance_of
from sanarestore.images.orientation import turned_upright
from sanarestore.options import WriteOptions
from tests.conftest import photo
from tests.images.conftest import XMP, codes, photograph, png_chunk, smooth
from tests.images.foreign_files import jxl
from tests.images.rich import block

LOSSLESS, LOSSY = WriteOptions(quality=100), WriteOptions(quality=90)
UPRIGHT = "the picture is turned upright"


def noisy(depth: Any, channels: int, **fields: Any) -> Image:
    """A photograph of 1 to 4 channels with alpha of noise."""
    colours = 3 if channels > 2 else 1
    alpha = codes(depth, 1, 40, 56)[..., 0] if channels in (2, 4) else None
    return Image(pixels_HWC=photo(40, 56)[..., :colours].copy(), depth=depth, format="png", alpha_HW=alpha, **fields)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_lossless_jpeg_xl_keeps_every_code(depth: Any, channels: int) -> None:
    image = photograph(depth, channels, "png")
    again = decode(encode(image, "jxl", LOSSLESS))
    assert (again.format, again.depth, again.lossless) == ("jxl", depth, True)
    assert np.array_equal(to_stored(again), to_stored(image))
    assert again.metadata == Metadata(), "the colours are sRGB"


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_lossy_jpeg_xl_keeps_depth_and_alpha_and_hardly_changes_colours(depth: Any, channels: int) -> None:
    image = noisy(depth, channels)
    again = decode(encode(image, "jxl"))
    assert (again.depth, again.lossless, again.metadata) == (depth, False, Metadata())
    assert np.abs(again.pixels_HWC - image.pixels_HWC).mean() < 0.007
    assert channels in (1, 3) or np.array_equal(again.alpha_HW, image.alpha_HW)
    worse = decode(encode(image, "jxl", WriteOptions(quality=20)))
    assert np.abs(worse.pixels_HWC - image.pixels_HWC).mean() > 0.005


@pytest.mark.parametrize("quality", [100, 90])
def test_16_bits_of_jpeg_xl_are_srgb_for_others_too(quality: int, tmp_path: Path) -> None:
    """The encoder alone would mark it as linear light, and other programs would show it much too bright."""
    image = noisy("uint16", 3)
    data = encode(image, "jxl", WriteOptions(quality=quality))
    assert parse(data[data.index(b"jxlc") + 4 :][:64]).transfer == 13
    if shutil.which("djxl") is None:
        pytest.skip("djxl is not installed")
    (tmp_path / "a.jxl").write_bytes(data)
    subprocess.run(["djxl", tmp_path / "a.jxl", tmp_path / "a.png"], check=True, capture_output=True)
    shown = read(tmp_path / "a.png")
    assert shown.depth == "uint16"
    assert shown.metadata.icc is not None
    assert is_srgb(shown.metadata.icc)
    assert np.abs(shown.pixels_HWC - image.pixels_HWC).mean() < (1e-6 if quality == 100 else 0.007)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_avif_keeps_channels_and_alpha(channels: int) -> None:
    image = noisy("uint8", channels)
    again = decode(encode(image, "avif"))
    assert (again.format, again.depth) == ("avif", "uint8")
    assert again.pixels_HWC.shape == image.pixels_HWC.shape
    assert np.abs(again.pixels_HWC - image.pixels_HWC).mean() < 0.007
    assert channels in (1, 3) or np.array_equal(again.alpha_HW, image.alpha_HW)
    sizes = [len(encode(image, "avif", WriteOptions(quality=quality))) for quality in (30, 60, 95)]
    assert sizes == sorted(sizes)
    assert encode(image, "avif") == encode(image, "avif")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("depth", "bits"), [("uint8", 8), ("uint16", 10), ("uint16", 12)])
def test_lossless_avif_keeps_every_code_and_its_bits(depth: Any, bits: int, channels: int) -> None:
    image = noisy(depth, channels, bits=None if bits == 8 else bits)
    image = decode(encode(image, "avif", LOSSLESS))
    data = encode(image, options=LOSSLESS)
    assert items_of(data).first(b"pixi")[-1] == bits  # type: ignore[index]
    assert np.array_equal(to_stored(decode(data)), to_stored(image))
    with PillowImage.open(io.BytesIO(data)) as file:
        assert file.size == (56, 40)


def test_notes_say_with_how_many_bits_avif_is_written() -> None:
    """It holds 12 at most: 16 bits of other files are rounded, and 10 bits stay 10 bits."""
    ten = decode(encode(noisy("uint16", 3, bits=10), "avif"))
    assert (ten.bits, ten.notes) == (10, ("10-bit values are converted to 16 bits",))
    assert prepared(ten).notes == ()
    assert prepared(ten, options=WriteOptions(bit_depth=16)).notes == ten.notes
    assert prepared(ten, "avif", WriteOptions(bit_depth=8)).notes == ("10-bit values are converted to 8 bits",)
    assert prepared(noisy("uint16", 3), "avif").notes == ("values are rounded to 12 bits, the most that AVIF holds",)
    jp2 = replace(ten, format="jp2", bits=14, notes=("14-bit values are converted to 16 bits",))
    assert prepared(jp2, "avif").notes == ("14-bit values are converted to 12 bits",)
    assert decode(encode(jp2, "avif")).bits == 12


@pytest.mark.parametrize("format_", ["avif", "jxl"])
def test_metadata_is_kept_and_pixels_are_upright(format_: Any) -> None:
    """Programs ignore orientation 6 in EXIF in these formats."""
    image = noisy("uint8", 4, metadata=Metadata(icc=srgb_profile(), exif=block(), xmp=XMP, dpi=(300.0, 240.0)))
    data = encode(image, format_, LOSSLESS)
    again, ready = decode(data), prepared(image, format_)
    assert ready.notes == (UPRIGHT,)
    assert (again.metadata.exif, again.metadata.xmp) == (ready.metadata.exif, XMP)
    assert again.metadata.icc == (srgb_profile() if format_ == "avif" else None)
    assert again.metadata.dpi == (240.0, 300.0)
    assert again.pixels_HWC.shape == (56, 40, 3)
    assert np.abs(again.pixels_HWC - np.rot90(image.pixels_HWC, -1)).mean() < 0.004
    assert np.array_equal(again.alpha_HW, np.rot90(image.alpha_HW, -1))
    assert again.notes == ()
    with PillowImage.open(io.BytesIO(encode(image, "avif"))) as file:
        assert file.size == (40, 56)
        assert file.getexif().get(274, 1) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_turned_as_pillow_turns_them(orientation: int) -> None:
    exif = PillowImage.Exif()
    exif[274] = orientation
    stored = codes("uint8", 4, 5, 7)
    image = Image(
        pixels_HWC=to_float(stored[..., :3], "uint8"), depth="uint8", format="png", alpha_HW=stored[..., 3],
        metadata=Metadata(exif=exif.tobytes().removeprefix(b"Exif\0\0")),
    )  # fmt: skip
    method = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}.get(orientation)
    picture = PillowImage.fromarray(stored)
    expected = np.asarray(picture if method is None else picture.transpose(PillowImage.Transpose(method)))
    assert np.array_equal(to_stored(turned_upright(image)), expected)


def test_profiles_stay_in_avif_and_only_srgb_is_written_as_jpeg_xl() -> None:
    wide = noisy("uint8", 3, metadata=Metadata(icc=rgb_profile(12, 13)))
    assert decode(encode(wide, "avif")).metadata.icc == rgb_profile(12, 13)
    with pytest.raises(UnwritableImage, match=r"sRGB only, and this image has another profile.*tiff or png"):
        check_writable(wide, "o", format="jxl")
    pillows = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert prepared(noisy("uint8", 3, metadata=Metadata(icc=pillows)), "jxl").notes == ()


def test_profiles_that_mean_srgb_are_known() -> None:
    assert is_srgb(srgb_profile())
    assert not any(map(is_srgb, (rgb_profile(12, 13), rgb_profile(1, 8), b"", bytes(16) + b"RGB " + bytes(200))))


@pytest.mark.parametrize(
    ("depth", "format_", "step"),
    [
        ("float32", "avif", "--bit-depth 8"), ("float32", "jxl", "--bit-depth 16"),
    ],
)  # fmt: skip
def test_depths_that_are_not_written_are_refused_with_what_helps(depth: Any, format_: Any, step: str) -> None:
    with pytest.raises(UnwritableImage, match=step):
        check_writable(photograph(depth, 3, "tiff"), "o", format=format_)


def test_an_installation_without_an_encoder_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagecodecs.AVIF", SimpleNamespace(available=False))
    with pytest.raises(UnwritableImage, match=r"imagecodecs writes no AVIF\. Install imagecodecs"):
        check_writable(photograph("uint8", 3, "png"), "o", format="avif")


def test_files_keep_their_format_where_it_can_be_written(tmp_path: Path) -> None:
    """Other files become TIFF or PNG, like those of formats that are only read; the header decides."""
    deep = smooth().astype(np.uint16) * 257
    cases = {
        "8.jxl": (jxl(smooth()), "jxl"), "linear.jxl": (jxl(deep), "tiff"),
        "16.jxl": (encode(noisy("uint16", 3), "jxl", LOSSLESS), "jxl"),
        "float.jxl": (jxl(deep.astype(np.float32) / 65535), "tiff"),
        "8.avif": (encode(noisy("uint8", 3), "avif"), "avif"),
        "10.avif": (encode(noisy("uint16", 3, bits=10), "avif"), "avif"),
    }  # fmt: skip
    for name, (data, kept) in cases.items():
        (tmp_path / name).write_bytes(data)
        image = read(tmp_path / name)
        assert (image.written_as, measure(tmp_path / name).written_as) == (kept, kept)
        assert decode(encode(image)).format == kept
    lossless = read(tmp_path / "16.jxl")
    assert np.array_equal(to_stored(decode(encode(lossless))), to_stored(lossless)), "lossless files stay so"


def test_code_points_that_are_lost_are_noted() -> None:
    image = noisy("uint8", 3, metadata=Metadata(png_colour=png_chunk(b"cICP", bytes((9, 16, 0, 1)))))
    (note,) = prepared(image, "jxl").notes
    assert "colours may look different" in note
    again = decode(encode(image, "avif"))
    assert again.metadata.png_colour == image.metadata.png_colour, "AVIF has a place for them"
    assert prepared(image, "avif").notes == ()
    light = replace(image.metadata, png_colour=png_chunk(b"cLLI", bytes(8)) + (image.metadata.png_colour or b""))
    (note,) = prepared(replace(image, metadata=light), "avif").notes
    assert note == "PNG's cLLI are left out, because AVIF is written without them"


def test_the_quality_of_jpeg_xl_is_that_of_cjxl() -> None:
    assert [round(distance_of(each), 2) for each in (99, 95, 90, 75, 30, 29, 1)] == [
        0.19, 0.55, 1.0, 2.35, 6.4, 6.51, 23.87,
    ]  # fmt: skip
