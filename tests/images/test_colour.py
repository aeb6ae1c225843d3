"""Tests of CMYK and Lab colours, which are converted, against Pillow's littleCMS and the formulas."""

import io
import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage
from PIL import ImageCms

from sanarestore.images import decode, encode
from sanarestore.images.colour import ink_to_rgb, lab_to_rgb, srgb_profile
from tests.images.conftest import saved, smooth

APPROXIMATE = "CMYK is converted to sRGB approximately, because the file has no colour profile"


def ink_profile():
    """Make a CMYK profile (ICC version 2) whose inks mix as (1 - ink)(1 - black) between the corners."""
    srgb = ImageCms.createProfile("sRGB")
    to_lab = ImageCms.buildTransform(srgb, ImageCms.createProfile("LAB"), "RGB", "LAB")
    corners = np.indices((2, 2, 2, 2)).reshape(4, -1).T
    rgb = ((1 - corners[:, :3]) * (1 - corners[:, 3:]) * 255).astype(np.uint8)[None]
    # Pillow stores a* and b* as signed bytes.
    lab = np.asarray(ImageCms.applyTransform(PillowImage.fromarray(rgb), to_lab)).copy()
    lab[..., 1:] ^= 0x80
    ramp = bytes(range(256))
    identity = struct.pack(">9l", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + identity + ramp * 4 + lab.tobytes() + ramp * 3
    white = b"XYZ \0\0\0\0" + struct.pack(">3l", 63190, 65536, 54061)
    name = b"desc\0\0\0\0" + struct.pack(">L", 5) + b"inks\0" + bytes(78)
    bodies = {b"desc": name, b"wtpt": white, b"A2B0": table, b"cprt": b"text\0\0\0\0none\0"}
    at, entries, content = 128 + 4 + 12 * len(bodies), b"", b""
    for tag, body in bodies.items():
        padded = body.ljust(-(-len(body) // 4) * 4, b"\0")
        entries += tag + struct.pack(">LL", at + len(content), len(body))
        content += padded
    head = struct.pack(">L4sL4s4s4s", at + len(content), b"\0\0\0\0", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += struct.pack(">6H4s", 2000, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + struct.pack(">3l", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">L", len(bodies)) + entries + content


def inks(height=24, width=40):
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 6, y * 10, (x + y) * 3, y * 4], axis=2).astype(np.uint8)


def jpeg(ink, transform, adobe=True):
    """Make a CMYK (transform 0) or YCCK (2) file, with Adobe's inverted inks or without its marker."""
    stored = 255 - ink if adobe else ink
    space = "YCCK" if transform else "CMYK"
    data = imagecodecs.jpeg8_encode(stored, level=100, colorspace="CMYK", outcolorspace=space, subsampling="444")
    at = data.find(b"\xff\xeeApple"[:2])
    assert data[at + 4 : at + 9] == b"Adobe"
    assert data[at + 15] == transform
    return data if adobe else data[:at] + data[at + 16 :]


@pytest.mark.parametrize("transform", [0, 2])
def test_cmyk_and_ycck_jpegs_are_read_as_pillow_reads_them(transform):
    data = jpeg(inks(), transform)
    image = decode(data)
    with PillowImage.open(io.BytesIO(data)) as file:
        assert file.mode == "CMYK"
        assert np.abs(np.asarray(file).astype(int) - inks()).max() <= 6
        expected = np.asarray(file.convert("RGB")) / 255
    assert np.abs(image.pixels_HWC - expected).max() <= 1.01 / 255
    assert (image.depth, image.notes) == ("uint8", (APPROXIMATE,))
    assert image.metadata.icc == srgb_profile()
    with PillowImage.open(io.BytesIO(encode(image))) as written:
        assert written.mode == "RGB"


def test_inks_without_adobes_marker_are_not_inverted():
    image = decode(jpeg(inks(), 0, adobe=False))
    expected, _ = ink_to_rgb(inks(), None)
    assert np.abs(image.pixels_HWC - expected).max() <= 6 / 255


def test_a_profile_is_used_at_16_bits():
    """Pillow rounds to 8 bits; between two of its codes ours has many."""
    profile = ink_profile()
    ink = inks()
    rgb, note = ink_to_rgb(ink, profile)
    assert note == "CMYK is converted to sRGB by the file's colour profile"
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), "CMYK", "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC, flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )  # fmt: skip
    expected = np.asarray(ImageCms.applyTransform(PillowImage.fromarray(ink, "CMYK"), transform)) / 255
    assert np.abs(rgb - expected).max() <= 1.01 / 255
    assert not np.array_equal(rgb, np.rint(rgb * 255) / 255)
    by_formula, _ = ink_to_rgb(ink, None)
    assert np.abs(rgb - by_formula).max() < 0.3
    deep, _ = ink_to_rgb(ink.astype(np.uint16) * 257, profile)
    assert np.abs(deep - rgb).max() < 0.001


@pytest.mark.parametrize(
    ("profile", "fact"), [(lambda: srgb_profile(), "not one for CMYK"), (lambda: ink_profile()[:300], "damaged")]
)
def test_a_profile_that_does_not_fit_is_said_not_to_be_used(profile, fact):
    rgb, note = ink_to_rgb(inks(), profile())
    assert np.array_equal(rgb, ink_to_rgb(inks(), None)[0])
    assert fact in note


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
@pytest.mark.parametrize("extra", [0, 2])
def test_cmyk_tiffs_keep_their_depth_and_extra_channels(depth, extra):
    ink = inks().astype(depth) * (257 if depth == "uint16" else 1)
    stored = np.concatenate([ink, ink[..., :extra]], axis=2)
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, stored, photometric="separated", extrasamples=["unspecified"] * extra, planarconfig="contig",
        compression="zlib", iccprofile=ink_profile(), metadata=None,
    )  # fmt: skip
    image = decode(buffer.getvalue())
    assert image.depth == depth
    assert np.array_equal(image.pixels_HWC, ink_to_rgb(ink, ink_profile())[0])
    again = decode(encode(image))
    assert again.metadata.icc == srgb_profile()
    written = tifffile.imread(io.BytesIO(encode(image)))
    assert written.dtype == depth
    assert np.array_equal(written[..., 3:], stored[..., 4:])


def lab_by_formula(lab):
    """Convert 8-bit CIE Lab (a* and b* signed, D50) to sRGB by the definitions, in float64."""
    lightness = (lab[..., 0] / 2.55 + 16) / 116
    parts = lightness + lab[..., 1].view(np.int8) / 500, lightness, lightness - lab[..., 2].view(np.int8) / 200
    linear = (np.where(each > 6 / 29, each**3, 3 * (6 / 29) ** 2 * (each - 4 / 29)) for each in parts)
    xyz = np.stack([each * white for each, white in zip(linear, (0.9642, 1, 0.8249), strict=True)], axis=2)
    to_rgb = [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    rgb = np.clip(xyz @ np.transpose(to_rgb), 0, 1)
    return np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)


def test_lab_tiffs_are_converted_as_the_formula_says():
    """Pillow's conversion of 8 bits is the same on average; in deep colours it is 35 codes from the formula."""
    picture = PillowImage.fromarray(smooth())
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = ImageCms.applyTransform(picture, to_lab)
    image = decode(saved(lab, "TIFF"))
    assert image.notes == ("Lab is converted to sRGB",)
    assert image.metadata.icc == srgb_profile()
    difference = np.abs(image.pixels_HWC - smooth() / 255)
    assert difference.mean() < 1.5 / 255
    assert difference.max() < 16 / 255, "8 bits of Lab are coarse"
    back = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    expected = np.asarray(ImageCms.applyTransform(lab, back)) / 255
    assert np.abs(image.pixels_HWC - lab_by_formula(np.asarray(lab))).max() < 0.003
    assert np.abs(image.pixels_HWC - expected).mean() < 1 / 255


def test_both_codings_of_lab_mean_the_same_at_both_depths():
    signed = np.array([[[128, 20, 236], [255, 0, 0], [0, 0, 0]]], np.uint8)
    offset = signed ^ np.array([0, 0x80, 0x80], np.uint8)
    expected = lab_to_rgb(signed, is_signed=True)
    assert np.array_equal(lab_to_rgb(offset, is_signed=False), expected)
    assert np.allclose(expected[0, 1:], [[1, 1, 1], [0, 0, 0]], atol=1e-4)
    wide = np.empty(signed.shape, np.uint16)
    wide[..., 0] = signed[..., 0].astype(np.uint16) * 257
    wide[..., 1:] = signed[..., 1:].astype(np.uint16) * 256
    assert np.allclose(lab_to_rgb(wide, is_signed=True), expected, atol=2e-4)
    # L* = 50 is a linear light of 0.184187 (CIE 15), and 0.46633 as sRGB encodes it.
    middle = np.array([[[32768, 0, 0]]], np.uint16)
    assert np.allclose(lab_to_rgb(middle, is_signed=True), 0.46633, atol=2e-4)


def test_the_srgb_profile_is_the_same_every_time():
    assert srgb_profile()[24:36] == bytes.fromhex("07d000010001000000000000")
    srgb_profile.cache_clear()
    assert len(srgb_profile()) > 400
    imagecodecs.cms_profile_validate(srgb_profile())
