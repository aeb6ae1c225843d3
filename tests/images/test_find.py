"""Tests of finding images from paths, patterns and lists."""

import io
import os
import sys
from pathlib import Path

import pytest

from sanarestore.errors import UsageError
from sanarestore.images import Findings, encode, find
from sanarestore.images.read import format_of
from sanarestore.images.signature import sniff
from tests.images.conftest import photograph
from tests.images.foreign_files import foreign_files

PNG = encode(photograph("uint8", 1, "png"))

on_posix = pytest.mark.skipif(os.name != "posix", reason="making links and pipes needs rights on Windows")


@pytest.fixture
def shoot(tmp_path):
    """A folder of images with various suffixes, hidden files, and files that are not images."""
    for name in ("b.png", "a.txt", "sub/c.jpg", "sub/deep/é 日本 📷.tif", ".hidden.png", ".git/d.png"):
        path = tmp_path / "shoot" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)
    (tmp_path / "shoot" / "notes.md").write_text("no image")
    (tmp_path / "shoot" / "sub" / "empty.PNG").touch()
    return tmp_path / "shoot"


def names(findings):
    return [found.relative.as_posix() for found in findings.images]


def facts(rejected):
    return {each.path.name: (each.reason, each.fact) for each in rejected}


ALL = ["a.txt", "b.png", "sub/c.jpg", "sub/deep/é 日本 📷.tif"]


def test_folders_are_searched_by_content_and_not_by_suffix(shoot):
    findings = find([shoot])
    assert names(findings) == ALL
    assert facts(findings.ignored) == {"notes.md": ("other", "it is not a photograph")}
    assert facts(findings.failed) == {"empty.PNG": ("unreadable", "it is empty")}
    assert all(found.root == shoot and found.path == shoot / found.relative for found in findings.images)


@pytest.mark.parametrize("name", ["shoot", "shoot/", "./shoot", ".", "../shoot/."])
def test_a_folder_may_be_spelled_in_any_way(shoot, monkeypatch, name):
    monkeypatch.chdir(shoot if "." in name and name != "./shoot" else shoot.parent)
    findings = find([name])
    assert names(findings) == ALL
    assert all(found.path.read_bytes() == PNG and found.in_folder for found in findings.images)


@pytest.mark.parametrize("suffix", ["tif", "TIFF", "png", "JPG", "jpeg", "jpe", "jfif", "WebP", "heic", "NEF"])
@pytest.mark.parametrize(
    ("content", "fact"),
    [(b"", "it is empty"), (bytes(5000), "it is not an image"), (b"GIF89a", "it is a GIF file, which is not read")],
)
def test_the_suffix_of_a_photograph_with_other_content_is_a_failure(tmp_path, suffix, content, fact):
    (tmp_path / f"a.{suffix}").write_bytes(content)
    findings = find([tmp_path])
    assert (findings.images, findings.ignored) == ((), ())
    assert facts(findings.failed) == {f"a.{suffix}": ("unreadable", fact)}
    assert findings.failed[0].next_step


@pytest.mark.parametrize(
    ("name", "content", "fact"),
    [
        ("a.gif", b"GIF89a", "it is a GIF file, which is not read"),
        ("a.exr", b"?", "it is an OpenEXR file, which is not read"),
        ("a", b"8BPS", "it is a Photoshop (PSD) file, which is not read"),
    ],
)
def test_other_picture_formats_are_ignored_by_name(tmp_path, name, content, fact):
    (tmp_path / name).write_bytes(content)
    assert facts(find([tmp_path]).ignored) == {name: ("unsupported", fact)}


@pytest.mark.parametrize("name", sorted(foreign_files()))
def test_formats_that_are_only_read_are_found_under_any_name(tmp_path, name):
    (tmp_path / "a").write_bytes(foreign_files()[name])
    assert names(find([tmp_path])) == ["a"]
    assert format_of(foreign_files()[name]) == {"dng": "raw", "j2k": "jp2"}.get(name[-3:], name.rpartition(".")[2])


@pytest.mark.parametrize(
    ("head", "format"),
    [
        (b"\0\0\0\x20ftypheic" + bytes(4) + b"mif1heic", "heif"),
        (b"\0\0\0\x20ftypmif1" + bytes(4) + b"mif1miafheix", "heif"),
        (b"\0\0\0\x20ftypmif1" + bytes(4) + b"mif1avif", "avif"),
        (b"\0\0\0\x18ftypcrx " + bytes(20), "raw"),
        (b"II*\0\x10\0\0\0CR\2\0", "raw"),
        (b"FUJIFILMCCD-RAW 0201", "raw"),
        (b"\0\0\0\x18ftypisom", None),
        (b"BM is a text that begins like a picture", None),
    ],
)
def test_formats_are_told_by_their_first_bytes(head, format):  # noqa: A002
    assert sniff(head) == format


