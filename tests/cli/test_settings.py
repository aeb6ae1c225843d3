"""Tests of settings: which source of a value wins, and what is said of wrong ones."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from sanarestore.cli.app import app, run
from sanarestore.cli.commands import known_options
from sanarestore.errors import UsageError

Resolve = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def resolved(command: str, *arguments: str) -> dict[str, Any]:
    """Return the values that a command would run with."""
    program: Any = typer.main.get_command(app)
    root = program.context_class(program, info_name="sanarestore", **program.context_settings)
    context = program.commands[command].make_context(command, list(arguments), parent=root)
    return dict(context.params)


def project(text: str) -> None:
    Path("sanarestore.toml").write_text(text, encoding="utf-8")


def test_the_command_line_wins_over_preset_variable_project_and_user(
    user_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = [resolved("restore", "x")["tile"]]
    user_file.write_text("[restore]\ntile = 100\n")
    seen.append(resolved("restore", "x")["tile"])
    project("[restore]\ntile = 200\n[preset.small]\ntile = 400\n")
    seen.append(resolved("restore", "x")["tile"])
    monkeypatch.setenv("SANARESTORE_RESTORE_TILE", "300")
    seen.append(resolved("restore", "x")["tile"])
    seen.append(resolved("restore", "x", "--preset", "small")["tile"])
    seen.append(resolved("restore", "x", "--preset", "small", "--tile", "500")["tile"])
    assert seen == [None, 100, 200, 300, 400, 500]


def test_a_preset_that_a_setting_names_is_used() -> None:
    project('[restore]\npreset = "soft"\n[preset.soft]\nstrength = 0.5\nprompt = "remove noise"\n')
    found = resolved("restore", "x", "--prompt", "remove blur")
    assert (found["strength"], found["prompt"]) == (0.5, "remove blur")


def test_the_project_replaces_a_preset_of_the_user_whole(user_file: Path) -> None:
    user_file.write_text("[preset.a]\nseed = 5\n[preset.b]\nseed = 6\n")
    project("[preset.a]\ntile = 512\n")
    assert resolved("restore", "x", "--preset", "a")["seed"] == 0
    assert resolved("restore", "x", "--preset", "b")["seed"] == 6


@pytest.mark.parametrize(
    ("command", "arguments", "table", "name", "value"),
    [
        ("restore", ["x"], 'memory-per-file = "8G"', "memory_per_file", "8G"),
        ("restore", ["x"], "json = true", "as_json", True),
        ("restore", ["x"], "fidelity = 1", "fidelity", 1.0),
        ("degrade", ["x"], 'output = "pairs"', "output", Path("pairs")),
        ("degrade", ["x", "-o", "y"], "variants = 3", "variants", 3),
        ("train", ["x"], "compile = true", "compile_model", True),
        ("train", ["x"], "max-minutes = 5", "max_minutes", 5.0),
        ("bench", [], 'task = ["denoise", "jpeg"]', "task", ["denoise", "jpeg"]),
        ("bench", [], 'data = ["a", "b"]', "data", [Path("a"), Path("b")]),
        ("seams", ["x"], 'tilings = "causal"', "tilings", "causal"),
    ],
)
def test_options_of_every_command_are_set_by_files(
    command: str, arguments: list[str], table: str, name: str, value: object
) -> None:
    project(f"[{command}]\n{table}\n")
    assert resolved(command, *arguments)[name] == value


@pytest.mark.parametrize(
    ("variable", "text", "command", "name", "value"),
    [
        ("SANARESTORE_RESTORE_OVERWRITE", "1", "restore", "overwrite", True),
        ("SANARESTORE_RESTORE_JSON", "yes", "restore", "as_json", True),
        ("SANARESTORE_RESTORE_MEMORY_PER_FILE", "8G", "restore", "memory_per_file", "8G"),
        ("SANARESTORE_SEAMS_FIDELITY", "0.5", "seams", "fidelity", 0.5),
        ("SANARESTORE_BENCH_METRIC", "lpips dists", "bench", "metric", ["lpips", "dists"]),
        ("SANARESTORE_RESTORE_TILE", "", "restore", "tile", None),
    ],
)
def test_variables_set_options(
    variable: str, text: str, command: str, name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)
    assert resolved(command, "x")[name] == value


def test_every_option_of_every_command_can_be_set() -> None:
    options = known_options(typer.main.get_command(app))
    assert list(options) == ["restore", "degrade", "train", "bench", "seams"]
    assert "memory-per-file" in options["restore"]
    assert not any("help" in each for each in options.values())


def test_variables_of_the_program_itself_set_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "TRITON", "FUZZ_SECONDS", "TEST_RUN"):
        monkeypatch.setenv(f"SANARESTORE_{name}", "1")
    assert not resolved("bench")["data"]


def test_a_flag_that_a_setting_turns_on_is_turned_off_on_the_command_line() -> None:
    project("[restore]\noverwrite = true\n")
    assert resolved("restore", "x")["overwrite"] is True
    assert resolved("restore", "x", "--no-overwrite")["overwrite"] is False


def test_names_of_files_begin_at_home_where_they_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/someone")
    monkeypatch.setenv("USERPROFILE", "/home/of/someone")
    project('[restore]\noutput = "~/restored"\n')
    assert Path(resolved("restore", "x")["output"]) == Path("/home/of/someone/restored")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[restore]\ntyle = 3\n", "sanarestore.toml [restore]: there is no setting tyle. Did you mean tile?"),
        ("[restore]\nmemory_per_file = 3\n", "there is no setting memory_per_file. Did you mean memory-per-file?"),
        ('[restore]\ntile = "big"\n', "sanarestore.toml [restore] tile: 'big' is not a number of pixels."),
        ("[restore]\ntile = true\n", "sanarestore.toml [restore] tile: true is not a number of pixels."),
        (
            "[restore]\nprompt = 5\n",
            'sanarestore.toml [restore] prompt: 5 is not text. Put it in quotes: prompt = "5".',
        ),
        ("[restore]\noverwrite = 1\n", "sanarestore.toml [restore] overwrite: 1 is not true or false."),
        ('[restore]\noutput = ""\n', "sanarestore.toml [restore] output: this is empty."),
        ('[bench]\ntask = "jpeg"\n', "sanarestore.toml [bench] task: 'jpeg' is not a list of texts."),
        ("[restor]\ntile = 3\n", "sanarestore.toml [restor]: there is no command restor. Did you mean restore?"),
        ("tile = 3\n", "sanarestore.toml: tile stands in no table. Write it below [restore]."),
        ("[preset]\nx = 1\n", "sanarestore.toml [preset]: presets are tables with a name."),
        ("[preset.a]\ntil = 1\n", "sanarestore.toml [preset.a]: there is no setting til. Did you mean tile?"),
        ('[preset.a]\npreset = "b"\n', "sanarestore.toml [preset.a]: there is no setting preset."),
        ("[restore]\ntile 3\n", "sanarestore.toml: the file is not valid TOML: "),
        ('[restore]\ntiling = "exakt"\n', "--tiling (from sanarestore.toml [restore]): 'exakt' is not exact,"),
    ],
)
def test_wrong_files_are_refused_by_name_and_key(text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    project(text)
    assert run(["restore", "x"]) == 2
    assert said in capsys.readouterr().err


def test_invalid_toml_is_refused_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    project("[restore]\nseed = 1\ntile 3\n")
    assert run(["restore", "x"]) == 2
    assert "line 3" in capsys.readouterr().err


def test_help_is_shown_whatever_the_settings_are(capsys: pytest.CaptureFixture[str]) -> None:
    project("[restore]\ntile 3\nfidelity = 0.5\n")
    assert run(["restore", "--help"]) == 0
    assert "[default: 1]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("SANARESTORE_RESTORE_TILE", "big", "SANARESTORE_RESTORE_TILE: 'big' is not a number of pixels."),
        ("SANARESTORE_RESTORE_OVERWRITE", "ja", "SANARESTORE_RESTORE_OVERWRITE: 'ja' is not true or false."),
        ("SANARESTORE_RESTORE_TYLE", "3", "SANARESTORE_RESTORE_TYLE: no option is set by this environment variable."),
        ("SANARESTORE_TILE", "3", "Did you mean SANARESTORE_RESTORE_TILE?"),
        ("SANARESTORE_RESTORE_TILING", "exakt", "--tiling (from SANARESTORE_RESTORE_TILING): 'exakt' is not exact,"),
    ],
)
def test_wrong_variables_are_refused_by_name(
    variable: str, text: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)
    assert run(["restore", "x"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "variable"),
    [
        (["doctor"], "SANARESTORE_DOCTOR_JSON"), (["models", "list"], "SANARESTORE_MODELS_LIST_JSON"),
        (["config", "show"], "SANARESTORE_CONFIG_SHOW_JSON"),
    ],
)  # fmt: skip
def test_variables_for_commands_without_settings_are_refused(
    command: list[str], variable: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    assert run(command) == 2
    said = f"{variable}: options of {' '.join(command)} are not set by environment variables. Unset it, and give --json"
    assert said in capsys.readouterr().err


def test_a_folder_in_place_of_a_settings_file_is_named(user_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (Path("sanarestore.toml"), user_file):
        path.mkdir()
        assert run(["restore", "x"]) == 2
        assert f"{path.name}: it is a folder. Rename the folder" in capsys.readouterr().err
        path.rmdir()
    Path("sanarestore.toml").symlink_to("nowhere")
    assert run(["restore", "x"]) == 2
    assert "sanarestore.toml: the file cannot be read (No such file" in capsys.readouterr().err


def test_an_unknown_preset_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"there is no preset 'web'. None is known: write a table \[preset.web\]"):
        resolved("restore", "x", "--preset", "web")
    project("[preset.product]\n[preset.portrait]\n")
    assert run(["restore", "x", "--preset", "portait"]) == 2
    assert "Did you mean portrait? Known presets: product, portrait." in capsys.readouterr().err


def test_an_error_about_a_value_of_a_preset_names_the_preset(capsys: pytest.CaptureFixture[str]) -> None:
    project("[preset.strong]\nstrength = 3\n")
    assert run(["restore", "x", "--preset", "strong"]) == 2
    assert "--strength (from preset strong): 3 is outside 0 to 1." in capsys.readouterr().err


def test_config_show_says_which_source_won(
    user_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    user_file.write_text("[restore]\ntile = 100\n[train]\nsteps = 9\n")
    project('[restore]\ntile = 200\nprompt = "it\'s noisy"\n[preset.web]\nstrength = 0.5\n')
    monkeypatch.setenv("SANARESTORE_RESTORE_TILE", "300")
    assert run(["config", "show"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "[restore]",
        'prompt = "it\'s noisy"  # sanarestore.toml [restore]',
        f"tile = 300  # SANARESTORE_RESTORE_TILE; overrides 200 of sanarestore.toml [restore]; "
        f"overrides 100 of {user_file} [restore]",
        "",
        "[train]",
        f"steps = 9  # {user_file} [train]",
        "",
        "[preset.web]",
        "strength = 0.5  # sanarestore.toml",
    ]
    assert run(["config", "show", "train", "--json"]) == 0
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line == {
        "schema_version": 2, "table": "train", "setting": "steps", "value": 9, "source": f"{user_file} [train]",
        "overrides": [],
    }  # fmt: skip


def test_config_show_says_what_the_command_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is shown is looked up here, and what runs is looked up by Click: both must agree."""
    project('[bench]\nlimit = 3\ntask = ["jpeg"]\ndata = ["a"]\n[restore]\nguidance = 2\n')
    monkeypatch.setenv("SANARESTORE_BENCH_LIMIT", "4")
    monkeypatch.setenv("SANARESTORE_BENCH_GRAY", "true")
    assert run(["config", "show", "bench", "--json"]) == 0
    shown = {line["setting"]: line["value"] for line in map(json.loads, capsys.readouterr().out.splitlines())}
    taken = resolved("bench")
    assert shown == {"limit": taken["limit"], "task": taken["task"], "data": ["a"], "gray": taken["gray"]}
    assert taken["data"] == [Path("a")]


def test_config_show_is_silent_on_stdout_without_settings(user_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "show"]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"Every option has its default. Settings are read from sanarestore.toml and {user_file}.\n"


def test_config_show_refuses_an_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "show", "retore"]) == 2
    assert "Did you mean restore?" in capsys.readouterr().err


def test_config_path_names_the_files(here: Path, user_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    user_file.write_text("")
    assert run(["config", "path"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{here / 'sanarestore.toml'} (there is no such file)", str(user_file),
    ]  # fmt: skip
    assert run(["config", "path", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["path"], line["exists"]) for line in lines] == [
        (str(here / "sanarestore.toml"), False), (str(user_file), True),
    ]  # fmt: skip


def test_config_show_prints_a_settings_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Names of presets that TOML needs quoted are quoted."""
    text = '[preset."a b"]\nstrength = 0.5\n\n[preset."d.e"]\nstrength = 0.25\n\n[preset.web]\nstrength = 1.0\n'
    project(text)
    assert run(["config", "show"]) == 0
    assert tomllib.loads(capsys.readouterr().out) == tomllib.loads(text)
