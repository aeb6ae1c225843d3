"""Tests of finding images from paths, patterns and lists."""

import os
from pathlib import Path

import pytest

from sanarestore.errors import UsageError
from sanarestore.images import encode, find
from tests.images.conftest import photograph

PNG = encode(photograph("uint8", 1, "png"))


@pytest.fixture
def shoot(tmp_path):
    """A folder of images with various suffixes, hidden files, and files that are not images."""
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


def test_folders_are_searched_by_content_and_not_by_suffix(shoot):
    findings = find([shoot])
    assert names(findings) == ALL
    assert findings.skipped == 2
    assert all(found.root == shoot and found.path == shoot / found.relative for found in findings.images)


def test_named_files_are_found_whatever_their_content(shoot):
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
def test_patterns_find_the_files_that_match(shoot, pattern, expected, skipped):
    findings = find([f"{shoot}/{pattern}"])
    assert sorted(found.path.relative_to(shoot).as_posix() for found in findings.images) == expected
    assert findings.skipped == skipped


def test_relative_paths_start_after_the_fixed_part_of_a_pattern(shoot):
    (found,) = find([f"{shoot}/sub/d*/*.tif"]).images
    assert found.relative.as_posix() == "deep/é 日本 📷.tif"
    assert found.root == shoot / "sub"


def test_an_existing_name_is_not_taken_for_a_pattern(tmp_path):
    (tmp_path / "a[1].png").write_bytes(PNG)
    assert names(find([tmp_path / "a[1].png"])) == ["a[1].png"]


def test_the_paths_of_a_list_start_at_the_current_folder(shoot, monkeypatch):
    monkeypatch.chdir(shoot)
    Path("list.txt").write_text("\ufeff# mine\n\nb.png\n  sub\n*.txt\n", encoding="utf-8")
    findings = find(["@list.txt"])
    assert names(findings) == ["b.png", "c.jpg", "deep/é 日本 📷.tif", "a.txt"]


def test_every_file_is_found_once(shoot, monkeypatch):
    monkeypatch.chdir(shoot)
    findings = find(["b.png", str(shoot / "b.png"), "sub/../b.png", ".", "*.png", "notes.jpg"])
    assert len(findings.images) == len(ALL) + 1
    assert names(findings)[0] == "b.png"
    assert findings.skipped == 1  # only empty.png is skipped, because notes.jpg was named


@pytest.mark.parametrize("name", ["nothing.jpg", "*.nothing", "@nothing.txt"])
def test_names_without_a_file_are_refused(shoot, monkeypatch, name):
    monkeypatch.chdir(shoot)
    with pytest.raises(UsageError) as caught:
        find([name])
    assert caught.value.where == name
    assert caught.value.next_step


def test_a_list_that_is_not_text_is_refused(shoot, monkeypatch):
    monkeypatch.chdir(shoot)
    with pytest.raises(UsageError, match="UTF-8"):
        find(["@b.png"])


def test_an_empty_folder_has_no_images(tmp_path):
    assert find([tmp_path]) == type(find([tmp_path]))((), 0)


@pytest.mark.skipif(os.name != "posix", reason="making links and pipes needs rights on Windows")
def test_link_loops_dead_links_and_pipes_are_skipped(shoot):
    (shoot / "sub" / "loop").symlink_to(shoot, target_is_directory=True)
    (shoot / "gone.png").symlink_to(shoot / "nowhere")
    os.mkfifo(shoot / "pipe.png")
    findings = find([shoot])
    assert names(findings) == ALL
    assert findings.skipped == 4
