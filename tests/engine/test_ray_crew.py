"""Tests of workers on a Ray cluster: a real one of two nodes on this machine where Ray is installed, and a fake."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from sanarestore.engine import ray_crew
from sanarestore.engine.batch import Batch
from sanarestore.engine.jobs import Job, Outcome
from sanarestore.engine.journal import NAME
from sanarestore.engine.many_files import restore_files
from sanarestore.engine.ray_crew import RayCluster, RayCrew, parse_cluster
from sanarestore.engine.ray_messages import Connected
from sanarestore.engine.wire import Sender, Task
from sanarestore.engine.workers import Lost
from sanarestore.errors import SanarestoreError, UsageError
from sanarestore.options import RestoreOptions
from tests.conftest import save_photo
from tests.fake_ray import MARK, FakeRay
from tests.two_nodes import TwoNodes, environment


@pytest.fixture(scope="module")
def cluster() -> Iterator[TwoNodes]:
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment().items():
            patched.setenv(name, value)
        found = TwoNodes()
        yield found
        found.shutdown()


@pytest.fixture
def two_nodes(
    cluster: TwoNodes, processes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TwoNodes]:
    """Both nodes alive; afterwards no process of the test is left."""
    cluster.add_second()
    monkeypatch.setenv(MARK, str(tmp_path))
    yield cluster
    deadline = time.monotonic() + 5
    while (left := marked(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def marked(folder: Path) -> list[str]:
    """Command lines of the processes that have the mark."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={folder}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def tree(folder: str | Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def test_a_node_lost_in_the_middle_costs_no_photograph(
    two_nodes: TwoNodes, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    names = [f"deep/{index}.png" for index in range(12)]
    for index, name in enumerate(names):
        save_photo(Path("shoot") / name, 250, 300, seed=index)
    crews: list[RayCrew[Job]] = []

    class Watched(RayCrew[Job]):
        def _open(self) -> None:
            crews.append(self)
            super()._open()

    monkeypatch.setattr(ray_crew, "RayCrew", Watched)
    chosen: dict[str, Any] = {"model": "tiny-model", "threads": 1, "tile": 64}
    batch = Batch(["shoot"], "cluster", RestoreOptions(**chosen))
    found: list[Outcome] = []
    capfd.readouterr()
    at_death: tuple[int, int] | None = None
    with closing(batch.run(RayCluster(two_nodes.address))) as events:
        for event in events:
            workers = crews[0]._crew if crews else []
            if at_death is None and len(workers) == 2 and all(worker.at_work for worker in workers):
                at_death = len(found), sum(len(worker.orders) for worker in workers)
                two_nodes.kill_second()
            if isinstance(event, Outcome):
                found.append(event)
    assert at_death is not None, "both nodes worked at the same time"
    assert at_death[0] < len(names) - 2
    assert [(outcome.status, outcome.error) for outcome in found] == [("done", None)] * len(names)
    assert {outcome.threads for outcome in found} == {1}
    assert capfd.readouterr() == ("", ""), "nothing of Ray is shown"
    calm = list(restore_files("shoot", output="calm", devices="cpu", **chosen))
    assert {outcome.status for outcome in calm} == {"done"}
    assert tree("cluster") == sorted([*names, NAME])
    for name in names:
        assert Path("cluster", name).read_bytes() == Path("calm", name).read_bytes()
    again = restore_files("shoot", output="cluster", ray=two_nodes.address, **chosen)
    assert {outcome.status for outcome in again} == {"skipped"}


class Acting:
    """A task whose jobs are words that say what happens to the worker."""

    def __init__(self, device: str) -> None:
        self.device = device
        if (Path(os.environ[MARK]) / "no-start").exists():
            raise SystemExit

    def read(self, job: str) -> str:
        return job.upper()

    def work(self, job: str, read: str) -> Generator[str, None, str]:
        yield f"{job} begun"
        if job == "kills-worker":
            os.write(2, b"last words\n")
            os.kill(os.getpid(), signal.SIGKILL)
        if job == "kills-relay":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(1000)
        if job == "stuck":
            time.sleep(1000)
        if job.startswith("slow"):
            for _ in range(8):
                time.sleep(0.05)
                yield "still slow"
        return read

    def write(self, job: str, worked: str, seconds: float) -> str:
        return f"{worked} on {self.device}"

    def fail(self, job: str, error: Exception, seconds: float) -> str:
        return f"failed: {error}"

    def abandon(self, job: str) -> None:
        (Path(os.environ[MARK]) / f"abandoned-{job}").touch()


