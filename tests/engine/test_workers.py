"""Tests of worker processes: they die, hang, print, and never take more than their own job with them."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sanarestore.engine import workers
from sanarestore.engine.wire import Task
from sanarestore.engine.workers import Crew, Limits, Lost
from sanarestore.errors import OutOfMemory, SanarestoreError, UsageError, WeightsError


class Playing:
    """A task whose jobs are words that say what happens."""

    def __init__(self, device: str) -> None:
        self.device = device
        if device == "dead":
            os.kill(os.getpid(), signal.SIGKILL)
        if device == "refused":
            raise WeightsError("no such weights")

    def read(self, job: str) -> str:
        if job == "unreadable":
            raise ValueError("cannot be read")
        while job == "endless":
            pass
        return job.upper()

    def work(self, job: str, read: str) -> Generator[str, None, str]:
        print("noise on stdout", flush=True)
        yield f"{job} begun"
        if job == "killer" or (job == "once" and not _mark("once")):
            os.write(2, b"last words\n")
            os.kill(os.getpid(), signal.SIGKILL)
        if job == "stuck":
            time.sleep(1000)
        for _ in range(30 if job == "steady" else 0):
            time.sleep(0.2)
            yield "steady"
        if job == "refuse":
            raise UsageError("never mind")
        if job.startswith("slow"):
            time.sleep(0.3)
        return read

    def write(self, job: str, worked: str, seconds: float) -> str:
        if job == "unwritable":
            raise OSError("cannot be written")
        return f"{worked} on {self.device}"

    def fail(self, job: str, error: Exception, seconds: float) -> str:
        return f"failed: {error}"

    def abandon(self, job: str) -> None:
        _mark(f"abandoned-{job}")


def _mark(name: str) -> bool:
    """Leave a mark in a folder that the test names; whether it was there before."""
    path = Path(os.environ["MARKS"], name)
    was_there = path.exists()
    path.touch()
    return was_there


def build(device: str) -> Callable[[], Task]:
    return partial(Playing, device)


@pytest.fixture(autouse=True)
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: None) -> Path:
    """Real processes, which find this module and the folder for their marks."""
    monkeypatch.setenv("MARKS", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return tmp_path


def run(*jobs: str, devices: tuple[str, ...] = ("a",), **more: Any) -> dict[str, Any]:
    """Do jobs; return the last thing said of each."""
    crew = Crew[str](build, devices, **more)
    return dict(crew.run(jobs))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z" if Path("/proc").is_dir() else True


def test_device_lists_are_parsed() -> None:
    assert workers.parse_devices("auto") == ("auto",)
    assert workers.parse_devices("cuda:0, cuda:1,cpu") == ("cuda:0", "cuda:1", "cpu")
    for text in ("", "cpu,", ",", " "):
        with pytest.raises(UsageError, match="--devices"):
            workers.parse_devices(text)


def test_all_devices_are_counted_without_loading_torch_here() -> None:
    code = (
        "import sys; from sanarestore.engine.workers import parse_devices as p; print(p('all'), 'torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("('")
    assert shown.endswith(" False\n")


def test_jobs_begin_in_order_and_each_has_a_result() -> None:
    events = list(Crew[str](build, ["a"]).run(["one", "two", "three"]))
    assert [event for _, event in events if str(event).endswith("begun")] == ["one begun", "two begun", "three begun"]
    results = [(job, event) for job, event in events if not str(event).endswith("begun")]
    assert results == [("one", "ONE on a"), ("two", "TWO on a"), ("three", "THREE on a")]


def test_several_workers_share_the_jobs() -> None:
    results = run(*(f"slow{number}" for number in range(6)), devices=("a", "b"))
    assert {result.split(" on ")[0] for result in results.values()} == {f"SLOW{number}" for number in range(6)}
    assert {result.split(" on ")[1] for result in results.values()} == {"a", "b"}


def test_an_error_in_one_job_is_its_result() -> None:
    results = run("one", "unreadable", "unwritable", "two")
    assert results["unreadable"] == "failed: cannot be read"
    assert results["unwritable"] == "failed: cannot be written"
    assert (results["one"], results["two"]) == ("ONE on a", "TWO on a")


def test_a_job_that_kills_its_worker_is_lost_alone() -> None:
    """Jobs that were read ahead, or being written, are done by the next worker."""
    results = run("one", "killer", "two", "three")
    lost = results.pop("killer")
    assert isinstance(lost, Lost)
    assert lost.reason == "crashed"
    assert lost.printed.endswith("noise on stdout\nlast words")
    assert results == {"one": "ONE on a", "two": "TWO on a", "three": "THREE on a"}


def test_a_job_can_have_another_attempt() -> None:
    seen: list[tuple[str, int]] = []

    def again(job: str, deaths: int) -> str | None:
        seen.append((job, deaths))
        return job if deaths < 2 else None

    # The first death leaves open which of two jobs it was; the second, alone, counts, and so does the third.
    assert run("once", "one", again=again) == {"once": "ONCE on a", "one": "ONE on a"}
    assert isinstance(run("killer", "one", again=again)["killer"], Lost)
    assert seen == [("killer", 1), ("killer", 2)]


def test_reading_that_never_ends_is_given_up() -> None:
    results = run("one", "endless", "two", limits=Limits(reading=1.5))
    assert results["endless"].reason == "stuck"
    assert "CPU time" in results["endless"].fact
    assert (results["one"], results["two"]) == ("ONE on a", "TWO on a")


def test_work_that_never_ends_is_given_up() -> None:
    results = run("one", "stuck", "two", limits=Limits(stall=1.5))
    assert results["stuck"].reason == "stuck"
    assert (results["one"], results["two"]) == ("ONE on a", "TWO on a")


def test_an_idle_worker_is_not_taken_for_a_stuck_one() -> None:
    """At the end of a batch one worker may wait for another for longer than any step may take."""
    results = run("steady", "one", devices=("a", "b"), limits=Limits(stall=1.5))
    assert {job: result.split(" on ")[0] for job, result in results.items()} == {"one": "ONE", "steady": "STEADY"}


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be stopped here")
def test_a_worker_that_does_not_answer_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    crew = Crew[str](build, ["a"], limits=Limits(silence=3))
    results = {}
    with closing(crew.run(["slow", "one"])) as events:
        for job, event in events:
            if event == "slow begun" and "slow" not in results:
                results["slow"] = ""
                os.kill(crew._crew[0]._process.pid, signal.SIGSTOP)
            else:
                results[job] = event
    assert results == {"slow": "SLOW on a", "one": "ONE on a"}


def test_an_error_that_concerns_all_jobs_ends_the_batch() -> None:
    with pytest.raises(UsageError, match="never mind"):
        run("one", "refuse", "two")
    with pytest.raises(WeightsError, match="no such weights"):
        run(*(f"slow{number}" for number in range(40)), devices=("refused", "a"))


def test_orders_that_a_worker_cannot_rebuild_are_told(marks: Path) -> None:
    """Whatever importing raises: ValueError was taken for the end of the orders."""
    (marks / "only_here.py").write_text("def build(): pass")
    sys.path.insert(0, str(marks))
    try:
        import only_here  # type: ignore[import-not-found]

        (marks / "only_here.py").write_text("raise ValueError('not there')")
        with pytest.raises(SanarestoreError, match="does not understand its orders"):
            list(Crew[str](lambda _: only_here.build, ["a"]).run(["one"]))
    finally:
        sys.path.remove(str(marks))


def test_a_worker_that_dies_while_it_starts_is_not_replaced() -> None:
    with pytest.raises(OutOfMemory, match="while it started"):
        run("one", devices=("dead",))
    assert run("one", "two", "three", devices=("dead", "a"))["three"] == "THREE on a"


def test_closing_ends_the_workers_at_once(marks: Path) -> None:
    crew = Crew[str](build, ["a", "b"])
    events = crew.run(["stuck", "stuck", "one"])
    next(events)
    pids = [worker._process.pid for worker in crew._crew]
    begun = time.monotonic()
    events.close()
    assert time.monotonic() - begun < workers.GRACE + 1
    assert not any(map(is_alive, pids))
    assert (marks / "abandoned-stuck").exists()


def test_workers_end_with_a_batch_that_is_killed(marks: Path) -> None:
    script = marks / "program.py"
    script.write_text(
        textwrap.dedent("""
        from sanarestore.engine.workers import Crew
        from tests.engine.test_workers import build
        crew = Crew(build, ["a"])
        for _ in crew.run(["stuck"]):
            print(crew._crew[0]._process.pid, flush=True)
    """)
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as batch:
        assert batch.stdout is not None
        pid = int(batch.stdout.readline())
        assert is_alive(pid)
        batch.kill()
    deadline = time.monotonic() + 2
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(pid)
    assert (marks / "abandoned-stuck").exists()


@pytest.mark.parametrize("how", ["script", "stdin"])
def test_programs_need_no_guard(marks: Path, how: str) -> None:
    """The main module is not imported again, so a script without `if __name__ == "__main__"` runs once."""
    (marks / "torch.py").write_text("raise SystemExit('a file of the current folder was imported')")
    program = textwrap.dedent("""
        print("begun")
        from sanarestore.engine.workers import Crew
        from tests.engine.test_workers import build
        print(dict(Crew(build, ["a"]).run(["one"])))
    """)
    (marks / "program.py").write_text(program)
    command = [sys.executable, *(["program.py"] if how == "script" else ["-"])]
    ended = subprocess.run(
        command, input=program if how == "stdin" else "", capture_output=True, text=True, cwd=marks, check=False
    )
    assert (ended.stdout, ended.stderr) == ("begun\n{'one': 'ONE on a'}\n", "")
