"""`restore` for clips: recognition of inputs, refusals, plans and JSON."""

import json
from pathlib import Path

import pytest

from sanarestore.cli import clips
from sanarestore.cli.app import run
from sanarestore.video import library
from tests.conftest import save_photo
from tests.video.clip_files import save_clip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> Path:
    """The current folder, with a folder of frames."""
    monkeypatch.chdir(tmp_path)
    for number in (1, 2, 10):
        save_photo(tmp_path / "shots" / f"f{number}.png", 16, 24)
    return tmp_path


def restored(*arguments: str) -> int:
    return run(["restore", *arguments, "--model", "tiny-model", "--threads", "1"])


def test_a_folder_of_frames_is_one_clip(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert restored("shots", "--frames", "-o", "out", "--json") == 0
    (line,) = [json.loads(each) for each in capfd.readouterr().out.splitlines()]
    assert (line["status"], line["frames"], line["resumed"], line["cuts"]) == ("done", 3, 0, [])
    assert {path.name for path in Path("out").glob("*.png")} == {"f1.png", "f2.png", "f10.png"}
    assert restored("shots", "--frames", "-o", "out", "-q") == 0


def test_without_the_flag_a_folder_is_a_batch_and_video_in_it_is_ignored(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("shots/clip.mp4").write_bytes(b"\0\0\0\x18ftypisom")
    assert restored("shots", "-o", "out", "--json") == 0
    lines = [json.loads(each) for each in capfd.readouterr().out.splitlines()]
    assert sorted(each["status"] for each in lines) == ["done", "done", "done", "ignored"]
    (ignored,) = [each for each in lines if each["status"] == "ignored"]
    assert "name the file itself to restore it" in ignored["notes"][0]


def test_video_without_pyav_names_the_command_that_installs_it(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(library, "import_module", missing)
    Path("clip.mp4").touch()
    assert restored("clip.mp4", "-o", "out.mp4") == 2
    assert "pip install 'sanarestore[video]'" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["clip.mp4", "--watch"], "--watch"),
        (["clip.mp4", "--shard", "1/2"], "--shard"),
        (["clip.mp4", "--devices", "cpu,cuda:0"], "--devices"),
        (["clip.mp4", "--format", "png"], "--format"),
        (["clip.mp4", "shots/f1.png"], "shots/f1.png"),
        (["clip.mp4", "-o", "out.avi"], "out.avi"),
        (["shots", "--frames", "--codec", "av1"], "--codec"),
        (["shots", "--codec", "av1"], "--codec"),
        (["shots", "--temporal", "0.5"], "--temporal"),
        (["shots", "--frames", "--temporal", "2"], "--temporal"),
        (["shots/f1.png", "--frames"], "shots/f1.png"),
    ],
)
def test_what_clips_do_not_have_is_refused(
    folder: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    Path("clip.mp4").touch()
    assert restored(*arguments) == 2
    assert named in capfd.readouterr().err


def test_patterns_and_lists_are_photographs() -> None:
    assert clips.are_named(["a.mp4"], frames=False)
    assert not clips.are_named(["*.mp4", "@list.mp4", "a.jpg"], frames=False)
    assert clips.are_named(["a"], frames=True)


def test_a_dry_run_lists_frames_size_and_encoder(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av")
    save_clip(folder / "clip.mkv", frames=3, times=[0, 40, 90])
    assert restored("clip.mkv", "--dry-run") == 0
    assert capfd.readouterr().out == "clip.mkv -> clip-restored.mkv: 3 frames of 96 x 64, ffv1\n"
    assert not Path("clip-restored.mkv").exists()
    assert restored("clip.mkv", "--dry-run", "--codec", "nonsense") == 1
    assert "no encoder for 'nonsense'" in capfd.readouterr().err


def test_a_file_that_is_no_video_ends_with_3(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av")
    Path("clip.mp4").write_bytes(b"no video")
    assert restored("clip.mp4", "-o", "out.mp4") == 3
    assert "clip.mp4: it is not a video that can be read" in capfd.readouterr().err
    assert not Path("out.mp4").exists()
