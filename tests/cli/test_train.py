"""Training from the command line: photos or pairs in, a model that `restore` takes out."""

import json
from pathlib import Path

import pytest

from sanarestore import images
from sanarestore.cli.app import run
from sanarestore.training.loop import Trainer
from tests.conftest import save_photo

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
widths = [8, 8]
encoder_blocks = [1]
decoder_blocks = [1]
prompt_width = 8
prompt_layers = 1
prompt_heads = 2
vocabulary = 300

[degradations]
"noise:25" = 1.0
"""


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of clean photos and a recipe beside it; the current folder is the one above them."""
    monkeypatch.chdir(tmp_path)
    for index in range(3):
        save_photo(Path(f"photos/{index}.png"), 64, 64, seed=index)
    Path("tiny.toml").write_text(RECIPE)
    return Path("photos")


def train(*arguments: str | Path) -> int:
    return run(["train", *map(str, arguments), "--base", "scratch"])


def test_photos_in_model_out(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("photos", "--recipe", "tiny.toml", "-o", "run", "--json") == 0
    shown = capsys.readouterr()
    lines = [json.loads(line) for line in shown.out.splitlines()]
    assert [(line["schema_version"], line["step"]) for line in lines] == [(1, 2), (1, 4)]
    assert shown.err == ""
    training = json.loads(Path("run/model/restoration/config.json").read_text())["training"]
    assert (training["base"], training["samples"], training["steps"]) == ("scratch", 2, 4)
    assert run(["restore", "photos/0.png", "-o", "restored.png", "--model", "run/model"]) == 0
    assert images.read("restored.png").height == 64


def test_pairs_in_model_out(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"photos/{index}.png,photos/{(index + 1) % 3}.png,remove noise" for index in range(3)]
    Path("pairs.csv").write_text("\n".join(["image_path,condition_image_path,caption", *rows]))
    assert train("pairs.csv", "--recipe", "tiny.toml", "-o", "run", "--steps", "2") == 0
    assert Path("run/model/restoration/refiner.safetensors").is_file()
    assert capsys.readouterr().err.splitlines()[-1] == "the model is in run/model: use it with --model run/model"


def test_going_on_from_a_model(photos: Path) -> None:
    assert train("photos", "--recipe", "tiny.toml", "-o", "first", "-q") == 0
    assert run(["train", "photos", "--recipe", "tiny.toml", "-o", "second", "--base", "first/model", "-q"]) == 0
    assert Path("second/model").is_dir()


def test_interrupted_and_resumed(
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
    # The run knows its recipe.
    assert train("photos", "-o", "parts", "--resume", "-q") == 0
    whole, parts = (Path(run, "model/restoration/refiner.safetensors").read_bytes() for run in ("whole", "parts"))
    assert whole == parts


def test_an_earlier_run_is_not_overwritten(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("run/checkpoint").mkdir(parents=True)
    assert train("photos", "--recipe", "tiny.toml", "-o", "run") == 2
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("photos", "--recipe", "tiny.toml", "--resume"), 2, "-o"),
        (("photos", "--recipe", "tiny.toml", "--resume", "-o", "run"), 2, "no checkpoint"),
        (("photos", "--recipe", "missing.toml", "-o", "run"), 2, "missing.toml"),
        (("missing", "--recipe", "tiny.toml", "-o", "run"), 2, "missing"),
        (("missing.csv", "--recipe", "tiny.toml", "-o", "run"), 2, "missing.csv"),
        (("empty", "--recipe", "tiny.toml", "-o", "run"), 3, "no image"),
        (("photos", "--recipe", "tiny.toml", "-o", "run", "--device", "cuda:77"), 2, "not on this machine"),
        (("photos", "--recipe", "tiny.toml", "-o", "run", "--base", "./nowhere"), 4, "nowhere"),
        (("photos", "--recipe", "tiny.toml", "-o", "run", "--steps", "0"), 2, "steps"),
    ],
)
def test_what_cannot_be_trained(
    arguments: tuple[str, ...], code: int, told: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    base = () if "--base" in arguments else ("--base", "scratch")
    assert run(["train", *arguments, *base]) == code
    assert told in capsys.readouterr().err
    assert not Path("run").exists()


def test_without_an_output_the_run_is_dated(photos: Path) -> None:
    assert train("photos", "--recipe", "tiny.toml", "--steps", "1", "-q") == 0
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("20")
    assert (folder / "model").is_dir()