def test_a_movie_is_not_taken_for_a_picture(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x1cftypisom")
    assert facts(find([tmp_path]).ignored) == {"a.mp4": ("other", "it is a video; name the file itself to restore it")}


def test_named_files_are_found_whatever_their_content(shoot):
    findings = find([str(shoot / "sub/empty.PNG"), shoot / ".hidden.png"])
    assert names(findings) == ["empty.PNG", ".hidden.png"]
    assert (findings.ignored, findings.failed) == ((), ())
    assert findings.images[1].root == shoot


@pytest.mark.parametrize(
    ("pattern", "expected", "others"),
    [
        ("*.png", ["b.png"], 0),
        ("*", ALL, 2),
        ("**", ALL, 2),
        ("**/*", ALL, 2),
        ("**/*.[jt][pi][gf]", ["sub/c.jpg", "sub/deep/é 日本 📷.tif"], 0),
        ("sub/*", ["sub/c.jpg", "sub/deep/é 日本 📷.tif"], 1),
        ("*/deep/*.tif", ["sub/deep/é 日本 📷.tif"], 0),
        ("**/deep", ["sub/deep/é 日本 📷.tif"], 0),
        (".*/*.png", [".git/d.png"], 0),
        ("?.t*t", ["a.txt"], 0),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_patterns_find_the_files_that_match(shoot, monkeypatch, pattern, expected, others, inside):
    monkeypatch.chdir(shoot)
    findings = find([pattern if inside else f"{shoot}/{pattern}"])
    found = sorted(found.path.absolute().relative_to(shoot).as_posix() for found in findings.images)
    assert found == expected
    assert len(findings.ignored + findings.failed) == others


def test_relative_paths_start_after_the_fixed_part_of_a_pattern(shoot):
    (found,) = find([f"{shoot}/sub/d*/*.tif"]).images
    assert found.relative.as_posix() == "deep/é 日本 📷.tif"
    assert found.root == shoot / "sub"
    assert not found.in_folder


def test_an_existing_name_is_not_taken_for_a_pattern(tmp_path):
    (tmp_path / "a[1].png").write_bytes(PNG)
    assert names(find([tmp_path / "a[1].png"])) == ["a[1].png"]


def test_every_file_is_found_once(shoot, monkeypatch):
    monkeypatch.chdir(shoot)
    findings = find(["b.png", str(shoot / "b.png"), "sub/../b.png", ".", "*.png", "notes.md", "sub/empty.PNG"])
    assert len(findings.images) == len(ALL) + 2
    assert names(findings)[0] == "b.png"
    assert (findings.ignored, findings.failed) == ((), ()), "files named outright are in one place only"


def test_an_empty_folder_has_no_images(tmp_path):
    assert find([tmp_path]) == Findings(())


# Inputs that name nothing.


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("nothing.jpg", "there is no such file or folder"),
        ("b.png/nothing.jpg", "there is no such file or folder"),
        ("y" * 300 + ".png", "there is no such file or folder"),
        ("nul\0.png", "there is no such file or folder"),
        ("", "an input is empty"),
        ("*.nothing", "no file matches this pattern"),
        ("nowhere/*/*", "no file matches this pattern"),
        ("**/*.nothing", "no file matches this pattern"),
        ("*" * 300, None),
        ("[x]" * 200, "no file matches this pattern"),
        ("@nothing.txt", "there is no such list"),
        ("@sub", "there is no such list"),
        ("@b.png", "the list is not UTF-8 text"),
    ],
)
def test_an_input_that_names_nothing_does_not_stop_the_others(shoot, monkeypatch, name, fact):
    monkeypatch.chdir(shoot)
    findings = find([name, "sub/c.jpg"])
    assert "c.jpg" in {found.path.name for found in findings.images}
    if fact is not None:
        (failed,) = findings.failed
        assert (failed.path, failed.reason) == (Path(name), "missing")
        assert failed.fact.startswith(fact)
        assert str(failed).startswith(f"{Path(name)}: {failed.fact}. {failed.next_step}")
        findings.check_inputs()
        with pytest.raises(UsageError, match=fact):
            find([name]).check_inputs()


# Lists.


def test_the_paths_of_a_list_start_at_the_current_folder(shoot, monkeypatch):
    monkeypatch.chdir(shoot)
    Path("list.txt").write_text("\ufeff# mine\n\nb.png\n  sub\r\n*.txt\n@list.txt\n", encoding="utf-8")
    findings = find(["@list.txt"])
    assert names(findings) == ["b.png", "c.jpg", "deep/é 日本 📷.tif", "a.txt"]
    assert "@list.txt" in facts(findings.failed), "a list is not followed from a list"


def test_a_list_separated_by_nul_bytes_keeps_every_character_of_a_name(shoot, monkeypatch):
    monkeypatch.chdir(shoot)
    for name in (" # spaces ", "two\nlines" if os.name == "posix" else "two lines"):
        Path(name).write_bytes(PNG)
    (shoot / "list").write_bytes(b" # spaces \0" + os.fsencode("two\nlines" if os.name == "posix" else "two lines"))
    findings = find(["@list"])
    assert len(findings.images) == 2
    assert findings.failed == ()


def test_a_list_may_come_from_stdin(shoot, monkeypatch):
    monkeypatch.chdir(shoot)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"b.png\0sub/c.jpg\0")))
    assert [found.path.as_posix() for found in find(["@-"]).images] == ["b.png", "sub/c.jpg"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse names that are not text")
@pytest.mark.parametrize("end", [b"\n", b"\0"])
def test_names_that_are_not_text_are_found(tmp_path, monkeypatch, end):
    monkeypatch.chdir(tmp_path)
    for name in (b"\xff\xfe.png", b"caf\xe9.png"):
        Path(os.fsdecode(name)).write_bytes(PNG)
    Path("list").write_bytes(b"caf\xe9.png" + end)
    assert [os.fsencode(found.path) for found in find(["@list"]).images] == [b"caf\xe9.png"]
    assert len(find([tmp_path]).images) == 2


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_list_in_another_encoding_is_one_failure(tmp_path, encoding):
    data = "a.png\nb.png\n".encode(encoding)
    (tmp_path / "list").write_bytes(data if data[0] > 250 else b"\xfe\xff" + data)
    (failed,) = find([f"@{tmp_path}/list"]).failed
    assert "UTF-8" in failed.next_step


# Files and folders that are not what they seem.


@on_posix
def test_links_in_circles_are_entered_once(shoot):
    for name in ("one", "two"):
        (shoot / "sub" / name).symlink_to(shoot, target_is_directory=True)
    (shoot / "self").symlink_to("self")
    assert names(find([shoot])) == ALL
    found = find([f"{shoot}/**/*.jpg"]).images
    assert [each.path.name for each in found] == ["c.jpg"]


@on_posix
def test_dead_links_fail_if_they_claim_to_be_photographs(shoot):
    for name in ("gone.png", "gone.txt"):
        (shoot / name).symlink_to(shoot / "nowhere")
    findings = find([shoot])
    assert facts(findings.failed)["gone.png"] == ("missing", "it is a link to a file that is missing")
    assert facts(findings.ignored)["gone.txt"] == ("other", "it is a link to a file that is missing")
    assert facts(find([shoot / "gone.txt"]).failed)["gone.txt"][0] == "missing"


@on_posix
def test_pipes_are_never_opened(shoot):
    for name in ("pipe.png", "pipe"):
        os.mkfifo(shoot / name)
    findings = find([shoot])
    assert names(findings) == ALL
    assert facts(findings.failed)["pipe.png"] == ("unreadable", "it is a pipe, a socket or a device, not a file")
    assert "pipe" in facts(findings.ignored)
    assert facts(find([shoot / "pipe"]).failed)["pipe"][0] == "unreadable"


@on_posix
def test_a_device_that_is_named_is_a_failure():
    assert facts(find(["/dev/null"]).failed)["null"][0] == "unreadable"


def test_folders_that_cannot_be_read_are_failures(shoot, monkeypatch):
    scan = os.scandir

    def scandir(path):
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for name in (str(shoot), f"{shoot}/**/*"):
        findings = find([name])
        assert names(findings)[:3] == ALL[:3]
        expected = ("unreadable", "this folder cannot be read (Permission denied)")
        assert facts(findings.failed)["deep"] == expected


def test_files_that_cannot_be_opened_are_failures(shoot, monkeypatch):
    opened = Path.open

    def refuse(path, *arguments, **options):
        if path.name == "b.png":
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    findings = find([shoot])
    assert "b.png" not in names(findings)
    assert facts(findings.failed)["b.png"] == ("unreadable", "it cannot be read (Permission denied)")


def test_very_deep_folders_are_searched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    top = tmp_path
    for _ in range(300):  # made step by step, because the whole path is longer than systems take at once
        Path("d").mkdir()
        os.chdir("d")
    Path("a.png").write_bytes(PNG)
    os.chdir(top)
    assert [found.path.name for found in find([tmp_path]).images] == ["a.png"]
