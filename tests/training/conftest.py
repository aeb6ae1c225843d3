"""Fixtures for training: photographs on disk, a small vocabulary for tokenizers, and cached embeddings."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from torch import Tensor

from sanarestore import images
from sanarestore.degradations.requests import PLAIN
from sanarestore.model.prompts import PromptEncoder
from tests.conftest import photo
from tests.published import write_narrow


@pytest.fixture(scope="session", autouse=True)
def _few_words() -> Iterator[None]:
    """Replace the vocabulary: training a tokenizer on all grammars takes seconds, and tests make dozens of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sanarestore.training.starting.vocabulary", lambda: [*PLAIN.values(), "restore this image"])
        yield


@pytest.fixture(scope="session", autouse=True)
def _embeddings_once() -> Iterator[None]:
    """Cache embeddings: fresh parts of one seed have equal encoders and would embed the same 65 wordings each time."""
    embed = PromptEncoder.table
    known: dict[tuple[bytes, str], Tensor] = {}

    def table(encoder: PromptEncoder, prompts: Iterable[str]) -> dict[str, Tensor]:
        digest = hashlib.sha256(str(encoder.tokenizer.get_vocab()).encode())
        for tensor in encoder.state_dict().values():
            digest.update(tensor.numpy().tobytes())
        weights, wanted = digest.digest(), list(dict.fromkeys(prompts))
        found = embed(encoder, [prompt for prompt in wanted if (weights, prompt) not in known])
        known.update({(weights, prompt): token_LD for prompt, token_LD in found.items()})
        return {prompt: known[weights, prompt] for prompt in wanted}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PromptEncoder, "table", table)
        yield


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = []
    for index, size in enumerate([(90, 120), (40, 200), (150, 70)]):
        path = tmp_path / f"{index}.png"
        images.write(images.Image(pixels_HWC=photo(*size, seed=index), depth="uint8", format="png"), path)
        paths.append(path)
    return paths


@pytest.fixture(scope="session")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A base in the published layout that is wide enough to measure its memory."""
    return write_narrow(tmp_path_factory.mktemp("narrow"))
