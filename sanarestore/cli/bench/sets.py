"""Test sets: which are known and found, and which tasks are measured on them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

from sanarestore.errors import UsageError
from sanarestore.evaluation.columns import Column, Place, Record, table

if TYPE_CHECKING:
    from sanarestore.evaluation.datasets import Item
    from sanarestore.evaluation.public import Set

FoundSet: TypeAlias = "tuple[str, str, tuple[Item, ...]]"
"""Name, own task and items of a set."""

LEVELS_OF = {
    "--sigma": {"denoise"}, "--quality": {"jpeg"}, "--scale": {"sr"}, "--blur": {"deblur"}, "--recipe": {"recipe"},
    "--draws": {"mixed", "prompts"},
}  # fmt: skip
"""Flag -> the tasks that use it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedSet(Record):
    """A set known by name."""

    dataset: Annotated[str, Column("", words=True)]
    title: str
    task: Annotated[str, Column("task", words=True)]
    found: Annotated[bool, Column("found", value=lambda row: row.presence, words=True)]
    images: Annotated[int, Column("images")]
    downloads: bool
    published: str
    reason: str | None
    """Reason why it was not found."""

    @property
    def presence(self) -> str:
        """Whether it is there, or how to get it."""
        return "yes" if self.found else "--download" if self.downloads else "no"


def refuse_beside_list(names: list[str], flags: Mapping[str, object]) -> None:
    """Raise UsageError for a set or a flag that is given beside `--list` and has no effect."""
    useless = [*names, *(flag for flag, value in flags.items() if value)]
    if useless:
        raise UsageError(
            f"it lists the known sets and measures nothing, so {useless[0]} has no effect", where="--list",
            next_step="Leave one of them out.",
        )  # fmt: skip


def list_sets(data_dir: Path | None, *, as_json: bool) -> None:
    """Print all sets known by name: a table, or lines of JSON."""
    from sanarestore.cli import console
    from sanarestore.evaluation.datasets import data_folder
    from sanarestore.evaluation.public import SETS

    listed = [_listed(known, data_dir) for known in SETS.values()]
    for each in listed if as_json else ():
        console.print_json(each.to_json())
    if not as_json:
        console.table(f"Test sets in {data_folder(data_dir)}", table(listed, Place.TERMINAL))


def _listed(known: "Set", data_dir: Path | None) -> ListedSet:
    from sanarestore.errors import NoImagesError
    from sanarestore.evaluation.datasets import find_set

    reason = None
    try:
        find_set(known.name, data_dir)
    except NoImagesError as error:
        reason = error.fact
    return ListedSet(
        dataset=known.name, title=known.title, task=known.task, found=reason is None, images=known.count,
        downloads=known.remote is not None, published=known.published, reason=reason,
    )  # fmt: skip


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
    _refuse_twice([(name, name.lower()) for name in names])
    _refuse_twice([(f"--data {folder}", str(folder.resolve())) for folder in folders])
    found = [(name.lower(), items, SETS[name.lower()].task) for name in names for items in [find_set(name, data_dir)]]
    short = [folder.resolve().name for folder in folders]
    found += [
        # Folders that share a name are named by their paths.
        (folder.as_posix() if short.count(name) > 1 else name, items, "real" if items[0].degraded else "denoise")
        for folder, name in zip(folders, short, strict=True) for items in [find_folder(folder)]
    ]  # fmt: skip
    return [(name, own, items) for name, items, own in found]


def _refuse_twice(named: list[tuple[str, str]]) -> None:
    """Raise UsageError if two of the sets, given as (name as typed, known name), are the same."""
    known = [each for _, each in named]
    for place, (name, each) in enumerate(named):
        if each in known[:place]:
            raise UsageError("this set is named twice", where=name, next_step="Name it once.")
