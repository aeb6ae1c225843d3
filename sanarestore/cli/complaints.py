"""Errors of Click, said as this program says them: what is wrong, where, and what to do next, in one line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from sanarestore.cli import words
from sanarestore.cli.settings import Option, nearest
from sanarestore.errors import UsageError

ClickUsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""Click's own error for a wrong command line; Typer has no public name for it."""

COMMAND_LINE = "COMMANDLINE"
ENVIRONMENT = "ENVIRONMENT"
"""Names of Click's sources of values."""


def readable(error: Any) -> UsageError:
    """Reword an error of Click for users."""
    context = error.ctx
    if hasattr(error, "possibilities"):  # an option that is not known
        return _unknown_option(error, context)
    param = getattr(error, "param", None)
    if param is not None and param.param_type_name == "argument":
        return UsageError(f"no {param.metavar} is named", where=context.command_path, next_step=_help(context))
    if param is not None and param.required and getattr(error, "param_type", "") is None and not error.message:
        return UsageError(f"{_flag(param)} is missing", where=context.command_path, next_step=_help(context))
    option = _option_of(context, param)
    if option is not None:
        text, where = _given(context, param, option)
        return UsageError(f"'{text}' is not {option.noun}", where=where)
    if hasattr(error, "option_name"):
        return UsageError("a value is missing", where=error.option_name, next_step=_help(context))
    message = _sentence(error.format_message())
    return UsageError(message, where=context.command_path if context else None, next_step=_help(context))


def unknown_command(name: str, commands: Sequence[str]) -> UsageError:
    """The error for a word in place of a command that is none."""
    if Path(name).exists() or Path(name).suffix:
        step = f"To restore it, use `sanarestore restore {name}`."
    elif name.lower() in words.NOT_COMMANDS:
        step = f"Use {words.NOT_COMMANDS[name.lower()]}."
    else:
        step = nearest(name, commands) or f"Commands are {', '.join(commands)}."
    return UsageError("there is no such command", where=name, next_step=step)


def _unknown_option(error: Any, context: Any) -> UsageError:
    flags = [flag for param in context.command.get_params(context) for flag in param.opts if flag.startswith("--")]
    name = error.option_name
    step = words.advice(name, flags) or nearest(name, flags) or _help(context)
    return UsageError(f"there is no option {name}", where=context.command_path, next_step=step)


def _option_of(context: Any, param: Any) -> Option | None:
    """The option of a command with settings that a parameter is."""
    known: dict[str, Option] = getattr(context.command, "options", {}) if context and param else {}
    return next((option for option in known.values() if option.name == param.name), None)


def _given(context: Any, param: Any, option: Option) -> tuple[str, str]:
    """The text that is no value of an option, and where it was set."""
    typed, _, _ = context.command.make_parser(context).parse_args(args=list(context.typed))
    value, source = param.consume_value(context, typed)
    return str(value), _flag(param) if source.name == COMMAND_LINE else option.variable(context.command.name)


def _flag(param: Any) -> str:
    return str(max(param.opts, key=len))


def _help(context: Any) -> str:
    return f"See `{context.command_path} --help`." if context else ""


def _sentence(message: str) -> str:
    """A message of Click as a fact: no full stop, no capital."""
    message = message.strip().rstrip(".")
    return message[:1].lower() + message[1:]
