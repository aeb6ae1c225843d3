"""Tests of metadata with exiftool: what a file has before and after, for every pair of formats."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sanarestore.images import decode, encode, prepared
from sanarestore.images.image import WRITTEN, Format
from tests.images.rich import files

pytestmark = pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")

OF_THE_FILE = ("ExifTool", "System", "File", "Composite", "JFIF", "PNG", "PNG-pHYs", "RIFF", "ICC-header", "IFD1")
"""Groups that tell how pixels are stored; JPEG's comments and PNG's texts among them are compared on their own."""
OF_PIXELS = frozenset((
    "IFD0:ImageWidth", "IFD0:ImageHeight", "IFD0:BitsPerSample", "IFD0:Compression", "IFD0:PhotometricInterpretation",
    "IFD0:StripOffsets", "IFD0:SamplesPerPixel", "IFD0:RowsPerStrip", "IFD0:StripByteCounts", "IFD0:Predictor",
    "IFD0:PlanarConfiguration", "IFD0:ExifByteOrder", "IFD0:SubfileType", "IFD0:SampleFormat", "ExifIFD:ExifVersion",
    "IFD0:XResolution", "IFD0:YResolution", "IFD0:ResolutionUnit",
))  # fmt: skip
SOURCES: tuple[Format, ...] = ("tiff", "png", "jpeg", "webp")
TEXTS = ("Author", "Title", "Comment", "Disclaimer", "ModifyDate", "SignificantBits", "BackgroundColor", "UserComment")
_NO_PLACE = ("IPTC:", "Photoshop:", "CurrentIPTCDigest")
LEFT_OUT = {
    "webp": _NO_PLACE,
    "avif": (*_NO_PLACE, "IFD0:Orientation"),
    "jxl": (*_NO_PLACE, "IFD0:Orientation", "ICC_Profile:", "ICC-"),
    "not png": ("Disclaimer", "SignificantBits", "BackgroundColor"),
    "not jpeg": ("XMP-xmpNote:HasExtendedXMP",),
}
"""What the table of `carriage` says is left out: parts of exiftool's names."""


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, object]]:
    """Tags by source and target; the target "" is the source itself."""
    from PIL import ImageCms

    folder = tmp_path_factory.mktemp("exiftool")
    sources = files(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for source, data in sources.items():
        (folder / f"{source}-").write_bytes(data)
        for target in WRITTEN:
            (folder / f"{source}-{target}").write_bytes(encode(decode(data), target))
    command = ["exiftool", "-json", "-G1", "-a", "-struct", "-n", "-u", *sorted(map(str, folder.iterdir()))]
    shown = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return {tuple(Path(each["SourceFile"]).name.split("-")): each for each in shown}  # type: ignore[misc]


def told(tags: dict[str, object]) -> Iterator[tuple[str, object]]:
    """Names and values that describe the photograph."""
    for name, value in tags.items():
        group, _, local = name.partition(":")
        if local in TEXTS or (group not in OF_THE_FILE and name not in OF_PIXELS and local):
            yield name, value


def test_the_sources_are_rich(read: dict[tuple[str, str], dict[str, object]]) -> None:
    names = {name for source in SOURCES for name in read[source, ""]}
    assert names >= {
        "IFD0:PixelScale", "IFD0:GDALMetadata", "IFD0:TransferFunction", "IFD0:PrimaryChromaticities", "IFD0:PageName",
        "Photoshop:ClippingPathName", "IPTC:ObjectName", "PNG:Disclaimer", "PNG:ModifyDate", "File:Comment",
        "ExifIFD:ExposureTime", "GPS:GPSLatitude", "ICC_Profile:ProfileDescription", "XMP-xmp:Rating", "XMP-b:Notes",
    }  # fmt: skip


@pytest.mark.parametrize("target", WRITTEN)
@pytest.mark.parametrize("source", SOURCES)
def test_nothing_is_lost_that_the_table_does_not_say(
    read: dict[tuple[str, str], dict[str, object]], source: Format, target: Format
) -> None:
    before, after = dict(told(read[source, ""])), dict(told(read[source, target]))
    values = [json.dumps(value) for value in after.values()]
    allowed = [
        part
        for where, parts in LEFT_OUT.items()
        if target == where or (where.startswith("not ") and target != where[4:])
        for part in parts
    ]
    lost = {
        name: value
        for name, value in before.items()
        if not any(part in name for part in allowed)
        and after.get(name) != value
        and not _is_there(json.dumps(value), values)
    }
    assert not lost
    assert len(before) > 20


def _is_there(value: str, values: list[str]) -> bool:
    """Whether a value has gone to a tag of another name, as JPEG's comments do; dates are written in several forms."""
    plain = value.replace("Z", "").replace("+00:00", "")
    return len(value) > 4 and any(plain.strip('"') in each for each in values)


@pytest.mark.parametrize("target", WRITTEN)
@pytest.mark.parametrize("source", SOURCES)
def test_what_is_lost_is_said(
    read: dict[tuple[str, str], dict[str, object]], icc: bytes, source: Format, target: Format
) -> None:
    notes = " ".join(prepared(decode(files(icc)[source]), target).notes)
    has_no_place = target in ("webp", "avif", "jxl") and source != "webp"
    assert ("IPTC records" in notes) == has_no_place
    assert ("Photoshop" in notes) == has_no_place
    assert ("Disclaimer, sBIT, bKGD" in notes) == (source == "png" != target)


@pytest.mark.parametrize("source", SOURCES)
def test_the_resolution_is_kept_in_webp_too(read: dict[tuple[str, str], dict[str, object]], source: Format) -> None:
    tags = read[source, "webp"]
    assert (tags["IFD0:XResolution"], tags["IFD0:YResolution"], tags["IFD0:ResolutionUnit"]) == (300, 240, 2)


def test_exiftool_finds_no_fault(read: dict[tuple[str, str], dict[str, object]]) -> None:
    said = {pair: str(tags.get("ExifTool:Warning", "")) for pair, tags in read.items()}
    faults = {pair: warning for pair, warning in said.items() if warning and "Unrecognized MakerNotes" not in warning}
    assert not faults
