"""Shell completions as files, for packagers: `python -m sanarestore.cli.completions FOLDER` writes them.

Each script asks the program itself for completions, so the files change with Typer and not with our flags.
(Users do not need these files: `sanarestore --install-completion` does the same.)
"""

import sys
from pathlib import Path

from typer.completion import get_completion_script  # type: ignore[attr-defined]

SHELLS = ("bash", "zsh", "fish")


def script(shell: str) -> str:
    """The completion script of one of `SHELLS`."""
    text: str = get_completion_script(prog_name="sanarestore", complete_var="_SANARESTORE_COMPLETE", shell=shell)
    return f"{text}\n"


def write(folder: Path) -> list[Path]:
    """Write `sanarestore.<shell>` for every shell into a folder, which is created if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"sanarestore.{shell}" for shell in SHELLS]
    for shell, file in zip(SHELLS, files, strict=True):
        file.write_text(script(shell), encoding="utf-8", newline="\n")
    return files


if __name__ == "__main__":
    write(Path(sys.argv[1]))
