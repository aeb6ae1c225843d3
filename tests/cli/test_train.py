"""Tests of `sanarestore train`: it turns photos or pairs into a model that `restore` loads."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState, tracking
from safetensors.torch import load_file

from sanarestore import images
from sanarestore.cli.app import run
from sanarestore.degradations.grammar import read_grammar
from sanarestore.degradations.wordings import Language, vocabulary
from sanarestore.engine.lock import Lock
from sanarestore.model.loading import load_model
from sanarestore.model.prompts import PromptEncoder, load_encoder
from sanarestore.training.card_check import check_card
from sanarestore.training.loop import Trainer
from sanarestore.training.recipe import TrainingRecipe
from tests.conftest import save_photo
from tests.published import tiny_autoencoder, tiny_transformer, write_adapted, write_published
from tests.training.test_tracking import Broken, Fake

pytestmark = pytest.mark.usefixtures("quick_beginnings", "unestimated_memory")

RECIPE = """
name = "tiny"
steps = 4
batch = 2
patch = 32
warmup = 1
workers = 0
validation_photos = 1
validate_every = 2
checkpoint_every = 2

[model]
widths = [8, 8, 8]
encoder_blocks = [1, 0]
decoder_blocks = [1, 0]
prompt_width = 8
prompt_layers = 1
prompt_heads = 2
vocabulary = 300

[degradations]
"noise:25" = 1.0
"""


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of clean photos and a recipe beside it, both in the current folder."""
    monkeypatch.chdir(tmp_path)
    for index in range(3):
        save_photo(Path(f"photos/{index}.png"), 64, 64, seed=index)
    Path("tiny.toml").write_text(RECIPE)
    return Path("photos")


def train(*arguments: str | Path) -> int:
    return run(["train", *map(str, arguments), "--base", "scratch"])


