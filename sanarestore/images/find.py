"""Image files found from the user's inputs, each with its path relative to its input."""

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from sanarestore.errors import UsageError
from sanarestore.images.signature import HEAD, sniff

_CHECK = "Check its name, and put quotes around names with spaces."


@dataclass(frozen=True, slots=True)
class Found:
    """A file that was found."""

    path: Path
    """Path of the file."""
    relative: Path
    """The path relative to `root`, which an output folder mirrors."""
    root: Path
    """The folder that was named, the fixed part of a pattern, or a named file's folder."""
    in_folder: bool = False
    """Whether `root` was named as a folder, outright or in a list."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that was found."""

    images: tuple[Found, ...]
    """In the order of the inputs, sorted within each; every file once."""
    skipped: int
    """Number of files in folders or matched by patterns that are not in a supported format."""


def find(inputs: Sequence[str | PathLike[str]]) -> Findings:
    """Find the images that the inputs name; UsageError if an input does not exist or a pattern matches nothing.

    An input is a file, a folder (all files below it), a pattern with ``*``, ``?``, ``[...]`` or ``**``, or ``@list``
    (a text file with one such input per line, relative to the current folder; lines starting with ``#`` are comments).
    A file named outright is found whatever its content, so that reading it can say what is wrong.
    """
    images: dict[str, Found] = {}
    skipped: set[str] = set()
    for one in inputs:
        for text in _lines(os.fspath(one)):
            for found, named in _expand(text):
                key = os.path.normcase(os.path.abspath(found.path))  # noqa: PTH100 - Path.absolute keeps ".."
                if named or _may_be_image(found.path):
                    images.setdefault(key, found)
                else:
                    skipped.add(key)
    return Findings(tuple(images.values()), len(skipped - images.keys()))


def _lines(text: str) -> Iterator[str]:
    """The input itself, or the lines of the list that it names."""
    if not text.startswith("@") or Path(text).exists():
        yield text
        return
    try:
        lines = Path(text[1:]).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError("there is no such list", where=text, next_step=_CHECK) from error
    except UnicodeDecodeError as error:
        raise UsageError("the list is not UTF-8 text", where=text, next_step="Save it as UTF-8.") from error
    yield from (line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))


def _expand(text: str) -> Iterator[tuple[Found, bool]]:
    """Files that one input names, and whether it names them outright."""
    path = Path(text)
    if path.is_dir():
        yield from ((found, False) for found in _walk(path))
    elif path.exists():
        yield Found(path, Path(path.name), path.parent), True
    elif glob.has_magic(text):
        yield from ((found, False) for found in _match(text))
    else:
        raise UsageError("there is no such file or folder", where=text, next_step=_CHECK)


def _match(pattern: str) -> Iterator[Found]:
    matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - takes absolute patterns too
    if not matches:
        raise UsageError("no file matches this pattern", where=pattern, next_step="Check it, or name the folder.")
    parts = Path(pattern).parts
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    for match in map(Path, matches):
        if match.is_dir():
            yield from (Found(found.path, found.path.relative_to(root), root) for found in _walk(match))
        else:
            yield Found(match, match.relative_to(root), root)


def _walk(root: Path) -> Iterator[Found]:
    """Files below a folder, sorted; hidden ones are skipped, linked folders are entered once."""
    entered: set[str] = set()
    for folder, names, files in os.walk(root, followlinks=True):
        here = os.path.realpath(folder)
        if here in entered:
            names.clear()
            continue
        entered.add(here)
        names[:] = sorted(name for name in names if not _is_hidden(Path(folder, name)))
        for name in sorted(files):
            path = Path(folder, name)
            if not _is_hidden(path):
                yield Found(path, path.relative_to(root), root, in_folder=True)


def _is_hidden(path: Path) -> bool:
    if path.name.startswith("."):
        return True
    try:
        status = path.lstat()
    except OSError:
        return False
    return bool(getattr(status, "st_file_attributes", 0) & stat.FILE_ATTRIBUTE_HIDDEN)


def _may_be_image(path: Path) -> bool:
    """Whether the first bytes are those of a supported format; True if they cannot be read, as reading will say why."""
    if not path.is_file():  # reading a pipe could block for ever
        return False
    try:
        with path.open("rb") as file:
            return sniff(file.read(HEAD)) is not None
    except OSError:
        return True
