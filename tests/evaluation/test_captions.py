"""Tests of the captions that say how figures were measured."""

from dataclasses import replace
from typing import Any

from sanarestore.evaluation.captions import remarks, sources, title_of
from sanarestore.evaluation.published import Published
from sanarestore.evaluation.rows import Row
from tests.evaluation.test_comparison import row


def made(method: str, level: str = "25", **fields: Any) -> Row:
    return replace(row({"a.png": 30.0}), method=method, level=level, conditions="CPU", **fields)


def test_methods_under_equal_conditions_share_a_sentence() -> None:
    measured = [made("degraded"), made("a", prompt=""), made("b", prompt=""), made("a", "50", prompt=""), made("c")]
    assert sources(measured) == ["a, b: unprompted; CPU", "c: CPU", "Protocol: p/1"]


def test_a_method_with_several_prompts_is_listed_with_its_tasks() -> None:
    measured = [
        made("a", prompt=""), made("a", "15", prompt=""), made("a", "50", prompt="deblur"), made("b", prompt=""),
        made("c", prompt_per_image=True, protocol="q/2"),
        Published(dataset="d", task="denoise", level="25", method="D", source="E 1999", psnr=1.0),
    ]  # fmt: skip
    assert sources(measured) == [
        "a (denoise 25, denoise 15), b: unprompted; CPU", 'a (denoise 50): prompt "deblur"; CPU',
        "c: one prompt per image; CPU", "D: E 1999", "Protocol: p/1, q/2",
    ]  # fmt: skip


def test_remarks_report_only_figures_that_were_measured() -> None:
    assert remarks(made("a")) == []
    harmed = made("a", worst_psnr=44.239, worst_image="b.png", largest_change=12)
    assert remarks(harmed) == ["a, denoise 25: lowest PSNR 44.24 dB (b.png); largest change 12 of 255"]
    prompted = made("a", right_beats_wrong=0.7512, margin=1.5)
    assert remarks(prompted) == ["a: the right prompt gives the better result in 75.1% of pairs, by 1.50 dB on average"]
    deviating = "a, denoise 25: PSNR has a standard deviation of 0.25 dB between seeds"
    assert remarks(made("a", seed_deviation=0.25)) == [deviating]
    assert remarks(made("a", seed_deviation=0.25, seed_agreement=40)) == [f"{deviating}; results agree to 40.0 dB"]


def test_a_title_counts_images_in_singular_and_plural() -> None:
    assert title_of([made("a")]) == "d, 1 image"
    assert title_of([replace(made("a"), images=27)]) == "d, 27 images"
