"""Tests of the lock: one run per folder, parts beside each other, and nothing left behind."""

import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sanarestore.engine import lock
from sanarestore.engine.lock import NAME, Lock
from sanarestore.errors import UsageError
from sanarestore.options import Shard


def test_a_second_run_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    with Lock(tmp_path / "new/out"):
        with pytest.raises(UsageError, match=rf"process {os.getpid()} on .*--shard"):
            Lock(tmp_path / "new/out")
        with pytest.raises(UsageError):
            Lock(tmp_path / "new/out", Shard(1, 2))
    with Lock(tmp_path / "new/out"):
        pass
    assert list((tmp_path / "new/out").iterdir()) == []


def test_parts_work_beside_each_other(tmp_path: Path) -> None:
    with Lock(tmp_path, Shard(1, 2)), Lock(tmp_path, Shard(2, 2)):
        with pytest.raises(UsageError):
            Lock(tmp_path, Shard(1, 2))
        with pytest.raises(UsageError):
            Lock(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="parts do not lock out a whole run there")
def test_a_whole_run_removes_the_locks_of_dead_parts(tmp_path: Path) -> None:
    (tmp_path / ".sanarestore.1-of-2.lock").write_text(json.dumps({"pid": 2**22 + 1, "host": "elsewhere"}))
    with Lock(tmp_path, Shard(2, 2)):
        pass
    assert len(list(tmp_path.iterdir())) == 1
    with Lock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_of_a_dead_run_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(json.dumps({"pid": 2**22 + 1, "host": "elsewhere"}))
    with Lock(tmp_path):
        assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()


@pytest.mark.skipif(sys.platform == "win32", reason="locks are not inherited there")
def test_the_lock_stays_held_until_the_workers_of_a_killed_run_have_ended(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import subprocess, sys
        from pathlib import Path
        from sanarestore.engine.lock import Lock
        held = Lock(Path({str(tmp_path)!r}))
        worker = subprocess.Popen(["sleep", "1.5"], pass_fds=held.handles)
        print(worker.pid, flush=True)
        sys.stdin.read()
    """)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        worker = int(run.stdout.readline())
        run.kill()
        run.wait()
    os.kill(worker, 0)
    with Lock(tmp_path):  # waits for the worker
        assert not _is_running(worker)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().split()[2] != "Z"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no flock there")
def test_on_a_disk_without_locks_the_file_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock.fcntl, "flock", unsupported)
    monkeypatch.setattr(lock, "_PATIENCE", 0.2)
    (tmp_path / NAME).write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
    with pytest.raises(UsageError, match="process 1 on elsewhere"):
        Lock(tmp_path)
    (tmp_path / NAME).unlink()
    with Lock(tmp_path):
        assert (tmp_path / NAME).exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no flock there")
@pytest.mark.parametrize("pid", [str(10**30), "[" * 4000])
def test_a_lock_that_is_held_is_reported_whatever_it_says(
    pid: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_PATIENCE", 0.2)
    with Lock(tmp_path):
        (tmp_path / NAME).write_text(f'{{"host": "{socket.gethostname()}", "pid": {pid}}}')
        with pytest.raises(UsageError, match="another run is writing there"):
            Lock(tmp_path)


def test_a_folder_in_which_nothing_can_be_written_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "wall").write_text("a file")
    with pytest.raises(OSError, match="wall"):
        Lock(tmp_path / "wall")
