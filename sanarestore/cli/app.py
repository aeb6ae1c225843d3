"""The program: its commands, and how errors become messages and exit codes."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated

import typer

from sanarestore import __version__
from sanarestore.cli import completions
from sanarestore.cli.bench.command import bench
from sanarestore.cli.commands import Command, Invocation, Program, SettingsCommand
from sanarestore.cli.complaints import ClickUsageError, readable
from sanarestore.cli.config import config
from sanarestore.cli.degrade import degrade
from sanarestore.cli.doctor import doctor
from sanarestore.cli.epilogs import epilog
from sanarestore.cli.models import models
from sanarestore.cli.restore import restore
from sanarestore.cli.seams import seams
from sanarestore.cli.train import train
from sanarestore.errors import ExitCode, SanarestoreError, disk_full
from sanarestore.files import is_full

app = typer.Typer(
    name="sanarestore",
    help="Restore photographs in batches. A prompt says what to fix: noise, JPEG artefacts, blur, low resolution, low "
    "light.",
    cls=Program,
    epilog=epilog(""),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (restore, degrade, train, bench, seams):
    app.command(cls=SettingsCommand, epilog=epilog(command.__name__))(command)
app.add_typer(models)
app.command(cls=Command, epilog=epilog("doctor"))(doctor)
app.add_typer(config)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sanarestore {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    install_completion: completions.Install = False,
    show_completion: completions.Show = False,
) -> None:
    pass


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; only `--debug` shows a traceback."""
    with _signals_like_ctrl_c():
        return _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    completions.unwrap_answers()
    ended = Invocation(debug=_is_debug(arguments))
    try:
        program = typer.main.get_command(app)
        code = program.main(args=list(arguments), prog_name="sanarestore", standalone_mode=False, obj=ended)
        if code == ExitCode.INTERRUPTED:  # Typer turns Ctrl-C into an exit code
            _say(f"interrupted; {ended.kept}")
        return code if isinstance(code, int) else ExitCode.DONE
    except SystemExit as end:  # a closed output pipe, or the completion of a shell
        return end.code if isinstance(end.code, int) else ExitCode.USAGE if end.code else ExitCode.DONE
    except ClickUsageError as problem:
        if type(problem).__name__ != "NoArgsIsHelpError":  # its help is shown already
            _say(readable(problem))
        return ExitCode.USAGE
    except SanarestoreError as problem:
        _say(problem, trace=ended.debug)
        return problem.exit_code
    except Exception as problem:  # a bug, or a full disk below stdout or the folder of temporary files
        if ended.debug:
            raise
        if isinstance(problem, OSError) and is_full(problem):
            _say(disk_full(problem.filename or "stdout or temporary files"))
            return ExitCode.SOME_FAILED
        _say(f"unexpected {type(problem).__name__}: {problem}. Run it again with --debug and report what it shows.")
        return ExitCode.SOME_FAILED


def _say(problem: Exception | str, *, trace: bool = False) -> None:
    from sanarestore.cli import console

    console.error(problem, trace=trace)


@contextmanager
def _signals_like_ctrl_c() -> Iterator[None]:
    """End on SIGTERM and SIGHUP as on Ctrl-C: what is finished is kept, and nothing is left half-written."""

    def interrupt(*_: object) -> None:
        for each in names:  # a second signal must not interrupt the end
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    names = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {}
    with suppress(ValueError):  # not the main thread, which alone gets signals
        # A signal that is ignored, as by nohup, stays so.
        before = {name: signal.signal(name, interrupt) for name in names if signal.getsignal(name) != signal.SIG_IGN}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _is_debug(arguments: Sequence[str]) -> bool:
    """Return whether the raw arguments hold --debug: errors in a command line that cannot be parsed need a traceback
    too."""
    return "--debug" in arguments
