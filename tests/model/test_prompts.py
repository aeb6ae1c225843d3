"""Prompts: any text has an embedding, padding changes nothing, the encoder is loaded only when it must."""

from pathlib import Path

import pytest
import torch

from sanarestore.errors import WeightsError
from sanarestore.model.prompts import MAX_TOKENS, PromptCache, PromptEncoder, Prompts, load_encoder, pool


@pytest.mark.parametrize("prompt", ["", "remove noise", "éà 日本 🙂", "x" * 5000])
def test_any_text_has_an_embedding(encoder: PromptEncoder, prompt: str) -> None:
    token_BLD, mask_BL = encoder([prompt])
    assert 1 <= token_BLD.shape[1] <= MAX_TOKENS
    assert mask_BL.sum() >= 1
    assert token_BLD.isfinite().all()


def test_a_prompt_reads_the_same_alone_and_padded(encoder: PromptEncoder) -> None:
    alone = encoder.pooled(["remove noise"])
    padded = encoder.pooled(["remove noise", "restore this image and then deblur the photo too"])
    assert torch.allclose(alone[0], padded[0], atol=1e-6)
    assert not torch.allclose(padded[0], padded[1], atol=1e-2)


def test_surrounding_space_means_nothing(encoder: PromptEncoder) -> None:
    assert torch.equal(encoder.pooled(["  remove noise\n"]), encoder.pooled(["remove noise"]))


def test_pooling_counts_only_the_tokens_there() -> None:
    tokens = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert pool(tokens, torch.tensor([[1, 1, 0]])).tolist() == [[2.0]]
    assert pool(tokens, torch.tensor([[0, 0, 0]])).tolist() == [[0.0]]


def test_the_encoder_is_loaded_on_a_miss_only(encoder: PromptEncoder) -> None:
    loads = []

    def load() -> PromptEncoder:
        loads.append(1)
        return encoder

    prompts = Prompts(encoder.table(["remove noise"]), load)
    known = prompts.pooled(" remove noise ")
    assert loads == []
    assert torch.allclose(known, encoder.pooled(["remove noise"])[0], atol=1e-6)
    first = prompts.pooled("deblur")
    assert torch.equal(prompts.pooled("deblur"), first)
    assert loads == [1]


def test_a_missing_encoder_is_named_when_a_prompt_needs_it(tmp_path: Path) -> None:
    known = torch.ones(2, 8)
    prompts = Prompts({"remove noise": known}, lambda: load_encoder(tmp_path))
    assert torch.equal(prompts.tokens(" remove noise "), known)
    with pytest.raises(WeightsError, match=r"text encoder.*Use a prompt that the model knows"):
        prompts.tokens("remove the grain")


def test_many_prompts_take_one_load(encoder: PromptEncoder, tmp_path: Path) -> None:
    loads: list[int] = []

    def load() -> PromptEncoder:
        loads.append(1)
        return encoder

    prompts = Prompts({}, load, PromptCache("0" * 64, tmp_path))
    found = prompts.fetch(["remove noise", " deblur", "remove noise"])
    assert list(found) == ["remove noise", "deblur"]
    assert torch.equal(found["deblur"], encoder.table(["deblur"])["deblur"])
    assert len(loads) == 1
    assert torch.equal(Prompts({}, load, PromptCache("0" * 64, tmp_path)).tokens("deblur"), found["deblur"])
    assert len(loads) == 1, "the second process finds it on disk"