def build(device: str, _workers_there: int) -> Callable[[], Task]:
    return partial(Acting, device)


def finished(crew: RayCrew[str], *jobs: str) -> dict[str, Any]:
    """Do jobs; return the result of each."""
    return {job: event for job, event in crew.run(jobs) if not str(event).endswith((" begun", "slow"))}


def test_workers_and_relays_that_die_alone_count_as_deaths_of_their_job(two_nodes: TwoNodes) -> None:
    seen: list[tuple[str, int]] = []

    def again(job: str, deaths: int) -> str | None:
        seen.append((job, deaths))
        return job if deaths < 2 else None

    crew = RayCrew[str](build, RayCluster(two_nodes.address), again=again)
    results = finished(crew, "kills-worker", "one", "kills-relay", "two")
    assert isinstance(results["kills-worker"], Lost)
    assert results["kills-worker"].printed == "last words"
    assert isinstance(results["kills-relay"], Lost)
    assert (results["one"], results["two"]) == ("ONE on cpu", "TWO on cpu")
    assert sorted(seen) == [("kills-relay", 1), ("kills-relay", 2), ("kills-worker", 1), ("kills-worker", 2)]


def test_closing_ends_the_workers_of_a_cluster(two_nodes: TwoNodes, tmp_path: Path) -> None:
    crew = RayCrew[str](build, RayCluster(two_nodes.address))
    events = crew.run(["stuck", "stuck"])
    assert next(events) == ("stuck", "stuck begun")
    assert len(marked(tmp_path)) >= 3, "the test finds its processes: this one's hub, and workers"
    begun = time.monotonic()
    events.close()
    assert time.monotonic() - begun < ray_crew.ENDING
    assert (tmp_path / "abandoned-stuck").exists()


