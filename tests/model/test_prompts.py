"""Prompts: every text has an embedding, equal requests share one, and encoder and reader load only when needed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch

from sanarestore.degradations.requests import DEFAULT_PROMPT, Request, every_request, folded
from sanarestore.errors import WeightsError
from sanarestore.model.prompts import MAX_TOKENS, PromptCache, PromptEncoder, Prompts, load_encoder, pool


@pytest.mark.parametrize("prompt", ["", "remove noise", "éà 日本 🙂", "x" * 5000])
def test_any_text_has_an_embedding(encoder: PromptEncoder, prompt: str) -> None:
    token_BLD, mask_BL = encoder([prompt])
    assert 1 <= token_BLD.shape[1] <= MAX_TOKENS
    assert mask_BL.sum() >= 1
    assert token_BLD.isfinite().all()


def test_padding_does_not_change_an_embedding(encoder: PromptEncoder) -> None:
    alone = encoder.pooled(["remove noise"])
    padded = encoder.pooled(["remove noise", "restore this image and then deblur the photo too"])
    assert torch.allclose(alone[0], padded[0], atol=1e-6)
    assert not torch.allclose(padded[0], padded[1], atol=1e-2)


def test_surrounding_space_is_ignored(encoder: PromptEncoder) -> None:
    assert torch.equal(encoder.pooled(["  remove noise\n"]), encoder.pooled(["remove noise"]))


def test_pooling_averages_only_unmasked_tokens() -> None:
    tokens = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert pool(tokens, torch.tensor([[1, 1, 0]])).tolist() == [[2.0]]
    assert pool(tokens, torch.tensor([[0, 0, 0]])).tolist() == [[0.0]]


class Dictionary:
    """A reader with a fixed table of folded texts; it understands no others and records what it is asked."""

    def __init__(self, requests: Mapping[str, Request] = MappingProxyType({})) -> None:
        self.requests = requests
        self.asked: list[str] = []

    def read(self, prompts: Sequence[str]) -> list[Request]:
        self.asked += prompts
        return [self.requests.get(folded(prompt), Request(None, understood=False)) for prompt in prompts]


NOISE, KEEP_ALL = Request.of("noise"), Request.keeping("noise", "jpeg")

READ = {
    "so grainy": NOISE, "entrausche das bild": NOISE, "fix everything": Request(), "hands off": KEEP_ALL,
    "grainy and dim": Request.of("lowlight", "noise"),
}  # fmt: skip


def prompts_of(encoder: PromptEncoder, known: Sequence[str] = (), **options: Any) -> Prompts:
    """Make prompts that are read by `Dictionary`; `known` ones have embeddings in the table."""
    return Prompts(encoder.table(known), lambda: encoder, lambda: Dictionary(READ), **options)


def embedding(prompts: Prompts, prompt: str | None) -> torch.Tensor:
    """Return the embedding that the networks receive for a prompt."""
    return prompts.pooled(prompts.wording(prompt, prompts.request(prompt)))


def test_prompts_with_the_same_request_share_one_embedding(encoder: PromptEncoder) -> None:
    prompts = prompts_of(encoder)
    plain = encoder.table([NOISE.plain])[NOISE.plain].mean(dim=0)
    for prompt in ("so grainy", "So  GRAINY!", "Entrausche das Bild", "remove the noise", "ＲＥＭＯＶＥ the noise."):
        assert prompts.request(prompt) == NOISE, prompt
        assert torch.equal(embedding(prompts, prompt), plain), prompt
    assert not torch.equal(embedding(prompts, "grainy and dim"), plain)


def test_published_encoders_receive_prompts_as_typed(encoder: PromptEncoder) -> None:
    prompts = prompts_of(encoder, as_typed=True)
    for typed in ("so grainy", "So GRAINY!", "Entrausche das Bild", "hands off"):
        assert torch.equal(embedding(prompts, f" {typed} "), encoder.table([typed])[typed].mean(dim=0)), typed
    assert not torch.equal(embedding(prompts, "so grainy"), embedding(prompts, "Entrausche das Bild"))


@pytest.mark.parametrize("as_typed", [False, True])
@pytest.mark.parametrize(
    "prompt", [None, "", "  \n", "fix everything", "Fix everything!!", DEFAULT_PROMPT, "a cat on a mat"]
)
def test_general_and_unknown_prompts_are_embedded_like_no_prompt(
    encoder: PromptEncoder, prompt: str | None, as_typed: bool
) -> None:
    prompts = prompts_of(encoder, as_typed=as_typed)
    expected = encoder.table([DEFAULT_PROMPT])[DEFAULT_PROMPT].mean(dim=0)
    assert torch.equal(embedding(prompts, prompt), expected)
    assert prompts.request(prompt).removes is None
    assert prompts.request(prompt).understood == (prompt != "a cat on a mat")


@pytest.mark.parametrize("as_typed", [False, True])
def test_a_caption_from_training_keeps_its_own_embedding(encoder: PromptEncoder, as_typed: bool) -> None:
    caption = "A cat on a mat"
    prompts = prompts_of(encoder, [caption], as_typed=as_typed)
    assert torch.equal(embedding(prompts, f"  {caption} "), encoder.table([caption])[caption].mean(dim=0))
    assert not prompts.request(caption).understood
    other = embedding(prompts, "a cat on the mat")
    assert torch.equal(other, encoder.table([DEFAULT_PROMPT])[DEFAULT_PROMPT].mean(dim=0))


def test_an_understood_prompt_uses_the_plain_wording_even_if_in_the_table(encoder: PromptEncoder) -> None:
    prompts = prompts_of(encoder, ["so grainy", "fix everything"])
    assert prompts.wording("so grainy", NOISE) == NOISE.plain
    assert prompts.wording("fix everything", Request()) == DEFAULT_PROMPT


def test_a_prompt_that_keeps_everything_removes_nothing(encoder: PromptEncoder) -> None:
    prompts = prompts_of(encoder)
    assert prompts.request("Hands off!") == KEEP_ALL
    assert prompts.request("hands off").removes == ()


def test_a_prompt_is_read_once_and_plain_wordings_need_no_reader() -> None:
    reader = Dictionary(READ)
    loads: list[int] = []

    def load() -> Dictionary:
        loads.append(1)
        return reader

    prompts = Prompts({}, lambda: pytest.fail("loaded"), load)
    for request in every_request():
        assert prompts.request(f" {request.plain.upper()}! ") == request
    assert (prompts.request(None), prompts.request(" ")) == (Request(), Request())
    assert loads == []
    for text in ("so grainy", "So grainy!", "SO  GRAINY"):
        assert prompts.request(text) == NOISE
    assert (loads, reader.asked) == ([1], ["so grainy"])
    prompts.request("a cat")
    prompts.request("A cat?")
    assert (loads, reader.asked) == ([1, 1], ["so grainy", "a cat"])


def test_a_prompt_of_symbols_only_is_not_treated_as_empty() -> None:
    reader = Dictionary()
    prompts = Prompts({}, lambda: pytest.fail("loaded"), lambda: reader)
    assert not prompts.request("🙂 !!").understood
    assert reader.asked == [""]
    assert prompts.request("") == Request()


def test_encoder_and_reader_are_released_unless_kept_loaded(encoder: PromptEncoder) -> None:
    loads: list[str] = []

    def load_encoder() -> PromptEncoder:
        loads.append("encoder")
        return encoder

    def load_reader() -> Dictionary:
        loads.append("reader")
        return Dictionary()

    prompts = Prompts({}, load_encoder, load_reader)
    for text in ("one", "two"):
        prompts.request(text)
        prompts.look_up([text])
    assert loads == ["reader", "encoder"] * 2
    prompts.keep_loaded()
    for text in ("three", "four"):
        prompts.request(text)
        prompts.look_up([text])
    assert loads == ["reader", "encoder"] * 3


def test_look_up_does_not_store_embeddings(encoder: PromptEncoder, tmp_path: Path) -> None:
    prompts = prompts_of(encoder, ["deblur"], cache=PromptCache("0" * 64, tmp_path))
    found = prompts.look_up([" so grainy ", "deblur", "so grainy"])
    assert list(found) == ["so grainy", "deblur"]
    assert torch.equal(found["so grainy"], encoder.table(["so grainy"])["so grainy"])
    assert list(prompts.known) == ["deblur"]
    assert not list(tmp_path.iterdir())
    assert list(prompts.fetch(["so grainy"])) == ["so grainy"]
    assert list(prompts.known) == ["deblur", "so grainy"]


def test_the_encoder_is_loaded_only_for_an_unknown_prompt(encoder: PromptEncoder) -> None:
    loads = []

    def load() -> PromptEncoder:
        loads.append(1)
        return encoder

    prompts = Prompts(encoder.table(["remove noise"]), load, Dictionary)
    known = prompts.pooled(" remove noise ")
    assert loads == []
    assert torch.allclose(known, encoder.pooled(["remove noise"])[0], atol=1e-6)
    first = prompts.pooled("deblur")
    assert torch.equal(prompts.pooled("deblur"), first)
    assert loads == [1]


def test_a_missing_encoder_is_reported_only_when_needed(tmp_path: Path) -> None:
    known = torch.ones(2, 8)
    prompts = Prompts({"remove noise": known}, lambda: load_encoder(tmp_path), Dictionary)
    assert torch.equal(prompts.tokens(" remove noise "), known)
    with pytest.raises(WeightsError, match=r"text encoder.*Use a prompt that the model knows"):
        prompts.tokens("remove the grain")


def test_many_prompts_load_the_encoder_once(encoder: PromptEncoder, tmp_path: Path) -> None:
    loads: list[int] = []

    def load() -> PromptEncoder:
        loads.append(1)
        return encoder

    prompts = Prompts({}, load, Dictionary, cache=PromptCache("0" * 64, tmp_path))
    found = prompts.fetch(["remove noise", " deblur", "remove noise"])
    assert list(found) == ["remove noise", "deblur"]
    assert torch.equal(found["deblur"], encoder.table(["deblur"])["deblur"])
    assert len(loads) == 1
    assert torch.equal(
        Prompts({}, load, Dictionary, cache=PromptCache("0" * 64, tmp_path)).tokens("deblur"), found["deblur"]
    )
    assert len(loads) == 1, "a second process finds the embedding on disk"


def test_texts_embedded_at_once_equal_texts_embedded_alone(encoder: PromptEncoder) -> None:
    texts = ["remove noise", "", "a much longer prompt about the blur of this old photograph", "grain"]
    alone, together = encoder.table(texts), encoder.batched(texts, torch.device("cpu"), size=3)
    assert together.keys() == alone.keys()
    for text in texts:
        assert together[text].shape == alone[text].shape
        assert torch.allclose(together[text], alone[text], atol=1e-5)
