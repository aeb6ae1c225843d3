"""Tests of `sanarestore bench` from end to end, on synthetic images laid out like published sets."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from sanarestore.cli.app import run
from sanarestore.evaluation.datasets import VARIABLE
from sanarestore.evaluation.rows import packed
from sanarestore.model.loading import save_model
from sanarestore.model.prompts import PromptEncoder
from tests.cli.conftest import Terminal
from tests.conftest import random_refiner, save_photo, worded
from tests.published import latent_path, tiny_autoencoder


@pytest.fixture(scope="module")
def saved_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny versions of urban100 and classic5, which are written once."""
    folder = tmp_path_factory.mktemp("sets")
    for number in range(1, 101):
        save_photo(folder / f"urban100/img_{number:03d}.png", 16, 24, seed=number % 3)
    for number in range(1, 6):
        save_photo(folder / f"classic5/{number}.png", 24, 24, seed=number)
    return folder


@pytest.fixture
def sets(tmp_path: Path, saved_sets: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tiny versions of urban100 and classic5; the tiny model is beside it."""
    shutil.copytree(saved_sets, tmp_path / "sets")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "sets"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "sets"


def bench(*arguments: str) -> int:
    return run(["bench", *arguments, "--model", "tiny-model", "--threads", "1"])


@pytest.mark.usefixtures("sets")
def test_the_command_in_the_readme_works(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["bench", "urban100", "--limit", "2"]) == 0, "the embedded model runs the task of the set"
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "urban100, 2 images" in shown.out
    assert shown.out.count("sanarestore-mini") == 4, "three rows and the line on how they were measured"
    assert "sanarestore-mini: unprompted; weights" in shown.out
    assert "Protocol: awgn-float/1" in shown.out
    assert "published" not in shown.out, "published figures are for the whole set"
    assert all(f"denoise {sigma}" in shown.out for sigma in (15, 25, 50))
    assert max(map(len, shown.out.splitlines())) <= 80
    assert "…" not in shown.out


@pytest.mark.usefixtures("sets")
def test_all_sets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--list", "--json") == 0
    rows = {row["dataset"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert len(rows) == 14
    assert (rows["polyu"]["task"], rows["polyu"]["images"], rows["polyu"]["found"]) == ("real", 100, False)
    assert rows["urban100"]["found"]
    assert (rows["kodak24"]["found"], rows["kodak24"]["downloads"]) == (False, True)
    assert "is not there" in rows["kodak24"]["reason"]
    assert bench("--list") == 0
    printed = capsys.readouterr().out
    assert "urban100" in printed
    assert "--download" in printed


@pytest.mark.usefixtures("sets")
def test_flags_without_effect_beside_list_and_sets_named_twice_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for beside in (["urban100"], ["--task", "clean"], ["--csv", "r.csv"], ["--download"], ["--rounds", "3"]):
        assert bench("--list", *beside) == 2
        shown = capsys.readouterr()
        assert f"error --list: it lists the known sets and measures nothing, so {beside[0]} has no effect" in shown.err
        assert shown.out == ""
    for twice in (["urban100", "URBAN100"], ["--data", "sets/classic5", "--data", "sets/../sets/classic5"]):
        assert bench(*twice) == 2
        assert f"{twice[-1]}: this set is named twice. Name it once." in " ".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("sets")
def test_rows_are_written_as_json_and_csv(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        bench("urban100", "classic5", "--limit", "2", "--sigma", "25", "--quality", "10", "--json", "--csv", "r.csv")
        == 0
    )
    shown = capsys.readouterr()
    rows = [json.loads(line) for line in shown.out.splitlines()]
    assert shown.err == ""
    assert [(row["dataset"], row["task"], row["level"], row["method"]) for row in rows] == [
        ("urban100", "denoise", "25", "degraded"), ("urban100", "denoise", "25", "tiny"),
        ("classic5", "jpeg", "10", "degraded"), ("classic5", "jpeg", "10", "tiny"),
    ]  # fmt: skip
    assert {"schema_version", "protocol", "psnr", "ssim", "images", "interval", "seconds_per_megapixel"} <= rows[
        0
    ].keys()
    assert "psnr_b" in rows[2]
    assert rows[1]["prompt"] == "", "the method is unprompted"
    assert "float32, CPU, 1 thread" in rows[1]["conditions"]
    with Path("r.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["psnr"] for row in read] == [str(row["psnr"]) for row in rows]
    assert [row["interval_low"] for row in read] == [str(row["interval"][0]) for row in rows]
    assert read[0]["gain_interval_high"] == str(rows[0]["gain_interval"][1])


@pytest.mark.usefixtures("sets")
def test_published_figures_are_shown_for_a_whole_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("classic5", "--quality", "10", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["method"] for row in rows] == ["degraded", "tiny", "FBCNN"]
    assert bench("classic5", "--quality", "10") == 0
    printed = capsys.readouterr().out
    assert "FBCNN, published" in printed
    assert "FBCNN: Jiang et al. 2021" in " ".join(printed.split())
    assert "PSNR-B" in printed


@pytest.mark.usefixtures("sets")
def test_gray_scores_differ_from_colour_scores(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["urban100", "--limit", "1", "--sigma", "25", "--json", "-o", "scores"]
    assert bench(*arguments) == 0
    colour = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert bench(*arguments, "--gray") == 0
    gray = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert colour[1]["psnr"] != gray[1]["psnr"]
    assert (colour[1]["protocol"], gray[1]["protocol"]) == ("awgn-float/1", "awgn-float/1, gray")


@pytest.mark.usefixtures("sets")
def test_a_level_option_selects_its_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("classic5", "--sigma", "25", "--limit", "1", "--json") == 0, (
        "sigma takes precedence over the task of the set, jpeg"
    )
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["task"] for row in rows} == {"denoise"}
    assert bench("classic5", "--task", "jpeg", "--sigma", "25") == 2
    assert "--sigma: this has no effect on the task jpeg. Leave it out, or add --task denoise" in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.usefixtures("sets")
def test_stored_scores_are_not_measured_twice(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["urban100", "--limit", "2", "--sigma", "25", "--json", "-o", "scores"]
    assert bench(*arguments) == 0
    first = capsys.readouterr().out
    written = Path("scores/scores.jsonl").read_bytes()
    assert bench(*arguments) == 0
    assert capsys.readouterr().out == first, "nothing was measured twice, because the seconds are equal too"
    assert Path("scores/scores.jsonl").read_bytes() == written


def test_pairs_and_folders_of_the_user_are_measured(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sets / "pairs.csv").write_text(
        "image_path,condition_image_path,caption\nurban100/img_001.png,urban100/img_002.png,deblur\n"
    )
    assert bench("--data", "sets/pairs.csv", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[1])["task"] == "real"
    assert (
        bench("--data", "sets/classic5", "--recipe", "lowlight:2", "--recipe", "clean", "--json", "--limit", "1") == 0
    )
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["level"] for row in rows] == ["lowlight:2", "lowlight:2", "clean", "clean"]
    assert rows[0]["dataset"] == "classic5"
    assert rows[2]["psnr"] == 100


def test_captions_are_the_prompts_unless_an_option_sets_them(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two pairs have the same file name, and one of them has no caption."""
    save_photo(sets / "other/1.png", 24, 24, seed=7)
    (sets / "pairs.csv").write_text(
        "image_path,condition_image_path,caption\nclassic5/1.png,classic5/2.png,deblur\nclassic5/3.png,other/1.png,\n"
    )

    def rows(*arguments: str) -> list[dict[str, Any]]:
        assert bench("--data", "sets/pairs.csv", "--json", *arguments) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    degraded, ours = rows()
    assert list(degraded["psnr_per_image"]) == ["classic5/2.png", "other/1.png"]
    assert "prompt" not in ours
    assert ours["prompt_per_image"] is True
    assert rows("--prompt", "remove noise")[1]["prompt"] == "remove noise"
    assert rows("--unprompted")[1]["prompt"] == ""
    assert bench("--data", "sets/pairs.csv", "--unprompted", "--prompt", "deblur") == 2


@pytest.mark.usefixtures("sets")
def test_a_report_page_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("classic5", "--quality", "10", "--limit", "2", "--report", "page", "--peer", "wavelet", "-q") == 0
    page = Path("page/index.html").read_text(encoding="utf-8")
    assert "classic5 jpeg 10, best: " in page
    assert page.count("<figcaption>wavelet") == 2


def rows_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.usefixtures("sets")
def test_the_clean_task_measures_harm_to_images_and_flat_fields(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    command = ["classic5", "urban100", "--task", "clean", "--limit", "2"]
    assert bench(*command, "--json", "-o", "scores", "--csv", "r.csv", "--report", "page") == 0
    shown = rows_of(capsys)
    assert [(row["dataset"], row["task"], row["level"], row["method"], row["images"]) for row in shown] == [
        ("classic5", "clean", "input", "tiny", 2), ("urban100", "clean", "input", "tiny", 2),
        ("flat fields", "clean", "input", "tiny", 27),
    ]  # fmt: skip
    for row in shown:
        assert (row["prompt"], row["protocol"]) == ("", "harm-8bit/1")
        assert row["worst_psnr"] == min(row["psnr_per_image"].values()) <= row["psnr"]
        assert row["psnr_per_image"][row["worst_image"]] == row["worst_psnr"]
        assert isinstance(row["largest_change"], int)
        assert "gain" not in row
    with Path("r.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [(row["worst_image"], row["largest_change"]) for row in read] == [
        (row["worst_image"], str(row["largest_change"])) for row in shown
    ]
    page = Path("page/index.html").read_text(encoding="utf-8")
    for expected in (
        '<th>worst</th><th class="words">worst image</th><th>largest change</th>',
        "flat fields, 27 images",
        "flat fields clean input, worst: rgb(",
    ):
        assert expected in page
    written = Path("scores/scores.jsonl").read_bytes()
    assert bench(*command, "-o", "scores") == 0
    assert Path("scores/scores.jsonl").read_bytes() == written, "nothing is measured twice"
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    printed = " ".join(printed.split())
    assert "worst change SSIM s/MP" in printed.replace("┃", "")
    for row in shown:
        assert f"tiny, clean input: lowest PSNR {row['worst_psnr']:.2f} dB ({row['worst_image']}); " in printed
        assert f"; largest change {row['largest_change']} of 255" in printed
    assert bench(*command, "--json", "--prompt", "remove noise") == 0
    assert {row["prompt"] for row in rows_of(capsys)} == {"remove noise"}


@pytest.mark.usefixtures("sets")
def test_low_light_is_measured_with_its_prompt_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["classic5", "--recipe", "lowlight:2", "--recipe", "noise:25", "--limit", "1"]
    for more, prompts in (
        ([], ["brighten this photo", ""]), (["--unprompted"], ["", ""]), (["--prompt", "deblur"], ["deblur", "deblur"])
    ):  # fmt: skip
        assert bench(*command, *more, "--json") == 0
        assert [row["prompt"] for row in rows_of(capsys) if row["method"] == "tiny"] == prompts
    assert bench(*command) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert 'tiny (recipe lowlight:2): prompt "brighten this photo"; weights' in printed
    assert "tiny (recipe noise:25): unprompted; weights" in printed
    assert "Protocol: recipe-8bit/2, recipe-8bit/1" in printed


@pytest.mark.usefixtures("sets")
def test_non_local_means_is_shown_at_its_best_strength(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cv2")
    command = ["classic5", "--sigma", "3,50", "--limit", "2", "--peer", "nlm", "-o", "scores"]
    assert bench(*command, "--json", "--report", "page") == 0
    shown = [row for row in rows_of(capsys) if row["method"] not in ("degraded", "tiny")]
    assert [row["level"] for row in shown] == ["3", "50"]
    assert shown[0]["method"] in ("nlm (h 2)", "nlm (h 3)", "nlm (h 4)")
    assert shown[1]["method"] == "nlm (h 10)"
    page = Path("page/index.html").read_text(encoding="utf-8")
    assert page.count(f"<figcaption>{shown[0]['method']}") == page.count("<figcaption>nlm (h 10)") == 2
    kept = [json.loads(line)["method"] for line in Path("scores/scores.jsonl").read_text().splitlines()]
    assert len({name for name in kept if name.startswith("nlm")}) == 6
    assert bench(*command) == 0
    assert len(Path("scores/scores.jsonl").read_text().splitlines()) == len(kept)
    printed = " ".join(capsys.readouterr().out.split())
    assert "nlm (h 10): best mean PSNR of h 2, 3, 4, 6, 8, 10 on these images" in printed


@pytest.mark.usefixtures("sets")
def test_changes_since_an_earlier_run_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["classic5", "--quality", "10", "--limit", "2", "--json"]
    assert bench(*arguments) == 0
    Path("old.json").write_text(capsys.readouterr().out)
    assert bench(*arguments, "--compare", "old.json", "--prompt", "remove the noise") == 0
    changes = [line for line in map(json.loads, capsys.readouterr().out.splitlines()) if line.get("compared")]
    assert [change["method"] for change in changes] == ["degraded", "tiny"]
    assert changes[0]["change"] == 0
    assert changes[1]["change"] != 0
    assert changes[1]["exceeds_noise"] is None, "two images are too few to tell"
    assert bench("classic5", "--sigma", "25", "--limit", "2", "--compare", "old.json") == 0
    assert "not compared: classic5 denoise 25: tiny was not measured then" in capsys.readouterr().err
    assert bench(*arguments[:-1], "--compare", "old.json") == 0
    assert "Changes since then" in capsys.readouterr().out
    assert bench(*arguments, "--compare", "nothing.json") == 2


@pytest.mark.usefixtures("sets")
def test_quiet_shows_only_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("urban100", "--limit", "1", "--sigma", "25", "-q", "--csv", "r.csv") == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "denoise 25" in shown.out
    assert Path("r.csv").read_text(encoding="utf-8").count("urban100") == 2


def test_perceptual_metrics_have_a_table_of_their_own(
    sets: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(name: str, device: str) -> Callable[[Tensor, Tensor], dict[str, Any]]:
        def describe(image: Tensor) -> str:
            return packed(image.mean(dim=(2, 3))[0].numpy())

        if name == "fid":
            return lambda image, reference: {"inception": describe(image), "inception_of_target": describe(reference)}
        return lambda image, reference: {name: 0.125}

    monkeypatch.setattr("sanarestore.evaluation.perceptual.judge", judge)
    for number in range(2):
        save_photo(sets / f"mine/{number}.png", 64, 72, seed=number)
    arguments = ["--data", "sets/mine", "--sigma", "25", "--metric", "lpips", "--metric", "FID"]
    assert bench(*arguments, "--report", "page", "--json") == 0
    row = json.loads(capsys.readouterr().out.splitlines()[1])
    assert (row["lpips"], "dists" in row) == (0.125, False)
    assert row["fid"] > 0
    assert "<th>LPIPS</th>" in Path("page/index.html").read_text(encoding="utf-8")
    assert bench(*arguments) == 0
    shown = capsys.readouterr()
    assert "Perceptual metrics" in shown.out
    assert shown.out.count("0.125") == 2
    assert shown.err == "FID of 2 images says little: below 5000 it is biased upwards\n"


@pytest.mark.usefixtures("sets")
def test_an_unknown_metric_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("classic5", "--metric", "niqe") == 2
    assert "--metric: 'niqe' is not a known metric" in capsys.readouterr().err


@pytest.mark.usefixtures("sets")
def test_a_sentence_reports_the_prompts_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("classic5", "--task", "prompts", "--draws", "2", "--limit", "2") == 0
    printed = capsys.readouterr().out
    assert "tiny: the right prompt gives the better result in " in printed
    assert "degraded: the right" not in printed


@pytest.mark.usefixtures("sets")
def test_a_sentence_reports_the_deviation_between_seeds(
    tmp_path: Path, encoder: PromptEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(
        tmp_path / "whole", name="whole", refiner=random_refiner(), **worded(encoder),
        defaults={"prompt": "remove noise", "latent": False}, training={}, latent=latent_path(prompt_width=8),
    )  # fmt: skip
    page = tmp_path / "page"
    command = ["classic5", "--quality", "10", "--limit", "1", "--fidelity", "0", "--report", str(page)]
    assert run(["bench", *command, "--model", str(tmp_path / "whole"), "--threads", "1", "--steps", "2"]) == 0
    printed = capsys.readouterr().out
    assert re.search(
        r"whole, jpeg 10: PSNR has a standard deviation of \d\.\d\d dB between seeds; results agree to", printed
    )
    assert "<th>between seeds</th>" in (page / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "no test set is named. Name one of urban100, cbsd68"),
        (("urban101",), 2, "'urban101' is not a known set"),
        (("kodak24",), 3, "kodak24: Kodak (Eastman Kodak 1993) is not there. Put its 24 images there"),
        (("urban100", "--task", "noise"), 2, "'noise' is not a known task. Known: denoise"),
        (("urban100", "--sigma", "a"), 2, "--sigma: 'a' is not a list of numbers. Use commas, as in 15,25,50"),
        (("urban100", "--task", "real", "--limit", "1"), 2, "--task real: this set has no degraded images"),
        (("urban100", "--csv", "no/such/rows.csv"), 2, "no/such/rows.csv: cannot be written"),
        (("urban100", "--csv", "sets"), 2, "sets: cannot be written"),
        (("urban100", "--report", "sets/classic5/1.png"), 2, "1.png: cannot be written"),
        (("urban100", "--sigma", "nan"), 2, "--sigma: nan is outside 0 to 255"),
        (("urban100", "--task", "sr", "--scale", "0"), 2, "--scale: 0 is outside 2 to 16"),
        (("urban100", "--quality", "500"), 2, "--quality: 500 is outside 1 to 100"),
        (("urban100", "--rounds", "3"), 2, "--rounds: this has no effect unless speed is measured"),
        (("speed", "--gray"), 2, "speed: it is measured alone and without images, so --gray has no effect"),
        (("urban100", "--fidelity", "2"), 2, "--fidelity: 2 is outside 0 to 1"),
    ],
)
@pytest.mark.usefixtures("sets")
def test_invalid_requests_are_refused_with_a_message(
    arguments: tuple[str, ...], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(*arguments) == code
    assert message in " ".join(capsys.readouterr().err.split())


def test_autoencoders_are_compared_by_reconstruction(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_autoencoder().save_pretrained(sets.parent / "dc")
    command = ("urban100", "--limit", "2", "--task", "reconstruction", "--autoencoder", "dc")
    assert bench(*command, "--json", "--report", "page") == 0
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (row["task"], row["level"], row["method"], row["images"]) == ("reconstruction", "clean", "dc", 2)
    assert "gain" not in row, "the reconstruction task degrades nothing"
    assert "dc" in Path("page/index.html").read_text(encoding="utf-8")
    assert bench(*command) == 0
    assert "reconstruction clean" in capsys.readouterr().out


def test_the_reconstruction_task_and_an_autoencoder_need_each_other(
    sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        bench("urban100", "--limit", "1", "--task", "denoise", "--task", "reconstruction", "--autoencoder", "gone") == 4
    )
    shown = capsys.readouterr()
    assert "no such model folder" in shown.err
    assert "denoise" not in shown.err, "the error comes before any measurement"
    assert bench("urban100", "--task", "reconstruction") == 2
    assert "no autoencoder to measure" in capsys.readouterr().err
    assert bench("urban100", "--autoencoder", str(sets)) == 2
    assert "--task reconstruction" in capsys.readouterr().err


def test_speed_is_measured_without_sets(
    sets: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    command = ("speed", "--sizes", "64,96,128", "--rounds", "1", "--devices", "cpu")
    assert bench(*command, "--csv", "speed.csv") == 0
    shown = capsys.readouterr().out
    assert "CPU, 1 thread, float32, 1 round" in map(str.strip, shown.splitlines())
    assert "at 96 px, tiles compute 1.00 times the area" in shown
    assert "grow with the pixel count" in shown
    assert max(map(len, shown.splitlines())) <= 80
    with (sets.parent / "speed.csv").open(encoding="utf-8") as file:
        assert [row["size"] for row in csv.DictReader(file)] == ["64", "96", "128"]
    assert bench(*command, "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("part") for line in lines] == ["restore", "restore", "restore", None]
    assert lines[-1]["growth"].keys() == {"restore"}
    assert [line.get("tile_area_factor") for line in lines] == [pytest.approx(1, rel=1e-3)] * 3 + [None]
    assert all(("beyond_buffers" in line) == ("peak_memory" in line) for line in lines)
    assert bench("speed", "--sizes", "64", "--rounds", "1", "--devices", "cpu", "--json") == 0
    shown = capsys.readouterr()
    assert (len(shown.out.splitlines()), shown.err) == (1, ""), "one size has no growth"
    assert bench("speed", "urban100") == 2
    assert "measured alone" in capsys.readouterr().err


@pytest.mark.usefixtures("sets")
def test_a_progress_bar_leaves_stdout_unchanged(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    """A live bar of Rich also redirects stdout, so that a table meant for a pipe could reach the terminal."""
    assert bench("classic5", "urban100", "--sigma", "25", "--limit", "1") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("classic5, 1 image", "urban100, 1 image", "denoise 25"))
    assert "\x1b" not in shown
    assert "urban100 denoise 25" in terminal.getvalue(), "the bar is on the terminal"
    assert "PSNR" not in terminal.getvalue()
