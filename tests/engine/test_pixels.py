"""Tests of pixels before and after restoration: enlargement, hidden colours, and exactness where nothing changes."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sanarestore import images
from sanarestore.engine.pixels import host_tensor, is_finite, is_gray, mixed, resized, visible, with_visible
from sanarestore.images import Image, resize
from sanarestore.images.image import AlphaKind, to_stored
from tests.conftest import photo

Pixels = npt.NDArray[np.float32]

SCALES = (1, 1.5, 2, 4, 0.4)

ORANGE = (0.9, 0.5, 0.1)


def unit(image: Image) -> Pixels:
    """Return alpha in [0, 1], [H, W, 1]."""
    assert image.alpha_HW is not None
    return images.to_float(image.alpha_HW[..., None], image.alpha_HW.dtype.name)  # type: ignore[arg-type]


def with_alpha(pixels_HWC: Pixels, alpha_HW: npt.NDArray[Any], kind: AlphaKind = "unassociated") -> Image:
    """Make an image in the depth of its alpha; associated colours are multiplied by alpha."""
    depth: Any = alpha_HW.dtype.name
    factor = images.to_float(alpha_HW[..., None], depth) if kind == "associated" else np.float32(1)
    stored_HWC = images.to_float(images.from_float(pixels_HWC * factor, depth), depth)
    return Image(pixels_HWC=stored_HWC, depth=depth, format="tiff", alpha_HW=alpha_HW, alpha_kind=kind)


def enlarged(image: Image, scale: float) -> Image:
    return resized(image, round(image.width * scale), round(image.height * scale))


def disc(side: int = 40, hidden: float = 0.0, depth: str = "uint8", kind: AlphaKind = "unassociated") -> Image:
    """Make an orange disc with a soft edge; the gray around it is fully transparent."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    cover = np.clip(side / 3 - np.hypot(x, y) + 0.5, 0, 1).astype(np.float32)
    alpha_HW = images.from_float(cover, depth)  # type: ignore[arg-type]
    pixels_HWC = np.where(alpha_HW[..., None] > 0, np.array(ORANGE, np.float32), np.float32(hidden))
    return with_alpha(pixels_HWC.astype(np.float32), alpha_HW, kind)


def over(image: Image, background: float) -> Pixels:
    """Put an image over a gray background (Porter and Duff 1984)."""
    colours_HWC = image.pixels_HWC if image.alpha_kind == "associated" else image.pixels_HWC * unit(image)
    return colours_HWC + (1 - unit(image)) * np.float32(background)


def test_extra_channels_are_enlarged_like_alpha() -> None:
    """A mask that equals alpha stays equal to it; floats are not clipped."""
    alpha = disc().alpha_HW
    assert alpha is not None
    for depth, factor in (("uint8", 1), ("float32", 3)):
        codes_HWS = np.dstack([alpha, alpha[::-1]]).astype(depth) * np.array(factor, depth)
        extra = images.Extra(codes_HWS=codes_HWS, kinds=("unspecified", "unspecified"))
        given = dataclasses.replace(disc(), extra=extra)
        larger = resized(given, 2 * given.width, 2 * given.height)
        assert larger.extra is not None
        assert larger.extra.codes_HWS.dtype == depth
        if depth == "uint8":
            assert np.array_equal(larger.extra.codes_HWS[..., 0], larger.alpha_HW)
        else:
            assert larger.extra.codes_HWS.max() > 3 * 255


def test_an_enlargement_keeps_depth_alpha_and_positions() -> None:
    alpha = np.full((20, 30), 200, dtype=np.uint8)
    image = images.Image(pixels_HWC=photo(20, 30), depth="uint8", format="png", alpha_HW=alpha)
    assert enlarged(image, 1) is image
    larger = enlarged(image, 4)
    assert (larger.height, larger.width, larger.depth) == (80, 120, "uint8")
    assert larger.alpha_HW is not None
    assert larger.alpha_HW.dtype == np.uint8
    assert (larger.alpha_HW == 200).all()
    assert np.abs(larger.pixels_HWC[2::4, 2::4] - image.pixels_HWC).mean() < 0.02


def test_an_enlargement_has_its_size_in_its_metadata() -> None:
    packet = """<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
        xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:PixelXDimension="50"/></rdf:RDF>"""
    metadata = images.Metadata(xmp=packet.encode())
    image = Image(pixels_HWC=photo(40, 50), depth="uint8", format="jpeg", metadata=metadata, notes=("first",))
    larger = resized(image, 2 * image.width, 2 * image.height)
    assert larger.metadata.xmp == packet.replace('"50"', '"100"').encode()
    assert larger.notes == ("first", "pixel dimensions in the metadata are those of the result")
    assert resized(image, image.width, image.height) is image


