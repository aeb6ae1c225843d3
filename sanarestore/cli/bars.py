"""Progress bars that count whole parts."""

from collections.abc import Iterable

from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from sanarestore.cli import console


class Count(ProgressColumn):
    """Column of parts done and parts in all."""

    def render(self, task: Task) -> Text:
        return Text(f"{int(task.completed)}/{int(task.total or 0)}", style="progress.download", justify="right")


def counting(*, quiet: bool) -> Progress:
    """Progress bar that counts whole parts."""
    return Progress(
        SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), Count(),
        TimeRemainingColumn(compact=True), console=console.stderr, transient=True, expand=True,
        disable=not console.is_live(quiet=quiet),
    )  # fmt: skip


def show_counting(label: str, steps: Iterable[tuple[int, int]], *, quiet: bool) -> None:
    """Run through steps that yield (done, total), showing a bar."""
    progress = counting(quiet=quiet)
    with progress:
        task = progress.add_task(label)
        for done, total in steps:
            progress.update(task, completed=done, total=total)
