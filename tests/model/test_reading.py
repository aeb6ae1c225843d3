"""The reader: what a prompt says of each kind, by a head over the encoder, the same however it was typed."""

from pathlib import Path

import pytest
import torch

from sanarestore.degradations.requests import KINDS, Request
from sanarestore.errors import WeightsError
from sanarestore.model.prompts import PromptEncoder
from sanarestore.model.reading import (
    ABSENT,
    HEAD,
    KEPT,
    READINGS,
    REMOVED,
    Reader,
    is_reader,
    load_reader,
    read_readings,
)
from sanarestore.model.tensors import write_tensors

PROMPTS = ["remove noise", "deblur the photo and keep the grain of it", "x"]


@pytest.fixture
def reader(encoder: PromptEncoder) -> Reader:
    torch.manual_seed(3)
    return Reader(encoder).eval()


def saying(reader: Reader, understood: float = 9.0, **said: int) -> Reader:
    """It, but it says the same of every prompt."""
    logits = torch.zeros(len(KINDS), 3)
    for place, kind in enumerate(KINDS):
        logits[place, said.get(kind, ABSENT)] = 5.0
    with torch.no_grad():
        reader.head[2].weight.zero_()
        reader.head[2].bias.copy_(torch.cat([logits.flatten(), torch.tensor([understood])]))
    return reader


def test_it_has_logits_of_three_answers_for_each_kind_and_one_of_being_understood(reader: Reader) -> None:
    said_BK3, understood_B = reader(PROMPTS)
    assert said_BK3.shape == (3, len(KINDS), 3)
    assert understood_B.shape == (3,)
    assert said_BK3.isfinite().all()
    assert (said_BK3[0] - said_BK3[1]).abs().max() > 1e-3, "of what it reads"


def test_a_prompt_is_read_alike_alone_and_beside_longer_ones(reader: Reader) -> None:
    together, understood_B = reader(PROMPTS)
    for place, prompt in enumerate(PROMPTS):
        alone, understood = reader([prompt])
        assert torch.allclose(alone[0], together[place], atol=1e-5)
        assert torch.allclose(understood[0], understood_B[place], atol=1e-5)


def test_prompts_are_read_as_they_are_folded(reader: Reader) -> None:
    seen: list[str] = []
    forward = reader.encoder.forward
    reader.encoder.forward = lambda prompts: (seen.extend(prompts), forward(prompts))[1]  # type: ignore[method-assign]
    one, other = reader.read(["Don't touch  the NOISE!", "dont touch the noise"])
    del reader.encoder.forward
    assert one == other
    assert seen == ["dont touch the noise"] * 2


@pytest.mark.parametrize(
    ("said", "request_"),
    [
        ({}, Request()),
        ({"blur": REMOVED, "noise": REMOVED}, Request.of("noise", "blur")),
        ({"blur": REMOVED, "noise": KEPT}, Request.of("blur")),
        ({"noise": KEPT}, Request.of("jpeg")),
        ({"noise": KEPT, "jpeg": KEPT}, Request(())),
        ({"colour": KEPT, "lowlight": KEPT}, Request.of("noise", "jpeg")),
        (dict.fromkeys(KINDS, REMOVED), Request.of(*KINDS)),
    ],
)
def test_what_it_says_becomes_a_request(reader: Reader, said: dict[str, int], request_: Request) -> None:
    assert saying(reader, **said).read(["whatever"]) == [request_]


@pytest.mark.parametrize(("logit", "understood"), [(-0.01, False), (0.01, True)])
def test_from_an_even_chance_on_a_prompt_is_understood(reader: Reader, logit: float, understood: bool) -> None:
    (request,) = saying(reader, logit, blur=REMOVED).read(["whatever"])
    assert request == (Request.of("blur") if understood else Request(None, understood=False))


def test_no_prompts_are_no_requests_to_read_wrongly(reader: Reader) -> None:
    assert len(reader.read(["", "🙂", "x" * 5000])) == 3


def saved(folder: Path, reader: Reader) -> Path:
    reader.encoder.tokenizer.save_pretrained(folder / "tokenizer")
    reader.encoder.model.save_pretrained(folder / "text_encoder")
    write_tensors(folder / HEAD, reader.head.state_dict())
    return folder


def test_what_was_saved_reads_alike(tmp_path: Path, reader: Reader) -> None:
    assert not is_reader(tmp_path)
    loaded = load_reader(saved(tmp_path, reader))
    assert is_reader(tmp_path)
    for ours, theirs in zip(loaded(PROMPTS), reader(PROMPTS), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert not loaded.training


@pytest.mark.parametrize("damage", ["missing", "cut", "shape"])
def test_a_head_that_does_not_fit_is_refused(tmp_path: Path, reader: Reader, damage: str) -> None:
    head = saved(tmp_path, reader) / HEAD
    if damage == "missing":
        head.unlink()
    elif damage == "cut":
        head.write_bytes(head.read_bytes()[:-50])
    else:
        write_tensors(head, {**reader.head.state_dict(), "0.bias": torch.zeros(3)})
    with pytest.raises(WeightsError, match="reader"):
        load_reader(tmp_path)


def test_readings_are_requests_by_folded_text(tmp_path: Path) -> None:
    assert read_readings(tmp_path) == {}
    (tmp_path / READINGS).parent.mkdir()
    (tmp_path / READINGS).write_text('{"denoise": ["noise"], "go on": [], "a and b": ["blur", "noise"]}')
    assert read_readings(tmp_path) == {
        "denoise": Request.of("noise"), "go on": Request(), "a and b": Request.of("noise", "blur"),
    }  # fmt: skip


@pytest.mark.parametrize("text", ["{", "[]", '{"denoise": ["haze"]}', '{"denoise": 3}', "\xff"])
def test_readings_that_say_something_else_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / READINGS).parent.mkdir()
    (tmp_path / READINGS).write_bytes(text.encode("latin-1"))
    with pytest.raises(WeightsError, match=r"readings\.json: it is damaged.*Fetch the model again"):
        read_readings(tmp_path)
