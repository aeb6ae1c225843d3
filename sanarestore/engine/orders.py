"""Jobs on their way, and workers as the batch sees them: what they have in hand, and when they get more."""

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

J = TypeVar("J")

AHEAD = 2
"""Jobs per worker that are not worked yet: one at work, one being read. A third may be being written."""

_SPARE = 2
"""Jobs per worker that must be waiting for one to be read ahead; the last ones go to whoever is free first."""


@dataclass(slots=True)
class PendingJob(Generic[J]):
    """A job on its way, and what is known of it."""

    job: J
    deaths: int = 0
    """Workers that died with this job alone."""
    is_alone: bool = False
    """Whether its worker gets no other job beside it, since a worker has died with it."""
    machines: int = 0
    """Machines that were lost with this job, which is not the job's fault."""
    is_worked: bool = field(default=False)


class Worker(ABC, Generic[J]):
    """A worker, wherever it runs, and its jobs."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.orders: dict[int, PendingJob[J]] = {}
        self.is_ready = False
        self.reading: tuple[int, float] | None = None
        self.at_work: int | None = None
        self.heard = self.moved = time.monotonic()
        self.longest = 0.0
        self.last_words = ""

    @abstractmethod
    def say(self, order: Any) -> None:
        """Send an order; if the worker has died, its end is heard instead."""

    @abstractmethod
    def stop(self) -> None:
        """Ask the worker to end."""

    @abstractmethod
    def end(self, deadline: float) -> None:
        """Wait for its end until `deadline`, a time of `time.monotonic`, and then force it."""

    def takes(self, order: PendingJob[J], waiting: int, workers: int) -> bool:
        """Return whether the worker should get this job now."""
        if not self.is_ready or any(each.is_alone for each in self.orders.values()):
            return False
        unworked = sum(not each.is_worked for each in self.orders.values())
        if order.is_alone:
            return not self.orders
        return unworked < (AHEAD if waiting >= _SPARE * workers or workers == 1 else 1) and len(self.orders) <= AHEAD

    def give(self, number: int, order: PendingJob[J]) -> None:
        """Send a job."""
        self.orders[number] = order
        self.say((number, order.job))

    def begin(self, number: int) -> None:
        """Note that work on a job has begun."""
        self.at_work, self.moved = number, time.monotonic()

    def rest(self, number: int) -> None:
        """Note that work on a job has ended: an idle worker makes no progress, and is none the worse for it."""
        if self.at_work == number:
            self.at_work = None

    def move(self) -> None:
        """Note progress."""
        now = time.monotonic()
        self.longest = max(self.longest, now - self.moved)
        self.moved = now
