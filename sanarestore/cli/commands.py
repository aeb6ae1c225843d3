"""What all commands have in common: help, settings, --no- forms of flags, and errors that name where a value was set.

Every option of a `SettingsCommand` can be set by a file or an environment variable; `settings.py` says how.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from sanarestore.cli import epilogs, helppage, presets
from sanarestore.cli.complaints import COMMAND_LINE, ENVIRONMENT, unknown_command
from sanarestore.cli.settings import Option, Settings, load, refuse_variables
from sanarestore.errors import UsageError


@dataclass(slots=True)
class Invocation:
    """Facts about a command for the end of the program."""

    debug: bool = False
    """Whether errors are shown with their traceback."""
    kept: str = "nothing was begun"
    """Phrase that says what is kept after an interruption."""


class SettingsContext(typer.Context):
    """The context of a command that takes values from settings, and knows where they were set."""

    typed: Sequence[str] = ()
    """The arguments of the command."""
    _loaded: Settings | None = None

    @property
    def settings(self) -> Settings:
        """All settings, read and checked once; UsageError if one is wrong."""
        if self._loaded is None:
            self._loaded = load(known_options(self.find_root().command))
        return self._loaded

    def lookup_default(self, name: str, call: bool = True) -> Any:
        """The default of a parameter, which the settings files may replace; help shows the program's own."""
        if self.resilient_parsing:
            return None
        if self.default_map is None:
            assert isinstance(self.command, SettingsCommand)
            found = self.settings.from_files(self.command.name or "")
            self.default_map = {self.command.options[key].name: each.value for key, each in found.items()}
        return super().lookup_default(name, call)  # type: ignore[call-overload]

    def origin(self, option: Option) -> str | None:
        """Return the origin of an option's value; None for the command line and the default."""
        command = self.command.name or ""
        source = self.get_parameter_source(option.name)
        if source is None or source.name == COMMAND_LINE:
            return None
        chosen = self.params.get("preset")
        if chosen and option.key in presets.find(self.settings, chosen).values:
            return f"preset {chosen}"
        if source.name == ENVIRONMENT:
            return option.variable(command)
        found = self.settings.from_files(command).get(option.key)
        return found.source if found else None


class Command(TyperCommand):
    """A command with the help page of this program."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The usage in the form that most programs have: `[OPTIONS] INPUT...`."""
        return helppage.usage_pieces(self, ctx)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help page."""
        helppage.show(helppage.page_of(self, ctx))

    def invoke(self, ctx: Any) -> Any:
        """Run the command; UsageError for a variable that seems to set an option, and would be ignored."""
        flags = [flag for param in self.params for flag in param.opts if flag.startswith("--")]
        name = ctx.command_path.partition(" ")[2]
        refuse_variables(name, [flag.removeprefix("--") for flag in flags])
        return super().invoke(ctx)


class SettingsCommand(Command):
    """A command whose options can be set in files, by environment variables and by presets."""

    context_class = SettingsContext

    def __init__(self, name: str | None, *, callback: Callable[..., Any] | None = None, **rest: Any) -> None:
        super().__init__(name, callback=callback, **rest)
        hints = get_type_hints(callback)
        self.options: dict[str, Option] = {}
        for param in self.params:
            if param.param_type_name == "option":
                option = _option(param, hints[param.name])
                self.options[option.key] = option
                param.envvar = option.variable(name or "")

    def make_parser(self, ctx: Any) -> Any:
        """Click's parser; each flag has a form --no-FLAG, which turns off what a setting has turned on."""
        parser = super().make_parser(ctx)
        param: Any
        for param in self.params:
            option = next((each for each in self.options.values() if each.name == param.name), None)
            if option is not None and option.kind is bool:
                parser.add_option(
                    obj=param, opts=[f"--no-{option.key}"], dest=param.name, action="store_const", const=False
                )
        return parser

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line, and put the values of a preset where it says nothing."""
        ctx.typed = tuple(args)
        given, rest, _ = self.make_parser(ctx).parse_args(args=list(args))
        if ctx.resilient_parsing:  # completing needs to know what was typed, and not what it means
            for param in self.get_params(ctx):
                ctx.params[param.name], source = param.consume_value(ctx, given)
                ctx.set_parameter_source(param.name, source)
            return list(rest)
        for option in self.options.values():
            option.check_not_empty(given.get(option.name), f"--{option.key}")
        rest = super().parse_args(ctx, args)
        if ctx.params.get("preset"):
            chosen = presets.find(ctx.settings, ctx.params["preset"])
            params = {param.name: param for param in self.params}
            for key, value in chosen.values.items():
                name = self.options[key].name
                if ctx.get_parameter_source(name).name != COMMAND_LINE:
                    ctx.params[name] = params[name].process_value(ctx, value)
        return rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; errors about a flag that was not typed say where it was set."""
        if isinstance(ctx.obj, Invocation):
            ctx.obj.debug = ctx.obj.debug or bool(ctx.params.get("debug"))
            ctx.obj.kept = epilogs.KEPT[self.name or ""](ctx.params)
        try:
            return TyperCommand.invoke(self, ctx)
        except UsageError as problem:
            option = self.options.get(str(problem.where).removeprefix("--"))
            origin = None if option is None else ctx.origin(option)
            if origin is None:
                raise
            where = f"{problem.where} (from {origin})"
            raise UsageError(problem.fact, where=where, next_step=problem.next_step) from problem


class Program(TyperGroup):
    """The program: a group of commands with the same help page."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The usage in the form that most programs have."""
        return [*helppage.usage_pieces(self, ctx), "COMMAND ..."]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the arguments begin with; UsageError proposes one if there is none of that name."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-") and not ctx.resilient_parsing:
            raise unknown_command(name, list(self.commands))
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help page."""
        helppage.show(helppage.page_of(self, ctx))


def known_options(program: Any) -> dict[str, dict[str, Option]]:
    """Command -> key -> option, of all commands of the program that take settings."""
    return {name: command.options for name, command in program.commands.items() if isinstance(command, SettingsCommand)}


def _option(param: Any, annotation: Any) -> Option:
    """Describe an option by what Typer made of it and by the annotation of its parameter."""
    kind = next((each for each in get_args(annotation) if each is not NoneType), annotation)
    kind = annotation if get_origin(annotation) is list else kind
    is_list = get_origin(kind) is list
    kind = get_args(kind)[0] if is_list else kind
    flag = max(param.opts, key=len)
    key = flag.removeprefix("--")
    return Option(key=key, name=param.name, kind=kind, is_list=is_list, noun=_noun(param, kind, is_list))


def _noun(param: Any, kind: type, is_list: bool) -> str:
    least = getattr(param, "min", None)
    if is_list:
        return "a list of texts"
    if kind is int:
        noun = "a number of pixels" if param.metavar == "PX" else "a whole number"
    else:
        noun = {bool: "true or false", float: "a number", str: "text", Path: "text"}[kind]
    return noun if least is None else f"{noun} of {least:g} or more"
