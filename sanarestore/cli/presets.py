"""Presets: options of `restore` under one name, from the table [preset.NAME] of a settings file.

A preset is asked for by name, so that its values win over environment variables and the rest of the files; the command
line wins over it. None is built in: what suits one kind of photographs is for their owner to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sanarestore.cli.settings import PRESET, PROJECT_FILE, Settings, nearest, user_file
from sanarestore.errors import UsageError


@dataclass(frozen=True, slots=True)
class Preset:
    """A preset, where it stands, and its values by key."""

    name: str
    path: Path
    values: Mapping[str, Any]


def find(settings: Settings, name: str) -> Preset:
    """The preset of a name; UsageError lists those that are known."""
    known = settings.presets()
    if name in known:
        return Preset(name, *known[name])
    if known:
        step = f"{nearest(name, known)} Known presets: {', '.join(known)}.".lstrip()
    else:
        step = f"None is known: write a table [{PRESET}.{name}] in {PROJECT_FILE} or in {user_file()}."
    raise UsageError(f"there is no preset '{name}'", where="--preset", next_step=step)
