"""Image files found from the user's inputs, each with its path relative to its input."""

import errno
import glob
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from sanarestore.errors import UsageError
from sanarestore.images.signature import (
    HEAD,
    SUFFIXES,
    VIDEO_SUFFIXES,
    name_foreign,
    name_foreign_suffix,
    sniff,
    with_article,
)
from sanarestore.images.walk import fixed_part, match, walk

_CHECK = "Check its name, and put quotes around names with spaces."
_COPY = "Restore it from a backup or copy it again."
_PERMISSIONS = "Check its permissions."
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)
_NO_FILE = "it is a pipe, a socket or a device, not a file"
_DEAD_LINK = "it is a link to a file that is missing"


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
class Rejected:
    """A file, folder or input that gives no image, and why."""

    path: Path
    """The path, or the input as it was written."""
    fact: str
    """The fault, as in an error: "it is empty"."""
    reason: str
    """The same in one word: "missing" or "unreadable" for failures, "unsupported" or "other" for ignored files."""
    next_step: str = ""
    """The next step, a sentence; empty for ignored files."""

    def __str__(self) -> str:
        """Path, fact and next step, in the form of an error message."""
        step = f" {self.next_step}" if self.next_step else ""
        return f"{self.path}: {self.fact}.{step}"


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that was found, every file once and in one place; hidden files are not mentioned."""

    images: tuple[Found, ...]
    """Files to read, in the order of the inputs, sorted within each."""
    ignored: tuple[Rejected, ...] = ()
    """Files in folders or matched by patterns that are not photographs in a supported format."""
    failed: tuple[Rejected, ...] = ()
    """Photographs that cannot be read, folders that cannot be read, and inputs that name nothing."""

    def check_inputs(self) -> None:
        """Raise UsageError if no image was found and an input names nothing: the command line is wrong."""
        missing = [each for each in self.failed if each.reason == "missing"]
        if missing and not self.images:
            raise UsageError(missing[0].fact, where=missing[0].path, next_step=missing[0].next_step)


def find(inputs: Sequence[str | PathLike[str]]) -> Findings:
    """Find the images that the inputs name. What cannot be found or read is listed, and does not stop the others.

    An input is a file, a folder (all files below it), a pattern with ``*``, ``?``, ``[...]`` or ``**``, or ``@list``,
    a file of such inputs, relative to the current folder: one per line, where lines starting with ``#`` are comments,
    or separated by NUL bytes. ``@-`` reads the list from stdin. Lists are not followed from lists.
    A file named outright is found whatever its content, so that reading it can say what is wrong.
    """
    search = _Search()
    for one in inputs:
        text = os.fspath(one)
        if text.startswith("@") and not os.path.lexists(text):
            for line in search.lines(text):
                search.expand(line)
        else:
            search.expand(text)
    return search.findings()


@dataclass(slots=True)
class _Search:
    """Collects what the inputs name; keys are absolute paths."""

    images: dict[str, Found] = field(default_factory=dict)
    ignored: dict[str, Rejected] = field(default_factory=dict)
    failed: dict[str, Rejected] = field(default_factory=dict)

    def findings(self) -> Findings:
        """The result; a file that is named outright is not listed as ignored or failed too."""
        ignored = (each for key, each in self.ignored.items() if key not in self.images)
        failed = (each for key, each in self.failed.items() if key not in self.images)
        return Findings(tuple(self.images.values()), tuple(ignored), tuple(failed))

    def lines(self, text: str) -> list[str]:
        """The inputs in the list that `text` names; none if it cannot be read."""
        try:
            data = _read_stdin() if text == "@-" else Path(text[1:]).read_bytes()
            return list(_split(data))
        except (OSError, ValueError) as error:
            is_text = not isinstance(error, OSError)
            self.failed[f"list {text}"] = Rejected(
                Path(text),
                "the list is not UTF-8 text" if is_text else f"there is no such list ({_why(error)})",
                "missing",
                "Save it as UTF-8, one name per line." if is_text else _CHECK,
            )
            return []

    def expand(self, text: str) -> None:
        """Add what one input names."""
        path = Path(text)
        try:
            mode = os.stat(text).st_mode  # noqa: PTH116 - Path("") is the current folder
        except (OSError, ValueError) as error:
            if glob.has_magic(text) and not os.path.lexists(text):
                self._match(text)
            else:
                self.failed[_key(text)] = _missing(text, error)
            return
        if stat.S_ISDIR(mode):
            for each in walk(text, self._refuse):
                self._add(each, Found(Path(each), _below(each, text), path, in_folder=True))
        elif stat.S_ISREG(mode):
            self.images.setdefault(_key(text), Found(path, Path(path.name), path.parent))
        else:
            self.failed[_key(text)] = Rejected(path, _NO_FILE, "unreadable", "Name a file or a folder.")

    def _match(self, pattern: str) -> None:
        root, parts = fixed_part(pattern)
        start = "" if root == Path() else str(root)
        before = len(self.failed)
        matches = sorted(set(match(start, parts, self._refuse)))
        for each in matches:
            for file in walk(each or ".", self._refuse) if os.path.isdir(each or ".") else (each,):  # noqa: PTH112
                name = file.removeprefix(f".{os.sep}") if not each else file
                self._add(name, Found(Path(name), _below(name, start), root))
        if not matches and len(self.failed) == before:
            fact = "no file matches this pattern"
            self.failed[_key(pattern)] = Rejected(Path(pattern), fact, "missing", "Check it, or name the folder.")

    def _add(self, path: str, found: Found) -> None:
        """Add a file that is not named outright, in the place where it belongs."""
        key = _key(path)
        if key in self.images or key in self.ignored or key in self.failed:
            return
        rejected = _judge(found.path)
        if rejected is None:
            self.images[key] = found
        else:
            (self.failed if rejected.next_step else self.ignored)[key] = rejected

    def _refuse(self, folder: str, error: OSError) -> None:
        fact = f"this folder cannot be read ({_why(error)})"
        self.failed[_key(folder)] = Rejected(Path(folder), fact, "unreadable", _PERMISSIONS)


def _judge(path: Path) -> Rejected | None:
    """Say why a file that is not named outright gives no image; None if it is one. Only failures have a next step."""
    is_photo = path.suffix.lower() in SUFFIXES
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe could block for ever
            return Rejected(path, _NO_FILE, "unreadable" if is_photo else "other", "Remove it." if is_photo else "")
        with path.open("rb", buffering=0) as file:
            head = file.read(HEAD) or b""
    except OSError as error:
        if error.errno not in _NOWHERE:
            return Rejected(path, f"it cannot be read ({_why(error)})", "unreadable", _PERMISSIONS)
        return Rejected(path, _DEAD_LINK, "missing" if is_photo else "other", _COPY if is_photo else "")
    if sniff(head):
        return None
    if is_photo:
        return _not_a_photograph(path, head)
    foreign = name_foreign(head) or name_foreign_suffix(path)
    if foreign:
        return Rejected(path, f"it is {with_article(foreign)}, which is not read", "unsupported")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return Rejected(path, "it is a video; name the file itself to restore it", "other")
    return Rejected(path, "it is not a photograph", "other")


def _not_a_photograph(path: Path, head: bytes) -> Rejected:
    """A file with the suffix of a photograph and other content."""
    if not head:
        return Rejected(path, "it is empty", "unreadable", _COPY)
    foreign = name_foreign(head)
    if foreign:
        return Rejected(
            path, f"it is {with_article(foreign)}, which is not read", "unreadable", "Export it as TIFF or PNG."
        )
    return Rejected(path, "it is not an image", "unreadable", _COPY)


def _missing(text: str, error: OSError | ValueError) -> Rejected:
    """An input that cannot be looked up."""
    path = Path(text)
    if not text:
        return Rejected(path, "an input is empty", "missing", "Name a file or a folder.")
    if isinstance(error, OSError) and error.errno not in _NOWHERE:
        return Rejected(path, f"it cannot be read ({_why(error)})", "unreadable", _PERMISSIONS)
    if os.path.lexists(text):
        return Rejected(path, _DEAD_LINK, "missing", _COPY)
    return Rejected(path, "there is no such file or folder", "missing", _CHECK)


def _read_stdin() -> bytes:
    if sys.stdin is None:
        raise OSError(errno.EBADF, "stdin is closed")
    return sys.stdin.buffer.read()


def _split(data: bytes) -> Iterator[str]:
    """The inputs of a list; ValueError if it is not text. Names that are not UTF-8 are kept where the system can."""
    head = data[:HEAD]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or sniff(head) or name_foreign(head):
        raise ValueError
    if b"\0" in data:
        yield from (os.fsdecode(name) for name in data.split(b"\0") if name)
        return
    for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        name = line.strip()
        if name and not name.startswith(b"#"):
            yield os.fsdecode(name)


def _key(path: str) -> str:
    return os.path.normcase(os.path.abspath(path)) if "\0" not in path else path  # noqa: PTH100 - keeps ".."


def _below(path: str, root: str) -> Path:
    return Path(path[len(root) :].lstrip("/" + os.sep)) if path.startswith(root) else Path(path).relative_to(root)


def _why(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
