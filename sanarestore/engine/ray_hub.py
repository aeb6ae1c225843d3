"""The process of a batch that speaks to Ray: `python -m sanarestore.engine.ray_hub`, with orders on stdin.

It watches the cluster, keeps a relay (`ray_relay`) in every place that can take a worker, and passes messages on. The
end of stdin is the order to end all workers and itself; it also comes when the batch is killed. Imports no torch.
"""

import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from sanarestore.engine import worker
from sanarestore.engine.ray_crew import no_cluster
from sanarestore.engine.ray_messages import (
    Connected,
    Failed,
    FromHub,
    Gone,
    Joined,
    NoneLeft,
    Release,
    Said,
    Setup,
    Tell,
)
from sanarestore.engine.ray_relay import Relay
from sanarestore.engine.ray_slots import Slot, is_reachable, shares
from sanarestore.engine.wire import Sender, receive
from sanarestore.engine.workers import GRACE
from sanarestore.errors import SanarestoreError, UsageError

LOOK = 2.0
"""Seconds between looks at the cluster."""

SETTLE = 2.0
"""Seconds from the death of a worker to the question if its machine is alive: one that goes down ends workers first."""

PATIENCE = 120.0
"""Seconds to wait for new machines if all were lost."""


@dataclass(slots=True)
class Post:
    """A relay on its way to a place, or there."""

    place: Slot
    relay: Any
    has_joined: bool = False


class Hub:
    """Places, relays, and the pipe to the batch. `ray` is the module, joined to the cluster."""

    def __init__(self, ray: Any, setup: Setup, tell: Any) -> None:
        self._ray, self._setup, self._tell = ray, setup, tell
        self._places: dict[tuple[str, int], Slot] = {}
        self._posts: dict[int, Post] = {}
        self._numbers = 0
        self._on_gpus = any(node["Resources"].get("GPU", 0) >= 1 for node in self._nodes())
        self._seen = time.monotonic()
        self._last_death: Gone | None = None
        self._last_host = ""
        self._lock = threading.RLock()
        self._ended = threading.Event()

    def look(self) -> bool:
        """Update the places; return whether there is any that works or may work."""
        nodes = {node["NodeID"]: node for node in self._nodes()}
        with self._lock:
            self._places = {key: place for key, place in self._places.items() if place.node in nodes}
            for name, node in nodes.items():
                address = node["NodeManagerAddress"], node["NodeManagerPort"]
                for index, share in enumerate(shares(node["Resources"], self._setup.threads, on_gpus=self._on_gpus)):
                    if (name, index) not in self._places:
                        self._places[name, index] = Slot(name, address, node["NodeManagerHostname"], share)
            if self._posts or any(place.state != "barred" for place in self._places.values()):
                self._seen = time.monotonic()
                return True
            return False

    def fill(self) -> None:
        """Send relays to free places, one machine after the other, until there are as many as can be used."""
        with self._lock:
            free = [self._places[key] for key in sorted(self._places, key=lambda key: (key[1], key[0]))]
        for place in free:
            # Asked without the lock, since a dead machine does not answer soon.
            if place.state != "free" or not is_reachable(place.address):
                continue
            with self._lock:
                if len(self._posts) >= self._setup.most or self._ended.is_set():
                    return
                if place.state == "free":
                    self._send_relay(place)

    def watch(self) -> None:
        """Look and fill until the end."""
        while not self._ended.is_set():
            try:
                if self.look():
                    self.fill()
                elif self._places or time.monotonic() - self._seen > PATIENCE:
                    words = self._last_death.printed if self._last_death else ""
                    self._tell(NoneLeft(self._last_host if self._places else "", words))
            except Exception as error:  # Ray raises anything when its head is gone
                self._tell(Failed(SanarestoreError(f"the Ray cluster does not answer ({error})", where="--ray")))
                return
            self._ended.wait(LOOK)

    def say(self, number: int, data: bytes) -> None:
        """Pass an order on."""
        with self._lock:
            post = self._posts.get(number)
        if post is not None:
            with suppress(Exception):  # its death is heard by `_attend`
                post.relay.say.options(concurrency_group="say").remote(data)

    def release(self, number: int, *, again: bool) -> None:
        """End a worker, and give its place to another."""
        with self._lock:
            post = self._posts.pop(number, None)
        if post is None:
            return
        self._end_all([post])
        with self._lock:
            post.place.state = "free" if again else "barred"
            if not again:
                self._last_host = post.place.host
        if self.look():
            self.fill()

    def end(self) -> None:
        """End all workers."""
        self._ended.set()
        with self._lock:
            posts = list(self._posts.values())
        self._end_all(posts)

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _send_relay(self, place: Slot) -> None:
        affinity = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        kind = self._ray.remote(concurrency_groups={"say": 1, "hear": 1})(Relay).options(
            num_cpus=place.share.cpus, num_gpus=place.share.gpus, max_restarts=0, max_task_retries=0,
            scheduling_strategy=affinity(place.node, soft=False),
        )  # fmt: skip
        place.state = "taken"
        self._numbers += 1
        self._posts[self._numbers] = post = Post(place, kind.remote())
        threading.Thread(target=self._attend, args=(self._numbers, post), daemon=True).start()

    def _attend(self, number: int, post: Post) -> None:
        """Start a worker, which waits until its place is not used by others, and pass its messages on until its end."""
        try:
            host = self._ray.get(post.relay.start.remote(self._setup))
            post.has_joined = True
            device = "cuda:0" if post.place.share.gpus else "cpu"
            self._tell(Joined(number, host, device, self._workers_on(post.place.node)))
            while True:
                heard = self._ray.get(post.relay.hear.options(concurrency_group="hear").remote())
                for data in heard.messages:
                    self._tell(Said(number, data))
                if heard.has_ended:
                    printed = heard.printed
                    break
        except self._ray.exceptions.RayTaskError as error:
            self._tell(Failed(_what_is_wrong(error, post.place.host)))
            return
        except Exception as error:  # the actor or its machine died, which Ray's kinds of errors do not tell apart
            if "failed to import" in str(error):
                self._tell(Failed(_not_installed(str(error).strip().rpartition("\n")[2], post.place.host)))
                return
            printed = ""
        if not self._ended.wait(SETTLE):
            self._leave(number, post, Gone(number, machine_lost=self._is_lost(post), printed=printed))

    def _leave(self, number: int, post: Post, gone: Gone) -> None:
        if not gone.machine_lost:
            self._last_death = gone
        if post.has_joined:
            self._tell(gone)  # the batch answers with `Release`
        else:
            self.release(number, again=gone.machine_lost)

    def _workers_on(self, node: str) -> int:
        with self._lock:
            places = sum(place.node == node for place in self._places.values())
        return max(min(places, self._setup.most), 1)

    def _is_lost(self, post: Post) -> bool:
        names = {node["NodeID"] for node in self._nodes()}
        return post.place.node not in names or not is_reachable(post.place.address)

    def _end_all(self, posts: Sequence[Post]) -> None:
        with suppress(Exception):
            ends = [post.relay.end.remote() for post in posts if post.has_joined]
            if ends:
                self._ray.wait(ends, num_returns=len(ends), timeout=GRACE + 1)
        for post in posts:
            with suppress(Exception):
                self._ray.kill(post.relay)


