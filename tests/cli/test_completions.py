"""Tests of shell completion and of the stored completion files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from sanarestore.cli import completions
from sanarestore.cli.app import app

FOLDER = Path(__file__).parents[2] / "completions"

EVERYWHERE = {"--json", "--quiet", "-q", "--debug", "--help", "-h"}

FLAGS = {
    "restore": {
        "--output", "-o", "--prompt", "-p", "--model", "--fidelity", "--scale", "--seed", "--tile", "--devices",
        "--dtype", "--threads", "--overwrite", "--fail-fast", "--dry-run", "--adapter", "--steps", "--guidance",
        "--tiling", "--overlap", "--strength", "--verbose", "-v", "--accept-damaged", "--shard", "--memory-per-file",
        "--log-file", "--progress", "--ray", "--format", "--quality", "--bit-depth", "--keep-dates",
        "--name", "--long-side", "--watch",
    },
    "degrade": {"--output", "-o", "--recipe", "--variants", "--pairs", "--workers", "--seed", "--verbose", "-v"},
    "train": {
        "--recipe", "--output", "-o", "--base", "--steps", "--max-minutes", "--resume", "--device", "--dtype",
        "--threads", "--compile", "--lora", "--rank",
    },
    "bench": {
        "--data", "--data-dir", "--download", "--sizes", "--rounds", "--task", "--sigma", "--quality", "--scale",
        "--blur", "--recipe", "--draws", "--gray", "--limit", "--metric", "--prompt", "-p", "--model", "--adapter",
        "--fidelity", "--steps", "--guidance", "--seeds", "--peer", "--autoencoder", "--unprompted", "--list",
        "--output", "-o", "--csv", "--report", "--compare", "--tile", "--devices", "--dtype", "--threads",
    },
    "seams": {
        "--tilings", "--tile", "--overlap", "--clean", "--prompt", "-p", "--model", "--adapter", "--fidelity",
        "--steps", "--guidance", "--seed", "--output", "-o", "--device", "--dtype", "--threads",
    },
}  # fmt: skip
"""The flags that scripts depend on; removing one requires a new major version."""


def test_the_flags_are_frozen() -> None:
    group = typer.main.get_command(app)
    context = typer.Context(group, **group.context_settings)
    found = {
        name: {flag for option in command.get_params(context) for flag in option.opts if flag.startswith("-")}
        for name, command in group.commands.items()  # type: ignore[attr-defined]
    }
    assert found == {name: flags | EVERYWHERE for name, flags in FLAGS.items()}


def test_the_completion_files_are_up_to_date(tmp_path: Path) -> None:
    written = completions.write(tmp_path / "made")
    assert [path.name for path in written] == ["sanarestore.bash", "sanarestore.zsh", "sanarestore.fish"]
    for path in written:
        assert path.read_text() == (FOLDER / path.name).read_text(), "run: make completions"


def asked(shell: str, **environment: str) -> str:
    """Return the completions that the program offers to a shell."""
    environment = {**os.environ, "_SANARESTORE_COMPLETE": f"complete_{shell}", **environment}
    command = [sys.executable, "-m", "sanarestore"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_bash_completes_flags_and_commands() -> None:
    assert asked("bash", COMP_WORDS="sanarestore restore --prom", COMP_CWORD="2").split() == ["--prompt"]
    assert asked("bash", COMP_WORDS="sanarestore re", COMP_CWORD="1").split() == ["restore"]


def test_zsh_and_fish_complete_flags_with_descriptions() -> None:
    line = {"_TYPER_COMPLETE_ARGS": "sanarestore restore --prom"}
    assert '"--prompt":"Description of what to fix' in asked("zsh", **line)
    assert asked("fish", _TYPER_COMPLETE_FISH_ACTION="get-args", **line).startswith(
        "--prompt\tDescription of what to fix"
    )


def test_bash_completes_with_the_stored_file(tmp_path: Path) -> None:
    """The test sources the file and calls its function as bash would."""
    program = tmp_path / "sanarestore"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sanarestore "$@"\n')
    program.chmod(0o755)
    script = f"""
        source '{FOLDER / "sanarestore.bash"}'
        COMP_WORDS=(sanarestore restore --fid) COMP_CWORD=2
        _sanarestore_completion sanarestore
        echo "${{COMPREPLY[@]}}"
    """
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    try:
        shown = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("there is no bash here")
    assert shown.stdout.strip() == "--fidelity"
