"""Prompts: any text has an embedding, padding changes nothing, the encoder is loaded only when it must."""

import pytest
import torch

from sanarestore.model.prompts import MAX_TOKENS, PromptEncoder, Prompts, pool


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
