"""Tests of `sanarestore restore` from end to end: where files go, what is skipped or refused, and exit codes."""

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sanarestore import images, weights
from sanarestore.cli.app import run
from sanarestore.engine.tiles import DEFAULT_TILE
from sanarestore.images.image import to_stored
from sanarestore.model.adapter import write_adapter
from sanarestore.model.loading import REFINER
from sanarestore.model.prompts import PromptEncoder
from tests.conftest import photo, random_refiner, save_photo
from tests.published import latent_path, tiny_autoencoder, write_adapted


@pytest.fixture
def shoot(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of photos and a stray text file; the current folder is the one above it."""
    monkeypatch.chdir(tmp_path)
    for index, name in enumerate(("a.png", "b.png", "deep/c.png")):
        save_photo(Path("shoot") / name, seed=index)
    Path("shoot/notes.txt").write_text("nothing to restore")
    return Path("shoot")


def restore(*arguments: str | Path) -> int:
    return run(["restore", *map(str, arguments), "--model", "tiny-model"])


def tree(folder: str | Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def contents(folder: str | Path) -> dict[str, bytes]:
    return {name: (Path(folder) / name).read_bytes() for name in tree(folder)}


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def done_lines(text: str) -> list[dict[str, Any]]:
    return [line for line in lines_of(text) if line["status"] == "done"]


OUTPUTS = ["a.png", "b.png", "deep/c.png", "sanarestore.jsonl"]


def test_a_file_of_the_user_is_not_replaced_where_an_earlier_run_failed(
    shoot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (shoot / "b.png").read_bytes()
    (shoot / "b.png").write_bytes(whole[:100])
    assert restore("shoot") == 1
    Path("shoot-restored/b.png").write_bytes(b"the user's own")
    (shoot / "b.png").write_bytes(whole)
    assert restore("shoot") == 1
    assert "b.png: the output already exists" in capsys.readouterr().err
    assert Path("shoot-restored/b.png").read_bytes() == b"the user's own"
    assert restore("shoot", "--overwrite") == 0


def test_stdin_refuses_a_dry_run_and_works_with_all_devices(
    shoot: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO((shoot / "a.png").read_bytes())))
    assert restore("-", "-o", "piped.png", "--dry-run") == 2
    assert restore("-", "-o", "piped.heic") == 2
    assert "HEIC is not written" in capsys.readouterr().err
    assert not Path("piped.png").exists()
    assert not Path("piped.heic").exists()
    assert restore("-", "-o", "piped.png", "--devices", "all") == 0
    assert images.read("piped.png").height == 40


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (["shoot", "--devices", "cpu"], "--devices"), (["shoot", "--dry-run"], "--dry-run"),
        (["-", "-o", "out"], "--ray"), (["shoot/a.png", "-o", "-"], "--ray"),
        (["shoot", "--ray", "ray://head:1"], "--ray"),
    ],
)  # fmt: skip
def test_a_cluster_cannot_be_combined_with_what_concerns_this_machine(
    shoot: Path, arguments: list[str], where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restore("--ray", "auto", *arguments) == 2
    assert f"error {where}: " in capsys.readouterr().err
    assert not Path("out").exists()
    assert not Path("shoot-restored").exists()


def test_a_folder_is_restored_into_a_folder_beside_it(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(shoot)
    assert restore("shoot", "--prompt", "remove noise") == 0
    assert tree("shoot-restored") == OUTPUTS
    assert contents(shoot) == before
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("the prompt removes noise\n3 restored, 1 other file ignored, 0.0067 MP in ")
    restored = to_stored(images.read("shoot-restored/a.png"))
    assert restored.shape == (40, 56, 3)
    assert not np.array_equal(restored, to_stored(images.read("shoot/a.png")))


def test_finished_files_are_skipped(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def statuses(*more: str) -> dict[str, str]:
        capsys.readouterr()
        restore("shoot", "-o", "out", "--json", *more)
        lines = lines_of(capsys.readouterr().out)
        assert [line["reason"] for line in lines if line["status"] == "ignored"] == ["other"]
        return {Path(line["input"]).name: line["status"] for line in lines if line["status"] != "ignored"}

    done, skipped = (dict.fromkeys(("a.png", "b.png", "c.png"), word) for word in ("done", "skipped"))
    assert statuses() == done
    assert restore("shoot", "-o", "out") == 0
    assert "0 restored, 3 finished before" in capsys.readouterr().err
    assert statuses("--tile", "64") == skipped
    assert statuses("--prompt", "remove noise") == done
    assert statuses() == done
    save_photo(shoot / "b.png", seed=9)
    assert statuses() == skipped | {"b.png": "done"}
    Path("out/a.png").unlink()
    assert statuses() == skipped | {"a.png": "done"}
    # The weights change, but not their name.
    manifest = Path("tiny-model/restoration/config.json")
    manifest.write_text(manifest.read_text() + "\n")
    assert statuses() == done


def test_results_of_earlier_runs_are_counted_where_nothing_else_is_named(
    shoot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restore("shoot/a.png") == 0
    capsys.readouterr()
    assert restore("shoot/a-restored.png") == 0
    assert "0 restored, 1 other file ignored" in capsys.readouterr().err


def test_every_output_folder_has_its_own_journal(shoot: Path) -> None:
    save_photo(Path("other/d.png"))
    assert restore("shoot", "other") == 0
    assert tree("other-restored") == ["d.png", "sanarestore.jsonl"]
    before = contents("shoot-restored")
    assert restore("shoot", "other") == 0
    assert contents("shoot-restored") == before


def test_foreign_files_are_overwritten_only_on_request(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    Path("out/a.png").write_bytes(b"of another")
    assert restore("shoot", "-o", "out") == 1
    assert Path("out/a.png").read_bytes() == b"of another"
    assert tree("out") == OUTPUTS
    shown = capsys.readouterr().err
    assert "out/a.png: the output already exists" in shown
    assert "--overwrite" in shown
    assert restore("shoot", "-o", "out", "--overwrite") == 0
    assert Path("out/a.png").read_bytes() != b"of another"


def test_a_result_that_the_user_retouched_is_not_overwritten(shoot: Path) -> None:
    assert restore("shoot", "-o", "out") == 0
    retouched = save_photo(Path("out/b.png"), seed=7).read_bytes()
    assert restore("shoot", "-o", "out", "--prompt", "remove noise") == 1
    assert Path("out/b.png").read_bytes() == retouched


def test_inputs_are_never_overwritten(shoot: Path) -> None:
    before = contents(shoot)
    for arguments in (("shoot", "-o", "shoot"), ("shoot/a.png", "-o", "shoot/a.png"), ("shoot/a.png", "-o", "shoot")):
        assert restore(*arguments, "--overwrite") == 1
    assert contents(shoot) == before


def test_the_output_folder_may_lie_inside_the_input_folder(shoot: Path) -> None:
    for _ in range(2):
        assert restore("shoot", "-o", "shoot/restored") == 0
        assert tree("shoot/restored") == OUTPUTS


def test_the_second_of_two_files_with_one_output_is_refused(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_photo(Path("other/a.png"), seed=5)
    assert restore("shoot/a.png", "other/a.png", "-o", "out") == 1
    assert "failed other/a.png: shoot/a.png is already to be written to out/a.png" in capsys.readouterr().err
    assert tree("out") == ["a.png", "sanarestore.jsonl"]


def test_bad_files_do_not_stop_the_others(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shoot / "b.png").write_bytes((shoot / "a.png").read_bytes()[:100])
    assert restore("shoot", "shoot/notes.txt", "-o", "out", "--json") == 1
    shown = capsys.readouterr()
    lines = {Path(line["input"]).name: line for line in lines_of(shown.out)}
    assert {name: line["status"] for name, line in lines.items()} == {
        "a.png": "done", "b.png": "failed", "c.png": "done", "notes.txt": "failed",
    }  # fmt: skip
    assert lines["b.png"]["error"] in shown.err
    assert lines["b.png"]["output"] is None
    assert "shoot/notes.txt: it is not an image" in lines["notes.txt"]["error"]
    assert tree("out") == ["a.png", "deep/c.png", "sanarestore.jsonl"]


def test_no_readable_image_has_an_exit_code_of_its_own(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 3 if no image is found, and if none of those found can be read."""
    Path("empty").mkdir()
    assert restore("empty") == 3
    assert restore("shoot/notes.txt", "-o", "out") == 3
    (shoot / "a.png").write_bytes((shoot / "a.png").read_bytes()[:100])
    assert restore("shoot/a.png", "-o", "out") == 1, "a damaged photograph is one"
    assert "Traceback" not in capsys.readouterr().err
    assert restore("missing") == 2


def test_fail_fast_stops_at_the_first_failure(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shoot / "b.png").write_bytes((shoot / "a.png").read_bytes()[:100])
    assert restore("shoot", "-o", "out", "--fail-fast") == 1
    assert "deep/c.png" not in tree("out")
    assert "1 failed" in capsys.readouterr().err


@pytest.mark.parametrize("log", ["shoot/a.png", "wall/log.jsonl"])
def test_a_log_that_cannot_be_written_is_reported_before_any_work(
    log: str, shoot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("wall").write_text("a file where a folder is needed")
    before = contents("shoot")
    assert restore("shoot", "-o", "out", "--log-file", log) == 2
    assert f"error {log}: " in capsys.readouterr().err
    assert contents("shoot") == before, "a photograph was changed"
    assert not Path("out").exists()


def test_dry_run_checks_everything_and_writes_nothing(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert restore("shoot", "-o", "out", "--dry-run") == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [f"shoot/{name} -> out/{name}" for name in ("a.png", "b.png", "deep/c.png")]
    first, memory, duration = shown.err.splitlines()
    assert first == "3 to restore, 0.0067 MP"
    assert re.fullmatch(r"most memory: about \d+ MB of [\d.]+ GB, for shoot/\S+", memory)
    assert re.fullmatch(r"time: about \d+ s on cpu, as measured on a small image", duration)
    assert restore("shoot/a.png", "-o", "out", "--dry-run", "--json") == 0
    planned, estimate = lines_of(capsys.readouterr().out)
    assert planned == {"schema_version": 2, "input": "shoot/a.png", "output": "out/a.png", "status": "planned"}
    assert (estimate["status"], estimate["files"], estimate["largest"]) == ("estimate", 1, "shoot/a.png")
    assert estimate["memory"] > 40 * 56 * 24
    assert estimate["seconds"] is not None
    assert not Path("out").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse names that are not text")
def test_dry_run_lists_names_that_are_not_text(shoot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shoot / "a.png").rename(shoot / os.fsdecode(b"caf\xe9.png"))
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr("sys.stdout", stdout)
    assert restore("shoot", "-o", "out", "--dry-run") == 0
    assert b"shoot/caf\\udce9.png -> out/caf\\udce9.png\n" in stdout.buffer.getvalue()  # type: ignore[attr-defined]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such names")
def test_control_characters_in_names_are_escaped(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shoot / "a.png").rename(shoot / "a\x1b[31m\n.png")
    (shoot / "b.png").rename(shoot / "b\n.png")
    (shoot / "b\n.png").write_bytes(b"no image")
    assert restore("shoot", "-o", "out", "--dry-run") == 1
    assert restore("shoot", "-o", "out") == 1
    shown = capsys.readouterr()
    name = r"a\x1b[31m\n.png"
    assert f"shoot/{name} -> out/{name}\n" in shown.out
    assert shown.err.count(r"failed shoot/b\n.png: it is not an image. ") == 2
    assert "\x1b" not in shown.out + shown.err
    assert Path("out/a\x1b[31m\n.png").exists()


def test_an_output_that_cannot_be_written_is_said_once_and_ends_the_run(
    shoot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("wall").write_text("a file where a folder is needed")
    assert restore("shoot", "-o", "wall/out") == 1
    shown = capsys.readouterr().err
    assert shown.count("nothing can be written there") == 1
    assert "error " in shown
    assert restore("shoot", "-o", "wall/out", "--dry-run") == 1
    assert capsys.readouterr().err.count("nothing can be written") == 1


def test_dry_run_names_what_is_finished_and_what_would_fail(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert restore("shoot/a.png", "-o", "out") == 0
    (shoot / "b.png").write_bytes(b"no image")
    Path("out/deep").write_text("a file where a folder is needed")
    capsys.readouterr()
    assert restore("shoot", "-o", "out", "--dry-run") == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines() == ["shoot/a.png -> out/a.png (finished before)"]
    assert "failed shoot/b.png: it is not an image" in shown.err
    assert "0 to restore, 1 finished before, 2 would fail" in shown.err
    assert restore("shoot/a.png", "-o", "other", "--dry-run", "--memory-per-file", "10k") == 1
    assert "it would be refused" in capsys.readouterr().err


@pytest.mark.parametrize(("depth", "suffix"), [("uint16", "jpg"), ("uint16", "webp"), ("float32", "png")])
def test_dry_run_says_that_a_format_cannot_hold_the_result(
    depth: str, suffix: str, shoot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images.write(images.Image(pixels_HWC=photo(40, 56), depth=depth, format="tiff"), "deep.tif")  # type: ignore[arg-type]
    for options in (("--dry-run",), ()):
        assert restore("deep.tif", "-o", f"b.{suffix}", *options) == 1
        assert f"failed b.{suffix}: " in capsys.readouterr().err
    assert restore("deep.tif", "-o", "b.tif", "--dry-run") == 0


def test_dry_run_tries_model_and_devices(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert restore("shoot", "-o", "out", "--dry-run", "--devices", "cuda:77") == 2
    Path("tiny-model", REFINER).write_bytes(b"damaged")
    assert restore("shoot", "-o", "out", "--dry-run") == 4
    assert not Path("out").exists()


def test_json_goes_to_stdout_and_quiet_prints_nothing(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert restore("shoot/a.png", "-o", "out", "--json") == 0
    shown = capsys.readouterr()
    (line,) = lines_of(shown.out)
    assert shown.err == ""
    assert (line["status"], line["input"], line["output"]) == ("done", "shoot/a.png", "out/a.png")
    assert (line["device"], line["tile"], line["error"]) == ("cpu", DEFAULT_TILE["cpu"], None)
    assert restore("shoot", "-o", "elsewhere", "-q") == 0
    assert capsys.readouterr() == ("", "")


def test_a_folder_is_converted_named_and_dated(shoot: Path) -> None:
    os.utime("shoot/a.png", (1e9, 2e9))
    options = ("--format", "jpeg", "--quality", "70", "--name", "{stem}_{parent}", "--keep-dates", "--scale", "1.5")
    assert restore("shoot", "-o", "out", *options) == 0
    assert tree("out") == ["a_shoot.jpg", "b_shoot.jpg", "deep/c_deep.jpg", "sanarestore.jsonl"]
    image = images.read("out/a_shoot.jpg")
    assert (image.format, image.width, image.height) == ("jpeg", 84, 60)
    assert image.jpeg is not None
    assert image.jpeg.quality == 70
    assert Path("out/a_shoot.jpg").stat().st_mtime == 2e9


def test_a_quality_that_changes_nothing_is_said_once_or_refused(
    shoot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restore("shoot/a.png", "-o", "b.png", "--quality", "80") == 2
    assert "error b.png: PNG is written without loss" in capsys.readouterr().err
    for options in (("--dry-run",), ()):
        assert restore("shoot", "-o", "out", "--quality", "80", *options) == 0
        assert capsys.readouterr().err.count("--quality changes nothing: PNG is") == 1


def test_finished_files_are_done_again_for_other_bytes_only(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def statuses(*options: str) -> list[str]:
        capsys.readouterr()
        assert restore("shoot/a.png", "-o", "out", "--json", *options) == 0
        return [line["status"] for line in lines_of(capsys.readouterr().out)]

    assert statuses() == ["done"]
    assert statuses("--keep-dates") == ["skipped"]
    assert statuses("--bit-depth", "16") == ["done"]
    assert images.read("out/a.png").depth == "uint16"
    assert statuses("--bit-depth", "16") == ["skipped"]


def test_sidecars_go_beside_results_that_are_done(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("shoot/a.xmp").write_text("edits")
    Path("shoot/broken.png").write_bytes(b"no photograph")
    Path("shoot/broken.xmp").write_text("edits")
    assert restore("shoot", "-o", "out", "--name", "{stem}_clean", "--json") == 1
    (line,) = [line for line in done_lines(capsys.readouterr().out) if line["input"] == "shoot/a.png"]
    assert line["notes"] == ["the sidecar a.xmp is copied to a_clean.xmp"]
    assert [name for name in tree("out") if name.endswith(".xmp")] == ["a_clean.xmp"]


def test_another_depth_than_the_format_holds_is_refused_before_the_file_is_read(
    shoot: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    images.write(images.Image(pixels_HWC=photo(40, 56), depth="uint16", format="tiff"), "deep.tif")
    with monkeypatch.context() as patched:
        patched.setattr(images, "decode", None)
        assert restore("deep.tif", "--format", "jpeg") == 1
    assert "Use --bit-depth 8, or --format tiff or png" in capsys.readouterr().err
    assert restore("deep.tif", "--format", "jpeg", "--bit-depth", "8") == 0
    assert images.read("deep-restored.jpg").depth == "uint8"


@pytest.mark.parametrize(
    ("options", "where"),
    [
        (("-o", "-", "--name", "{stem}"), "--name"),
        (("-o", "-", "--keep-dates"), "--keep-dates"),
        (("-o", "b.png", "--format", "jpeg"), "b.png"),
        (("--watch",), "--watch"),
        (("--scale", "2", "--long-side", "90"), "--long-side"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: tuple[str, ...], where: str, shoot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restore("shoot/a.png", *options) == 2
    assert f"error {where}: " in capsys.readouterr().err


def test_files_that_arrive_in_a_folder_are_restored(
    shoot: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def arrivals(folder: Path, _changes: object) -> Iterator[frozenset[str]]:
        yield frozenset(os.path.realpath(folder / name) for name in ("a.png", "deep/c.png", "notes.txt"))
        assert tree("out") == ["a.png", "deep/c.png", "sanarestore.jsonl"]
        yield frozenset((os.path.realpath("out/a.png"),))
        yield frozenset((os.path.realpath(folder / "b.png"),))
        raise KeyboardInterrupt

    monkeypatch.setattr("sanarestore.engine.watching.arrivals", arrivals)
    assert restore("shoot", "-o", "out", "--watch") == 130
    assert tree("out") == OUTPUTS
    assert "3 restored" in capsys.readouterr().err


def test_options_are_passed_to_the_engine(shoot: Path) -> None:
    assert restore("shoot/a.png", "-o", "same.png", "--fidelity", "0") == 0
    assert np.array_equal(to_stored(images.read("same.png")), to_stored(images.read("shoot/a.png")))
    assert restore("shoot/a.png", "-o", "large.png", "--scale", "2") == 0
    assert images.read("large.png").width == 2 * 56
    assert restore("shoot/a.png", "-o", "other.tif") == 0
    assert images.read("other.tif").format == "tiff"


@pytest.mark.parametrize(
    "wrong",
    [("--fidelity", "2"), ("--scale", "5"), ("--long-side", "0"), ("--format", "gif"), ("--quality", "0"),
     ("--bit-depth", "12"),     ("--name", "{x}"), ("--tile", "10"), ("--dtype", "float16"), ("--devices", "cuda:77"),
     ("--devices", "cpu,"), ("--threads", "0"), ("--steps", "51"), ("--steps", "3"), ("--guidance", "0.5"),
     ("--tiling", "mosaic")],
)  # fmt: skip
def test_invalid_option_values_are_usage_errors(
    wrong: tuple[str, str], shoot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restore("shoot", "-o", "out", *wrong) == 2
    assert f"error {wrong[0]}: " in capsys.readouterr().err


def test_missing_unusable_and_damaged_weights_have_exit_code_4(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["restore", "shoot", "-o", "out", "--model", "./no-model"]) == 4
    Path("base").mkdir()
    assert run(["restore", "shoot", "-o", "out", "--model", "base"]) == 4
    assert "sanarestore train" in capsys.readouterr().err
    assert not Path("out").exists()
    Path("tiny-model", REFINER).write_bytes(b"damaged")
    assert restore("shoot", "-o", "out") == 4
    assert tree("out") == []


@pytest.fixture
def adapted(shoot: Path, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A published base and an adapter beside the photos; cache and data folders are temporary."""
    for kind in ("cache", "data"):
        monkeypatch.setattr(f"platformdirs.user_{kind}_path", lambda *_, kind=kind, **__: Path(kind).absolute())
    write_adapted(Path(), encoder)
    return shoot


def test_a_base_with_an_adapter_restores_photographs(adapted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["restore", str(adapted / "a.png"), "-o", "out.png", "--adapter", "adapter"]) == 0
    assert run(["restore", str(adapted / "a.png"), "-o", "same.png", "--adapter", "adapter", "--model", "base"]) == 0
    generated = ("--fidelity", "0", "--steps", "1")
    assert run(["restore", str(adapted / "a.png"), "-o", "other.png", "--adapter", "adapter", *generated]) == 0
    assert run(["restore", str(adapted / "a.png"), "-o", "whole.png", "--adapter", "adapter", "--tiling", "off"]) == 0
    out, same, other, whole = (
        to_stored(images.read(f"{name}.png")).astype(int) for name in ("out", "same", "other", "whole")
    )
    assert np.array_equal(out, same)
    assert np.abs(out - whole).max() <= 1, "tiled and untiled results are equal up to rounding"
    assert np.abs(out - to_stored(images.read(adapted / "a.png"))).mean() > 1
    assert np.abs(out - other).mean() > 1
    assert "licence" not in capsys.readouterr().err, "no weights were downloaded"


def test_another_autoencoder_restores_finished_files_a_second_time(
    adapted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_autoencoder(seed=6).save_pretrained("other")
    arguments = ["restore", "shoot/deep", "--adapter", "adapter", "--json", "-o", "out"]
    made = []
    for chosen, done in (([], 1), ([], 0), (["--autoencoder", "other"], 1), (["--autoencoder", "other"], 0)):
        assert run([*arguments, *chosen]) == 0
        assert len(done_lines(capsys.readouterr().out)) == done
        made.append(Path("out/c.png").read_bytes())
    assert made[0] == made[1]
    assert made[1] != made[2]
    assert made[2] == made[3]
    tiny_autoencoder(latent_channels=4).save_pretrained("small")
    assert run([*arguments, "--autoencoder", "small"]) == 4
    assert "its latents have 4 channels, and those of the base 8" in " ".join(capsys.readouterr().err.split())
    assert run([*arguments, "--autoencoder", "nowhere"]) == 4


def test_the_best_of_several_candidates_is_kept(adapted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("shoot/deep", "--adapter", "adapter", "--json", "--seed", "3")
    assert run(["restore", *options, "-o", "best", "--candidates", "3", "--judge", "niqe"]) == 0
    (line,) = done_lines(capsys.readouterr().out)
    assert line["judge"] == "niqe"
    assert [each["seed"] for each in line["candidates"]] == [3, 4, 5]
    (chosen,) = (each for each in line["candidates"] if each["chosen"])
    assert chosen["score"] == max(each["score"] for each in line["candidates"])
    assert run(["restore", *options[:-1], str(chosen["seed"]), "-o", "alone"]) == 0
    assert done_lines(capsys.readouterr().out)[0]["candidates"] == []
    assert Path("best/c.png").read_bytes() == Path("alone/c.png").read_bytes()
    # Another judge or number of candidates may give another choice.
    for changed, done in ((("3", "niqe"), 0), (("2", "niqe"), 1), (("2", "fidelity"), 1)):
        assert run(["restore", *options, "-o", "best", "--candidates", changed[0], "--judge", changed[1]]) == 0
        assert len(done_lines(capsys.readouterr().out)) == done


def test_a_judge_that_cannot_be_imported_ends_the_batch(adapted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("shoot", "--adapter", "adapter", "--candidates", "2", "--judge", "no_such_module:judge")
    assert run(["restore", *options]) == 2
    assert "--judge: 'no_such_module:judge' cannot be imported" in " ".join(capsys.readouterr().err.split())


def test_a_base_without_an_adapter_is_refused(adapted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["restore", str(adapted), "-o", "out", "--model", "base"]) == 4
    assert "would ignore the photograph" in capsys.readouterr().err
    assert run(["restore", str(adapted), "-o", "out", "--adapter", "base"]) == 4
    assert "this is not an adapter" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_changed_adapter_restores_finished_files_a_second_time(adapted: Path, encoder: PromptEncoder) -> None:
    """Finished files are skipped only while the weights of the adapter stay the same."""
    arguments = ["restore", str(adapted / "a.png"), "-o", "out", "--adapter", "adapter"]
    assert run(arguments) == 0
    before = Path("out/a.png").stat().st_mtime_ns
    assert run(arguments) == 0
    assert Path("out/a.png").stat().st_mtime_ns == before
    condition = latent_path(prompt_width=encoder.width, kind="patch-embed").transformer.condition
    write_adapter(
        Path("adapter"), base="base", condition=condition, refiner=random_refiner(seed=1),
        prompts=encoder.table(["remove noise"]), defaults={"prompt": "remove noise"}, training={},
    )  # fmt: skip
    assert run(arguments) == 0
    assert Path("out/a.png").stat().st_mtime_ns != before


def test_the_licence_of_downloaded_weights_is_shown_once(
    adapted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(Path("base").absolute()))
    weights._from_hub.cache_clear()
    arguments = ["restore", str(adapted / "a.png"), "--adapter", "adapter", "--model", "someone/base", "--quiet"]
    assert run([*arguments, "-o", "one.png"]) == 0
    assert "someone/base: its weights come under the licence 'some-weights-licence'" in capsys.readouterr().err
    assert run([*arguments, "-o", "two.png"]) == 0
    assert "licence" not in capsys.readouterr().err


def test_an_unwritable_journal_is_reported_before_any_work(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out/sanarestore.jsonl").mkdir(parents=True)
    assert restore("shoot", "-o", "out") == 2
    assert "journal" in capsys.readouterr().err
    assert tree("out") == []


def test_an_unexpected_error_shows_its_traceback_on_request(
    shoot: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def surprised(*_: Any, **__: Any) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr(images, "encode", surprised)
    for flag in ("--json", "--debug"):
        assert restore("shoot/a.png", "-o", "out", flag) == 1
        shown = capsys.readouterr().err
        assert "shoot/a.png: unexpected KeyError: 'surprise'" in shown
        assert ("Traceback" in shown) == (flag == "--debug")


def test_a_16_bit_tiff_keeps_alpha_depth_and_metadata(shoot: Path) -> None:
    alpha = (photo(40, 50, seed=2)[..., 0] * 65535).astype(np.uint16)
    metadata = images.Metadata(xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>", dpi=(240.0, 240.0))
    image = images.Image(
        pixels_HWC=photo(40, 50), depth="uint16", format="tiff", alpha_HW=alpha, metadata=metadata
    )  # fmt: skip
    images.write(image, "a.tif")
    assert restore("a.tif") == 0
    reread = images.read("a-restored.tif")
    assert (reread.depth, reread.format) == ("uint16", "tiff")
    assert reread.alpha_HW is not None
    assert np.array_equal(reread.alpha_HW, alpha)
    assert (reread.metadata.xmp, reread.metadata.dpi) == (metadata.xmp, metadata.dpi)


# Pipes.


class Stdout(io.StringIO):
    """A text stream with a byte buffer, like the real stdout."""

    def __init__(self, terminal: bool = False) -> None:
        super().__init__()
        self.buffer = io.BytesIO()
        self.isatty = lambda: terminal  # type: ignore[method-assign]


@pytest.fixture
def piped(shoot: Path, monkeypatch: pytest.MonkeyPatch) -> Stdout:
    """A stand-in for stdout; stdin holds a photo."""
    stdout = Stdout()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO((shoot / "a.png").read_bytes())))
    monkeypatch.setattr("sys.stdout", stdout)
    return stdout


@pytest.mark.parametrize("arguments", [("-",), ("-", "-o", "-"), ("shoot/a.png", "-o", "-")])
def test_pipes_carry_images_in_and_out(
    arguments: tuple[str, ...], piped: Stdout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", piped)
    assert restore(*arguments) == 0
    assert restore("shoot/a.png", "-o", "file.png") == 0
    assert piped.buffer.getvalue() == Path("file.png").read_bytes()
    assert piped.getvalue() == ""


def test_stdin_is_restored_into_a_file(piped: Stdout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", piped)
    assert restore("-", "-o", "b.tif", "--json") == 0
    (line,) = lines_of(piped.getvalue())
    assert (line["input"], line["output"], line["status"]) == ("-", "b.tif", "done")
    assert images.read("b.tif").format == "tiff"
    before = Path("b.tif").read_bytes()
    assert restore("-", "-o", "b.tif") == 1
    assert Path("b.tif").read_bytes() == before


def test_stdin_without_an_image_has_exit_code_3(
    piped: Stdout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"rubbish")))
    monkeypatch.setattr("sys.stdout", piped)
    assert restore("-") == 3
    assert piped.buffer.getvalue() == b""
    assert "failed stdin: it is not an image" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [("-", "--json"), ("shoot/a.png", "-o", "-", "--json"), ("-", "shoot/a.png"),
     ("shoot/a.png", "shoot/b.png", "-o", "-"),
     ("-", "--devices", "cpu,cpu"), ("-", "-o", "shoot"), ("-", "--shard", "1/2")],
)  # fmt: skip
def test_invalid_combinations_with_pipes_are_refused(
    arguments: tuple[str, ...], piped: Stdout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", piped)
    assert restore(*arguments) == 2
    assert piped.buffer.getvalue() == b""


@pytest.mark.parametrize(
    ("stream", "arguments"),
    [("stdin", ("-", "-o", "x.png")), ("stdout", ("shoot/a.png", "-o", "-")), ("stdin", ("@-", "-o", "out")),
     ("stdout", ("shoot", "-o", "out", "--json"))],
)  # fmt: skip
def test_a_closed_stream_is_named(
    stream: str, arguments: tuple[str, ...], shoot: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with monkeypatch.context() as closed:
        closed.setattr(f"sys.{stream}", None)
        assert restore(*arguments) == 2
    error = capsys.readouterr().err
    assert stream in error
    assert "closed" in error
    assert "unexpected" not in error


def test_a_pipe_is_logged_and_its_memory_is_limited(piped: Stdout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", piped)
    assert restore("-", "-o", "b.png", "--log-file", "log.jsonl", "--memory-per-file", "10k") == 1
    failed, ended = lines_of(Path("log.jsonl").read_text())
    assert (failed["input"], failed["reason"], ended["status"]) == ("-", "memory", "ended")
    assert not Path("b.png").exists()


def test_a_full_disk_behind_stdout_is_named(
    piped: Stdout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sys.stdout", piped)
    monkeypatch.setattr(piped.buffer, "write", full, raising=False)
    assert restore("-") == 1
    assert "the disk is full" in capsys.readouterr().err


def test_no_image_is_written_to_a_terminal(shoot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = Stdout(terminal=True)
    monkeypatch.setattr("sys.stdout", stdout)
    assert restore("shoot/a.png", "-o", "-") == 2
    assert stdout.buffer.getvalue() == b""


# Interruption.


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize("devices", ["cpu", "cpu,cpu"])
def test_ctrl_c_leaves_no_partial_files(devices: str, shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The test sends SIGINT to every process of the group, as a terminal does."""
    save_photo(shoot / "z/large.png", 1600, 1600)
    (shoot / "notes.txt").unlink()
    command = [sys.executable, "-m", "sanarestore", "restore", "shoot", "-o", "out", "--model", "tiny-model", "--json"]
    command += ["--devices", devices, "--tile", "64", "--threads", "1"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # A background job of a script ignores SIGINT, and its children inherit that; a job of a terminal does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        finished = [json.loads(process.stdout.readline()) for _ in range(3)]
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert rest == ""
    assert errors.splitlines() == [
        "error interrupted; finished photos are kept, run the same command again to continue"
    ]
    assert [line["status"] for line in finished] == ["done"] * 3
    assert tree("out") == OUTPUTS
    journal = lines_of(Path("out/sanarestore.jsonl").read_text())
    assert [line["output"] for line in journal if line["status"] == "done"] != []
    (shoot / "z/large.png").unlink()
    capsys.readouterr()
    assert restore("shoot", "-o", "out") == 0
    assert "0 restored, 3 finished before" in capsys.readouterr().err


def test_json_lists_what_the_prompt_removes(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert restore("shoot", "-o", "one", "--json", "-p", "Remove Noise!") == 0
    assert {tuple(line["removes"]) for line in done_lines(capsys.readouterr().out)} == {("noise",)}
    assert restore("shoot", "-o", "two", "--json", "-p", "Restore this image") == 0
    assert {line["removes"] for line in done_lines(capsys.readouterr().out)} == {None}
    assert restore("shoot", "-o", "three", "--json") == 0
    assert {line["removes"] for line in done_lines(capsys.readouterr().out)} == {None}
    assert contents("two")["a.png"] == contents("three")["a.png"] != contents("one")["a.png"]


def test_what_the_prompt_removes_is_shown_once(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert restore("shoot", "-o", "out", "-p", "remove noise") == 0
    assert capsys.readouterr().err.count("the prompt removes noise\n") == 1


def test_a_prompt_that_is_not_understood_is_reported(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The note appears once on the terminal and in every line of JSON; the result is that of no prompt."""
    assert restore("shoot", "-o", "out", "-p", "asdf qwer") == 0
    assert capsys.readouterr().err.count("the prompt 'asdf qwer' was not understood") == 1
    assert restore("shoot", "-o", "json", "-p", "asdf qwer", "--json") == 0
    assert all("asdf qwer" in line["notes"][0] for line in done_lines(capsys.readouterr().out))
    assert restore("shoot", "-o", "plain") == 0
    assert contents("out")["a.png"] == contents("json")["a.png"] == contents("plain")["a.png"]


def test_strength_applies_a_part_of_the_change(shoot: Path) -> None:
    for strength in ("0", "0.5", "1"):
        assert restore("shoot/a.png", "-o", f"{strength}.png", "--strength", strength) == 0
    none, half, full, given = (
        images.read(Path(name)).pixels_HWC for name in ("0.png", "0.5.png", "1.png", "shoot/a.png")
    )
    assert np.array_equal(none, given)
    inside = (full > 0) & (full < 1)  # other values were clipped when they were stored
    assert np.abs(half - (given + full) / 2)[inside].max() <= 1 / 255
    assert np.abs(full - given).max() > 4 / 255


def test_a_strength_beyond_1_is_refused(shoot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert restore("shoot", "-o", "out", "--strength", "1.5") == 2
    assert "--strength: 1.5 is outside 0 to 1" in capsys.readouterr().err


def test_a_report_shows_what_was_restored_and_what_failed(
    shoot: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["sanarestore", "restore", "shoot", "--report", "report"])
    (shoot / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert restore("shoot", "-o", "out", "--report", "report") == 1
    page = Path("report/index.html").read_text(encoding="utf-8")
    assert "1 failed" in page
    assert "torn.png" in page
    assert "--report report" in page
    assert len(list(Path("report/previews").glob("*.webp"))) == 4 * page.count('class="done"') > 0
    capfd.readouterr()
    assert restore("shoot", "-o", "out", "--report", "out") == 2, "the output folder is no report"
    assert "not an earlier report" in capfd.readouterr().err
    assert restore("-", "-o", "out.png", "--report", "report") == 2
    assert restore("shoot", "-o", "out", "--report", "shoot/report") == 2
    assert "restored by the next run" in capfd.readouterr().err
    assert not Path("shoot/report").exists()
