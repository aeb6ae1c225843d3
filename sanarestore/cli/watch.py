"""`restore --watch`: batches of the files that arrive in a folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sanarestore.errors import UsageError
from sanarestore.options import BatchOptions, RestoreOptions

if TYPE_CHECKING:
    from sanarestore.engine.batch import Batch


def refuse_what_cannot_be_watched(inputs: list[str], chosen: BatchOptions, *, dry_run: bool) -> None:
    """Raise UsageError for inputs and options that have no meaning where a folder is watched."""
    if len(inputs) == 1 and not Path(inputs[0]).exists():
        raise UsageError("there is no such folder", where=inputs[0], next_step="Make it first, or check its name.")
    if len(inputs) != 1 or not Path(inputs[0]).is_dir():
        raise UsageError("one folder can be watched", where="--watch", next_step="Name one folder as the input.")
    if dry_run:
        raise UsageError("nobody knows what will arrive", where="--dry-run", next_step="Leave it or --watch out.")
    if chosen.name is not None and "{index" in chosen.name:
        raise UsageError(
            "files that arrive change the numbers of others", where="--name",
            next_step="Use {stem} instead of {index} with --watch.",
        )  # fmt: skip


def batches_as_files_arrive(
    folder: str, output: str | None, options: RestoreOptions, chosen: BatchOptions
) -> "Iterator[Batch]":
    """Yield a batch for the files that are there, and one whenever others have arrived and stand still."""
    from sanarestore.engine.batch import Batch
    from sanarestore.engine.watching import arrivals, changes_in

    for ready in arrivals(Path(folder), changes_in(Path(folder))):
        batch = Batch([folder], output, options, chosen, only=ready)
        if batch.jobs or batch.refused:
            yield batch
