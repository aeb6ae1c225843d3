"""A stand-in for Ray: nodes that the test makes and loses, and actors that are objects with threads."""

import queue
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest

from sanarestore.engine import ray_crew, ray_hub
from tests import threads

MARK = "SANARESTORE_TEST_RUN"
"""A variable that workers get from the batch, so that the test finds what is left of its own processes."""


class TaskError(Exception):
    """Takes the place of `RayTaskError`."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


class ActorDied(Exception):  # noqa: N818 - as Ray calls it
    """Takes the place of all errors that say that an actor or its node is gone."""


class FakeRay:
    """What the hub uses of the module `ray`."""

    exceptions = SimpleNamespace(RayTaskError=TaskError)
    util = SimpleNamespace(
        scheduling_strategies=SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: (node, soft))
    )

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *nodes: str, **resources: float) -> None:
        self._resources = resources or {"CPU": 1.0}
        self._alive: dict[str, bool] = {}
        self.actors: list[Actor] = []
        for node in nodes:
            self.add(node)
        monkeypatch.setattr(ray_hub, "join", lambda _setup: self)
        monkeypatch.setattr(ray_hub, "is_reachable", lambda address: self._alive[address[0]])
        for name, value in {"LOOK": 0.05, "SETTLE": 0.01, "PATIENCE": 0.5}.items():
            monkeypatch.setattr(ray_hub, name, value)
        monkeypatch.setattr(ray_crew, "start", _start)
        monkeypatch.setattr(ray_crew, "find_spec", lambda _name: object())

    def add(self, node: str) -> None:
        self._alive[node] = True

    def lose(self, node: str) -> None:
        self._alive[node] = False
        for actor in self.actors:
            if actor.node == node:
                actor.kill()

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": node, "Alive": alive, "NodeManagerAddress": node, "NodeManagerPort": 1,
             "NodeManagerHostname": f"host-{node}", "Resources": self._resources}
            for node, alive in list(self._alive.items())
        ]  # fmt: skip

    def remote(self, **_: Any) -> Any:
        return lambda kind: SimpleNamespace(
            options=lambda **options: SimpleNamespace(remote=lambda: self._new(kind, **options))
        )

    def get(self, result: "Result") -> Any:
        while not result.actor.is_dead:
            try:
                got = result.future.result(0.02)
            except futures.TimeoutError:
                continue
            except Exception as error:
                raise TaskError(error) from error
            if not result.actor.is_dead:
                return got
        raise ActorDied

    def wait(self, results: Sequence["Result"], num_returns: int, timeout: float) -> None:
        futures.wait([result.future for result in results if not result.actor.is_dead], timeout)

    def kill(self, actor: "Actor") -> None:
        actor.kill()

    def _new(self, kind: Any, scheduling_strategy: tuple[str, bool], **options: Any) -> "Actor":
        self.actors.append(Actor(kind(), scheduling_strategy[0], options))
        return self.actors[-1]


class Actor:
    """An object, and a thread for each group of its methods."""

    def __init__(self, real: Any, node: str, options: dict[str, Any]) -> None:
        self.real, self.node, self.options = real, node, options
        self.is_dead = False
        self._groups = {group: _Group() for group in ("default", "say", "hear")}

    def __getattr__(self, name: str) -> Any:
        def method(group: str) -> Any:
            return lambda *given: Result(self._groups[group].call(partial(getattr(self.real, name), *given)), self)

        return SimpleNamespace(
            remote=method("default"),
            options=lambda concurrency_group: SimpleNamespace(remote=method(concurrency_group)),
        )

    def kill(self) -> None:
        """Die: the pipe to the worker closes, and nothing is heard any more."""
        if not self.is_dead:
            self.is_dead = True
            with suppress(AttributeError, OSError, ValueError):
                self.real._inward.close()
            with suppress(AttributeError):
                self.real._printed.close()


class _Group:
    """Calls done one after the other by a thread that nobody waits for."""

    def __init__(self) -> None:
        self._calls: queue.Queue[tuple[futures.Future[Any], Callable[[], Any]]] = queue.Queue()
        threading.Thread(target=self._serve, daemon=True).start()

    def call(self, function: Callable[[], Any]) -> "futures.Future[Any]":
        future: futures.Future[Any] = futures.Future()
        self._calls.put((future, function))
        return future

    def _serve(self) -> None:
        while True:
            future, function = self._calls.get()
            try:
                future.set_result(function())
            except Exception as error:
                future.set_exception(error)


class Result:
    """What a call of an actor's method returns."""

    def __init__(self, future: "futures.Future[Any]", actor: Actor) -> None:
        self.future, self.actor = future, actor


class _HubThread(threads.Thread):
    def poll(self) -> int | None:
        return None if self._thread.is_alive() else 0

    @staticmethod
    def _serve(inward: BinaryIO, outward: BinaryIO) -> None:
        with inward, outward:
            ray_hub.serve(inward, outward)


def _start(_printed: BinaryIO, _inherited: Sequence[int]) -> tuple[subprocess.Popen[bytes], BinaryIO, BinaryIO]:
    return threads.connect(_HubThread)  # type: ignore[return-value]
