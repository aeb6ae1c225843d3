"""What the user's words for images find."""

import os
from pathlib import Path

import pytest

from sanarestore.errors import UsageError
from sanarestore.images import encode, find
from tests.images.conftest import photograph

PNG = encode(photograph("uint8", 1, "png"))


@pytest.fixture
def shoot(tmp_path):
    """Images under all suffixes, and what is none."""
    for name in ("b.png", "a.txt", "sub/c.jpg", "sub/deep/é 日本 📷.tif", ".hidden.png", ".git/d.png"):
        path = tmp_path / "shoot" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)
    (tmp_path / "shoot" / "notes.jpg").write_text("no image")
    (tmp_path / "shoot" / "sub" / "empty.png").touch()
    return tmp_path / "shoot"


def names(findings):
    return [found.relative.as_posix() for found in findings.images]


ALL = ["a.txt", "b.png", "sub/c.jpg", "sub/deep/é 日本 📷.tif"]


def test_folders_are_walked_and_told_by_content(shoot):
    findings = find([shoot])
    assert names(findings) == ALL
    assert findings.skipped == 2
    assert all(found.root == shoot and found.path == shoot / found.relative for found in findings.images)


def test_named_files_are_found_whatever_they_hold(shoot):
    findings = find([str(shoot / "notes.jpg"), shoot / ".hidden.png"])
    assert names(findings) == ["notes.jpg", ".hidden.png"]
    assert findings.skipped == 0
    assert findings.images[0].root == shoot


@pytest.mark.parametrize(
    ("pattern", "expected", "skipped"),
    [
        ("*.png", ["b.png"], 0),
        ("*", ["a.txt", "b.png", "sub/c.jpg", "sub/deep/é 日本 📷.tif"], 2),
        ("**", ALL, 2),
        ("**/*.[jt][pi][gf]", ["sub/c.jpg", "sub/deep/é 日本 📷.tif"], 1),
        ("sub/*", ["sub/c.jpg", "sub/deep/é 日本 📷.tif"], 1),
    ],
)
def test_patterns_find_what_they_match(shoot, pattern, expected, skipped):
    findings = find([f"{shoot}/{pattern}"])
    assert sorted(found.path.relative_to(shoot).as_posix() for found in findings.images) == expected
    assert findings.skipped == skipped


def test_patterns_mirror_below_their_fixed_part(shoot):
    (found,) = find([f"{shoot}/sub/d*/*.tif"]).images
    assert found.relative.as_posix() == "deep/é 日本 📷.tif"
    assert found.root == shoot / "sub"


def test_names_that_look_like_patterns_are_names(tmp_path):
    (tmp_path / "a[1].png").write_bytes(PNG)
    assert names(find([tmp_path / "a[1].png"])) == ["a[1].png"]


def test_lists_are_read_from_the_current_folder(shoot, monkeypatch):
    monkeypatch.chdir(shoot)
    Path("list.txt").write_text("\ufeff# mine\n\nb.png\n  sub\n*.txt\n", encoding="utf-8")
    findings = find(["@list.txt"])
    assert names(findings) == ["b.png", "c.jpg", "deep/é 日本 📷.tif", "a.txt"]


def test_every_file_once(shoot, monkeypatch):
    monkeypatch.chdir(shoot)
    findings = find(["b.png", str(shoot / "b.png"), "sub/../b.png", ".", "*.png", "notes.jpg"])
    assert len(findings.images) == len(ALL) + 1
    assert names(findings)[0] == "b.png"
    assert findings.skipped == 1  # empty.png: notes.jpg was named


@pytest.mark.parametrize("name", ["nothing.jpg", "*.nothing", "@nothing.txt"])
def test_what_names_nothing_is_refused(shoot, monkeypatch, name):
    monkeypatch.chdir(shoot)
    with pytest.raises(UsageError) as caught:
        find([name])
    assert caught.value.where == name
    assert caught.value.next_step


def test_a_list_that_is_no_text_is_refused(shoot, monkeypatch):
    monkeypatch.chdir(shoot)
    with pytest.raises(UsageError, match="UTF-8"):
        find(["@b.png"])


def test_an_empty_folder_has_nothing(tmp_path):
    assert find([tmp_path]) == type(find([tmp_path]))((), 0)


@pytest.mark.skipif(os.name != "posix", reason="making links and pipes needs rights on Windows")
def test_loops_end_and_pipes_are_not_waited_for(shoot):
    (shoot / "sub" / "loop").symlink_to(shoot, target_is_directory=True)
    (shoot / "gone.png").symlink_to(shoot / "nowhere")
    os.mkfifo(shoot / "pipe.png")
    findings = find([shoot])
    assert names(findings) == ALL
    assert findings.skipped == 4
