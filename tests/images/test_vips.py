"""Tests against libvips, where pyvips is installed: another library reads the same pixels and metadata.

libvips runs in separate processes, because its codecs conflict with other versions of them in ours.
"""

import base64
import importlib.util
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sanarestore.images import Format, Image, Metadata, encode, read, to_float
from sanarestore.images.colour import rgb_profile
from sanarestore.images.image import WRITTEN, to_stored
from sanarestore.options import WriteOptions
from tests.images.conftest import IPTC, XMP, codes, smooth
from tests.images.rich import block

pytestmark = pytest.mark.skipif(importlib.util.find_spec("pyvips") is None, reason="pyvips is not installed")

LOADERS = {
    "tiff": "tiffload", "png": "pngload", "jpeg": "jpegload", "webp": "webpload", "avif": "heifload", "jxl": "jxlload",
}  # fmt: skip
LOSSLESS = WriteOptions(quality=100)
HOLDS = {
    "icc-profile-data": ("tiff", "png", "jpeg", "webp", "avif"), "xmp-data": ("tiff", "png", "jpeg", "webp", "avif"),
    "exif-data": ("png", "jpeg", "webp", "avif"), "iptc-data": ("tiff",),
}  # fmt: skip
"""Metadata that libvips finds, by its name there; for JPEG XL, it differs from version to version."""
READ = """
import base64, json, sys
import numpy, pyvips
found = pyvips.Image.new_from_file(sys.argv[1])
numpy.save(sys.argv[1] + ".npy", found.numpy())
told = {name: found.get(name) for name in found.get_fields()}
print(json.dumps({name: base64.b64encode(value).decode() if isinstance(value, bytes) else value
                  for name, value in told.items() if isinstance(value, (bytes, int, float, str))}))
"""
CAN_READ = "import sys, pyvips; print([name for name in sys.argv[1:] if pyvips.type_find('VipsOperation', name)])"


def ran(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@cache
def loaders() -> str:
    return ran(CAN_READ, *LOADERS.values())


def as_vips_reads(path: Path) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    """Read codes [H, W, S] and metadata; skip the test if this libvips lacks the format."""
    if f"'{LOADERS[path.suffix[1:]]}'" not in loaders():
        pytest.skip("this libvips does not read the format")
    told = json.loads(ran(READ, str(path)))
    found: np.ndarray[Any, Any] = np.load(f"{path}.npy")
    return found if found.ndim == 3 else found[..., None], told


def image_of(stored: np.ndarray[Any, Any], metadata: Metadata | None = None) -> Image:
    colours = 3 if stored.shape[2] > 2 else 1
    depth: Any = stored.dtype.name
    return Image(
        pixels_HWC=to_float(stored[..., :colours], depth), depth=depth, format="png", lossless=True,
        alpha_HW=stored[..., colours].copy() if stored.shape[2] > colours else None, metadata=metadata or Metadata(),
    )  # fmt: skip


def cases() -> list[tuple[str, str, int]]:
    """Formats, depths and numbers of channels that they hold."""
    depths = {"tiff": ("uint8", "uint16", "float32"), "png": ("uint8", "uint16"), "jxl": ("uint8", "uint16")}
    return [
        (format_, depth, channels)
        for format_ in WRITTEN for depth in depths.get(format_, ("uint8",)) for channels in (1, 2, 3, 4)
        if format_ != "jpeg" or channels in (1, 3)
    ]  # fmt: skip


@pytest.mark.parametrize(("format_", "depth", "channels"), cases())
def test_pixels_are_those_that_libvips_reads(format_: Format, depth: Any, channels: int, tmp_path: Path) -> None:
    # Decoders of lossy formats differ in details that smooth pictures hardly show.
    is_lossy = format_ in ("jpeg", "avif")
    stored = np.dstack([smooth(), smooth()[..., 0]])[..., :channels] if is_lossy else codes(depth, channels)
    path = tmp_path / f"a.{format_}"
    path.write_bytes(encode(image_of(stored), format_, LOSSLESS if format_ in ("avif", "jxl") else WriteOptions()))
    ours, (theirs, _) = to_stored(read(path)), as_vips_reads(path)
    if theirs.shape[2] > ours.shape[2]:  # libvips reads gray as three equal channels here
        theirs = theirs[..., [0, 3] if channels == 2 else [0]]
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(float) - theirs.astype(float)).max() <= (2 if is_lossy else 0)


@pytest.mark.parametrize("format_", WRITTEN)
def test_metadata_is_what_libvips_finds(format_: Format, tmp_path: Path) -> None:
    profile = None if format_ == "jxl" else rgb_profile(12, 13)
    given = Metadata(icc=profile, exif=block(), xmp=XMP, iptc=IPTC, dpi=(300.0, 240.0))
    path = tmp_path / f"a.{format_}"
    path.write_bytes(encode(image_of(smooth(), given), format_))
    ours, (_, told) = read(path).metadata, as_vips_reads(path)
    blocks = {"icc-profile-data": ours.icc, "xmp-data": ours.xmp, "exif-data": ours.exif, "iptc-data": ours.iptc}
    for name, formats in HOLDS.items():
        if format_ in formats and (format_ != "avif" or name in told):  # older versions tell less of AVIF
            found = base64.b64decode(told[name]).removeprefix(b"Exif\0\0")
            assert found.rstrip(b"\0") == (blocks[name] or b"").rstrip(b"\0"), name
    if format_ in ("tiff", "png", "jpeg"):
        assert (round(told["xres"] * 25.4), round(told["yres"] * 25.4)) == (300, 240)
    assert told.get("orientation", 1) == (1 if format_ in ("avif", "jxl") else 6)
