"""Names of results: the template of `--name`, and the suffix that belongs to the format. Imports no torch."""

import os
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sanarestore.errors import UsageError
from sanarestore.images import SUFFIXES, Format, Found, is_image_suffix
from sanarestore.options import OutputFormat

FIELDS = ("stem", "ext", "parent", "index")
"""Fields of a template: name of the input without suffix, its suffix without dot, its folder, and its number."""

ALL_APART = "{stem}-{ext}"
"""Template under which files of one folder that differ in their suffixes get different names."""


@dataclass(frozen=True, slots=True)
class Naming:
    """Rules for the names of results."""

    format: OutputFormat = "preserve"
    """The format whose suffix results get; preserve keeps the suffix of each input."""
    template: str | None = None
    """Name of each result without its suffix, with the fields of `FIELDS` in braces; None is `{stem}`."""
    bit_depth: int | None = None
    """Bit depth of results; it decides the format for inputs whose own format is not written. None keeps each input's.
    """
    quality: int | None = None
    """Quality that is asked for, which formats without loss do not have; None if none is."""

    def __post_init__(self) -> None:
        """Check the template; UsageError if it names no file, or has fields that do not exist."""
        if self.template is None:
            return
        names = _fields(self.template)
        unknown = [name for name in names if name not in FIELDS]
        if unknown:
            raise _refused(f"there is no field {{{unknown[0]}}}", f"Fields are {_listed(FIELDS)}.")
        if set(self.template) & set("/\\"):
            raise _refused(
                f"'{self.template}' holds a path separator, and it is the name of a file",
                "Name a folder with -o; the tree below the input is mirrored there.",
            )
        if not self.template or not self.template.isprintable():
            raise _refused(f"'{self.template}' is not a file name", "Use a name such as {stem}_restored.")
        if self.template.endswith(".{ext}") or is_image_suffix(Path(f"x{self.template}").suffix):
            raise _refused(
                f"'{self.template}' ends with an extension, and it is added to the name", "Leave the extension out."
            )

    def relative(self, found: Found, index: int) -> Path:
        """Path of a result below its output folder; `index` is the number of the input, from 1."""
        return found.relative.with_name(self.name(found.path, index))

    def name(self, source: Path, index: int, *, default: str = "{stem}") -> str:
        """Name of the result of a file with its suffix; `default` is used if there is no template."""
        stem, suffix = split(source)
        parent = Path(os.path.abspath(source)).parent.name  # noqa: PTH100 - Path.absolute keeps ".."
        template = self.template or default
        name = template.format(stem=stem, ext=suffix[1:], parent=parent, index=index) + self._suffix(suffix)
        if name in ("", ".", ".."):
            raise _refused(f"'{template}' gives {source} no name", "Use {stem} or {index} too.")
        return name

    def _suffix(self, own: str) -> str:
        if self.format == "preserve" or SUFFIXES.get(own.lower()) == self.format:
            return own
        return suffix_of(self.format)

    def advice(self, sources: Sequence[Path]) -> str:
        """Advice for files that would get the same name."""
        stems, suffixes = ({split(source)[part].lower() for source in sources} for part in (0, 1))
        if len(stems) == 1 and len(suffixes) > 1 and "ext" not in _fields(self.template or ""):
            return f"Give results names of their own with --name '{ALL_APART}'."
        if self.template is not None and not {"stem", "index"} & set(_fields(self.template)):
            return "Add {stem} or {index} to --name."
        return "Restore it into another folder."


def split(path: Path) -> tuple[str, str]:
    """Name and suffix of a photograph; a suffix that is not that of an image format belongs to the name."""
    return (path.stem, path.suffix) if is_image_suffix(path.suffix) else (path.name, "")


def suffix_of(format: Format) -> str:  # noqa: A002 - the word users say
    """The usual suffix of a format that is written."""
    return next(suffix for suffix, its_format in SUFFIXES.items() if its_format == format)


def _fields(template: str) -> list[str]:
    """Names of the fields of a template; UsageError if its braces do not match, or a field has a form of its own."""
    try:
        parts = list(string.Formatter().parse(template))
        template.format(**{name: 1 if name == "index" else "x" for _, name, _, _ in parts if name})
    except (ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise _refused(
            f"'{template}' cannot be understood", f"Put fields in braces, such as {{stem}}; they are {_listed(FIELDS)}."
        ) from error
    return [name for _, name, _, _ in parts if name is not None]


def _refused(fact: str, next_step: str) -> UsageError:
    return UsageError(fact, where="--name", next_step=next_step)


def _listed(names: Sequence[str]) -> str:
    braced = [f"{{{name}}}" for name in names]
    return f"{', '.join(braced[:-1])} and {braced[-1]}"
