"""Settings: values of options from environment variables and from settings files, and which of them wins.

The first of these that sets an option decides its value: the command line, a preset (`presets.py`), an environment
variable such as SANARESTORE_RESTORE_TILE, `sanarestore.toml` in the current folder, and the user's own file. A file has
a table for each command, whose keys are the names of flags without dashes in front:

    [restore]
    tile = 1024
    memory-per-file = "8G"

    [preset.product]
    prompt = "remove noise"

Click reads the variables and takes the files as its default map; this module finds, checks and ranks the values.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import platformdirs

from sanarestore.errors import UsageError

PREFIX = "SANARESTORE"
"""First part of the names of environment variables."""

OTHERS = frozenset({"DATA", "TRITON"})
"""Variables after the prefix that are read elsewhere, and set no option."""

PRESET = "preset"
"""Table of the presets."""

PROJECT_FILE = Path("sanarestore.toml")
"""Settings of the current folder."""


_TRUTHS = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n", "off"), False),
}
"""Texts of environment variables that turn a flag on or off."""


def user_file() -> Path:
    """The user's settings, for every folder."""
    return platformdirs.user_config_path("sanarestore", appauthor=False) / "config.toml"


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """An option of a command that can be set."""

    key: str
    """Name in files: the flag without dashes in front, such as `memory-per-file`."""
    name: str
    """Name of the parameter, as Click knows it."""
    kind: type
    """bool, int, float, str or Path; of the items, if it is a list."""
    is_list: bool
    noun: str
    """Description of a valid value, such as "a number of pixels"."""

    def variable(self, command: str) -> str:
        """Name of the environment variable, such as SANARESTORE_RESTORE_TILE."""
        return f"{PREFIX}_{command}_{self.key}".upper().replace("-", "_")

    def check(self, value: Any, where: str) -> Any:
        """The value from a TOML file as Click takes it; UsageError for another type."""
        items = value if self.is_list else [value]
        if not isinstance(items, list) or not all(map(self._is_of_kind, items)):
            self._refuse(value, where)
        self.check_not_empty(value, where)
        found = [str(Path(item).expanduser()) if str(item).startswith("~") else item for item in items]
        return found if self.is_list else found[0]

    def parse(self, text: str, where: str) -> Any:
        """The value of an environment variable; UsageError if the text is none. Click reads it again by itself."""
        if self.is_list:
            return text.split(os.pathsep if self.kind is Path else None)
        if self.kind is bool:
            return _TRUTHS[text.strip().lower()] if text.strip().lower() in _TRUTHS else self._refuse(text, where)
        try:
            return self.kind(text) if self.kind in (int, float) else text
        except ValueError:
            return self._refuse(text, where)

    def _refuse(self, value: Any, where: str) -> NoReturn:
        raise UsageError(f"{_shown(value)} is not {self.noun}", where=where, next_step=self._advice(value))

    def check_not_empty(self, value: Any, where: str) -> None:
        """Raise UsageError for an empty text, as an unset variable of a shell gives; only a prompt may be empty."""
        items = value if isinstance(value, (list, tuple)) else [value]
        if self.key != "prompt" and "" in items:
            raise UsageError("this is empty", where=where, next_step="Give a value, or leave it out.")

    def _is_of_kind(self, item: Any) -> bool:
        kinds: dict[type, tuple[type, ...]] = {float: (int, float), Path: (str,)}
        # In Python, true and false are numbers too.
        return isinstance(item, kinds.get(self.kind, (self.kind,))) and isinstance(item, bool) == (self.kind is bool)

    def _advice(self, value: Any) -> str:
        if self.is_list and not isinstance(value, list):
            return f"Write a list, such as {self.key} = [{_shown(value)}]."
        return f'Put it in quotes: {self.key} = "{value}".' if self.kind in (str, Path) else ""


@dataclass(frozen=True, slots=True)
class Value:
    """A value and where it was set."""

    value: Any
    source: str
    """A variable's name, or a file and its table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingsFile:
    """The contents of a settings file, checked."""

    path: Path
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Command -> key -> value."""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name -> key -> value."""


Options = Mapping[str, Mapping[str, Option]]
"""Command -> key -> option."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything that is set, apart from the command line."""

    variables: Mapping[tuple[str, str], Value]
    """(Command, key) -> value."""
    files: Sequence[SettingsFile]
    """The files that exist, the one that wins first."""

    def candidates(self, command: str, key: str) -> list[Value]:
        """The values that an option was given, the one that wins first; none if it has its default."""
        found = [self.variables[command, key]] if (command, key) in self.variables else []
        files = [file for file in self.files if key in file.tables.get(command, {})]
        return found + [Value(file.tables[command][key], f"{file.path} [{command}]") for file in files]

    def from_files(self, command: str) -> dict[str, Value]:
        """Key -> the value that wins among the files."""
        found: dict[str, Value] = {}
        for file in self.files:
            for key, value in file.tables.get(command, {}).items():
                found.setdefault(key, Value(value, f"{file.path} [{command}]"))
        return found

    def presets(self) -> dict[str, tuple[Path, Mapping[str, Any]]]:
        """Name -> file and values of every preset. One of the same name in two files is that of the file that wins."""
        found: dict[str, tuple[Path, Mapping[str, Any]]] = {}
        for file in self.files:
            for name, values in file.presets.items():
                found.setdefault(name, (file.path, values))
        return found


