"""`sanarestore config`: which settings are in force, and where they are set."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sanarestore.cli.commands import Command, Program, known_options
from sanarestore.cli.epilogs import epilog
from sanarestore.cli.flags import Json
from sanarestore.cli.settings import PROJECT_FILE, Settings, load, nearest, user_file
from sanarestore.cli.values import commands
from sanarestore.errors import UsageError

config = typer.Typer(
    name="config", cls=Program, epilog=epilog("config"), no_args_is_help=True,
    help="Show the settings in force and where they are set: sanarestore.toml, the user's file, environment variables.",
)  # fmt: skip


@config.command(cls=Command, epilog=epilog("show"))
def show(
    context: typer.Context,
    command: Annotated[
        str | None,
        typer.Argument(
            metavar="COMMAND", help="Show only this command's settings.", show_default=False, autocompletion=commands
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show every option that is set, its value, and where it is set. The command line and --preset win over it."""
    from sanarestore.cli import console

    options = known_options(context.find_root().command)
    if command is not None and command not in options:
        step = nearest(command, options) or f"Commands are {', '.join(options)}."
        raise UsageError("no such command has settings", where=command, next_step=step)
    settings = load(options)
    rows = [row for name in options if command in (None, name) for row in _rows(settings, name, list(options[name]))]
    if command in (None, "restore"):
        rows += _presets(settings)
    if as_json:
        for row in rows:
            console.print_json(row)
        return
    console.print_lines(_lines(rows))
    if not rows:
        console.say(f"Every option has its default. Settings are read from {PROJECT_FILE} and {user_file()}.")


@config.command(cls=Command, epilog=epilog("path"))
def path(as_json: Json = False) -> None:
    """Show the files that settings are read from, the one that wins first."""
    from sanarestore.cli import console

    for file in (Path.cwd() / PROJECT_FILE, user_file()):
        if as_json:
            console.print_json({"path": str(file), "exists": file.is_file()})
        else:
            console.print_lines([str(file) if file.is_file() else f"{file} (there is no such file)"])


def _rows(settings: Settings, command: str, keys: list[str]) -> list[dict[str, Any]]:
    """A row for each option of a command that is set; options of bench and others are in the order of their help."""
    rows = []
    for key in keys:
        candidates = settings.candidates(command, key)
        if candidates:
            won, *overridden = candidates
            others = [{"value": each.value, "source": each.source} for each in overridden]
            rows.append({
                "table": command, "setting": key, "value": won.value, "source": won.source, "overrides": others,
            })  # fmt: skip
    return rows


def _presets(settings: Settings) -> list[dict[str, Any]]:
    return [
        {"table": f"preset.{name}", "setting": key, "value": value, "source": str(file), "overrides": []}
        for name, (file, values) in settings.presets().items()
        for key, value in values.items()
    ]


def _lines(rows: list[dict[str, Any]]) -> list[str]:
    """The rows as TOML that could stand in a settings file, with the sources as comments."""
    lines: list[str] = []
    table = None
    for row in rows:
        if row["table"] != table:
            table = row["table"]
            lines += ["", f"[{_key(table)}]"] if lines else [f"[{_key(table)}]"]
        overrides = "".join(f"; overrides {_toml(each['value'])} of {each['source']}" for each in row["overrides"])
        lines.append(f"{row['setting']} = {_toml(row['value'])}  # {row['source']}{overrides}")
    return lines


def _key(table: str) -> str:
    """The name of a table in TOML; a preset's name is quoted unless it is bare."""
    first, dot, name = table.partition(".")
    is_bare = all(each.isascii() and (each.isalnum() or each in "-_") for each in name)
    return f"{first}{dot}{name if is_bare else json.dumps(name)}"


def _toml(value: Any) -> str:
    """A value in TOML, whose texts, numbers, true and false are written as in JSON."""
    return json.dumps(value, ensure_ascii=False)
