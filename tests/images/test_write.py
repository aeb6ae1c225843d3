"""Tests of writing: a file appears complete or not at all."""

import os
import stat

import numpy as np
import pytest

from sanarestore.errors import UnwritableImage
from sanarestore.images import read, write
from sanarestore.images.image import to_stored
from tests.images.conftest import codes, photograph


def test_missing_folders_are_created_under_any_name(tmp_path):
    path = tmp_path / "été" / "日本 📷" / "a b.jpg"
    write(photograph("uint16", 3, "png"), path)
    assert np.array_equal(to_stored(read(path)), codes("uint16", 3))
    assert list(path.parent.iterdir()) == [path]


def test_the_format_can_be_chosen(tmp_path):
    write(photograph("uint16", 3, "png"), tmp_path / "a", format="tiff")
    assert read(tmp_path / "a").format == "tiff"


@pytest.mark.parametrize("overwrite", [True, False])
def test_files_are_overwritten_only_when_allowed(tmp_path, overwrite):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    if overwrite:
        write(photograph("uint8", 3, "png"), path)
        assert read(path).depth == "uint8"
    else:
        with pytest.raises(UnwritableImage, match="exists"):
            write(photograph("uint8", 3, "png"), path, overwrite=False)
        assert path.read_bytes() == b"old"


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_only_the_old_file(tmp_path, monkeypatch, step, error):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(*(("os.fsync",) if step == "fsync" else ("pathlib.Path.replace",)), fail)
    expected = UnwritableImage if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        write(photograph("uint8", 3, "png"), path)
    if isinstance(error, OSError):
        assert "No space left" in str(caught.value)
        assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_encoding_leaves_no_folder(tmp_path):
    path = tmp_path / "new" / "a.jpg"
    with pytest.raises(UnwritableImage) as caught:
        write(photograph("uint16", 3, "jpeg"), path)
    assert caught.value.where == str(path)
    assert not path.parent.exists()


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write(photograph("uint8", 1, "png"), tmp_path / "a.png")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o640