def test_workers_of_a_cluster_end_with_a_batch_that_is_killed(two_nodes: TwoNodes, tmp_path: Path) -> None:
    """The fixture sees that no process is left."""
    program = textwrap.dedent(f"""
        from sanarestore.engine.ray_crew import RayCluster, RayCrew
        from tests.engine.test_ray_crew import build
        for _ in RayCrew(build, RayCluster("{two_nodes.address}")).run(["stuck"]):
            print("begun", flush=True)
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as batch:
        assert batch.stdout is not None
        assert batch.stdout.readline() == "begun\n"
        batch.kill()


def test_a_cluster_writes_what_one_machine_writes(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"deep/{index}.png" for index in range(5)]
    for index, name in enumerate(names):
        save_photo(Path("shoot") / name, seed=index)
    FakeRay(monkeypatch, "a", "b", CPU=8.0)
    chosen: dict[str, Any] = {"model": "tiny-model", "threads": 1}
    there = list(restore_files("shoot", output="there", ray="auto", **chosen))
    here = list(restore_files("shoot", output="here", devices="cpu", **chosen))
    assert {outcome.status for outcome in there + here} == {"done"}
    assert tree("there") == sorted([*names, NAME])
    for name in names:
        assert Path("there", name).read_bytes() == Path("here", name).read_bytes()
    same = {"status", "device", "tile", "threads", "expert", "notes"}
    shown = [{name: outcome.to_json()[name] for name in same} for outcome in there + here]
    assert all(each == shown[0] for each in shown)


def test_jobs_of_a_lost_machine_go_elsewhere_and_it_is_not_their_fault(
    marked_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeRay(monkeypatch, "a", "b")
    crew = RayCrew[str](build, RayCluster("auto"), again=_never_again)
    results = {}
    lost = False
    with closing(crew.run([f"slow{index}" for index in range(6)])) as events:
        for job, event in events:
            if not lost and len(crew._crew) == 2 and all(worker.at_work for worker in crew._crew):
                lost = True
                fake.lose("b")
            results[job] = event
    assert lost
    assert results == {f"slow{index}": f"SLOW{index} on cpu" for index in range(6)}


def _never_again(job: str, deaths: int) -> str | None:
    raise AssertionError("no job is at fault")


def test_a_relay_that_dies_alone_is_a_death_of_its_job(marked_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch, "a")
    crew = RayCrew[str](build, RayCluster("auto"))
    results = {}
    with closing(crew.run(["slow"])) as events:
        for job, event in events:
            if event == "slow begun":
                fake.actors[-1].kill()
            results[job] = event
    assert isinstance(results["slow"], Lost)
    assert results["slow"].reason == "crashed"
    assert len(fake.actors) <= 2


def test_a_job_that_loses_machine_after_machine_is_given_up(marked_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch, "0")
    crew = RayCrew[str](build, RayCluster("auto"), again=_never_again)
    results = {}
    with closing(crew.run(["stuck"])) as events:
        for job, event in events:
            if event == "stuck begun":
                number = int(fake.actors[-1].node)
                fake.add(str(number + 1))
                fake.lose(str(number))
            results[job] = event
    assert isinstance(results["stuck"], Lost)
    assert f"{ray_crew.MOST_MACHINES} machines" in results["stuck"].fact


def test_machines_that_join_are_used(marked_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch, "a")
    crew = RayCrew[str](build, RayCluster("auto"))
    most = 0
    with closing(crew.run([f"slow{index}" for index in range(6)])) as events:
        for _, event in events:
            if event == "slow0 begun":
                fake.add("b")
            most = max(most, len(crew._crew))
    assert most == 2


def test_a_batch_ends_if_all_machines_are_lost(marked_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch, "a")
    events = RayCrew[str](build, RayCluster("auto")).run(["slow"])
    next(events)
    fake.lose("a")
    with pytest.raises(SanarestoreError, match="no machine of the Ray cluster is left"):
        list(events)


def test_addresses_are_checked_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_crew, "find_spec", lambda _name: object())
    assert parse_cluster("auto") == RayCluster("auto")
    assert parse_cluster("10.0.0.1:6379") == RayCluster("10.0.0.1:6379")
    for address in ("", "local", "head", "head:", ":6379", "ray://head:10001", "head:0", "head:99999"):
        with pytest.raises(UsageError, match="not the address of a Ray cluster"):
            parse_cluster(address)
    monkeypatch.setattr(ray_crew, "find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"pip install 'sanarestore\[ray\]'"):
        parse_cluster("auto")


def test_an_address_where_nothing_answers_is_refused(marked_run: Path, processes: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(UsageError, match=f"--ray 127.0.0.1:{port}: no Ray cluster can be joined.*'ray start'"):
        finished(RayCrew[str](build, RayCluster(f"127.0.0.1:{port}")), "one")
    assert marked(marked_run) == []


def test_nothing_is_started_without_jobs() -> None:
    assert finished(RayCrew[str](build, RayCluster("127.0.0.1:1"))) == {}


def test_a_lost_connection_ends_the_batch(marked_run: Path, monkeypatch: pytest.MonkeyPatch, processes: None) -> None:
    """The hub dies, as it does when the head of the cluster is gone; its worker ends with it."""
    hubs: list[subprocess.Popen[bytes]] = []

    def start(printed: BinaryIO, inherited: Sequence[int]) -> Any:
        code = "import sys, tests.engine.test_ray_crew as test; test.play_hub(*sys.argv[1:])"
        command = [sys.executable, "-c", code, "after" if inherited else "before"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        hub = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=printed, env=environment)
        hubs.append(hub)
        return hub, hub.stdin, hub.stdout

    monkeypatch.setattr(ray_crew, "start", start)
    with pytest.raises(SanarestoreError, match="connection to the Ray cluster was lost"):
        finished(RayCrew[str](build, RayCluster("auto"), inherited=(0,)), "one")
    with pytest.raises(SanarestoreError, match=r"Ray cannot be used \(Ray is broken\)"):
        finished(RayCrew[str](build, RayCluster("auto")), "one")
    assert [hub.returncode for hub in hubs] == [1, 1]


def play_hub(when: str) -> None:
    """Take the place of the hub, and die before or after it has joined a cluster."""
    if when == "after":
        Sender(os.fdopen(1, "wb"))(Connected())
    raise SystemExit("it said:\nRay is broken")
