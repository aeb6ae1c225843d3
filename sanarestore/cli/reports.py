"""Progress and results of commands: bars while they run, a summary at the end.

There are no bars if stderr is not a terminal, or with --quiet, --json or TERM=dumb. Notes and summaries are shown
except with --quiet or --json.
"""

import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from sanarestore.cli import console
from sanarestore.cli.bars import Count
from sanarestore.cli.pace import Pace, figure
from sanarestore.errors import ExitCode, UsageError
from sanarestore.ndjson import SCHEMA_VERSION, Lines

_NAME_WIDTH = 28
"""Characters of a file's name that fit beside its bar on 80 columns."""


SPOKEN = {
    "noise": "noise", "jpeg": "JPEG artefacts", "blur": "blur", "lowres": "low resolution", "lowlight": "darkness",
    "colour": "wrong colours",
}  # fmt: skip
"""Names of the kinds of degradation for users."""


_LOG_EVERY = 30.0
"""Seconds between lines of progress where there is no terminal."""

_SCREEN = 20
"""Files after which failures are named again at the end."""

_LISTED = 20
"""Failures that are named at the end."""

_UNREADABLE = frozenset({"unreadable", "missing"})
"""Reasons of files that hold no readable image."""


class Reported(Protocol):
    """The properties of a file's outcome that a report needs."""

    @property
    def path(self) -> Path: ...
    @property
    def status(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def megapixels(self) -> float: ...
    @property
    def size(self) -> int: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def error(self) -> str | None: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def removes(self) -> tuple[str, ...] | None: ...
    @property
    def prompt_note(self) -> str | None: ...
    def to_json(self) -> dict[str, Any]: ...


class Report:
    """Owns the counts, the progress bars and the exit code of a command over many files."""

    def __init__(
        self, verb: str, total: int, *, quiet: bool = False, as_json: bool = False, verbose: bool = False,
        progress: bool = False, log: Path | None = None,
    ) -> None:  # fmt: skip
        """`verb` in the past tense: "restored"; `total` files are expected.

        With `progress`, JSON holds progress too; `log` is a file to which all outcomes are added as JSON. UsageError if
        it cannot be written, or is another file.
        """
        self._verb, self._total = verb, total
        self._quiet, self._json, self._verbose = quiet, as_json, verbose
        self._wants_progress = progress
        self._log = None if log is None else _opened(log)
        self._counts = {"done": 0, "skipped": 0, "failed": 0}
        self._ignored = 0
        self._unreadable = 0
        self._failures: list[Reported] = []
        self._reported: set[str] = set()
        self._is_prompt_said = False
        self._megapixels = 0.0
        self._begun = self._said = time.perf_counter()
        self._pace = Pace()
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(bar_width=None),
            Count(), TextColumn("{task.fields[pace]}", markup=False),
            console=console.stderr, transient=True, expand=True, disable=not console.is_live(quiet=quiet or as_json),
        )  # fmt: skip
        self._is_live = not self._progress.disable
        self._all = self._progress.add_task(verb, total=total, pace="")
        self._files: dict[Path, TaskID] = {}
        self._parts: dict[Path, float] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        if self._log is not None:
            self._log.add([{"schema_version": SCHEMA_VERSION, "status": "ended", **self._figures()}], durable=False)
        if (sum(self._counts.values()) or self._ignored) and not self._quiet and not self._json:
            if sum(self._counts.values()) > _SCREEN:
                self._repeat_failures()
            console.say(self.summary())

    def more(self, files: int) -> None:
        """Say that files have arrived in a folder that is watched."""
        self._total += files
        self._progress.update(self._all, total=self._total)

    def note(self, text: str) -> None:
        """Show, once, a note on the whole run."""
        if text not in self._reported and not self._quiet and not self._json:
            self._reported.add(text)
            console.print_word("note", "yellow", text)

    def expect(self, files: int, size: int) -> None:
        """Say how much work is left after finished files were skipped: files, and their bytes."""
        self._pace = Pace(files, size)

    def part(
        self, path: Path, done: int, total: int, *, megapixels: float = 0.0, size: int = 0, label: str = ""
    ) -> None:
        """Show the progress of one file of `megapixels` and `size` bytes; `total` may change during the run."""
        self._parts[path] = done / total
        self._pace.part(path, done / total, megapixels, size)
        if path not in self._files and total > 1:  # a file of one part needs no bar of its own
            self._files[path] = self._progress.add_task("", total=total, pace="")
        if path in self._files:
            name = f"  {_shortened(console.escaped(path.name))}"
            self._progress.update(
                self._files[path], completed=done, total=total, description=f"{name} ({label})" if label else name
            )
        self._advance()

    def add(self, outcome: Reported) -> None:
        """Count one file's outcome, show what needs showing, and print its JSON line if asked."""
        if self._log is not None:
            self._log.add([{"schema_version": SCHEMA_VERSION, **outcome.to_json()}], durable=False)
        if outcome.status == "ignored":
            self._ignore(outcome)
            return
        self._counts[outcome.status] += 1
        self._unreadable += outcome.reason in _UNREADABLE
        if outcome.status == "done":
            self._megapixels += outcome.megapixels
        elif outcome.status == "failed":
            self._failures.append(outcome)
        self._pace.add(outcome)
        self._parts.pop(outcome.path, None)
        if outcome.path in self._files:
            self._progress.remove_task(self._files.pop(outcome.path))
        self._advance()
        if outcome.error and outcome.error not in self._reported:
            # Shown once: every variant of an unreadable photo fails for the same reason.
            self._reported.add(outcome.error)
            console.print_word("failed", "red", outcome.error)
        elif outcome.notes and not self._quiet and not self._json:
            console.print_word("note", "yellow", f"{outcome.path}: {'; '.join(outcome.notes)}")
        self._say_once(outcome)
        if self._json:
            console.print_json(outcome.to_json())

    def _ignore(self, outcome: Reported) -> None:
        """Count a file that is none of the photographs; it is named only if more is to be said."""
        self._ignored += 1
        if self._json:
            console.print_json(outcome.to_json())
        elif self._verbose and not self._quiet:
            console.print_word("ignored", "dim", f"{outcome.path}: {'; '.join(outcome.notes)}")

    def _say_once(self, outcome: Reported) -> None:
        """Show once, since it is the same for every file, what the prompt was understood to remove, or a note on it."""
        if self._quiet or self._json or self._is_prompt_said or outcome.status != "done":
            return
        self._is_prompt_said = True
        if outcome.prompt_note:
            console.print_word("note", "yellow", outcome.prompt_note)
        elif outcome.removes is not None:
            spoken = [SPOKEN[kind] for kind in outcome.removes]
            console.say(f"the prompt removes {' and '.join(spoken) or 'nothing'}")

    def _repeat_failures(self) -> None:
        """Name what failed at the end, since the messages of a long run have scrolled away."""
        # Files that failed for one and the same reason, such as a folder, are named by it once.
        counted = Counter(outcome.error or str(outcome.path) for outcome in self._failures)
        named = list(counted)[:_LISTED]
        for error in named:
            console.print_word("failed", "red", error)
        others = len(self._failures) - sum(counted[error] for error in named)
        if others:
            console.say(f"and {others} others failed; --log-file keeps all of them")

    def summary(self) -> str:
        """One line with the numbers of files, the megapixels and the speed."""
        seconds = max(time.perf_counter() - self._begun, 1e-9)
        parts = [f"{self._counts['done']} {self._verb}"]
        if self._counts["skipped"]:
            parts.append(f"{self._counts['skipped']} finished before")
        if self._counts["failed"]:
            parts.append(f"{self._counts['failed']} failed")
        if self._ignored:
            parts.append(f"{self._ignored} other {'file' if self._ignored == 1 else 'files'} ignored")
        if self._megapixels:
            rate = f"{figure(self._megapixels / seconds, 2)} MP/s"
            parts.append(f"{figure(self._megapixels, 1)} MP in {seconds:.1f} s ({rate})")
        return ", ".join(parts)

    @property
    def exit_code(self) -> ExitCode:
        """DONE unless a file failed; NO_IMAGES if none of the files could be read."""
        if self._counts["failed"] and self._unreadable == self._total:
            return ExitCode.NO_IMAGES
        return ExitCode.SOME_FAILED if self._counts["failed"] else ExitCode.DONE

    def _figures(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self._begun
        return {
            "files": self._total, **self._counts, "ignored": self._ignored,
            "megapixels": round(self._megapixels, 6), "seconds": round(seconds, 4),
        }  # fmt: skip

    def _advance(self) -> None:
        completed = sum(self._counts.values()) + sum(self._parts.values())
        failed = f", {self._counts['failed']} failed" if self._counts["failed"] else ""
        pace = self._pace.spoken()
        self._progress.update(self._all, completed=completed, description=f"{self._verb}{failed}", pace=pace)
        now = time.perf_counter()
        if now - self._said < _LOG_EVERY or sum(self._counts.values()) == self._total:
            return
        self._said = now
        if self._json and self._wants_progress:
            left = self._pace.seconds_left
            rest = None if left is None else round(left)
            console.print_json({"status": "progress", **self._figures(), "seconds_left": rest})
        elif not self._json and not self._is_live and not self._quiet:
            counted = f"{sum(self._counts.values())}/{self._total} {self._verb}{failed}"
            console.say(f"{counted}  {pace}" if pace else counted)


def _opened(log: Path) -> Lines:
    """The log, created if there is none. A photograph named by mistake must not be changed."""
    lines = Lines(log, called="log")
    lines.create()
    if log.is_file():
        with log.open("rb") as file:
            if file.read(1) not in (b"", b"{"):
                raise UsageError(
                    "it exists already, and is not a log", where=log, next_step="Name another file with --log-file."
                )
    return lines


def _shortened(name: str) -> str:
    """Keep both ends of a long name: names of photos in a folder often differ only in the last digits."""
    if len(name) <= _NAME_WIDTH:
        return name
    half = (_NAME_WIDTH - 1) // 2
    return f"{name[:half]}…{name[-half:]}"
