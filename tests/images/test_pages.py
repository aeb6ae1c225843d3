"""Tests of TIFF files with several pages: thumbnails, masks, metadata of every page, and errors."""

import io

import numpy as np
import pytest
import tifffile

from sanarestore.errors import DamagedImage, UnreadableImage, UnwritableImage
from sanarestore.images import check_header, check_writable, decode, encode, measure, memory_to_read, result_header
from sanarestore.images.image import to_stored
from tests.images.conftest import codes, exif_values


def pages(*written):
    """Make a file of pages, each an array and its options."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        for stored, options in written:
            kind = "rgb" if stored.shape[2] >= 3 else "minisblack"
            stored = stored if stored.shape[2] > 1 else stored[..., 0]
            file.write(stored, **{"photometric": kind, "metadata": None, "software": False, **options})
    return buffer.getvalue()


def test_a_thumbnail_that_comes_first_is_passed_over():
    large = codes("uint16", 3)
    data = pages((codes("uint8", 3, 5, 7), {"subfiletype": 1, "software": "ACME"}), (large, {"subfiletype": 0}))
    image = decode(data)
    assert np.array_equal(to_stored(image), large)
    assert image.more_pages == ()
    assert image.notes == ("reduced pages and masks are left out",)
    assert exif_values(image.metadata.exif)["main"][305] == "ACME", "metadata of the first page is kept"
    assert len(tifffile.TiffFile(io.BytesIO(encode(image))).pages) == 1


def test_a_file_of_reduced_pages_gives_the_largest():
    small, large = codes("uint8", 3, 5, 7), codes("uint8", 3)
    image = decode(pages((small, {"subfiletype": 1}), (large, {"subfiletype": 1}), (small, {"subfiletype": 1})))
    assert np.array_equal(to_stored(image), large)


def test_every_full_size_page_is_read_and_written(tmp_path):
    """Sizes, depths, channels, profiles and resolutions differ from page to page."""
    written = [
        (codes("uint8", 3), {"iccprofile": b"first", "resolution": (300, 300), "resolutionunit": 2}),
        (codes("uint16", 1, 31, 8), {"compression": "lzw", "artist": "B"} | {"extratags": [(315, 2, 0, "B", True)]}),
        (codes("uint8", 3, 4, 4), {"subfiletype": 1}),
        (codes("uint8", 1, 9, 9) > 99, {"subfiletype": 4}),
        (codes("float32", 4), {"extrasamples": ["unassalpha"]}),
    ]
    written[1][1].pop("artist")
    data = pages(*written)
    image = decode(data)
    assert [page.depth for page in (image, *image.more_pages)] == ["uint8", "uint16", "float32"]
    assert image.notes == ("reduced pages and masks are left out", "each of its 3 pages is restored")
    with tifffile.TiffFile(io.BytesIO(encode(image))) as file:
        assert len(file.pages) == 3
        for page, index in zip(file.pages, (0, 1, 4), strict=True):
            assert np.array_equal(page.asarray().reshape(written[index][0].shape), written[index][0])
        assert file.pages[0].tags[34675].value == b"first"
        assert file.pages[0].tags[282].value == (300, 1) or file.pages[0].tags[282].value == (30000, 100)
        assert 34675 not in file.pages[1].tags
        assert file.pages[1].tags[315].value == "B"
    again = decode(encode(image))
    assert encode(again) == encode(image)
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    header = measure(path)
    assert [page.depth for page in header.pages] == ["uint8", "uint16", "float32"]
    assert header.megapixels == image.megapixels == pytest.approx((2 * 19 * 23 + 31 * 8) / 1e6)
    assert header.decoded_bytes == 4 * (19 * 23 * 6 + 31 * 8) + 4 * 19 * 23
    assert memory_to_read(header) > memory_to_read(type(header)(**{
        name: getattr(header, name) for name in header.__slots__ if name != "more"
    }))  # fmt: skip


def test_formats_of_one_page_are_refused_before_the_work(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(pages((codes("uint8", 3), {}), (codes("uint8", 3), {})))
    image = decode(path.read_bytes())
    for check in (
        lambda: check_header(result_header(measure(path), lambda *size: size, format="png"), "o.png"),
        lambda: check_writable(image, "o.png", format="png"),
        lambda: encode(image, "png"),
    ):
        with pytest.raises(UnwritableImage, match="PNG holds one page, and this file has 2"):
            check()


def test_an_error_names_its_page():
    data = pages((codes("uint8", 3), {}), (codes("uint8", 1).astype(np.uint32), {}))
    with pytest.raises(UnreadableImage, match="page 2: its samples are 32-bit"):
        decode(data)


def test_a_missing_page_is_damage(tmp_path):
    data = pages((codes("uint8", 3), {}), (codes("uint8", 3), {"description": "x" * 500}))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        cut = data[: file.pages[1].offset + 4]
    with pytest.raises(DamagedImage, match="a part of its tags is missing"):
        decode(cut)
    image = decode(cut, accept_damaged=True)
    assert np.array_equal(to_stored(image), codes("uint8", 3))


def test_a_circle_of_pages_ends():
    data = bytearray(pages((codes("uint8", 3), {}), (codes("uint8", 3), {})))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        first, second = (page.offset for page in file.pages)
    at = second + 2 + 12 * int.from_bytes(data[second : second + 2], "little")
    data[at : at + 4] = first.to_bytes(4, "little")
    assert len(decode(bytes(data)).more_pages) == 1


def test_many_pages_are_refused():
    entry = b"\x01\0" + b"\0\1\4\0\1\0\0\0\1\0\0\0"
    chain = b"".join(entry + (8 + 18 * (n + 1)).to_bytes(4, "little") for n in range(2000))
    with pytest.raises(UnreadableImage, match="more than 1000 pages"):
        decode(b"II*\0\x08\0\0\0" + chain)
