"""Pages of `restore --report`: what they show of each photograph, and that they stand alone."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from sanarestore import images
from sanarestore.cli import contact_sheet
from sanarestore.cli.app import run
from sanarestore.cli.contact_sheet import DETAIL_SIDE, ContactSheet, Difference, compare
from sanarestore.engine.jobs import Outcome
from sanarestore.errors import UsageError
from sanarestore.images import Image, Metadata, Pixels
from tests.conftest import save_photo

ROTATED = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
"""An EXIF block of one tag: orientation 6, to be turned by a quarter clockwise."""


def pixels(height: int = 300, width: int = 400, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).random((height, width, 3), dtype=np.float32)


def saved(path: Path, values: Pixels, *, depth: images.Depth = "uint8", metadata: Metadata | None = None) -> Path:
    image = Image(pixels_HWC=values, depth=depth, format="tiff", metadata=metadata or Metadata())
    images.write(image, path)
    return path


def shown(path: Path) -> PillowImage.Image:
    with PillowImage.open(path) as preview:
        preview.load()
        return preview


def outcome(folder: Path, name: str = "a", **fields: object) -> Outcome:
    """A photograph that was restored: its left half is darker by 0.1."""
    before = pixels()
    after = before.copy()
    after[:, :200] = np.clip(after[:, :200] - 0.1, 0, 1)
    paths = [saved(folder / f"{name}{ending}.tif", values) for ending, values in (("", before), ("-restored", after))]
    given = {"path": paths[0], "output": paths[1], "status": "done", "seconds": 1.25, **fields}
    return Outcome(**given)  # type: ignore[arg-type]


def made(folder: Path, *outcomes: Outcome) -> str:
    with ContactSheet(folder, "sanarestore restore <shoot>") as sheet:
        for each in outcomes:
            sheet.add(each)
    return (folder / "index.html").read_text(encoding="utf-8")


def test_a_change_is_measured_in_decibels_brightness_and_place() -> None:
    before = np.full((600, 700, 3), 0.5, np.float32)
    assert compare(before, before).decibels == math.inf
    after = before.copy()
    after[300:310, 600:610] += 0.2
    found = compare(before, after)
    squared = 0.2**2 * 100 / (600 * 700)
    assert found.decibels == pytest.approx(-10 * math.log10(squared), abs=1e-3)
    assert found.brightness == pytest.approx(255 * 0.2 * 100 / (600 * 700), rel=1e-3)
    top, left = found.detail
    assert top <= 300 < top + DETAIL_SIDE
    assert left <= 600 < left + DETAIL_SIDE
    assert top + DETAIL_SIDE <= 600
    assert left + DETAIL_SIDE <= 700


def test_a_small_image_is_its_own_detail() -> None:
    before = np.zeros((40, 90, 1), np.float32)
    assert compare(before, before + np.float32(0.1)).detail == (0, 0)


def test_a_card_shows_before_and_after_whole_and_in_detail(tmp_path: Path) -> None:
    done = outcome(tmp_path, removes=("noise", "jpeg"), expert="photograph", notes=("a note & more",))
    text = made(tmp_path / "report", done)
    assert "<h1>1 restored</h1>" in text
    for words in (
        "a.tif", "400 x 300 pixels", "asked to remove noise and JPEG artefacts", "by the expert for photographs",
        "a note &amp; more", "restore &lt;shoot&gt;", "1.2 s",
    ):  # fmt: skip
        assert words in text, words
    named = re.findall(r'<img[^>]*src="([^"]+)"', text)
    assert len(named) == 4
    before, after = (np.asarray(shown(tmp_path / "report" / name), dtype=float) for name in named[:2])
    assert before.shape == (300, 400, 3)
    assert before[:, :190].mean() - after[:, :190].mean() > 15, "before comes first"
    assert abs(before[:, 210:].mean() - after[:, 210:].mean()) < 1
    assert shown(tmp_path / "report" / named[2]).size == (DETAIL_SIDE, DETAIL_SIDE)


def test_pages_need_no_network(tmp_path: Path) -> None:
    text = made(tmp_path / "report", outcome(tmp_path))
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text)
    assert "@import" not in text
    assert "url(" not in text


def test_failures_come_first_with_their_reason(tmp_path: Path) -> None:
    failed = Outcome(
        path=tmp_path / "bad.jpg", status="failed", reason="damaged", error=f"{tmp_path / 'bad.jpg'}: it is <torn>"
    )
    text = made(tmp_path / "report", outcome(tmp_path), failed)
    assert "<h1>1 restored, 1 failed</h1>" in text
    assert text.index("bad.jpg") < text.index("a.tif")
    assert '<p class="error">it is &lt;torn&gt;</p>' in text


def test_what_was_finished_before_is_shown_and_what_was_ignored_is_not(tmp_path: Path) -> None:
    ignored = Outcome(path=tmp_path / "notes.txt", status="ignored", reason="not an image")
    text = made(tmp_path / "report", outcome(tmp_path, status="skipped"), ignored)
    assert "finished before" in text
    assert "notes.txt" not in text


def test_an_enlarged_photograph_is_compared_at_its_new_size(tmp_path: Path) -> None:
    paths = saved(tmp_path / "a.tif", pixels(100, 80)), saved(tmp_path / "b.tif", pixels(200, 160))
    text = made(tmp_path / "report", Outcome(path=paths[0], output=paths[1], status="done"))
    assert "80 x 100 to 160 x 200 pixels" in text
    sizes = {shown(each).size for each in (tmp_path / "report/previews").glob("*-whole-*.webp")}
    assert sizes == {(160, 200)}


def test_previews_are_upright_and_keep_the_profile(tmp_path: Path) -> None:
    metadata = Metadata(exif=ROTATED, icc=b"a profile of some bytes")
    paths = [saved(tmp_path / name, pixels(), depth="uint16", metadata=metadata) for name in ("a.tif", "b.tif")]
    made(tmp_path / "report", Outcome(path=paths[0], output=paths[1], status="done"))
    with PillowImage.open(tmp_path / "report/previews/00000-whole-before.webp") as preview:
        assert preview.size == (300, 400)
        assert preview.info["icc_profile"] == metadata.icc
        assert not preview.getexif()


def test_a_result_that_was_turned_upright_is_compared_with_the_photograph_upright(tmp_path: Path) -> None:
    values = np.repeat(np.linspace(0.2, 0.8, 300, dtype=np.float32)[:, None, None], 400, axis=1).repeat(3, axis=2)
    before = saved(tmp_path / "a.tif", values, metadata=Metadata(exif=ROTATED))
    images.write(images.read(before), tmp_path / "b.jxl", format="jxl")
    text = made(tmp_path / "report", Outcome(path=before, output=tmp_path / "b.jxl", status="done"))
    assert "300 x 400 pixels" in text
    decibels = re.search(r"differs from the input by ([\d.]+) dB", text)
    assert decibels is None or float(decibels[1]) > 40


def test_large_photographs_get_small_previews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact_sheet, "PREVIEW_SIDE", 100)
    made(tmp_path / "report", outcome(tmp_path))
    with PillowImage.open(tmp_path / "report/previews/00000-whole-after.webp") as preview:
        assert preview.size == (100, 75)


def test_gray_and_floats_beyond_white_are_shown(tmp_path: Path) -> None:
    paths = [saved(tmp_path / name, pixels()[..., :1] * 3 - 1, depth="float32") for name in ("a.tif", "b.tif")]
    assert "unchanged" in made(tmp_path / "report", Outcome(path=paths[0], output=paths[1], status="done"))


def test_a_file_that_is_gone_has_a_card_without_pictures(tmp_path: Path) -> None:
    done = outcome(tmp_path)
    done.path.unlink()
    assert "no preview: there is no such file" in made(tmp_path / "report", done)


def test_many_photographs_take_several_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact_sheet, "PER_PAGE", 2)
    failed = [Outcome(path=tmp_path / f"{index}.jpg", status="failed", error="torn") for index in range(5)]
    folder = tmp_path / "report"
    text = made(folder, *failed)
    assert sorted(each.name for each in folder.glob("*.html")) == ["index.html", "page-2.html", "page-3.html"]
    assert '<a href="page-3.html">' in text
    made(folder, failed[0])
    assert [each.name for each in folder.glob("*.html")] == ["index.html"], "pages of an earlier report are gone"


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("my own page")
    with pytest.raises(UsageError, match="not an earlier report"):
        ContactSheet(tmp_path, "")
    assert (tmp_path / "index.html").read_text() == "my own page"


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder, said in (("file/report", "nothing can be written there"), ("file", "it is a file, not a folder")):
        with pytest.raises(UsageError, match=rf"{folder}: {said}.*--report"):
            ContactSheet(tmp_path / folder, "")


def test_a_file_in_place_of_the_reports_folder_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photograph, page = save_photo(tmp_path / "a.png"), tmp_path / "page"
    page.write_text("my own")
    assert run(["restore", str(photograph), "-o", str(tmp_path / "out"), "--report", str(page)]) == 2
    assert "it is a file, not a folder" in capsys.readouterr().err
    assert (page.read_text(), (tmp_path / "out").exists()) == ("my own", False)


def test_a_change_of_brightness_that_rounds_to_nothing_has_no_minus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = Difference(decibels=60.0, brightness=-0.001, detail=(0, 0))
    monkeypatch.setattr("sanarestore.cli.contact_sheet.compare", lambda *_: change)
    assert "mean brightness +0.00 codes" in made(tmp_path / "report", outcome(tmp_path))


def test_the_end_of_a_run_says_where_the_report_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_bytes(b"no photograph")
    page = tmp_path / "page" / "index.html"
    assert run(["restore", str(tmp_path / "a.png"), "--report", str(page.parent)]) == 3
    assert capsys.readouterr().err.splitlines()[-1] == f"the report is {page}"
    assert page.exists()
