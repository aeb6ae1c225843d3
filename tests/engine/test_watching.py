"""Tests of a folder that is watched: files are taken when they stand still, and not before."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sanarestore.engine.watching import arrivals


class Clock:
    """Stands in for `time.monotonic`."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_files_are_taken_when_they_stand_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    (tmp_path / "old.jpg").write_bytes(b"whole")
    growing, moved, gone = tmp_path / "new.jpg", tmp_path / "sub", tmp_path / "gone.jpg"
    taken: dict[str, float] = {}

    def changes() -> Iterator[list[Path]]:
        """Half a second passes between looks; one file grows, one disappears, and a folder is moved here."""
        for look in range(24):
            clock.now = look / 2
            changed = []
            if look in (3, 5, 7):
                with growing.open("ab") as file:
                    file.write(b"more")
                changed = [growing]
            if look == 4:
                moved.mkdir()
                (moved / "a.jpg").write_bytes(b"whole")
                gone.write_bytes(b"soon")
                changed = [moved, gone]
            if look == 6:
                gone.unlink()
                changed = [gone]
            yield changed

    for ready in arrivals(tmp_path, changes()):
        assert not set(map(Path, ready)) & taken.keys()
        taken |= {Path(path).relative_to(tmp_path.resolve()).as_posix(): clock.now for path in ready}
    assert taken == {"old.jpg": 2.0, "sub/a.jpg": 4.0, "new.jpg": 5.5}


def test_a_file_that_changes_later_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"first")

    def changes() -> Iterator[list[Path]]:
        for look in range(20):
            clock.now = look / 2
            if look == 10:
                photo.write_bytes(b"second")
            yield [photo] if look == 10 else []

    assert [len(ready) for ready in arrivals(tmp_path, changes())] == [1, 1]
