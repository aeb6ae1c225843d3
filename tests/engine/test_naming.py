"""Tests of the names of results: templates, suffixes, and what is refused."""

from pathlib import Path

import pytest

from sanarestore.engine.naming import Naming, split
from sanarestore.errors import UsageError
from sanarestore.images import Found

FOUND = Found(Path("shoot/day 1/IMG_1.v2.JPG"), Path("day 1/IMG_1.v2.JPG"), Path("shoot"))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (None, "IMG_1.v2.JPG"),
        ("{stem}_clean", "IMG_1.v2_clean.JPG"),
        ("{stem}-{ext}", "IMG_1.v2-JPG.JPG"),
        ("{parent}-{index}", "day 1-7.JPG"),
        ("{index:03}", "007.JPG"),
        ("{{{stem}}}", "{IMG_1.v2}.JPG"),
        ("all", "all.JPG"),
    ],
)
def test_a_template_names_the_result_and_keeps_its_folder(template: str | None, expected: str) -> None:
    assert Naming(template=template).relative(FOUND, 7) == Path("day 1") / expected


@pytest.mark.parametrize(
    ("name", "format", "expected"),
    [
        ("a.JPG", "jpeg", "a.JPG"), ("a.jpeg", "jpeg", "a.jpeg"), ("a.jpg", "png", "a.png"), ("a.png", "jpeg", "a.jpg"),
        ("a.tiff", "preserve", "a.tiff"), ("a.png", "tiff", "a.tif"), ("a", "webp", "a.webp"),
        ("a.v1", "png", "a.v1.png"),
        ("a.dng", "tiff", "a.tif"), ("a", "preserve", "a"),
    ],
)  # fmt: skip
def test_the_suffix_follows_the_format(name: str, format: str, expected: str) -> None:  # noqa: A002 - the field
    assert Naming(format).name(Path(name), 1) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{name}", r"no field \{name\}.*\{stem\}, \{ext\}, \{parent\} and \{index\}"),
        ("{stem.__class__}", "cannot be understood"),
        ("{0}", "cannot be understood"),
        ("{}", "cannot be understood"),
        ("{stem", "cannot be understood"),
        ("sub/{stem}", "path separator"),
        ("sub\\{stem}", "path separator"),
        ("", "not a file name"),
        ("{stem}\n", "not a file name"),
        ("{stem}.jpg", "ends with an extension"),
        ("{stem}.{ext}", "ends with an extension"),
    ],
)
def test_a_template_that_names_no_file_is_refused(template: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        Naming(template=template)
    assert refused.value.where == "--name"


def test_a_file_without_suffix_has_no_name_of_it() -> None:
    with pytest.raises(UsageError, match="gives a no name"):
        Naming(template="{ext}").name(Path("a"), 1)


def test_only_suffixes_of_images_are_cut_off() -> None:
    assert [split(Path(name)) for name in ("a.b", "a.NEF", "a.b.tif")] == [("a.b", ""), ("a", ".NEF"), ("a.b", ".tif")]
