"""Tests of atomic replacement of files and folders, and of hashes."""

import hashlib
import os
import shutil
import stat
from pathlib import Path

import pytest

from sanarestore import images
from sanarestore.files import PIECE, changed_copy, hash_file, hash_text, replace_folder, sampled_hash, write_atomically
from tests.conftest import photo


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_appears_only_when_it_is_complete(tmp_path: Path, durable: bool) -> None:
    target = tmp_path / "new" / "a.bin"
    for content in (b"first", b"second"):
        with write_atomically(target, durable=durable) as file:
            file.write(content)
            assert not target.exists() or target.read_bytes() == b"first"
        assert contents(tmp_path) == {"new/a.bin": content}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["block", "os.fsync", "pathlib.Path.replace"])
def test_a_failure_leaves_only_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise error

    if step != "block":
        monkeypatch.setattr(step, fail)
    with pytest.raises(type(error)), write_atomically(target) as file:  # noqa: PT012
        file.write(b"half")
        if step == "block":
            fail()
    assert contents(tmp_path) == {"a.bin": b"old"}


@pytest.mark.parametrize(("durable", "synced"), [(True, {False, True}), (False, set())])
def test_a_durable_file_and_its_name_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool, synced: set[bool]
) -> None:
    seen: set[bool] = set()
    monkeypatch.setattr("os.fsync", lambda handle: seen.add(stat.S_ISDIR(os.fstat(handle).st_mode)))
    with write_atomically(tmp_path / "a", durable=durable) as file:
        file.write(b"content")
    assert seen == (synced if os.name == "posix" else synced - {True})


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with write_atomically(tmp_path / "a"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_partial_file_is_not_found_as_a_photograph(tmp_path: Path) -> None:
    images.write(images.Image(pixels_HWC=photo(8, 8), depth="uint8", format="png"), tmp_path / "a.png")
    with write_atomically(tmp_path / "b.png") as file:
        file.write((tmp_path / "a.png").read_bytes())
        file.flush()
        (partial,) = set(tmp_path.iterdir()) - {tmp_path / "a.png"}
        found = images.find([tmp_path])
        assert [one.path.name for one in found.images] == ["a.png"]
        assert found.ignored == ()
    assert not partial.exists()


@pytest.mark.parametrize("fatal_call", range(5))
def test_a_folder_is_replaced_and_one_is_complete_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fatal_call: int
) -> None:
    fresh, target, old = (tmp_path / name for name in ("a.new", "a", "a.old"))
    for folder, content in ((fresh, b"new"), (target, b"before"), (old, b"oldest")):
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "file").write_bytes(content)
    calls = 0

    def strike(work):  # type: ignore[no-untyped-def]
        def maybe(*arguments, **options):  # type: ignore[no-untyped-def]
            nonlocal calls
            calls += 1
            if calls == fatal_call:
                raise KeyboardInterrupt
            return work(*arguments, **options)

        return maybe

    monkeypatch.setattr(shutil, "rmtree", strike(shutil.rmtree))
    monkeypatch.setattr(Path, "replace", strike(Path.replace))
    if not fatal_call:
        replace_folder(fresh, target, old)
        assert contents(tmp_path) == {"a/deep/file": b"new"}
        assert calls == 4, "the parameters crash at every step"
        return
    with pytest.raises(KeyboardInterrupt):
        replace_folder(fresh, target, old)
    left = target if target.exists() else old
    assert (left / "deep" / "file").read_bytes() == (b"new" if fatal_call == 4 else b"before")


def test_hashes_equal_those_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    assert hash_file(tmp_path / "a") == hash_text("content") == hashlib.sha256(b"content").hexdigest()
    assert hash_file(tmp_path / "a", "md5") == hashlib.md5(b"content", usedforsecurity=False).hexdigest()
    assert hash_text("name\udce9") == hashlib.sha256(b"name\xe9").hexdigest()


def test_a_sampled_hash_depends_on_names_sizes_and_content(tmp_path: Path) -> None:
    def changed(name: str, content: bytes) -> str:
        (tmp_path / "part").mkdir(exist_ok=True)
        (tmp_path / "part" / name).write_bytes(content)
        return sampled_hash(tmp_path, "part")

    large = bytes(70 * PIECE)
    hashes = [changed("a", large), changed("a", large + b"\0"), changed("a", b"\1" + large), changed("b", b"")]
    assert len(set(hashes)) == 4
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "c").write_bytes(b"not part of it")
    assert sampled_hash(tmp_path, "part") == hashes[-1]


def test_a_changed_copy_is_put_in_place_whole_or_not_at_all(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for folder, text in ((source, "new"), (target, "old")):
        folder.mkdir()
        (folder / "a").write_text(text)
    (source / "b").write_text("left out")

    def breaks() -> None:
        with changed_copy(source, target) as fresh:
            (fresh / "a").write_text("half")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        breaks()
    assert [path.name for path in tmp_path.iterdir() if path not in (source, target)] == []
    assert (target / "a").read_text() == "old"
    with changed_copy(source, target, "b") as fresh:
        (fresh / "c").write_text("added")
    assert {path.name: path.read_text() for path in target.iterdir()} == {"a": "new", "c": "added"}
    assert (source / "b").read_text() == "left out"
