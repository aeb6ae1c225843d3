"""Test sets: which are known and found, and which tasks are measured on them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sanarestore.errors import UsageError

if TYPE_CHECKING:
    from sanarestore.evaluation.datasets import Item

FoundSet: TypeAlias = "tuple[str, str, tuple[Item, ...]]"
"""Name, own task and items of a set."""

LEVELS_OF = {
    "--sigma": {"denoise"}, "--quality": {"jpeg"}, "--scale": {"sr"}, "--blur": {"deblur"}, "--recipe": {"recipe"},
    "--draws": {"mixed", "prompts"},
}  # fmt: skip
"""Flag -> the tasks that use it."""


def list_sets(data_dir: Path | None, *, as_json: bool) -> None:
    """Print all sets known by name: a table, or lines of JSON."""
    from sanarestore.cli import console
    from sanarestore.errors import NoImagesError
    from sanarestore.evaluation.datasets import data_folder, find_set
    from sanarestore.evaluation.public import SETS

    rows: list[dict[str, Any]] = []
    for known in SETS.values():
        try:
            find_set(known.name, data_dir)
        except NoImagesError as error:
            found, reason = False, error.fact
        else:
            found, reason = True, ""
        rows.append({
            "dataset": known.name, "title": known.title, "images": known.count, "task": known.task, "found": found,
            "downloads": known.remote is not None, "published": known.published,
            **({"reason": reason} if reason else {}),
        })  # fmt: skip
    if as_json:
        for row in rows:
            console.print_json(row)
        return
    cells = [
        [row["dataset"], row["task"], "yes" if row["found"] else "--download" if row["downloads"] else "no",
         str(row["images"])] for row in rows
    ]  # fmt: skip
    console.table(f"Test sets in {data_folder(data_dir)}", ["", "task", "found", "images"], cells, texts=3)


def tasks(asked: list[str], flags: list[str], own: list[str]) -> list[str]:
    """The tasks asked for; without any, the tasks of level flags that the sets' own tasks do not use, if there are any.

    UsageError for a level flag that no task asked for uses.
    """
    useless = [flag for flag in flags if not LEVELS_OF[flag] & set(asked or own)]
    if asked and useless:
        raise UsageError(
            f"this has no effect on the task {', '.join(asked)}", where=useless[0],
            next_step=f"Leave it out, or add --task {sorted(LEVELS_OF[useless[0]])[0]}.",
        )  # fmt: skip
    return asked or list(dict.fromkeys(sorted(LEVELS_OF[flag])[0] for flag in useless))


def find_sets(names: list[str], folders: list[Path], data_dir: Path | None) -> "list[FoundSet]":
    """Find the sets; UsageError if none is named."""
    from sanarestore.evaluation.datasets import find_folder, find_set
    from sanarestore.evaluation.public import SETS

    if not names and not folders:
        raise UsageError(
            "no test set is named", where="bench", next_step=f"Name one of {', '.join(SETS)}, or use --data FOLDER."
        )
    found = [(name.lower(), items, SETS[name.lower()].task) for name in names for items in [find_set(name, data_dir)]]
    short = [folder.resolve().name for folder in folders]
    found += [
        # Folders that share a name are named by their paths.
        (folder.as_posix() if short.count(name) > 1 else name, items, "real" if items[0].degraded else "denoise")
        for folder, name in zip(folders, short, strict=True) for items in [find_folder(folder)]
    ]  # fmt: skip
    return [(name, own, items) for name, items, own in found]
