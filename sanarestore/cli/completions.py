"""Shell completion: its scripts, and the options that install and show them.

`python -m sanarestore.cli.completions FOLDER` writes the scripts, for packagers. Each asks the program itself, so the
scripts change with Typer and not with our flags.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.completion import completion_init, get_completion_script, install  # type: ignore[attr-defined]

from sanarestore.errors import UsageError

SHELLS = ("bash", "zsh", "fish")

_VARIABLE = "_SANARESTORE_COMPLETE"

# Typer's own script for bash loses words with colons, as in cuda:0: bash takes a colon for the end of a word.
# This one sends the line as typed, and leaves out of the answers what bash takes for earlier words.
_BASH = """_sanarestore_completion() {
    local line=${COMP_LINE:0:COMP_POINT} IFS=$'\\n' answer last
    last=${line##*[[:space:]]}
    COMPREPLY=()
    for answer in $(env _SANARESTORE_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args \\
                    _TYPER_COMPLETE_ARGS="$line" "$1"); do
        answer=${answer%%$'\\t'*}
        if [[ $last == *:* && $COMP_WORDBREAKS == *:* ]]; then answer=${answer#"${last%:*}:"}; fi
        if [[ $last == *=* && $COMP_WORDBREAKS == *=* ]]; then answer=${answer#"${last%=*}="}; fi
        COMPREPLY+=("$answer")
    done
}

complete -o default -F _sanarestore_completion sanarestore
"""

completion_init()


def unwrap_answers() -> None:
    """Keep Typer from wrapping help to the width of a terminal: shells take every line of an answer for a value."""
    if _VARIABLE in os.environ:
        os.environ["COLUMNS"] = "10000"


def script(shell: str) -> str:
    """The completion script of one of `SHELLS`."""
    if shell == "bash":
        return _BASH
    text: str = get_completion_script(prog_name="sanarestore", complete_var=_VARIABLE, shell=shell)
    return f"{text}\n"


def write(folder: Path) -> list[Path]:
    """Write `sanarestore.<shell>` for every shell into a folder, which is created if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"sanarestore.{shell}" for shell in SHELLS]
    for shell, file in zip(SHELLS, files, strict=True):
        file.write_text(script(shell), encoding="utf-8", newline="\n")
    return files


def _shell() -> str:
    """The shell that runs the program; UsageError if it is none of `SHELLS`."""
    import shellingham

    try:
        name = str(shellingham.detect_shell()[0])
    except shellingham.ShellDetectionFailure:
        name = "not known"
    if name not in SHELLS:
        raise UsageError(
            f"the current shell is {name}, and completion is for {', '.join(SHELLS[:-1])} and {SHELLS[-1]}",
            where="--install-completion", next_step="Run it from one of these.",
        )  # fmt: skip
    return name


def _started_by(shell: str) -> Path | None:
    """The file of the shell's owner that Typer adds lines to."""
    return {"bash": Path.home() / ".bashrc", "zsh": Path.home() / ".zshrc"}.get(shell)


def _lines(path: Path | None) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path is not None and path.is_file() else []


def _install(wanted: bool) -> None:
    """Install the completion, and say which files were changed and how to undo it."""
    if not wanted:
        return
    from sanarestore.cli import console

    shell = _shell()
    start = _started_by(shell)
    before = _lines(start)
    _, path = install(shell=shell, prog_name="sanarestore", complete_var=_VARIABLE)
    path.write_text(script(shell), encoding="utf-8", newline="\n")
    added = [line for line in _lines(start) if line and line not in before]
    console.say(f"Wrote {path}.")
    if added:
        console.say(f"Added to {start}:")
        for line in added:
            console.say(f"    {line}")
    undo = f"remove {path}" + (f", and the lines above from {start}" if added else "")
    console.say(f"Open a new terminal to use it. To undo it, {undo}.")
    raise typer.Exit


def _show(wanted: bool) -> None:
    if not wanted:
        return
    from sanarestore.cli import console

    console.print_lines(script(_shell()).splitlines())
    raise typer.Exit


Install = Annotated[
    bool,
    typer.Option(
        "--install-completion", callback=_install, is_eager=True,
        help="Install completion for the current shell (bash, zsh or fish); says what it changes and how to undo it.",
    ),
]  # fmt: skip
Show = Annotated[
    bool,
    typer.Option(
        "--show-completion", callback=_show, is_eager=True, help="Print the completion script of the current shell."
    ),
]  # fmt: skip


if __name__ == "__main__":
    write(Path(sys.argv[1]))