def load(options: Options, environment: Mapping[str, str] | None = None) -> Settings:
    """Read and check all settings; UsageError names the file or variable, and the key, that is wrong."""
    # A folder of that name or a broken link is a mistake, and an error says so.
    places = (path for path in (PROJECT_FILE, user_file()) if path.is_file() or path.is_dir() or path.is_symlink())
    files = [read(path, options) for path in places]
    variables = dict(_variables(options, os.environ if environment is None else environment))
    return Settings(variables=variables, files=files)


def read(path: Path, options: Options) -> SettingsFile:
    """Read and check one file; UsageError if it cannot be read, is no TOML, or has an unknown key or a wrong type."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the file is not valid TOML: {error}", where=path, next_step="Mend that line.") from error
    except UnicodeDecodeError as error:
        raise UsageError("the file is not UTF-8 text", where=path, next_step="Save it as UTF-8.") from error
    except OSError as error:
        step = "Rename the folder: settings are read from a file." if path.is_dir() else ""
        fact = "it is a folder" if path.is_dir() else f"the file cannot be read ({error.strerror})"
        raise UsageError(fact, where=path, next_step=step) from error
    presets = tables.pop(PRESET, {})
    for name, table in tables.items():
        _check_table(path, name, table, options)
    if not isinstance(presets, dict) or not all(isinstance(preset, dict) for preset in presets.values()):
        raise UsageError(
            "presets are tables with a name", where=f"{path} [{PRESET}]", next_step="Write [preset.product], say."
        )
    for_presets = {key: option for key, option in options["restore"].items() if key != PRESET}
    return SettingsFile(
        path=path,
        tables={name: _checked(f"{path} [{name}]", table, options[name]) for name, table in tables.items()},
        presets={name: _checked(f"{path} [{PRESET}.{name}]", values, for_presets) for name, values in presets.items()},
    )


def _check_table(path: Path, name: str, table: Any, options: Options) -> None:
    if not isinstance(table, dict):
        owners = [command for command, known in options.items() if name in known]
        step = f"Write it below [{owners[0]}]." if owners else f"Tables are {', '.join(options)} and {PRESET}.NAME."
        raise UsageError(f"{name} stands in no table", where=path, next_step=step)
    if name not in options:
        raise UsageError(
            f"there is no command {name}", where=f"{path} [{name}]",
            next_step=nearest(name, [*options, PRESET]) or f"Tables are {', '.join(options)} and {PRESET}.NAME.",
        )  # fmt: skip


def _checked(where: str, table: Mapping[str, Any], known: Mapping[str, Option]) -> dict[str, Any]:
    for key in table:
        if key not in known:
            raise UsageError(
                f"there is no setting {key}", where=where,
                next_step=nearest(key, known) or "Settings have the names of the command's flags.",
            )  # fmt: skip
    return {key: known[key].check(value, f"{where} {key}") for key, value in table.items()}


def _variables(options: Options, environment: Mapping[str, str]) -> Iterator[tuple[tuple[str, str], Value]]:
    """The options that variables set. UsageError for one that nearly does: it would be ignored in silence."""
    known = {
        option.variable(command): (command, key) for command, each in options.items() for key, option in each.items()
    }
    loose = {key.upper().replace("-", "_") for each in options.values() for key in each} - OTHERS
    for name, text in sorted(environment.items()):
        if name in known and text:
            command, key = known[name]
            yield known[name], Value(options[command][key].parse(text, name), name)
        rest = name.removeprefix(f"{PREFIX}_")
        is_meant = rest in loose or rest.startswith(tuple(f"{command.upper()}_" for command in options))
        if rest != name and name not in known and is_meant:
            raise UsageError(
                "no option is set by this environment variable", where=name, next_step=_variable_for(rest, known)
            )


def _variable_for(rest: str, known: Mapping[str, tuple[str, str]]) -> str:
    whole = [name for name, (_, key) in known.items() if rest == key.upper().replace("-", "_")]
    if whole:
        return f"Did you mean {whole[0]}?"
    return nearest(f"{PREFIX}_{rest}", known) or f"Names are those of flags, as in {PREFIX}_RESTORE_TILE."


def refuse_variables(command: str, keys: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Raise UsageError for an environment variable that means an option of a command which takes no settings."""
    given = os.environ if environment is None else environment
    for key in keys:
        name = f"{PREFIX}_{command}_{key}".upper().replace("-", "_").replace(" ", "_")
        if given.get(name):
            raise UsageError(
                f"options of {command} are not set by environment variables", where=name,
                next_step=f"Unset it, and give --{key} on the command line.",
            )  # fmt: skip


def nearest(name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """A sentence that proposes the known name most like this one; empty if none is like it."""
    found = get_close_matches(name, list(known), n=1)
    return f"Did you mean {found[0]}?" if found else ""


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"'{value}'"
    return str(value).lower() if isinstance(value, bool) else str(value)