def test_an_unsupported_dtype_is_refused(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("photos", "--recipe", "tiny.toml", "-o", "run", "--dtype", "float16") == 2
    assert "float16" in capsys.readouterr().err
    assert not Path("run").exists()


def test_compiling_without_a_compiler_is_refused(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert train("photos", "--recipe", "tiny.toml", "-o", "run", "--device", "cpu", "--compile") == 2
    assert "C++ compiler" in capsys.readouterr().err


def stages(model: str) -> list[dict[str, Any]]:
    """Return the training stages that the manifest of a model records."""
    found: list[dict[str, Any]] = json.loads(Path(model, "restoration/config.json").read_text())["training"]["stages"]
    return found


@pytest.mark.usefixtures("estimated_memory")
def test_training_on_photos_gives_a_model_that_restores(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of this run is shortened: the tokenizer knows the whole vocabulary too."""
    monkeypatch.setattr("sanarestore.training.starting.vocabulary", vocabulary)
    assert train("photos", "--recipe", "tiny.toml", "-o", "run", "--json") == 0
    shown = capsys.readouterr()
    lines = [json.loads(line) for line in shown.out.splitlines()]
    plan, *lines = lines
    assert (plan["event"], plan["steps"], plan["samples"], plan["held_back"]) == ("plan", 4, 2, 1)
    assert [(line["schema_version"], line["step"]) for line in lines] == [(2, 2), (2, 4)]
    assert shown.err == ""
    (stage,) = stages("run/model")
    assert (stage["base"], stage["samples"], stage["steps"]) == ("scratch", 2, 4)
    recipe = TrainingRecipe.load(Path("tiny.toml"))
    assert TrainingRecipe.from_dict(stage["recipe"]).to_dict() == recipe.to_dict()
    assert run(["restore", "photos/0.png", "-o", "restored.png", "--model", "run/model"]) == 0
    assert images.read("restored.png").height == 64


def test_a_run_leaves_results_pictures_a_report_and_a_card(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("photos", "--recipe", "tiny.toml", "-o", "run") == 0
    shown = capsys.readouterr()
    rows = [line.split()[0] for line in shown.out.splitlines() if "  " in line and ":" in line]
    assert rows == ["noise:25", "jpeg:20", "blur:1.6", "lowres:2"]
    assert "validation before training: " in shown.err
    results = json.loads(Path("run/results.json").read_text())
    assert list(results["after"]) == ["noise:25", "jpeg:20", "blur:1.6", "lowres:2"]
    assert (results["step"], results["base"]) == (4, None)
    data = json.loads(Path("run/data.json").read_text())
    assert (data["kind"], data["trained"], data["held_back"]) == ("photographs", 2, 1)
    assert [path.name for path in sorted(Path("run/pictures").iterdir())] == ["step-000000.webp", "step-000004.webp"]
    assert "4 of 4" in Path("run/report.html").read_text()
    card = Path("run/model/README.md").read_text()
    assert check_card(card) == []
    assert "| trained on | 2 photographs" in card
    for private in ("photos/", "0.png", str(Path.cwd())):
        assert private not in card.replace("./photos -o", "")
        assert private not in Path("run/model/curves.svg").read_text()
    # A longer run writes the card again, and the model still loads.
    assert train("photos", "--recipe", "tiny.toml", "-o", "run", "--steps", "6", "--resume", "-q") == 0
    assert "| steps | 6 of 2 crops" in Path("run/model/README.md").read_text()
    assert load_model("run/model").name == "tiny"


def test_a_stopped_run_has_a_report(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    optimize = Trainer._optimize

    def interrupted(self: Trainer, *arguments: object) -> float:
        if self.step == 3:
            raise KeyboardInterrupt
        return optimize(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_optimize", interrupted)
    assert train("photos", "--recipe", "tiny.toml", "-o", "run", "-q") == 130
    assert "2 of 4" in Path("run/report.html").read_text(), "as far as steps were recorded"
    assert json.loads(Path("run/results.json").read_text())["step"] == 2


def test_a_tracker_that_is_missing_is_named_before_training(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert train("photos", "--recipe", "tiny.toml", "-o", "run", "--track", "tensorboard") == 2
    assert "--track: tensorboard is not installed. Install it: pip install" in " ".join(capsys.readouterr().err.split())
    assert not Path("run").exists()


def test_a_run_is_recorded_by_trackers(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "LOGGER_TYPE_TO_CLASS", {"fake": Fake, "broken": Broken})
    monkeypatch.setattr(Fake, "made", [])
    try:
        assert train("photos", "--recipe", "tiny.toml", "-o", "run", "--track", "fake,broken", "--json") == 0
    finally:
        PartialState._reset_state()
    fake = next(each for each in Fake.made if each.name == "fake")
    assert [step for step, _ in fake.logged] == [0, 1, 2, 4]
    assert set(fake.logged[0][1]) == {f"validation/{name}" for name in ("noise:25", "jpeg:20", "blur:1.6", "lowres:2")}
    assert [step for step, _ in fake.pictures] == [0, 4]
    assert fake.is_finished


@pytest.mark.usefixtures("estimated_memory")
def test_a_dry_run_shows_the_plan_and_leaves_nothing_behind(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(Path().rglob("*"))
    assert train("photos", "--recipe", "tiny.toml", "--dry-run") == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert [line.split()[0] for line in shown.err.splitlines() if line[2] != " "] == [
        "note", "data", "base", "steps", "memory", "time", "disk"
    ]  # fmt: skip
    assert "2 photos, 0.0082 MP in all, 1 more for validation" in shown.err
    assert "4 steps of 2 crops of 32 px: 1.0 passes over 2 photos" in shown.err
    assert all(len(line) <= 80 for line in shown.err.splitlines())
    assert train("photos", "--recipe", "tiny.toml", "-o", "run", "--dry-run", "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["event"] == "plan"
    assert json.loads(line)["seconds_per_step"] > 0
    assert sorted(Path().rglob("*")) == before


def test_a_dry_run_refuses_what_a_run_would(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("run/model").mkdir(parents=True)
    assert train("photos", "--recipe", "tiny.toml", "-o", "run", "--dry-run") == 2
    assert train("photos", "--recipe", "tiny.toml", "-o", "run", "--dry-run", "--resume", "--export") == 2
    assert "--dry-run: there is nothing to plan" in capsys.readouterr().err


def test_a_run_begins_with_its_plan(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("photos", "--recipe", "tiny.toml", "-o", "run") == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "note 3 photographs are few: a long training overfits them"
    assert lines[1].startswith("  data ")
    assert any(line.startswith("validation before training") for line in lines)


def test_training_on_pairs_gives_a_model(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"photos/{index}.png,photos/{(index + 1) % 3}.png,remove noise" for index in range(3)]
    Path("pairs.csv").write_text("\n".join(["image_path,condition_image_path,caption", *rows]))
    assert train("pairs.csv", "--recipe", "tiny.toml", "-o", "run", "--steps", "2") == 0
    assert Path("run/model/restoration/refiner.safetensors").is_file()
    assert capsys.readouterr().err.splitlines()[-1] == "the model is in run/model: use it with --model run/model"


LATENT_RECIPE = (
    RECIPE.replace("patch = 32", 'patch = 32\nobjective = "{objective}"')
    + """
[latent]
channels = [8, 8, 8, 8, 8, 8]
blocks = [0, 1, 1, 1, 1, 1]
latent_channels = 8
head_width = 4
heads = 2
layers = 1
"""
)


def test_every_objective_continues_from_the_model_of_the_one_before(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is refiner, wording, autoencoder, flow, end-to-end; the last model restores a photo."""
    # Reading the sentences of all languages takes seconds.
    monkeypatch.setattr("sanarestore.training.data.languages", lambda: (Language(grammar=read_grammar("en")),))
    base = "scratch"
    for objective in ("refiner", "wording", "autoencoder", "flow", "end-to-end"):
        Path("tiny.toml").write_text(LATENT_RECIPE.replace("{objective}", objective))
        assert run(["train", "photos", "--recipe", "tiny.toml", "-o", objective, "--base", base, "-q"]) == 0
        base = f"{objective}/model"
    assert Path(base, "transformer/config.json").is_file()
    assert run(["restore", "photos/0.png", "-o", "out.png", "--model", base, "--fidelity", "0", "--steps", "2"]) == 0
    assert images.read("out.png").height == 64


@pytest.mark.parametrize("objective", ["colour-correction", "wording"])
def test_objectives_that_need_photos_refuse_pairs(
    photos: Path, objective: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("pairs.csv").write_text("target,degraded,prompt\nphotos/0.png,photos/0.png,remove noise\n")
    Path("tiny.toml").write_text(LATENT_RECIPE.replace("{objective}", objective))
    assert run(["train", "pairs.csv", "--recipe", "tiny.toml", "-o", "run", "--base", "scratch"]) == 2
    assert f"'{objective}' needs clean photos" in capsys.readouterr().err


@pytest.mark.parametrize("lora", [[], ["--lora", "--rank", "2"]])
def test_a_published_base_becomes_an_adapter(
    lora: list[str], request: pytest.FixtureRequest, photos: Path, encoder: PromptEncoder,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if lora:
        request.getfixturevalue("estimated_memory")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: Path("cache").absolute())
    write_published(Path("base"), encoder)
    Path("tiny.toml").write_text(LATENT_RECIPE.replace("{objective}", "end-to-end"))
    arguments = ["train", "photos", "--recipe", "tiny.toml", "--base", "base", "-o", "run", *lora]
    assert run(arguments) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "the adapter is in run/model: use it with --adapter run/model"
    assert Path("run/model/pytorch_lora_weights.safetensors").is_file() == bool(lora)
    assert run(["restore", "photos/0.png", "-o", "restored.png", "--adapter", "run/model"]) == 0
    assert images.read("restored.png").height == 64
    assert "was trained for" not in capsys.readouterr().err
    assert run(["restore", "photos/0.png", "-o", "four.png", "--adapter", "run/model", "--steps", "4"]) == 0
    assert "the adapter was trained for 1 step, not 4" in " ".join(capsys.readouterr().err.split())


def test_a_base_is_pruned_to_an_adapter_that_restores(
    photos: Path, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: Path("cache").absolute())
    monkeypatch.setattr("sanarestore.training.depth.SAMPLES", 2)
    base = write_published(Path("base"), encoder)
    tiny_transformer(caption_channels=encoder.width, num_layers=4).save_pretrained(base / "transformer")
    Path("tiny.toml").write_text(LATENT_RECIPE.replace("{objective}", "flow"))
    arguments = ["train", "photos", "--recipe", "tiny.toml", "--base", "base", "-o", "run", "--prune", "1"]
    assert run([*arguments, "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)["depth"]
    assert (planned["before"], planned["after"], len(planned["importances"])) == (4, 3, 4)
    assert planned["validation_before"].keys() == planned["validation_after"].keys() == {
        "noise:25", "jpeg:20", "blur:1.6", "lowres:2",
    }  # fmt: skip
    assert not Path("run").exists()
    assert run(arguments) == 0
    shown = capsys.readouterr()
    (removed,) = planned["removed"]
    assert f"  blocks   4 in the base, 3 now: block {removed} removed; validation" in shown.err
    assert "importance of the blocks" in shown.out
    (row,) = [line.split() for line in shown.out.splitlines() if line.endswith("removed")]
    assert row[0] == str(removed)
    assert re.search(r"blocks: 4 in the base, 3 now: .* dB after training", shown.err)
    assert run(["restore", "photos/0.png", "-o", "restored.png", "--adapter", "run/model"]) == 0
    assert images.read("restored.png").height == 64


def test_an_adapter_restores_with_the_autoencoder_that_it_was_trained_with(
    photos: Path, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: Path("cache").absolute())
    write_published(Path("base"), encoder)
    tiny_autoencoder(seed=6).save_pretrained("other")
    Path("tiny.toml").write_text(LATENT_RECIPE.replace("{objective}", "end-to-end"))
    arguments = ["train", "photos", "--recipe", "tiny.toml", "--base", "base", "--lora", "--rank", "2"]
    assert run([*arguments, "--autoencoder", "other", "-o", "run"]) == 0
    recorded = json.loads(Path("run/model/adapter.json").read_text())["autoencoder"]
    assert Path(recorded["name"]) == Path("other").resolve()
    options = ["restore", "photos/0.png", "--adapter", "run/model"]
    assert run([*options, "-o", "own.png"]) == 0
    assert "was trained with" not in capsys.readouterr().err
    assert run([*options, "-o", "base.png", "--autoencoder", "base"]) == 0
    assert "the adapter was trained with the autoencoder" in " ".join(capsys.readouterr().err.split())
    assert Path("own.png").read_bytes() != Path("base.png").read_bytes()


def test_the_embedded_model_is_adapted_by_default(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"photos/{index}.png,photos/{(index + 1) % 3}.png,remove noise" for index in range(3)]
    Path("pairs.csv").write_text("\n".join(["image_path,condition_image_path,caption", *rows]))
    arguments = ["train", "pairs.csv", "--lora", "--rank", "2", "--steps", "2", "-o", "run"]

    # The recipe of the embedded model needs larger crops than these photos have.
    def small(recipe: TrainingRecipe, name: str, *, low_rank: bool) -> TrainingRecipe:
        assert low_rank
        return replace(recipe, name=name, patch=32, batch=2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingRecipe, "for_tuning", small)
        assert run(arguments) == 0
        assert capsys.readouterr().err.splitlines()[-1].endswith("use it with --adapter run/model")
        assert run([*arguments, "--resume"]) == 0
    assert json.loads(Path("run/model/adapter.json").read_text())["base"] == "sanarestore-mini"
    assert run(["restore", "photos/0.png", "-o", "adapted.png", "--adapter", "run/model"]) == 0
    plain, adapted = (load_model(None, adapter).refiner.state_dict() for adapter in (None, "run/model"))
    assert any(not torch.equal(plain[name], adapted[name]) for name in plain)


def test_lora_without_a_base_is_refused(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("photos", "--recipe", "tiny.toml", "-o", "run", "--lora") == 2
    assert "--lora: fresh weights are not adapted. Name a --base" in capsys.readouterr().err


def test_a_rank_without_lora_is_refused(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("photos", "--recipe", "tiny.toml", "-o", "run", "--rank", "8") == 2
    assert "--rank: this applies only to low-rank adapters. Add --lora" in capsys.readouterr().err
    assert not Path("run").exists()


def test_resuming_from_another_base_is_refused(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seed in (("one", "1"), ("two", "2")):
        Path("tiny.toml").write_text(RECIPE.replace("steps", f"seed = {seed}\nsteps"))
        assert train("photos", "--recipe", "tiny.toml", "-o", name, "-q") == 0
    arguments = ["train", "photos", "--recipe", "tiny.toml", "-o", "run", "-q"]
    assert run([*arguments, "--base", "one/model"]) == 0
    assert run([*arguments, "--base", "two/model", "--resume"]) == 2
    assert "the run began from model " in capsys.readouterr().err
    assert run([*arguments, "--base", "one/model", "--resume"]) == 0


def test_training_from_a_model_keeps_its_stages(photos: Path) -> None:
    assert train("photos", "--recipe", "tiny.toml", "-o", "first", "-q") == 0
    assert run(["train", "photos", "--recipe", "tiny.toml", "-o", "second", "--base", "first/model", "-q"]) == 0
    both = stages("second/model")
    assert both[:1] == stages("first/model")
    assert [stage["base"].split()[0] for stage in both] == ["scratch", "model"]


def test_the_stages_of_a_router_include_those_of_its_experts(photos: Path) -> None:
    Path("expert.toml").write_text(RECIPE.replace("steps", 'objective = "expert"\nsteps', 1))
    Path("router.toml").write_text(
        RECIPE.replace("steps", 'objective = "router"\nsteps', 1) + '\n[experts]\nnoise = "noise/model"\n'
    )
    assert train("photos", "--recipe", "tiny.toml", "-o", "first", "-q") == 0
    for recipe, folder in (("expert.toml", "noise"), ("router.toml", "whole")):
        assert run(["train", "photos", "--recipe", recipe, "-o", folder, "--base", "first/model", "-q"]) == 0
    assert [stage["objective"] for stage in stages("whole/model")] == ["refiner", "expert", "router"]


def test_an_unfinished_checkpoint_does_not_count_as_a_run(photos: Path) -> None:
    Path("run/checkpoint.new").mkdir(parents=True)
    Path("run/checkpoint.new/model.safetensors").write_bytes(b"")
    assert train("photos", "--recipe", "tiny.toml", "-o", "run", "-q") == 0
    assert Path("run/model").is_dir()


def test_an_output_folder_that_cannot_be_created_is_named(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    assert train("photos", "--recipe", "tiny.toml", "-o", "file/run") == 2
    assert "cannot be made a folder" in " ".join(capsys.readouterr().err.split())


def test_one_photograph_is_enough(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("1.png", "2.png"):
        Path("photos", name).unlink()
    assert train("photos", "--recipe", "tiny.toml", "-o", "run") == 0
    shown = " ".join(capsys.readouterr().err.split())
    assert "note validation uses crops of the training photographs: there is only one" in shown
    assert train("photos/0.png", "--recipe", "tiny.toml", "-o", "again", "--json") == 0
    shown_again = capsys.readouterr()
    assert shown_again.err == ""
    assert json.loads(shown_again.out.splitlines()[1])["validation"] is not None


def test_pairs_of_one_photograph_are_enough(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["degrade", "photos/0.png", "-o", "pairs", "--variants", "2", "--recipe", "noise", "-q"]) == 0
    assert train("pairs/pairs.csv", "--recipe", "tiny.toml", "-o", "run", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[1])["validation"] is not None


def test_all_faults_of_pairs_are_shown_before_weights_are_loaded(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sanarestore.training.objectives.new_objective", lambda *_, **__: pytest.fail("loaded"))
    for index in range(4):
        save_photo(Path(f"n{index}.png"), 64, 64, seed=index)
    save_photo(Path("n2.png"), 40, 40)
    Path("n3\nb.png").write_bytes(b"no image")
    rows = "photos/0.png,n0.png,x\nphotos/1.png,gone.png,x\nphotos/2.png,n2.png,x\n"
    Path("pairs.csv").write_text(
        "image_path,condition_image_path,caption\n" + rows + 'photos/2.png,"n3\nb.png",x\nphotos/0.png,n1.png,"x\n'
    )
    assert train("pairs.csv", "--recipe", "tiny.toml", "-o", "run") == 2
    first, *lines = capsys.readouterr().err.splitlines()
    assert first == "error pairs.csv: the list has 4 faults. Correct them and run the command again."
    assert [line.split(": ")[0].strip() for line in lines] == ["line 3", "line 4", "line 5", "line 7"]
    facts = (
        "there is no file gone.png",
        "n2.png has 40 x 40 pixels",
        "n3\\nb.png: it is not an image",
        'the quote (")',
    )
    assert all(fact in line for fact, line in zip(facts, lines, strict=True))
    assert not Path("run").exists()


def test_a_folder_of_pairs_is_refused_as_photographs(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["degrade", "photos", "-o", "pairs", "--variants", "1", "--recipe", "noise", "-q"]) == 0
    for data in ("pairs", "pairs/degraded"):
        assert train(data, "--recipe", "tiny.toml", "-o", "run") == 2
        shown = capsys.readouterr().err
        assert shown.startswith(f"error {data}: it holds pairs, not clean photographs. Name ")
        assert "pairs/pairs.csv" in shown
    assert train(".", "--recipe", "tiny.toml", "-o", "run") == 0
    assert "note 3 images of pairs are left out: pairs/pairs.csv lists them" in capsys.readouterr().err


def test_doubts_about_pairs_are_notes(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(3):
        save_photo(Path(f"large/{index}.png"), 128, 128, seed=index)
    assert run(["degrade", "large", "-o", "pairs", "--variants", "2", "--recipe", "noise:15", "-q"]) == 0
    listed = Path("pairs/pairs.csv")
    listed.write_text(listed.read_text().replace("image_path,condition_image_path", "condition_image_path,image_path"))
    assert train(listed, "--recipe", "tiny.toml", "-o", "run") == 0
    assert "pairs that show it, the target is the worse image: check if the columns" in capsys.readouterr().err
    assert train(listed, "--recipe", "tiny.toml", "-o", "again", "-q") == 0
    assert capsys.readouterr().err == ""


def test_a_damaged_validation_photo_is_left_out(photos: Path) -> None:
    Path("photos/1.png").write_bytes(Path("photos/1.png").read_bytes()[:200])
    assert train("photos", "--recipe", "tiny.toml", "-o", "run", "-q") == 0


def test_a_resumed_run_equals_an_uninterrupted_one(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train("photos", "--recipe", "tiny.toml", "-o", "whole", "-q") == 0
    optimize = Trainer._optimize

    def interrupted(self: Trainer, *arguments: object) -> float:
        if self.step == 2:
            raise KeyboardInterrupt
        return optimize(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_optimize", interrupted)
        assert train("photos", "--recipe", "tiny.toml", "-o", "parts") == 130
    assert "step 2 is saved" in capsys.readouterr().err
    assert not Path("parts/model").exists()
    # The run has stored its recipe.
    assert train("photos", "-o", "parts", "--resume", "-q") == 0
    whole, parts = (Path(run, "model/restoration/refiner.safetensors").read_bytes() for run in ("whole", "parts"))
    assert whole == parts


def test_an_earlier_run_is_not_overwritten(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("run/checkpoint").mkdir(parents=True)
    Path("run/checkpoint/state.json").write_text("{}")
    assert train("photos", "--recipe", "tiny.toml", "-o", "run") == 2
    assert "--resume" in capsys.readouterr().err


def test_a_second_training_in_the_same_folder_is_refused(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Lock(Path("run")):
        assert train("photos", "--recipe", "tiny.toml", "-o", "run") == 2
        shown = " ".join(capsys.readouterr().err.split())
        assert f"error run: another run is writing there (process {os.getpid()}" in shown
        assert "name another folder with -o" in shown
        assert [path.name for path in Path("run").iterdir()] == [".sanarestore.lock"]


def test_decoded_photos_of_dead_runs_are_removed_and_none_are_left(photos: Path) -> None:
    Path("run/.decoded-1").mkdir(parents=True)
    Path("run/.decoded-1/photo.npy").write_bytes(b"left over")
    Path("run/mine").touch()
    assert train("photos", "--recipe", "tiny.toml", "-o", "run", "-q") == 0
    assert {path.name for path in Path("run").glob(".*")} == set()
    assert Path("run/mine").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("photos", "--recipe", "tiny.toml", "--resume"), 2, "-o"),
        (("photos", "--recipe", "tiny.toml", "--resume", "-o", "run"), 2, "no checkpoint"),
        (("photos", "--recipe", "missing.toml", "-o", "run"), 2, "missing.toml"),
        (("missing", "--recipe", "tiny.toml", "-o", "run"), 2, "missing"),
        (("missing.csv", "--recipe", "tiny.toml", "-o", "run"), 2, "missing.csv"),
        (("empty", "--recipe", "tiny.toml", "-o", "run"), 3, "no image"),
        (("tiny.toml", "--recipe", "tiny.toml", "-o", "run"), 2, "nor a list of pairs"),
        (("photos", "--recipe", "tiny.toml", "-o", "run", "--device", "cuda:77"), 2, "not on this machine"),
        (("photos", "--recipe", "tiny.toml", "-o", "run", "--base", "./nowhere"), 4, "nowhere"),
        (("photos", "--recipe", "tiny.toml", "-o", "run", "--steps", "0"), 2, "steps"),
        (("photos", "-o", "run", "--grow", "1", "--prune", "1"), 2, "a run cannot both grow and prune"),
        (
            ("photos", "-o", "run", "--prune-decoder", "1", "--prune", "1"),
            2,
            "a run changes the blocks of the transformer or of the decoder, not of both",
        ),
        (
            ("photos", "-o", "run", "--prune-decoder", "3", "--base", "sanarestore-mini"),
            2,
            "the decoder has 6 blocks, and every stage that enlarges keeps one of them. Remove 2 at most",
        ),
        (("photos", "-o", "run", "--prune-decoder", "1"), 2, "new weights have no decoder to prune"),
        (("photos", "-o", "run", "--keep-all"), 2, "--keep-all: this applies only to growth"),
        (
            ("photos", "-o", "run", "--grow", "1", "--lora", "--base", "sanarestore-mini"),
            2,
            "low-rank changes belong to",
        ),
        (("photos", "--recipe", "tiny.toml", "-o", "run", "--grow", "1"), 2, "apply only to the objectives flow and"),
    ],
)
def test_invalid_arguments_end_with_their_exit_code_and_message(
    arguments: tuple[str, ...], code: int, message: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    base = () if "--base" in arguments else ("--base", "scratch")
    assert run(["train", *arguments, *base]) == code
    assert message in capsys.readouterr().err
    assert not Path("run").exists()


def test_the_default_output_folder_is_dated(photos: Path) -> None:
    assert train("photos", "--recipe", "tiny.toml", "--steps", "1", "-q") == 0
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("20")
    assert (folder / "model").is_dir()


def pairs_of(captions: list[str]) -> None:
    """Write pairs.csv of the photos with these captions, each photo beside the next one."""
    rows = [f"photos/{index % 3}.png,photos/{(index + 1) % 3}.png,{text}" for index, text in enumerate(captions)]
    Path("pairs.csv").write_text("\n".join(["image_path,condition_image_path,caption", *rows]))


def restored(name: str, *options: str) -> bytes:
    """Pixels of a photo restored with some options."""
    assert run(["restore", "photos/0.png", "-o", name, "--overwrite", *options]) == 0
    return images.read(name).pixels_HWC.tobytes()


def test_an_adapter_leaves_prompts_that_it_was_not_trained_for_to_its_base(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its experts, to the byte; the default prompt of the adapter is its most frequent caption."""
    pairs_of(["remove dust and scratches", "remove dust and scratches|no more dust", "remove dust and scratches"])
    tiny = RECIPE.replace("steps = 4", "steps = 2\nlearning_rate = 0.05")
    Path("tiny.toml").write_text(tiny)
    assert run(["train", "pairs.csv", "--recipe", "tiny.toml", "--lora", "--rank", "2", "-o", "run", "-q"]) == 0
    index = json.loads(Path("run/model/adapter.json").read_text())
    assert index["prompts"] == ["no more dust", "remove dust and scratches"]
    assert index["defaults"]["prompt"] == "remove dust and scratches"
    adapted = restored("a.png", "--adapter", "run/model", "--prompt", "remove dust and scratches")
    assert restored("b.png", "--adapter", "run/model") == adapted
    assert restored("c.png", "--prompt", "remove dust and scratches") != adapted
    capsys.readouterr()
    assert restored("d.png", "--adapter", "run/model", "--prompt", "remove noise") == restored(
        "e.png", "--prompt", "remove noise"
    )
    assert "the adapter was trained for 'no more dust'" in " ".join(capsys.readouterr().err.split())


def test_training_goes_on_from_an_adapter(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs_of(["remove dust"] * 3)
    Path("tiny.toml").write_text(RECIPE.replace("steps = 4", "steps = 2\nlearning_rate = 0.05"))
    arguments = ["train", "pairs.csv", "--recipe", "tiny.toml", "-q"]
    assert run([*arguments, "--lora", "--rank", "2", "-o", "one"]) == 0
    # Without steps that change anything, the second adapter restores as the first one does.
    still = Path("still.toml")
    still.write_text(Path("tiny.toml").read_text().replace("learning_rate = 0.05", "learning_rate = 0.0"))
    assert run(["train", "pairs.csv", "--recipe", "still.toml", "-q", "--base", "one/model", "-o", "same"]) == 0
    assert restored("a.png", "--adapter", "one/model") == restored("b.png", "--adapter", "same/model")
    assert run([*arguments, "--base", "one/model", "--lora", "--rank", "2", "-o", "two"]) == 0
    index = json.loads(Path("two/model/adapter.json").read_text())
    assert index["base"] == "sanarestore-mini"
    assert [stage["base"].split()[0] for stage in index["training"]["stages"][-2:]] == ["sanarestore-mini", "model"]
    assert restored("c.png", "--adapter", "two/model") != restored("d.png", "--adapter", "one/model")
    assert run([*arguments, "--base", "one/model", "--lora", "--rank", "4", "-o", "three"]) == 2
    assert "the adapter that is trained further has rank 2" in capsys.readouterr().err


def test_stages_are_trained_one_after_the_other_and_resumed(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    staged = RECIPE.replace("[model]", """
[[stage]]
steps = 2

[[stage]]
steps = 6
patch = 48

[model]""")  # fmt: skip
    Path("staged.toml").write_text(staged.replace("steps = 4\n", "", 1))
    assert train("photos", "--recipe", "staged.toml", "-o", "whole", "-q") == 0
    assert [(stage["steps"], stage["recipe"].get("patch")) for stage in stages("whole/model")] == [(2, 32), (6, 48)]
    assert Path("whole/report.html").read_text().count("<h2>") == 2
    assert Path("whole/model/README.md").read_bytes() == Path("whole/stage-2/model/README.md").read_bytes()
    optimize, done = Trainer._optimize, []

    def interrupted(self: Trainer, *arguments: object) -> float:
        done.append(self.step)
        if len(done) == 5:
            raise KeyboardInterrupt
        return optimize(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_optimize", interrupted)
        assert train("photos", "--recipe", "staged.toml", "-o", "parts") == 130
    assert "--resume -o parts to continue" in capsys.readouterr().err
    assert not Path("parts/model").exists()
    assert train("photos", "--recipe", "staged.toml", "-o", "parts", "-q") == 2
    # The run has stored its recipe, with all stages.
    assert train("photos", "-o", "parts", "--resume", "-q") == 0
    whole, parts = (Path(run, "model/restoration/refiner.safetensors").read_bytes() for run in ("whole", "parts"))
    assert whole == parts


def test_the_steps_of_all_stages_are_scaled_together(photos: Path) -> None:
    Path("staged.toml").write_text(
        RECIPE.replace("[model]", "[[stage]]\nsteps = 20\n\n[[stage]]\nsteps = 60\n\n[model]").replace(
            "steps = 4\n", "", 1
        )
    )
    assert train("photos", "--recipe", "staged.toml", "-o", "run", "--steps", "4", "-q") == 0
    assert [stage["steps"] for stage in stages("run/model")] == [1, 3]


def test_a_checkpoint_is_exported_and_its_run_lengthened(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["photos", "--recipe", "tiny.toml", "-o", "run", "-q"]
    assert train(*arguments) == 0
    first = Path("run/model/restoration/refiner.safetensors").read_bytes()
    assert train(*arguments, "--steps", "6", "--resume") == 0
    assert stages("run/model")[0]["steps"] == 6
    assert Path("run/model/restoration/refiner.safetensors").read_bytes() != first
    assert train(*arguments, "--steps", "9", "--resume", "--export") == 0
    assert stages("run/model")[0]["steps"] == 6
    assert train("photos", "--recipe", "tiny.toml", "-o", "other", "--export") == 2
    assert "--export: this writes the model of a checkpoint. Add --resume." in capsys.readouterr().err


def test_several_devices_stop_together_on_a_signal_and_one_goes_on(photos: Path) -> None:
    Path("tiny.toml").write_text(RECIPE.replace("steps = 4", "steps = 100000"))
    arguments = [sys.executable, "-m", "sanarestore", "train", "photos", "--recipe", "tiny.toml", "--base", "scratch"]
    arguments += ["-o", "run", "-q"]
    process = subprocess.Popen([*arguments, "--devices", "cpu,cpu"], start_new_session=True)
    try:
        _wait(lambda: _steps("run") >= 4)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(timeout=60) != 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    saved = _steps("run")
    assert saved > 4
    facts = json.loads(Path("run/metrics.jsonl").read_text().splitlines()[0])
    assert (facts["processes"], facts["batch_per_process"]) == (2, 1)
    whole = [*arguments, "--resume", "--export"]
    assert subprocess.run(whole, check=False).returncode == 0
    assert stages("run/model")[0]["steps"] == saved


def _steps(folder: str) -> int:
    """Steps of a run's checkpoint, 0 if there is none."""
    with suppress(OSError, ValueError):
        return int(json.loads(Path(folder, "checkpoint/state.json").read_text())["step"])
    return 0


def _wait(is_so: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


STAGED = (
    LATENT_RECIPE.replace('objective = "{objective}"', "").replace("steps = 4\n", "")
    + """
[[stage]]
objective = "flow"
steps = 2

[[stage]]
objective = "end-to-end"
steps = 2

[[stage]]
objective = "refiner"
steps = 2
"""
)


ENLARGED = (
    LATENT_RECIPE.replace('objective = "{objective}"', "scale = 2").replace("steps = 4\n", "")
    + """
[[stage]]
objective = "flow"
steps = 2

[[stage]]
objective = "distillation"
steps = 2
"""
)


def test_one_step_of_super_resolution_is_learnt_from_pairs_of_two_sizes(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An adapter of a flow is distilled; `restore --scale` then enlarges as the training did."""
    Path("flow.toml").write_text(LATENT_RECIPE.replace("{objective}", "flow"))
    assert run(["train", "photos", "--recipe", "flow.toml", "--base", "scratch", "-o", "flow", "-q"]) == 0
    Path("small").mkdir()
    for path in sorted(photos.glob("*.png")):
        image = images.read(path)
        pixels = images.resize(image.pixels_HWC, image.width // 2, image.height // 2)
        images.write(images.Image(pixels_HWC=pixels, depth="uint8", format="png"), Path("small", path.name))
    rows = [f"photos/{path.name},small/{path.name},enlarge" for path in sorted(photos.glob("*.png"))]
    Path("pairs.csv").write_text("\n".join(["image_path,condition_image_path,caption", *rows]))
    Path("sr.toml").write_text(ENLARGED)
    arguments = ["train", "pairs.csv", "--recipe", "sr.toml", "--base", "flow/model", "--lora", "--rank", "2"]
    assert run([*arguments, "-o", "run", "-q"]) == 0
    index = json.loads(Path("run/model/adapter.json").read_text())
    assert {"scale": 2, "steps": 1, "steps_range": [1, 4]}.items() <= index["defaults"].items()
    capsys.readouterr()
    restore = ["restore", "small/0.png", "--adapter", "run/model", "--fidelity", "0"]
    assert run([*restore, "-o", "large.png", "--scale", "2", "--steps", "4"]) == 0
    large, wanted = images.read("large.png"), images.read("photos/0.png")
    assert (large.width, large.height) == (wanted.width, wanted.height)
    assert "may be worse" not in capsys.readouterr().err
    assert run([*restore, "-o", "same.png"]) == 0
    assert "images enlarged 2 times" in capsys.readouterr().err
    Path("sr.toml").write_text(ENLARGED.replace("scale = 2", "scale = 4"))
    assert run([*arguments, "-o", "other", "-q"]) == 2
    assert "must have exactly 4 times" in capsys.readouterr().err


@pytest.mark.parametrize("lora", [[], ["--lora", "--rank", "2"]])
def test_a_published_base_is_adapted_in_stages(
    lora: list[str], photos: Path, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The captions ship, each embedded once, and so does the range of steps, which the first stage trains for."""
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: Path("cache").absolute())
    write_published(Path("base"), encoder)
    Path("staged.toml").write_text(STAGED)
    pairs_of(["remove noise", "take the grain out|no grain please", "a cat on a mat"])
    assert run(["train", "pairs.csv", "--recipe", "staged.toml", "--base", "base", "-o", "run", "-q", *lora]) == 0
    index = json.loads(Path("run/model/adapter.json").read_text())
    assert [stage["objective"] for stage in index["training"]["stages"]] == ["flow", "end-to-end", "refiner"]
    assert (index["base"], index["change"]) == (str(Path("base").resolve()), "lora" if lora else "full")
    assert index["defaults"]["steps_range"] == [1, 50]
    table = load_file("run/model/prompts.safetensors")
    assert {"remove noise", "take the grain out", "no grain please", "a cat on a mat"} <= table.keys()
    capsys.readouterr()
    assert run(["restore", "photos/0.png", "-o", "a.png", "--adapter", "run/model", "--steps", "4"]) == 0
    assert "was trained for" not in capsys.readouterr().err


def test_the_text_encoder_is_released_before_training(
    photos: Path, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: Path("cache").absolute())
    write_published(Path("base"), encoder)
    loads = []

    def counted(folder: Path) -> PromptEncoder:
        loads.append(folder)
        return load_encoder(folder)

    monkeypatch.setattr("sanarestore.model.base.load_encoder", counted)
    Path("tiny.toml").write_text(LATENT_RECIPE.replace("{objective}", "flow").replace('"noise:25"', '"combined"'))
    arguments = ["train", "photos", "--recipe", "tiny.toml", "--base", "base", "-o", "run", "-q"]
    assert run([*arguments, "--steps", "10"]) == 0
    assert len(loads) == 1, "ten steps of random wordings need no other embedding"


def test_a_decoder_is_pruned_to_an_autoencoder_that_an_adapter_restores_with(
    photos: Path, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sanarestore.training.decoder_pruning.SAMPLES", 2)
    monkeypatch.setattr("sanarestore.training.decoder_pruning.SECONDS", 0.0)
    write_adapted(Path(), encoder)
    arguments = ["train", "photos", "--base", "base", "-o", "run", "--prune-decoder", "2", "--steps", "1"]
    assert run([*arguments, "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)["depth"]
    assert (planned["before"], planned["after"], len(planned["importances"])) == (12, 10, 12)
    assert planned["decoder"]["parameters"][1] < planned["decoder"]["parameters"][0]
    assert not Path("run").exists()
    assert run(arguments) == 0
    shown = capsys.readouterr()
    assert "  blocks   12 in the decoder, 10 now: blocks" in shown.err
    assert re.search(r"  decoder  \S+ of \S+ M parameters, \S+ of \S+ kMAC per pixel,", shown.err)
    rows = [line.split() for line in shown.out.splitlines() if line.endswith("removed")]
    assert [int(row[0]) for row in rows] == planned["removed"]
    assert all(row[1].startswith("up_blocks.") for row in rows)
    assert re.search(r"blocks: 12 in the decoder, 10 now: .*; reconstruction .* dB after training", shown.err)
    assert "the autoencoder is in run/model: use it with --autoencoder run/model" in shown.err
    options = ["restore", "photos/0.png", "--adapter", "adapter", "--fidelity", "0"]
    assert run([*options, "-o", "whole.png"]) == 0
    assert run([*options, "-o", "pruned.png", "--autoencoder", "run/model"]) == 0
    assert Path("whole.png").read_bytes() != Path("pruned.png").read_bytes()
    assert run(["models", "verify", "run/model"]) == 0
    assert "2 of 2 files have the right hash" in capsys.readouterr().out
    assert run(["models", "info", "run/model"]) == 0
    assert "autoencoder, to be named with --autoencoder" in capsys.readouterr().out
    assert run(["restore", "photos/0.png", "-o", "not.png", "--model", "run/model"]) == 4
