"""Checkpoints: atomic replacement, and protection from Ctrl-C while writing."""

import shutil
import signal
import threading
from pathlib import Path

import pytest
import torch

from sanarestore.training import checkpoint
from sanarestore.training.checkpoint import CURRENT, FRESH, OLD, STATE, uninterrupted


def write(run: Path, step: int) -> None:
    # Safetensors writes neither shared tensors nor ones that are not contiguous.
    tensor = torch.full((2, 3), float(step))
    checkpoint.write(run, {"model": {"a": tensor, "b": tensor, "c": tensor.T}}, {"step": step})


def test_the_latest_checkpoint_is_read_back(tmp_path: Path) -> None:
    assert checkpoint.find_checkpoint(tmp_path) is None
    for step in (1, 2):
        write(tmp_path, step)
        found = checkpoint.find_checkpoint(tmp_path)
        assert found == tmp_path / CURRENT
        assert checkpoint.read_state(found) == {"step": step}
        assert torch.equal(checkpoint.read_tensors(found, "model")["c"], torch.full((3, 2), float(step)))
        assert [path.name for path in tmp_path.iterdir()] == [CURRENT]


def test_a_whole_checkpoint_remains_wherever_writing_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupt each call that changes the disk in turn; a complete checkpoint is found every time."""
    seen, rmtree = set(), shutil.rmtree
    for failing_call in range(1, 9):
        run = tmp_path / str(failing_call)
        write(run, 1)
        calls = 0

        def interrupting(work, failing_call=failing_call):  # type: ignore[no-untyped-def]
            def maybe(*arguments, **options):  # type: ignore[no-untyped-def]
                nonlocal calls
                calls += 1
                if calls == failing_call:
                    # Remove a part of the folder first, like a process killed during rmtree.
                    if work is rmtree and (Path(arguments[0]) / STATE).exists():
                        (Path(arguments[0]) / STATE).unlink()
                    raise KeyboardInterrupt
                return work(*arguments, **options)

            return maybe

        with monkeypatch.context() as patched:
            patched.setattr(shutil, "rmtree", interrupting(shutil.rmtree))
            patched.setattr(Path, "replace", interrupting(Path.replace))
            patched.setattr(checkpoint, "save_file", interrupting(checkpoint.save_file))
            patched.setattr(checkpoint, "write_json", interrupting(checkpoint.write_json))
            try:
                write(run, 2)
            except KeyboardInterrupt:
                seen.add(failing_call)
        found = checkpoint.find_checkpoint(run)
        assert found is not None
        step = checkpoint.read_state(found)["step"]
        assert torch.equal(checkpoint.read_tensors(found, "model")["a"], torch.full((2, 3), float(step)))
        write(run, 3)
        assert checkpoint.find_checkpoint(run) == run / CURRENT
        assert sorted(path.name for path in run.iterdir()) == [CURRENT]
    assert seen == set(range(1, 8)), "every call was interrupted once"
    assert {CURRENT, FRESH, OLD} == set(checkpoint.NAMES)


def test_ctrl_c_waits_for_the_end_of_the_block() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        done.append("still here")
    assert done == ["still here"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(ValueError, match="of its own"), uninterrupted():
        raise ValueError("of its own")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there are no such signals")
def test_other_signals_that_end_a_run_wait_too() -> None:
    done: list[str] = []

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        before = signal.signal(number, end)
        try:
            with pytest.raises(KeyboardInterrupt), uninterrupted():  # noqa: PT012
                signal.raise_signal(number)
                done.append(number.name)
            assert signal.getsignal(number) is end
        finally:
            signal.signal(number, before)
    assert done == ["SIGTERM", "SIGHUP"]


def test_uninterrupted_works_in_any_thread() -> None:
    done = []

    def work() -> None:
        with uninterrupted():
            done.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [1]
