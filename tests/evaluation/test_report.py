"""Tests of the report page, which embeds all that it shows."""

import base64
import io
import re
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from sanarestore.evaluation.benchmark import Benchmark
from sanarestore.evaluation.datasets import Item
from sanarestore.evaluation.published import Published
from sanarestore.evaluation.report import CROP, extremes, most_wrong, page_of
from sanarestore.evaluation.rows import rows
from sanarestore.evaluation.running import run
from sanarestore.evaluation.tasks import Levels, cases
from tests.conftest import save_photo
from tests.evaluation.test_benchmark import halfway


class Balanced(HTMLParser):
    """A parser that tracks open elements, except void ones."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def page(tmp_path: Path) -> str:
    paths = [save_photo(tmp_path / f"a&{seed}.png", 200, 260, seed) for seed in range(2)]
    items = tuple(Item(name=path.name, clean=path) for path in paths)
    made = cases("denoise", Levels(sigma=(25,))) + cases("deblur", Levels())
    plan = Benchmark(dataset="ours", items=items, cases=made, methods=partial(halfway, (0,)))
    measured = rows(run(plan, ["cpu"]))
    theirs = Published(dataset="ours", task="denoise", level="25", method="BM9D", psnr=12.34, source="Somebody 2031")
    path = tmp_path / "report" / "index.html"
    page_of([*measured, theirs], extremes(plan, measured, "cpu")).write(path, "bench <x> --json")
    return path.read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_loads_nothing(page: str) -> None:
    assert not re.search(r'(?:src|href)=(?!"data:)', page)
    assert "<script" not in page
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert "bench &lt;x&gt; --json" in page
    assert "a&amp;" in page


def test_the_page_shows_every_row_and_the_best_and_worst_images(page: str) -> None:
    text = re.sub("<[^>]+>", " ", page)
    for expected in (
        "ours, 2 images",
        "denoise 25",
        "deblur blur:1.6",
        "halfway",
        "degraded",
        "ours denoise 25, best: ",
    ):
        assert expected in text
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", page)
    for expected in ("BM9D, published", "12.34", "BM9D: Somebody 2031", "Protocol: awgn-float/1, recipe-8bit/1"):
        assert expected in text
    assert len(pictures) == 2 * 2 * 3, "two cases, best and worst image, three pictures each"
    sizes = {PillowImage.open(io.BytesIO(base64.b64decode(each))).size for each in pictures}
    assert sizes == {(CROP, CROP)}
    assert page.count("<circle") == 2


def test_a_crop_shows_the_largest_error() -> None:
    target = np.zeros((400, 500, 3), np.float32)
    other = target.copy()
    other[330:360, 250:280] = 1
    rows_, columns = most_wrong(target, other)
    assert rows_.start <= 330
    assert rows_.stop >= 360
    assert columns.start <= 250
    assert columns.stop >= 280
    small = target[:5, :7]
    assert small[most_wrong(small, small)].shape == small.shape, "small images are not cropped"
