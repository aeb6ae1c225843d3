"""Faults of a list of pairs, each with its line, collected in one message."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sanarestore.errors import UsageError

SHOWN = 20
"""Most faults that a message lists."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """A fault of one line of a list, and what to do about it."""

    line: int
    """Number of the line in the file, from 1."""
    fact: str
    """A clause, as in an error: "there is no file noisy/a.png"."""
    next_step: str = ""
    """A sentence; empty if there is no advice."""


def refusal(path: Path, faults: Sequence[Fault]) -> UsageError:
    """Return one error for all faults of a list, in the order of their lines; equal advice is shown once."""
    faults = sorted(set(faults))
    if len(faults) == 1:
        (fault,) = faults
        return UsageError(f"line {fault.line}: {fault.fact}", where=path, next_step=fault.next_step)
    return UsageError(
        f"the list has {len(faults)} faults", where=path, next_step="Correct them and run the command again.",
        details=[*_told(faults[:SHOWN]), *_more(len(faults) - SHOWN)],
    )  # fmt: skip


def joined(words: Sequence[str]) -> str:
    """Join words for a sentence: "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _told(faults: Iterable[Fault]) -> Iterable[str]:
    given: set[str] = set()
    for fault in faults:
        step = f" {fault.next_step}" if fault.next_step and fault.next_step not in given else ""
        given.add(fault.next_step)
        yield f"line {fault.line}: {fault.fact}.{step}"


def _more(count: int) -> list[str]:
    return [f"and {count} more"] if count > 0 else []
