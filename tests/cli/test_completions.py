"""Tests of shell completion and of the stored completion files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from sanarestore.cli import completions, values
from sanarestore.cli.app import app, run
from sanarestore.cli.commands import SettingsCommand
from sanarestore.degradations.recipes import COMPOSED, PRESETS
from sanarestore.evaluation.peers import CLASSICAL
from sanarestore.evaluation.perceptual import METRICS
from sanarestore.evaluation.tasks import TASKS

FOLDER = Path(__file__).parents[2] / "completions"

EVERYWHERE = {"--json", "--quiet", "-q", "--debug", "--help", "-h"}

FLAGS = {
    "restore": {
        "--output", "-o", "--prompt", "-p", "--model", "--fidelity", "--scale", "--seed", "--tile", "--devices",
        "--dtype", "--threads", "--overwrite", "--fail-fast", "--dry-run", "--adapter", "--steps", "--guidance",
        "--tiling", "--overlap", "--strength", "--verbose", "-v", "--accept-damaged", "--shard", "--memory-per-file",
        "--log-file", "--progress", "--ray", "--format", "--quality", "--bit-depth", "--keep-dates", "--strip",
        "--provenance", "--name", "--long-side", "--preset", "--watch", "--report", "--adopt",
        "--quantize", "--offload", "--device-memory", "--candidates", "--judge", "--autoencoder", "--frames",
        "--temporal", "--codec",
    },
    "degrade": {"--output", "-o", "--recipe", "--variants", "--pairs", "--workers", "--seed", "--verbose", "-v"},
    "train": {
        "--recipe", "--output", "-o", "--base", "--steps", "--max-minutes", "--resume", "--device", "--dtype",
        "--threads", "--compile", "--lora", "--rank", "--export", "--devices", "--shard", "--track", "--dry-run",
        "--cache-latents", "--grow", "--keep-all", "--prune", "--prune-decoder", "--autoencoder",
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
    "models list": set(), "models info": set(), "models verify": set(), "models pull": set(),
    "models quantize": {"--precision", "--output", "-o"},
    "models calibrate": {"--output", "-o"},
    "models export": {"--onnx", "--expert", "--prompt", "-p", "--overwrite"},
    "doctor": set(),
}  # fmt: skip
"""The flags that scripts depend on; removing one requires a new major version."""


def test_the_flags_are_frozen() -> None:
    group = typer.main.get_command(app)
    context = typer.Context(group, **group.context_settings)
    commands = dict(group.commands)  # type: ignore[attr-defined]
    del commands["config"]  # it has only --json
    commands |= {f"models {name}": command for name, command in commands.pop("models").commands.items()}
    found = {
        name: {flag for option in command.get_params(context) for flag in option.opts if flag.startswith("-")}
        for name, command in commands.items()
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
    assert '"--prompt":"What to fix, e.g.' in asked("zsh", **line)
    assert asked("fish", _TYPER_COMPLETE_FISH_ACTION="get-args", **line).startswith("--prompt\tWhat to fix, e.g.")


def answers(line: str, folder: Path) -> list[str]:
    """Return the values that the program offers for a line, in a folder."""
    environment = {
        **os.environ, "_SANARESTORE_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": line, "PYTHONPATH": str(Path(__file__).parents[2]),
    }  # fmt: skip
    command = [sys.executable, "-m", "sanarestore"]
    shown = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=True).stdout
    return [each.split("\t")[0] for each in shown.splitlines()]


def test_values_are_completed(tmp_path: Path) -> None:
    (tmp_path / "sanarestore.toml").write_text("[preset.product]\n[preset.web]\n", encoding="utf-8")
    assert answers("sanarestore restore --preset ", tmp_path) == ["product", "web"]
    assert answers("sanarestore seams --tilings exact,", tmp_path) == [
        "exact,causal", "exact,multidiffusion", "exact,independent",
    ]  # fmt: skip
    assert answers("sanarestore config show re", tmp_path) == ["restore"]


def test_a_long_help_is_one_answer(tmp_path: Path) -> None:
    """Shells take each line for a value."""
    assert answers("sanarestore restore --fid", tmp_path) == ["--fidelity"]


def test_values_fit_what_the_commands_take() -> None:
    assert set(values.RECIPES) == {*PRESETS, *COMPOSED}
    assert set(values.TASKS) == set(TASKS)
    assert set(values.METRICS) == set(METRICS)
    assert set(values.PEERS) == set(CLASSICAL)
    group = typer.main.get_command(app)
    settable = [name for name, each in group.commands.items() if isinstance(each, SettingsCommand)]  # type: ignore[attr-defined]
    assert list(values.COMMANDS) == settable


def test_completing_imports_nothing_slow() -> None:
    code = (
        "import os, sys; os.environ.update(_SANARESTORE_COMPLETE='complete_bash', COMP_CWORD='3',"
        " COMP_WORDS='sanarestore restore --tiling ')\n"
        "from sanarestore.cli.app import run; run([])\n"
        "print([name for name in ('torch', 'numpy', 'scipy', 'rich', 'jinja2') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == ["exact", "causal", "multidiffusion", "independent", "off", "[]"]


def test_installing_says_what_it_changes_and_how_to_undo_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    (tmp_path / ".bashrc").write_text("alias ls='ls -l'\n")
    assert run(["--install-completion"]) == 0
    script, start = tmp_path / ".bash_completions" / "sanarestore.sh", tmp_path / ".bashrc"
    assert script.read_text() == completions.script("bash")
    assert capsys.readouterr().err.splitlines() == [
        f"Wrote {script}.", f"Added to {start}:", f"    source '{script}'",
        f"Open a new terminal to use it. To undo it, remove {script}, and the lines above from {start}.",
    ]  # fmt: skip
    assert run(["--install-completion"]) == 0
    assert "Added" not in capsys.readouterr().err, "the line is there already"


def test_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("tcsh", "/bin/tcsh"))
    assert run(["--install-completion"]) == 2
    assert "the current shell is tcsh" in capsys.readouterr().err


def test_bash_completes_within_words_with_colons(tmp_path: Path) -> None:
    """Bash takes a colon for the end of a word, and must get only what follows it."""
    program = tmp_path / "sanarestore"
    program.write_text("#!/bin/sh\nprintf 'cuda:0\\tNVIDIA GPU\\ncuda:1\\tNVIDIA GPU\\n'\n")
    program.chmod(0o755)
    script = f"""
        source '{FOLDER / "sanarestore.bash"}'
        COMP_LINE='sanarestore restore --devices cuda:' COMP_POINT=35
        _sanarestore_completion '{program}'
        echo "${{COMPREPLY[@]}}"
    """
    try:
        shown = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("there is no bash here")
    assert shown.stdout.strip() == "0 1"
