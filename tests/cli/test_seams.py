"""Tests of `sanarestore seams` from end to end, on synthetic photographs and a random model."""

import json
from pathlib import Path

import pytest

from sanarestore.cli.app import run
from sanarestore.model.loading import save_model
from sanarestore.model.prompts import PromptEncoder
from sanarestore.options import LATENT, SCHEMES
from tests.conftest import random_refiner, save_photo, worded
from tests.published import latent_path, write_adapted


@pytest.fixture
def photos(tmp_path: Path, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two photographs, a folder with their clean versions, and a model, all in the current folder."""
    monkeypatch.chdir(tmp_path)
    for index in range(2):
        save_photo(Path(f"{index}.png"), 96, 128, seed=index)
        save_photo(Path(f"clean/{index}.png"), 96, 128, seed=index)
    save_model(
        Path("model"), name="tiny", refiner=random_refiner(), **worded(encoder), training={},
        defaults={"prompt": "Restore this image", "latent": True},
        latent=latent_path(prompt_width=8),
    )  # fmt: skip


def seams(*arguments: str) -> int:
    return run(["seams", *arguments, "--model", "model", "--threads", "1", "--tile", "64"])


@pytest.mark.usefixtures("photos")
def test_json_has_a_line_for_each_image_and_scheme(capsys: pytest.CaptureFixture[str]) -> None:
    assert seams("0.png", "1.png", "--tilings", "exact,causal", "--overlap", "32", "--clean", "clean", "--json") == 0
    shown = capsys.readouterr()
    rows = [json.loads(line) for line in shown.out.splitlines()]
    assert shown.err == ""
    assert [(row["image"], row["tiling"]) for row in rows] == [
        ("0.png", "exact"), ("0.png", "causal"), ("1.png", "exact"), ("1.png", "causal"),
    ]  # fmt: skip
    assert {"schema_version", "seam_psnr", "off_seam_psnr", "clean_psnr", "seconds", "stages"} <= rows[0].keys()
    assert rows[0]["seam_psnr"] > 90 > rows[1]["seam_psnr"]


@pytest.mark.parametrize("sprint", [False, True], ids=["sana", "sprint"])
def test_a_base_with_an_adapter_is_measured_under_every_scheme(
    sprint: bool, tmp_path: Path, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The latents of blended schemes differ from untiled ones; the exact scheme agrees at every stage."""
    monkeypatch.chdir(tmp_path)
    for kind in ("cache", "data"):
        monkeypatch.setattr(f"platformdirs.user_{kind}_path", lambda *_, kind=kind, **__: Path(kind).absolute())
    write_adapted(Path(), encoder, sprint=sprint)
    save_photo(Path("a.png"), 100, 160)
    chosen = ("--adapter", "adapter", "--threads", "1", "--tile", "96", "--overlap", "32", "--steps", "2")
    assert run(["seams", "a.png", "--fidelity", "0.5", "--json", *chosen]) == 0
    rows = {row["tiling"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert list(rows) == list(SCHEMES)
    assert all(min(stage) > 90 for stage in rows["exact"]["stages"].values())
    for name in LATENT:
        assert min(rows[name]["stages"]["condition"]) > 90, name
        assert rows[name]["stages"]["latent"][0] < 60, name
    assert list(rows["independent"]["stages"]) == ["result"]


@pytest.mark.usefixtures("photos")
def test_a_report_that_cannot_be_written_is_refused_before_any_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sanarestore.evaluation.seams.SeamBench", lambda *_, **__: pytest.fail("work was begun"))
    assert seams("0.png", "-o", "0.png/page") == 2
    shown = capsys.readouterr()
    assert "0.png/page: cannot be written" in " ".join(shown.err.split())
    assert shown.out == ""


@pytest.mark.usefixtures("photos")
def test_a_table_and_a_page_are_written(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert seams("0.png", "--overlap", "32", "-o", "page") == 0
    captured = capsys.readouterr()
    shown = captured.out
    assert captured.err == ""
    assert "0.png, PSNR against the untiled result" in shown
    assert all(f" {name} " in shown for name in SCHEMES)
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    page = Path("page/index.html").read_text(encoding="utf-8")
    assert "<h3>independent</h3>" in page
    assert page.count("<figcaption>difference from untiled</figcaption>") == len(SCHEMES)


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("2.png",), 3, "2.png: there is no such file"),
        ((".",), 3, ".: this is a folder. Name photographs"),
        (("0.png", "--clean", "nowhere"), 3, "nowhere: there is no clean photograph for 0.png"),
        (("0.png", "--tilings", "off"), 2, "--tilings: off is what the others are compared with"),
        (("0.png", "--tilings", "mosaic"), 2, "'mosaic' is not exact"),
        (("0.png", "--tilings", "causal", "--overlap", "60"), 2, "--overlap: 60 px is not between 0 and half"),
    ],
)
def test_invalid_arguments_are_refused_with_a_message(
    arguments: tuple[str, ...], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert seams(*arguments) == code
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("photos")
def test_clean_photographs_of_a_different_size_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    save_photo(Path("clean/0.png"), 64, 64)
    assert seams("0.png", "--clean", "clean") == 2
    assert "it does not match 0.png in size or channels" in capsys.readouterr().err