def test_an_image_without_alpha_is_enlarged_bicubically() -> None:
    image = Image(pixels_HWC=photo(20, 30), depth="uint8", format="png")
    assert np.array_equal(enlarged(image, 2).pixels_HWC, resize(image.pixels_HWC, 60, 40))


def test_an_unspecified_extra_channel_does_not_affect_the_colours() -> None:
    image = disc(kind="unspecified")
    larger = enlarged(image, 2)
    assert np.array_equal(larger.pixels_HWC, resize(image.pixels_HWC, 80, 80))
    assert visible(image) is image.pixels_HWC
    after = np.zeros_like(image.pixels_HWC)
    assert with_visible(image, image.pixels_HWC, after) is after


@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("hidden", [0.0, 1.0])
@pytest.mark.parametrize("scale", [2, 4])
def test_hidden_colours_leave_no_outline_in_an_enlargement(scale: float, hidden: float, depth: str) -> None:
    image = disc(hidden=hidden, depth=depth)
    larger = enlarged(image, scale)
    seen = unit(larger)[..., 0] > 0
    assert 0.1 < seen.mean() < 0.9
    assert np.abs(larger.pixels_HWC[seen] - ORANGE).max() < 0.02
    places = ((np.arange(larger.height) + 0.5) / larger.height * image.height).astype(int)
    stays = image.pixels_HWC[places][:, places]
    assert np.array_equal(larger.pixels_HWC[~seen], stays[~seen]), "hidden pixels are repeated"


@pytest.mark.parametrize("kind", ["unassociated", "associated"])
@pytest.mark.parametrize("background", [0.0, 1.0])
def test_enlarging_and_compositing_give_the_same_in_either_order(background: float, kind: AlphaKind) -> None:
    """The image is put over a background and then enlarged, or enlarged first."""
    y, x = np.mgrid[:30, :40]
    alpha = (32768 + 32000 * np.sin(x / 7) * np.cos(y / 9)).astype(np.uint16)
    image = with_alpha(photo(30, 40), alpha, kind)
    larger = enlarged(image, 2)
    assert np.abs(over(larger, background) - resize(over(image, background), 80, 60)).max() < 2e-3


@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("scale", SCALES)
def test_associated_colours_stay_associated_when_enlarged(scale: float, depth: str) -> None:
    """Colours never exceed alpha, and divided by a sufficient alpha they are the colour of the disc."""
    larger = enlarged(disc(kind="associated", depth=depth), scale)
    alpha = unit(larger)
    assert (larger.pixels_HWC >= 0).all()
    assert (larger.pixels_HWC <= alpha).all()
    solid = alpha[..., 0] > 0.2
    assert np.abs((larger.pixels_HWC / np.maximum(alpha, 0.01))[solid] - ORANGE).max() < 0.02
    stored = to_stored(larger)
    assert (stored[..., :3] <= stored[..., 3:]).all()


def test_highlights_of_float_images_survive_an_enlargement() -> None:
    """A lamp may be brighter than alpha even when multiplied by alpha."""
    bright = disc(depth="float32", kind="associated")
    bright.pixels_HWC[...] *= 3
    larger = enlarged(bright, 2)
    middle = larger.pixels_HWC[40, 40]
    assert middle == pytest.approx(np.array(ORANGE) * 3, abs=1e-3)
    after = with_visible(bright, visible(bright), visible(bright) * np.float32(1.5))
    assert after[20, 20] == pytest.approx(np.array(ORANGE) * 4.5, abs=1e-3)


@pytest.mark.parametrize("kind", ["unassociated", "associated"])
@pytest.mark.parametrize("hidden", [0.0, 1.0])
def test_networks_do_not_see_hidden_colours(hidden: float, kind: AlphaKind) -> None:
    """Networks see the nearest visible colour instead; the image itself does not change."""
    image = disc(hidden=hidden, kind=kind, depth="uint16")
    before = image.pixels_HWC.copy()
    assert np.abs(visible(image) - ORANGE).max() < 0.02
    assert np.array_equal(image.pixels_HWC, before)


