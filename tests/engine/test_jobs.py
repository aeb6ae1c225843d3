"""Tests of planned jobs: where outputs go, and what is refused before any work."""

import json
import os
from pathlib import Path

import pytest

from sanarestore import images
from sanarestore.engine.jobs import Job, Outcome, plan
from sanarestore.errors import NoImagesError, UsageError
from tests.conftest import save_photo


@pytest.fixture
def shoot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of photos; the current folder is the one above it."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png", "deep/er/c.png"):
        save_photo(Path("shoot") / name, 8, 8)
    return Path("shoot")


def planned(*inputs: str, output: str | None = None) -> list[Job]:
    return plan(images.find(inputs).images, inputs, output)


def targets(*inputs: str, output: str | None = None) -> list[str]:
    return [os.path.relpath(job.target) for job in planned(*inputs, output=output)]


def test_the_output_folder_mirrors_the_input_tree(shoot: Path) -> None:
    assert targets("shoot", output="out") == ["out/a.png", "out/b.png", "out/deep/er/c.png"]
    assert targets("shoot/a.png", "shoot/deep", output="out") == ["out/a.png", "out/er/c.png"]
    assert targets("shoot/d*", output="out") == ["out/deep/er/c.png"]
    assert {job.folder for job in planned("shoot", output="out")} == {Path("out")}


def test_results_go_beside_the_input_when_no_output_is_given(shoot: Path) -> None:
    assert targets("shoot/a.png") == ["shoot/a-restored.png"]
    assert planned("shoot/a.png")[0].folder is None
    assert targets("shoot") == [f"shoot-restored/{name}" for name in ("a.png", "b.png", "deep/er/c.png")]
    assert targets("shoot/deep", "shoot/b.png") == ["shoot/deep-restored/er/c.png", "shoot/b-restored.png"]
    assert planned("shoot")[0].folder == shoot.resolve().with_name("shoot-restored")


def test_every_output_folder_has_its_own_journal(shoot: Path) -> None:
    save_photo(Path("other/d.png"), 8, 8)
    folders = {job.source.name: job.folder for job in planned("shoot", "other") if job.folder}
    assert {name: folder.name for name, folder in folders.items()} == {
        "a.png": "shoot-restored", "b.png": "shoot-restored", "c.png": "shoot-restored", "d.png": "other-restored",
    }  # fmt: skip


def test_the_results_of_the_current_folder_go_beside_it(shoot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shoot)
    assert targets(".")[0] == "../shoot-restored/a.png"


def test_a_single_output_file_sets_target_and_format(shoot: Path) -> None:
    job = planned("shoot/a.png", output="b.png")[0]
    assert (job.target, job.format, job.folder) == (Path("b.png"), None, None)
    assert planned("shoot/a.png", output="b.PNG")[0].format is None
    assert planned("shoot/a.png", output="b.tif")[0].format == "tiff"
    # A name without the suffix of an image is a folder, even with a dot in it; an existing folder stays one.
    assert targets("shoot/a.png", output="v1.2") == ["v1.2/a.png"]
    Path("odd.png").mkdir()
    assert targets("shoot/a.png", output="odd.png") == ["odd.png/a.png"]


def test_the_output_folder_may_lie_inside_the_input_folder(shoot: Path) -> None:
    save_photo(shoot / "out/a.png", 8, 8)
    assert targets("shoot", output="shoot/out") == [f"shoot/out/{name}" for name in ("a.png", "b.png", "deep/er/c.png")]
    assert targets("shoot/deep", output="shoot") == ["shoot/er/c.png"]


@pytest.mark.parametrize(
    ("inputs", "output", "message"),
    [
        (["shoot/a.png", "other/a.png"], "out", "both be written"),
        (["shoot/a.png", "other/A.png"], "out", "both be written"),
        (["shoot"], "shoot", "replace an input"),
        (["shoot"], ".", None),
        (["shoot/a.png"], "shoot/a.png", "replace an input"),
        (["shoot/a.png"], "shoot", "replace an input"),
        (["shoot/a.png"], "linked", "replace an input"),
        (["shoot/a.png", "shoot/a-restored.png"], None, "replace an input"),
        (["shoot"], "other/a.png", "a folder is needed"),
        (["shoot/d*/../a.png"], "out", None),
        (["shoot/d*/../../other/a.png"], "out", "outside of the output"),
    ],
)
def test_jobs_that_would_overwrite_an_input_or_each_other_are_refused(
    shoot: Path, inputs: list[str], output: str | None, message: str | None
) -> None:
    for path in (shoot / "a-restored.png", Path("other/a.png"), Path("other/A.png")):
        save_photo(path, 8, 8)
    Path("linked").symlink_to("shoot")
    if message is None:
        planned(*inputs, output=output)
    else:
        with pytest.raises(UsageError, match=message):
            planned(*inputs, output=output)


def test_inputs_without_images_are_an_error(shoot: Path) -> None:
    Path("empty").mkdir()
    with pytest.raises(NoImagesError, match=r"empty.*TIFF, PNG, JPEG and WebP"):
        planned("empty")
    save_photo(Path("only/out/a.png"), 8, 8)
    with pytest.raises(NoImagesError):
        planned("only", output="only/out")


def test_the_root_folder_needs_an_explicit_output() -> None:
    with pytest.raises(UsageError, match="-o"):
        plan([images.Found(Path("/a.png"), Path("a.png"), Path("/"), in_folder=True)], ["/"], None)


def test_a_folder_in_a_list_file_equals_a_folder_argument(shoot: Path) -> None:
    Path("list.txt").write_text("shoot\n")
    assert planned("@list.txt") == planned("shoot")


@pytest.mark.parametrize("name", ["x.avif", "x.HEIC", "x.jxl", "x.bmp"])
def test_unsupported_output_formats_are_refused(name: str, shoot: Path) -> None:
    for inputs in (["shoot/a.png"], ["shoot"]):
        with pytest.raises(UsageError, match="is not written"):
            planned(*inputs, output=name)
    Path(name).mkdir()
    planned("shoot", output=name)


def test_an_outcome_converts_to_json() -> None:
    outcome = Outcome(path=Path("a.png"), output=Path("b.png"), status="done", notes=("x",), tile=64)
    line = json.loads(json.dumps(outcome.to_json()))
    assert line.keys() == {
        "input", "output", "status", "seconds", "megapixels", "error", "notes", "device", "tile",
        "threads", "expert", "removes", "sha256",
    }  # fmt: skip
    assert (line["input"], line["output"], line["notes"]) == ("a.png", "b.png", ["x"])
