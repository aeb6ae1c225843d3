"""The build of the embedded model: valid recipes, order of stages, resuming, and the model card."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from sanarestore import weights
from sanarestore.degradations.recipes import Recipe as Degradation
from sanarestore.evaluation.tasks import TASKS
from sanarestore.model.refiner_config import RefinerConfig
from sanarestore.training.recipe import TrainingRecipe

FOLDER = Path(__file__).resolve().parents[2] / "models" / "sanarestore-mini"

RECIPES = sorted([*FOLDER.glob("stages/*.toml"), *FOLDER.glob("history/*.toml")])


def script(name: str) -> ModuleType:
    loader = SourceFileLoader(f"mini_{name}", str(FOLDER / name))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    # Do not leave a bytecode file beside the model.
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_valid(path: Path) -> None:
    assert TrainingRecipe.load(path).steps > 0


def test_the_stages_train_every_part_in_order() -> None:
    stages = [TrainingRecipe.load(path).objective for path in sorted(FOLDER.glob("stages/*.toml"))]
    first, last = ["refiner", "colour-correction", "wording"], ["router", "autoencoder", "flow"]
    assert stages == [*first, *["expert"] * 3, *last]
    config = RefinerConfig.from_dict(weights.read_manifest(FOLDER)["refiner"])
    for path in FOLDER.glob("stages/*.toml"):
        shape = TrainingRecipe.load(path).model
        assert (shape.widths, shape.spectrum, shape.colour_correction) == (
            config.widths, config.spectrum, config.colour_correction
        )  # fmt: skip


class Runs:
    """A stand-in for the stage processes: it writes the files of `train`, or fails at a given stage."""

    def __init__(self, fails_at: str = "") -> None:
        self.commands: list[list[str]] = []
        self.fails_at = fails_at

    def __call__(self, command: list[str], out: Path) -> int:
        self.commands.append(command)
        folder = Path(self.option(command, "-o"))
        if folder.name == self.fails_at:
            (folder / "checkpoint").mkdir(parents=True)
            (folder / "checkpoint" / "state.json").write_text("{}")
            return 130
        (folder / "model" / "restoration").mkdir(parents=True, exist_ok=True)
        steps = int(self.option(command, "--steps"))
        recipe = replace(TrainingRecipe.load(Path(self.option(command, "--recipe"))), steps=steps).changed()
        stages = {"training": {"stages": [{"steps": steps, "recipe": recipe}]}}
        (folder / "model" / "restoration" / "config.json").write_text(json.dumps(stages))
        (folder / "model" / "stage").write_text(folder.name)
        return 0

    @staticmethod
    def option(command: list[str], name: str) -> str:
        return command[command.index(name) + 1]


def copied(finished: Path, _photos: Path, model: Path, **_: object) -> None:
    """Stand in for the calibration, which needs a whole model."""
    shutil.copytree(finished, model)


def built(monkeypatch: pytest.MonkeyPatch, runs: Runs, out: Path, *more: str) -> int:
    build = script("build")
    monkeypatch.setattr(build, "_run", runs)
    monkeypatch.setattr(build, "_calibrate", copied)
    monkeypatch.setattr(sys, "argv", ["build", "photos", str(out), *more])
    code: int = build.main()
    return code


def test_an_interrupted_build_resumes_at_the_unfinished_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Runs(fails_at="4-noise"), Runs()
    assert built(monkeypatch, first, tmp_path, "--share", "0.1", "--threads", "2") == 130
    assert not (tmp_path / "sanarestore-mini").exists()
    assert built(monkeypatch, second, tmp_path, "--share", "0.1") == 0
    names = [Path(Runs.option(command, "-o")).name for command in first.commands]
    assert names == ["1-refiner", "2-colour-correction", "3-reader", "4-noise"]
    bases = {Path(Runs.option(command, "-o")).name: Runs.option(command, "--base") for command in second.commands}
    assert bases == {
        "4-noise": "3-reader/model", "5-jpeg": "3-reader/model", "6-photograph": "3-reader/model",
        "7-router": "3-reader/model", "8-autoencoder": "7-router/model", "9-flow": "8-autoencoder/model",
    }  # fmt: skip
    assert ["--resume" in command for command in second.commands] == [True] + [False] * 5
    assert Runs.option(first.commands[0], "--base") == "scratch"
    assert (tmp_path / "sanarestore-mini" / "stage").read_text() == "9-flow"
    assert (tmp_path / "sanarestore-mini" / "recipe.toml").is_file()
    whole = TrainingRecipe.load(FOLDER / "stages" / "1-refiner.toml").steps
    assert int(Runs.option(first.commands[0], "--steps")) == round(0.1 * whole)


def test_a_build_of_another_length_in_the_same_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert built(monkeypatch, Runs(), tmp_path, "--share", "0.01") == 0
    assert built(monkeypatch, Runs(), tmp_path) == 2
    assert "with 600 steps, not 60000" in capsys.readouterr().err


def test_a_build_with_other_photographs_or_recipes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert built(monkeypatch, Runs(), tmp_path) == 0
    assert built(monkeypatch, Runs(), tmp_path) == 0
    assert built(monkeypatch, Runs(), tmp_path, "--held-back", "alps__") == 2
    assert "by another recipe (held_back)" in capsys.readouterr().err
    (tmp_path / "photos.txt").write_text("/elsewhere\n")
    assert built(monkeypatch, Runs(), tmp_path) == 2
    assert "begun with the photographs of /elsewhere" in capsys.readouterr().err


def test_held_back_sources_are_passed_to_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for sources, kept in (("", ()), ("alps__,sea__", ("alps__", "sea__"))):
        runs = Runs()
        assert built(monkeypatch, runs, tmp_path / f"out{len(kept)}", "--held-back", sources) == 0
        assert [TrainingRecipe.load(Path(Runs.option(each, "--recipe"))).held_back for each in runs.commands] == [
            kept
        ] * 9


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_the_build_waits_for_an_interrupted_stage_to_save(tmp_path: Path) -> None:
    """Ctrl-C reaches the whole process group; the stage needs time to save, so the build must not kill it."""
    saving = (
        "import time, pathlib\ntry: time.sleep(30)\n"
        "except KeyboardInterrupt: time.sleep(1); pathlib.Path('saved').touch(); raise SystemExit(130)"
    )
    code = (
        "import sys; from importlib.machinery import SourceFileLoader as L\nsys.dont_write_bytecode = True\n"
        f"build = L('build', {str(FOLDER / 'build')!r}).load_module()\n"
        f"sys.exit(build._run([sys.executable, '-c', {saving!r}], {str(tmp_path)!r}))"
    )
    build = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code], start_new_session=True, stderr=subprocess.DEVNULL
    )
    time.sleep(2)
    os.killpg(build.pid, signal.SIGINT)
    assert build.wait(20) == 130
    assert (tmp_path / "saved").is_file()


def test_the_gpu_run_is_an_expert_stage_with_larger_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    further = script("further")
    monkeypatch.setattr(sys, "argv", ["further", "train", "cache", "out", "--batch", "96", "--workers", "7"])
    (tmp_path / "further.toml").write_text(further._recipe(further._arguments()))
    recipe = TrainingRecipe.load(tmp_path / "further.toml")
    assert (recipe.objective, recipe.batch, recipe.workers, recipe.shrink_most) == ("expert", 96, 7, 1.5)
    assert any(line.startswith("photograph:") for line in recipe.degradations)


def test_every_measurement_of_the_card_is_valid_for_bench() -> None:
    """Every line names known tasks, and valid recipes exactly if it measures the recipe task."""
    for line in script("measure").LINES:
        arguments = shlex.split(line)
        recipes = [value for flag, value in pairwise(arguments) if flag == "--recipe"]
        tasks = [value for flag, value in pairwise(arguments) if flag == "--task"]
        assert bool(recipes) == ("recipe" in tasks)
        for recipe in recipes:
            Degradation.parse(recipe)
        assert set(tasks) <= set(TASKS)


def test_the_card_has_one_pair_of_marks_and_no_placeholders() -> None:
    measure = script("measure")
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert card.count(measure.BEGIN) == card.count(measure.END) == 1
    assert len(card.splitlines()) <= 110
    assert not re.search(r"@[A-Z]+@", card)
    row = {
        "dataset": "kodak24", "task": "recipe", "level": "blur:1.6", "method": "sanarestore-mini", "prompt": "",
        "psnr": 28.5, "gain": 2.1, "ssim": 0.81, "improved": 1.0,
    }  # fmt: skip
    assert "| kodak24 | blur:1.6 | none | 26.40 | 28.50 | +2.10 | 0.810 | 100% |" in measure._tables([row])