def test_fully_visible_pixels_are_not_copied() -> None:
    opaque = with_alpha(photo(9, 9), np.full((9, 9), 3, np.uint8))
    assert visible(opaque) is opaque.pixels_HWC
    plain = Image(pixels_HWC=photo(9, 9), depth="uint8", format="png")
    assert visible(plain) is plain.pixels_HWC


@pytest.mark.parametrize("kind", ["unassociated", "associated"])
def test_a_fully_transparent_image_is_no_error(kind: AlphaKind) -> None:
    image = with_alpha(photo(9, 9), np.zeros((9, 9), np.uint8), kind)
    assert np.isfinite(visible(image)).all()
    assert np.array_equal(with_visible(image, visible(image), visible(image) + 1), image.pixels_HWC)
    assert np.isfinite(enlarged(image, 2).pixels_HWC).all()


@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("kind", ["unassociated", "associated", "unspecified"])
@pytest.mark.parametrize("scale", SCALES)
def test_unchanged_pixels_keep_their_exact_values(scale: float, kind: AlphaKind, depth: str) -> None:
    image = enlarged(disc(kind=kind, depth=depth, hidden=0.25), scale)
    before = visible(image)
    assert np.array_equal(with_visible(image, before, before.copy()), image.pixels_HWC)
    # Only one pixel changes.
    after = before.copy()
    middle = image.height // 2
    after[middle, middle] += 0.05
    changed = with_visible(image, before, after)
    differs = (changed != image.pixels_HWC).any(axis=2)
    assert differs.sum() == 1
    assert changed[middle, middle] == pytest.approx(image.pixels_HWC[middle, middle] + 0.05, abs=1e-6)


def test_restoration_does_not_change_hidden_colours() -> None:
    image = disc(hidden=0.25)
    hidden = unit(image)[..., 0] == 0
    after = with_visible(image, visible(image), np.full_like(image.pixels_HWC, 0.75))
    assert (after[hidden] == image.pixels_HWC[hidden]).all()
    assert (after[~hidden] == 0.75).all()


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_restored_associated_colours_lie_between_0_and_alpha(depth: str) -> None:
    """A change is multiplied by alpha, and the result is clipped to the range from 0 to alpha."""
    image = disc(kind="associated", depth=depth)
    rng = np.random.default_rng(0)
    before = visible(image)
    after = before + rng.normal(0, 0.5, before.shape).astype(np.float32)
    changed = with_visible(image, before, after)
    assert (changed >= 0).all()
    assert (changed <= unit(image)).all()
    expected = np.clip(image.pixels_HWC + unit(image) * (after - before), 0, unit(image))
    assert np.allclose(changed, expected, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_strength_mixes_linearly_and_is_exact_at_0_and_1(channels: int) -> None:
    rng = np.random.default_rng(0)
    before, after = (rng.random((7, 9, channels), dtype=np.float32) * 3 - 1 for _ in range(2))
    assert np.array_equal(mixed(before, after, 0.0), before)
    assert np.array_equal(mixed(before, after, 1.0), after)
    assert np.allclose(mixed(before, after, 0.5), (before + after) / 2, atol=1e-6)
    assert np.allclose(mixed(before, after, 0.25), 0.75 * before + 0.25 * after, atol=1e-6)
    assert mixed(before, after, 0.3).dtype == np.float32
    assert np.array_equal(mixed(before, before, 0.3), before), "equal images stay equal at any strength"


def test_gray_means_one_channel_or_three_equal_ones() -> None:
    gray = photo(600, 40)[..., :1]
    assert is_gray(gray)
    assert is_gray(np.repeat(gray, 3, axis=2))
    assert not is_gray(photo(20, 30))
    for place in ((0, 0, 1), (599, 39, 2), (300, 7, 0)):
        nearly = np.repeat(gray, 3, axis=2)
        nearly[place] = np.nextafter(nearly[place], np.float32(2))
        assert not is_gray(nearly), place


@pytest.mark.parametrize("channels", [1, 3])
def test_a_host_tensor_is_a_view_with_three_channels(channels: int) -> None:
    pixels = np.ascontiguousarray(photo(5, 7)[..., :channels])
    tensor = host_tensor(pixels)
    assert tensor.shape == (3, 5, 7)
    pixels[2, 3, 0] = 0.125
    assert tensor[0, 2, 3] == 0.125
    assert channels == 3 or tensor[2, 2, 3] == 0.125


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_single_value_that_is_not_finite_is_found(bad: float) -> None:
    pixels = photo(9, 9)
    assert is_finite(pixels)
    pixels[4, 5, 1] = bad
    assert not is_finite(pixels)
