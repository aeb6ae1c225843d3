"""Tests of published figures: they belong to cases of the benchmark and have sources."""

from sanarestore.evaluation.public import GRAY, SETS
from sanarestore.evaluation.published import PUBLISHED, published
from sanarestore.evaluation.tasks import Levels, cases


def test_every_figure_belongs_to_a_case_that_can_be_run() -> None:
    for each in PUBLISHED:
        assert each.dataset in SETS
        assert each.level in {case.level for case in cases(each.task, Levels())}
        assert 25 < each.psnr < 45
        assert any(character.isdigit() for character in each.source)


def test_gray_figures_are_shown_only_for_gray_rows() -> None:
    assert [each.method for each in published("live1", "jpeg", "10", gray=True)] == ["FBCNN", "SwinIR"]
    assert published("live1", "jpeg", "10", gray=False) == []
    assert published("cbsd68", "denoise", "15", gray=False) == []
    (first, *_) = published("cbsd68", "denoise", "25", gray=False)
    assert first.to_json() == {
        "dataset": "cbsd68", "task": "denoise", "level": "25", "method": "BM3D", "psnr": 30.71, "gray": False,
        "source": first.source, "published": True,
    }  # fmt: skip
    assert all(each.gray for each in PUBLISHED if each.dataset in GRAY)
