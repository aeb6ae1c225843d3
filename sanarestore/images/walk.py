"""Walks through folders and matches of patterns, in sorted order, without following links in circles."""

import fnmatch
import glob
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

Refuse = Callable[[str, OSError], None]
"""Takes a folder that cannot be read, and why."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The visible names of a folder, each sorted."""

    folders: list[str]
    others: list[str]


def list_folder(folder: str, refuse: Refuse) -> Listing:
    """List the visible entries of a folder. If it cannot be read, call `refuse` and return an empty listing."""
    folders: list[str] = []
    others: list[str] = []
    try:
        with os.scandir(folder or ".") as entries:
            for entry in entries:
                if not _is_hidden(entry):
                    (folders if _is_folder(entry) else others).append(entry.name)
    except OSError as error:
        refuse(folder, error)
    return Listing(sorted(folders), sorted(others))


def walk(root: str, refuse: Refuse) -> Iterator[str]:
    """Yield everything below a folder that is no folder: a folder's own files first, then those of its folders.

    Hidden entries are skipped, and a folder with several links to it is entered once.
    """
    for folder, listing in _folders(root, refuse):
        for name in listing.others:
            yield os.path.join(folder, name)  # noqa: PTH118 - paths are strings here, which is four times faster


def match(root: str, parts: tuple[str, ...], refuse: Refuse) -> Iterator[str]:
    """Yield the files and folders below `root` that match the parts of a pattern; ``**`` matches folders at any depth.

    As in a shell, ``*`` and ``?`` do not match the dot of hidden names.
    """
    part, rest = parts[0], parts[1:]
    if part == "**":
        if not rest:
            yield root
            return
        for folder, _ in _folders(root, refuse):
            yield from match(folder, rest, refuse)
        return
    if not glob.has_magic(part):
        path = os.path.join(root, part)  # noqa: PTH118
        if os.path.lexists(path):
            yield from _matched(path, rest, refuse)
        return
    for name in _all_names(root, refuse):
        if fnmatch.fnmatch(name, part) and (not name.startswith(".") or part.startswith(".")):
            yield from _matched(os.path.join(root, name), rest, refuse)  # noqa: PTH118


def _matched(path: str, rest: tuple[str, ...], refuse: Refuse) -> Iterator[str]:
    if not rest:
        yield path
    elif os.path.isdir(path):  # noqa: PTH112
        yield from match(path, rest, refuse)


def _folders(root: str, refuse: Refuse) -> Iterator[tuple[str, Listing]]:
    """Yield a folder and all below it, each once, with what they hold."""
    entered: set[str] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        here = os.path.realpath(folder)
        if here in entered:
            continue
        entered.add(here)
        listing = list_folder(folder, refuse)
        yield folder, listing
        waiting.extend(os.path.join(folder, name) for name in reversed(listing.folders))  # noqa: PTH118


def _all_names(folder: str, refuse: Refuse) -> list[str]:
    """Names in a folder, hidden ones too, sorted; none if the folder is not there."""
    try:
        return sorted(os.listdir(folder or "."))  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        refuse(folder, error)
        return []


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, for example
        return False


def _is_hidden(entry: "os.DirEntry[str]") -> bool:
    if entry.name.startswith("."):
        return True
    if os.name != "nt":
        return False
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    return bool(getattr(status, "st_file_attributes", 0) & stat.FILE_ATTRIBUTE_HIDDEN)


def fixed_part(pattern: str) -> tuple[Path, tuple[str, ...]]:
    """Split a pattern into the folder above its first wildcard and the parts from there on."""
    parts = Path(pattern).parts
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first]), parts[first:]
