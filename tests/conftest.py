"""Shared fixtures: small synthetic images and small random models, without downloads."""

import functools
import hashlib
import os
import shutil
import signal
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import settings
from torch import Tensor

from sanarestore import images
from sanarestore.degradations.requests import PLAIN
from sanarestore.engine import workers
from sanarestore.model.loading import RestorationModel, save_model
from sanarestore.model.prompts import PromptEncoder, Prompts, new_encoder, train_tokenizer
from sanarestore.model.reading import load_embedded_reader
from sanarestore.model.refiner import Refiner
from sanarestore.model.refiner_config import RefinerConfig
from sanarestore.training.memory import Memory, estimate_memory
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
def _same_random_numbers() -> None:
    """Let every test begin from the same state of torch's generator, whichever tests and fixtures ran before it."""
    torch.manual_seed(0)


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
    return {"encoder": encoder, "prompts": dict(embedded_wordings(encoder))}


@functools.cache
def embedded_wordings(encoder: PromptEncoder) -> dict[str, Tensor]:
    """Embed the plain wordings once per encoder, because it takes longer than making a tiny model."""
    return encoder.table(plain_wordings())


@pytest.fixture
def tiny_model(encoder: PromptEncoder) -> RestorationModel:
    """A complete random restoration model in memory."""
    prompts = Prompts(dict(embedded_wordings(encoder)), lambda: encoder, load_embedded_reader)
    return RestorationModel(
        name="tiny", folder=Path("tiny"), refiner=random_refiner(), prompts=prompts,
        defaults={"prompt": "Restore this image"}, fingerprint="0" * 64,
    )  # fmt: skip


@pytest.fixture(scope="session")
def saved_tiny_model(tmp_path_factory: pytest.TempPathFactory, encoder: PromptEncoder) -> Path:
    """The folder of the same model, from which every test gets its own."""
    folder = tmp_path_factory.mktemp("saved") / "tiny-model"
    save_model(
        folder, name="tiny", refiner=random_refiner(), training={}, **worded(encoder),
        defaults={"prompt": "Restore this image"},
    )  # fmt: skip
    return folder


@pytest.fixture
def tiny_folder(tmp_path: Path, saved_tiny_model: Path) -> Path:
    """The folder of the same model, which the test may change."""
    return shutil.copytree(saved_tiny_model, tmp_path / "tiny-model")


_embed = PromptEncoder.table

_embedded: dict[tuple[bytes, str], Tensor] = {}


def _embed_once(encoder: PromptEncoder, prompts: Iterable[str]) -> dict[str, Tensor]:
    """Embed each prompt once with the same weights: fresh parts of one seed have equal encoders."""
    digest = hashlib.sha256(repr(sorted(encoder.tokenizer.get_vocab().items())).encode())
    for tensor in encoder.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    weights, wanted = digest.digest(), list(dict.fromkeys(prompts))
    found = _embed(encoder, [prompt for prompt in wanted if (weights, prompt) not in _embedded])
    _embedded.update({(weights, prompt): token_LD for prompt, token_LD in found.items()})
    return {prompt: _embedded[weights, prompt] for prompt in wanted}


@pytest.fixture(scope="module")
def quick_beginnings() -> Iterator[None]:
    """Shorten what precedes a training from fresh weights, of which tests begin hundreds.

    Training a tokenizer on all grammars takes seconds, so a few words replace them; the 65 plain wordings are embedded
    once.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sanarestore.training.starting.vocabulary", lambda: [*PLAIN.values(), "restore this image"])
        patch.setattr(PromptEncoder, "table", _embed_once)
        yield


@pytest.fixture
def unestimated_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin trainings without the seconds that estimating their memory takes, where memory is not the point."""
    nothing = Memory(frozen=0, trained=0, gradients=0, optimizer=0, ema=0, activations=0)
    monkeypatch.setattr("sanarestore.training.fitting.estimate_memory", lambda *_: nothing)


@pytest.fixture
def estimated_memory(unestimated_memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimate memory nevertheless, as trainings of users do."""
    monkeypatch.setattr("sanarestore.training.fitting.estimate_memory", estimate_memory)


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
