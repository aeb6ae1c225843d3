"""Shared fixtures: small synthetic images and small random models, without downloads."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import settings

from sanarestore import images
from sanarestore.engine import workers
from sanarestore.model.loading import RestorationModel, save_model
from sanarestore.model.prompts import PromptEncoder, Prompts, new_encoder, train_tokenizer
from sanarestore.model.reading import load_embedded_reader
from sanarestore.model.refiner import Refiner
from sanarestore.model.refiner_config import RefinerConfig
from sanarestore.training.parts import plain_wordings
from tests import threads

# A job that a script runs in the background ignores signals of the terminal, and tests of Ctrl-C need them.
for _name in ("SIGINT", "SIGHUP"):
    is_main = threading.current_thread() is threading.main_thread()  # workers import this in another
    if is_main and hasattr(signal, _name) and signal.getsignal(getattr(signal, _name)) is signal.SIG_IGN:
        signal.signal(getattr(signal, _name), signal.default_int_handler if _name == "SIGINT" else signal.SIG_DFL)

# Two threads make small tests slower, not faster, and one thread makes their arithmetic repeatable.
torch.set_num_threads(1)

# Hypothesis tries the same examples every time, without a deadline, however busy the machine.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


def photo(height: int, width: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Make a smooth scene with edges and texture, [H, W, 3] in [0, 1], of exact 8-bit codes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 64
    phases = rng.uniform(0, 6, (3, 3))
    waves = [0.5 + 0.2 * np.sin(2 * x + a) + 0.15 * np.cos(3 * y + b) for a, b, _ in phases]
    scene = np.stack(waves, axis=2) + 0.12 * (np.sin(5 * (x + y) + phases[0, 2]) > 0.3)[..., None]
    scene += 0.04 * np.sin(20 * x * y)[..., None]
    return (np.rint(np.clip(scene, 0, 1) * 255) / 255).astype(np.float32)


def random_refiner(prompt_width: int = 8, seed: int = 0, **fields: Any) -> Refiner:
    """Make a narrow random refiner of the real topology; `fields` go into its configuration."""
    torch.manual_seed(seed)
    refiner = Refiner(RefinerConfig(widths=(8, 8, 16, 16), prompt_width=prompt_width, **fields))
    with torch.no_grad():
        for parameter in refiner.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return refiner.eval().requires_grad_(False)


@pytest.fixture(autouse=True)
def workers_in_threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run workers as threads; tests that ask for `processes` get real ones."""
    if "processes" not in request.fixturenames:
        monkeypatch.setattr(workers, "start", threads.start)


@pytest.fixture
def processes() -> None:
    """Run workers as processes of their own, as users do."""


@pytest.fixture(scope="session")
def encoder() -> PromptEncoder:
    """A tiny Gemma-2 encoder with a tiny tokenizer."""
    tokenizer = train_tokenizer(["remove noise", "restore this image", "deblur the photo"], 300)
    torch.manual_seed(0)
    return new_encoder(tokenizer, width=8, layers=1, heads=2).eval()


def worded(encoder: PromptEncoder) -> dict[str, Any]:
    """Return the prompt arguments of `save_model`; without a trained reader, the embedded one is used."""
    return {"encoder": encoder, "prompts": encoder.table(plain_wordings())}


@pytest.fixture
def tiny_model(encoder: PromptEncoder) -> RestorationModel:
    """A complete random restoration model in memory."""
    prompts = Prompts(encoder.table(plain_wordings()), lambda: encoder, load_embedded_reader)
    return RestorationModel(
        name="tiny", folder=Path("tiny"), refiner=random_refiner(), prompts=prompts,
        defaults={"prompt": "Restore this image"}, fingerprint="0" * 64,
    )  # fmt: skip


@pytest.fixture
def tiny_folder(tmp_path: Path, encoder: PromptEncoder) -> Path:
    """The folder of the same model."""
    folder = tmp_path / "tiny-model"
    save_model(
        folder, name="tiny", refiner=random_refiner(), training={}, **worded(encoder),
        defaults={"prompt": "Restore this image"},
    )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the published test sets; tests that need it are skipped without it."""
    folder = os.environ.get("SANARESTORE_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SANARESTORE_DATA names no folder of test sets")
    return Path(folder)


def save_photo(path: Path, height: int = 40, width: int = 56, seed: int = 0) -> Path:
    """Write a `photo` as an 8-bit PNG file; return its path."""
    images.write(images.Image(pixels_HWC=photo(height, width, seed), depth="uint8", format="png"), path)
    return path
