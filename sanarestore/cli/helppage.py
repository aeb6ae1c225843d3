"""Help pages: what they say, for the terminal and for the manual, and how the terminal shows it.

The text is taken from the commands themselves, so that help, manual and completions cannot differ.
"""

import inspect
from dataclasses import dataclass
from typing import Any

from sanarestore.cli import epilogs


@dataclass(frozen=True, slots=True)
class HelpEntry:
    """An argument, an option or a command."""

    names: tuple[str, ...]
    """Long flags first."""
    metavar: str
    """Placeholder of the value; empty for flags and commands."""
    text: str


@dataclass(frozen=True, slots=True)
class Panel:
    """Entries under a title."""

    title: str
    entries: tuple[HelpEntry, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class HelpPage:
    """A help page."""

    path: str
    """The command with all commands above it, such as `sanarestore restore`."""
    pieces: tuple[str, ...]
    """The rest of the usage line."""
    about: str
    panels: tuple[Panel, ...]
    examples: tuple[tuple[str, str], ...]
    codes: dict[int, str]
    """Exit code -> meaning."""


def page_of(command: Any, ctx: Any) -> HelpPage:
    """The help page of a Click command."""
    groups: dict[str, list[HelpEntry]] = {"Arguments": [], "Options": []}
    for param in command.get_params(ctx):
        if param.param_type_name == "argument":
            groups.setdefault("Arguments", []).append(HelpEntry((_placeholder(param),), "", _text(param, ctx)))
        elif not param.hidden:
            title = getattr(param, "rich_help_panel", None) or "Options"
            names = tuple(sorted(param.opts, key=lambda name: not name.startswith("--")))
            groups.setdefault(title, []).append(HelpEntry(names, _metavar(param), _text(param, ctx)))
    for name in command.list_commands(ctx) if hasattr(command, "list_commands") else ():
        each = command.get_command(ctx, name)
        groups.setdefault("Commands", []).append(HelpEntry((name,), "", _prose(each.help)))
    name = command.name if ctx.parent else ""
    return HelpPage(
        path=ctx.command_path, pieces=tuple(command.collect_usage_pieces(ctx)), about=_prose(command.help),
        panels=tuple(Panel(title, tuple(entries)) for title, entries in groups.items() if entries),
        examples=epilogs.EXAMPLES.get(name, ()), codes=epilogs.codes(name),
    )  # fmt: skip


def usage_pieces(command: Any, ctx: Any) -> list[str]:
    """Return what follows the name of a command in its usage: `[OPTIONS] INPUT...`."""
    arguments = [param for param in command.get_params(ctx) if param.param_type_name == "argument"]
    shown = [_placeholder(param) if param.required else f"[{_placeholder(param)}]" for param in arguments]
    return [command.options_metavar or "", *shown]


def show(page: HelpPage) -> None:
    """Print a help page on stdout."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False, emoji=False)
    console.print(Padding(Text.assemble(("Usage: ", "yellow"), (" ".join((page.path, *page.pieces)), "bold")), 1))
    console.print(Padding(Text(page.about), (0, 1, 1, 1)))
    for panel in page.panels:
        table = _table()
        for entry in panel.entries:
            flags = [name for name in entry.names if name.startswith("--")] or list(entry.names)
            short = [name for name in entry.names if name not in flags]
            table.add_row(
                Text(", ".join(flags), style="bold cyan", no_wrap=True), Text(", ".join(short), style="bold green"),
                Text(entry.metavar, style="bold yellow", no_wrap=True), Text(entry.text),
            )  # fmt: skip
        console.print(_framed(panel.title, table))
    if page.examples:
        lines = [part for line, meaning in page.examples for part in ((f"{line}\n", "bold"), f"    {meaning}\n")]
        text = Text.assemble(*lines)
        text.rstrip()
        console.print(_framed("Examples", text))
    table = _table()
    for code, meaning in page.codes.items():
        table.add_row(Text(str(code), style="bold"), Text(meaning))
    console.print(_framed("Exit codes", table))


def _table() -> Any:
    from rich.table import Table

    return Table(box=None, show_header=False, padding=(0, 1), pad_edge=False)


def _framed(title: str, content: Any) -> Any:
    from rich.box import ROUNDED
    from rich.panel import Panel as Frame

    return Frame(content, box=ROUNDED, title=title, title_align="left", border_style="dim")


def _placeholder(param: Any) -> str:
    return str(param.metavar or param.name.upper()) + ("..." if param.nargs == -1 else "")


def _metavar(param: Any) -> str:
    if param.is_flag:
        return ""
    return str(param.metavar or "TEXT")


def _text(param: Any, ctx: Any) -> str:
    """The help of a parameter, its default last."""
    parts = [param.help or ""]
    shown = getattr(param, "show_default", False)
    if isinstance(shown, str):
        parts.append(f"[default: {shown}]")
    elif shown and param.default is not None and not getattr(param, "is_flag", False):
        default = param.default
        parts.append(f"[default: {default:g}]" if isinstance(default, float) else f"[default: {default}]")
    if param.required:
        parts.append("[required]")
    return " ".join(parts)


def _prose(text: str | None) -> str:
    return " ".join(inspect.cleandoc(text or "").split())
