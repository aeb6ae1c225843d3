"""Look up the files of a list of pairs; where one is missing, guess how its path was miswritten."""

import difflib
import os
import re
import stat
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path, PurePath

RELATIVE = "Paths are relative to the folder of the list."

LONGEST = 200
"""Characters of a path that a message shows."""

_QUOTES = "'\"`“”„‘’«»"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that was found."""

    path: Path
    identity: tuple[int, int] | str
    """Identity of the file, equal for two names of one file, as with links."""


@dataclass(frozen=True, slots=True)
class Absent:
    """A cell that names no file: the reason, and what to do."""

    fact: str
    next_step: str


@dataclass(slots=True)
class Lookup:
    """Finds the files of a list in its folder; folders are listed once."""

    folder: Path
    """The folder of the list, absolute."""
    _names: dict[Path, list[str]] = field(default_factory=dict)

    def find(self, cell: str, *, advise: bool = True) -> FoundFile | Absent:
        """Return the file that a cell names; if there is none and `advise` is true, search for the cause."""
        if not cell.strip():
            return Absent("a path is empty", "Write the path of the image.")
        path = self.folder / cell
        try:
            found = path.stat()
        except (OSError, ValueError) as error:
            if isinstance(error, PermissionError):
                return Absent(f"{cell} cannot be read ({error.strerror})", "Check the permissions of its folder.")
            if isinstance(error, FileNotFoundError) and path.is_symlink():
                return Absent(f"{cell} is a link to a file that is missing", "Restore the file from a backup.")
            return Absent(f"there is no file {_cut(cell)}", self._cause(cell) if advise else "")
        if stat.S_ISDIR(found.st_mode):
            return Absent(f"{cell} is a folder, not an image", "Write a line for each pair of files in it.")
        if not stat.S_ISREG(found.st_mode):
            return Absent(f"{cell} is a pipe, a socket or a device, not a file", "Name an image file.")
        identity = (found.st_dev, found.st_ino) if found.st_ino else os.path.normcase(os.path.normpath(path))
        return FoundFile(path, identity)

    def _cause(self, cell: str) -> str:
        """Advise on a missing file, by the spelling of its path and by files with similar names."""
        return _spelling(cell) or self._bare(cell) or self._elsewhere(cell) or self._nearly(self.folder / cell)

    def _bare(self, cell: str) -> str:
        """Advise if the file exists under the name without surrounding spaces or quotes, or if the cell reads like a
        caption."""
        stripped = cell.strip()
        bare = stripped.strip(_QUOTES)
        if bare != stripped:
            return f"Remove the {stripped[0] if stripped[0] in _QUOTES else stripped[-1]} around the path."
        if stripped != cell:
            return "Remove the spaces around the path."
        if " " in cell and not PurePath(cell).suffix:
            return "It reads like a caption: check the order of the columns."
        return ""

    def _elsewhere(self, cell: str) -> str:
        """Advise if the file lies beside the list, or in the current folder."""
        path = Path(cell)
        if path.is_absolute():
            below = self.folder / path.name
            return f"There is a file of this name beside the list: write {path.name}." if _is_file(below) else ""
        if _is_file(path.absolute()):
            return f"{RELATIVE} Write {_relative(path.absolute(), self.folder)}."
        return ""

    def _nearly(self, path: Path) -> str:
        """Advise if the folder holds a file whose name differs in case, in suffix or by a typing error."""
        names = self._listed(path.parent)
        if names is None:
            return f"There is no folder {path.parent}. {RELATIVE}"
        for differs, key in (("in letter case or accents", _folded), ("in its suffix", _stem)):
            same = [name for name in names if key(name) == key(path.name)]
            if same:
                return f"{same[0]} is there, which differs {differs}: write its name as it is."
        close = difflib.get_close_matches(path.name, names[:5000], n=1, cutoff=0.8)
        return f"Is {close[0]} meant?" if close else RELATIVE

    def _listed(self, folder: Path) -> list[str] | None:
        if folder not in self._names:
            try:
                self._names[folder] = sorted(each.name for each in folder.iterdir())
            except (OSError, ValueError):
                return None
        return self._names[folder]


def _spelling(cell: str) -> str:
    """Advise by the spelling of a path alone; empty if it looks normal."""
    scheme = re.match(r"\s*([a-z][a-z0-9+.-]+):/", cell, re.IGNORECASE)
    if scheme and scheme[1].lower() == "file":
        return "Write the path of the file, without file://."
    if scheme:
        return "It is an address: download the image, and write the path of the file."
    if re.match(r"\s*~|.*\$\w|.*\$\{|%\w+%", cell):
        return f"Write the full path: ~ and variables are not expanded. {RELATIVE}"
    if os.sep == "/" and re.match(r"\s*[a-z]:[\\/]|\\\\", cell, re.IGNORECASE):
        return f"It is a Windows path. {RELATIVE}"
    if os.sep == "/" and "\\" in cell:
        return "Write / in place of \\ between folders."
    return ""


def _cut(cell: str) -> str:
    """Return a cell for a message; a very long one, caused by an error in the list, is cut."""
    return cell if len(cell) <= LONGEST else f"{cell[:LONGEST]}..."


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return path.as_posix()


def _folded(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name.casefold())
    return "".join(letter for letter in plain if not unicodedata.combining(letter))


def _stem(name: str) -> str:
    return _folded(PurePath(name).stem)