def _what_is_wrong(error: Any, host: str) -> SanarestoreError:
    """Explain an error of a relay."""
    if isinstance(error.cause, SanarestoreError):
        return error.cause
    return _not_installed(error.cause or error, host)


def _not_installed(error: object, host: str) -> UsageError:
    return UsageError(
        f"no worker can be started there ({error})", where=host,
        next_step="Install the same version of sanarestore on all machines of the cluster.",
    )  # fmt: skip


def join(setup: Setup) -> Any:
    """Join the cluster; return the module `ray`. UsageError if there is none."""
    if setup.address != "auto":
        host, _, port = setup.address.rpartition(":")
        if not is_reachable((host, int(port))):
            raise no_cluster(setup.address, "nothing answers at this address")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    try:
        ray.init(address=setup.address, log_to_driver=False, configure_logging=False)
    except Exception as error:  # there is no cluster, it has another version, or this machine is not part of it
        raise no_cluster(setup.address, str(error).strip().partition("\n")[0].rstrip(".")) from error
    _ignore_signals()  # Ray has set handlers of its own
    return ray


def serve(inward: BinaryIO, outward: BinaryIO) -> None:
    """Serve one batch until it closes the pipe."""
    send = Sender(outward)

    def tell(message: FromHub) -> None:
        with suppress(OSError, ValueError):  # the batch is gone, which the other pipe also says
            send(message)

    setup: Setup = receive(inward)
    try:
        hub = Hub(join(setup), setup, tell)
        if not hub.look():
            raise no_cluster(setup.address, "it has no CPU or GPU for a worker")
    except SanarestoreError as error:
        tell(Failed(error))
        return
    tell(Connected())
    threading.Thread(target=hub.watch, daemon=True).start()
    with suppress(EOFError, OSError, ValueError):
        while True:
            match receive(inward):
                case Tell(number, data):
                    hub.say(number, data)
                case Release(number, again):
                    # Apart, since it waits for the end of the worker.
                    threading.Thread(target=hub.release, args=(number,), kwargs={"again": again}, daemon=True).start()
    hub.end()


def main() -> None:
    """Serve on this process's stdin and stdout."""
    inward, outward = worker.take_pipes()
    _ignore_signals()
    serve(inward, outward)
    # Not the interpreter's own end: Ray's could hold it up. Ray ends what is left of a process that is gone.
    os._exit(0)


def _ignore_signals() -> None:
    """Signals reach all processes of a terminal or a SLURM step, but only the batch acts on them."""
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)


if __name__ == "__main__":
    main()
