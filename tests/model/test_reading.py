"""The reader: what a prompt asks for each kind of degradation, from letter groups and their context."""

from pathlib import Path

import pytest
import torch

from sanarestore.degradations.requests import KINDS, Request, folded
from sanarestore.errors import WeightsError
from sanarestore.model.reading import (
    ABSENT,
    KEPT,
    MOST_WORDS,
    REMOVED,
    ROWS,
    Reader,
    _groups_of,
    is_reader,
    load_reader,
)
from sanarestore.model.tensors import write_tensors
from sanarestore.weights import READER

PROMPTS = ["remove noise", "deblur the photo and keep the grain of it", "x"]


@pytest.fixture
def reader() -> Reader:
    torch.manual_seed(3)
    reader = Reader().eval()
    with torch.no_grad():
        reader.groups.weight.mul_(20)
        for block in reader.blocks:
            block.distance.normal_()
    return reader


def saying(reader: Reader, understood: float = 9.0, **said: int) -> Reader:
    """Set a reader's biases so that it gives the same answer for every prompt."""
    logits = torch.zeros(len(KINDS), 3)
    for place, kind in enumerate(KINDS):
        logits[place, said.get(kind, ABSENT)] = 5.0
    with torch.no_grad():
        for part in (reader.end, reader.word):
            part.weight.zero_()
            part.bias.zero_()
        reader.end.bias.copy_(torch.cat([logits.flatten(), torch.tensor([understood])]))
    return reader


def test_the_reader_gives_three_logits_per_kind_and_one_for_understood(reader: Reader) -> None:
    said_BK3, understood_B = reader(PROMPTS)
    assert said_BK3.shape == (3, len(KINDS), 3)
    assert understood_B.shape == (3,)
    assert said_BK3.isfinite().all()
    assert (said_BK3[0] - said_BK3[1]).abs().max() > 1e-3, "logits depend on the prompt"


def test_padding_in_a_batch_does_not_change_the_logits(reader: Reader) -> None:
    together, understood_B = reader(PROMPTS)
    for place, prompt in enumerate(PROMPTS):
        alone, understood = reader([prompt])
        assert torch.allclose(alone[0], together[place], atol=1e-4)
        assert torch.allclose(understood[0], understood_B[place], atol=1e-4)


def test_the_order_of_words_matters(reader: Reader) -> None:
    """Otherwise "keep the noise, remove the blur" would equal its opposite."""
    said_BK3, _ = reader(["keep noise remove blur", "keep blur remove noise"])
    assert (said_BK3[0] - said_BK3[1]).abs().max() > 1e-3


def test_prompts_are_folded_before_reading(reader: Reader) -> None:
    typed, plain = ["Don't touch  the NOISE!", "ＵＰＳＣＡＬＥ"], ["dont touch the noise", "upscale"]
    assert [folded(text) for text in typed] == plain
    for ours, theirs in zip(reader([folded(text) for text in typed]), reader(plain), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    assert reader.read(typed) == reader.read(plain)


def test_forms_of_a_word_share_most_letter_groups() -> None:
    def shared(one: str, other: str) -> float:
        (first,), (second,) = _groups_of(one), _groups_of(other)
        return len({*first} & {*second}) / min(len({*first}), len({*second}))

    assert shared("graininess", "grainy") > 0.5
    assert shared("размытость", "размытости") > 0.5
    assert shared("grainy", "blurry") < 0.3


def test_scripts_without_spaces_are_split_where_the_script_changes() -> None:
    assert len(_groups_of(folded("ノイズを除去してください"))) == 5, "ノイズ を 除 去 してください"
    assert len(_groups_of(folded("去除噪声"))) == 4
    assert {*_groups_of(folded("噪声"))[0]} <= {*_groups_of(folded("去噪声点"))[1]}, (
        "a character includes the groups of its neighbours"
    )


def test_letter_group_hashes_are_stable() -> None:
    """Trained weights belong to these rows, so another hash would assign them to other words."""
    assert _groups_of("go") == [(21180, 83, 18880, 27089, 33273, 56090)]
    assert _groups_of("") == [(0,)]
    assert all(0 < row < ROWS for word in _groups_of("remove the noise 噪声") for row in word)


def test_long_texts_and_long_words_are_truncated() -> None:
    assert len(_groups_of("a " * 500)) == MOST_WORDS
    assert len(_groups_of("abcdefghij" * 50)[0]) <= 40


def test_letter_groups_are_dropped_at_random_in_training_only(reader: Reader) -> None:
    reader.train()
    assert not torch.equal(reader(["remove noise"])[0], reader(["remove noise"])[0])
    reader.eval()
    assert torch.equal(reader(["remove noise"])[0], reader(["remove noise"])[0])


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
def test_answers_for_each_kind_become_a_request(reader: Reader, said: dict[str, int], request_: Request) -> None:
    assert saying(reader, **said).read(["whatever"]) == [request_]


def test_a_kind_is_removed_only_if_that_is_likelier_than_kept(reader: Reader) -> None:
    """Two cases: "kept" likelier than "removed", then the reverse, both with "absent" the likeliest single answer."""
    with torch.no_grad():
        saying(reader, jpeg=REMOVED).end.bias[:3] = torch.tensor([0.49, 0.03, 0.48]).log()
    assert reader.read(["whatever"]) == [Request.of("jpeg")]
    with torch.no_grad():
        reader.end.bias[:3] = torch.tensor([0.45, 0.3, 0.25]).log()
    assert reader.read(["whatever"]) == [Request.of("noise", "jpeg")]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_gradients_are_finite_under_autocast(reader: Reader, dtype: torch.dtype) -> None:
    """Training on a GPU uses bfloat16 by default."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        said_BK3, understood_B = reader.train()(PROMPTS)
    (said_BK3.float().square().sum() + understood_B.float().square().sum()).backward()
    assert all(part.grad is not None and part.grad.isfinite().all() for part in reader.parameters())


@pytest.mark.parametrize(("logit", "understood"), [(-0.01, False), (0.01, True)])
def test_a_prompt_is_understood_from_a_probability_of_one_half(reader: Reader, logit: float, understood: bool) -> None:
    (request,) = saying(reader, logit, blur=REMOVED).read(["whatever"])
    assert request == (Request.of("blur") if understood else Request(None, understood=False))


def test_odd_prompts_are_read_without_an_error(reader: Reader) -> None:
    assert len(reader.read(["", "🙂", "x" * 5000, "\ud800"])) == 4


def saved(folder: Path, reader: Reader) -> Path:
    write_tensors(folder / READER, reader.state_dict())
    return folder


def test_a_saved_reader_loads_unchanged(tmp_path: Path, reader: Reader) -> None:
    assert not is_reader(tmp_path)
    loaded = load_reader(saved(tmp_path, reader))
    assert is_reader(tmp_path)
    for ours, theirs in zip(loaded(PROMPTS), reader(PROMPTS), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert not loaded.training


def test_a_reader_of_an_earlier_version_with_two_blocks_is_read(tmp_path: Path) -> None:
    earlier = Reader(blocks=2).eval()
    loaded = load_reader(saved(tmp_path, earlier))
    assert len(loaded.blocks) == 2
    for ours, theirs in zip(loaded(PROMPTS), earlier(PROMPTS), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("damage", ["missing", "cut", "shape"])
def test_missing_or_damaged_reader_weights_are_refused(tmp_path: Path, reader: Reader, damage: str) -> None:
    path = saved(tmp_path, reader) / READER
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-50])
    else:
        write_tensors(path, {**reader.state_dict(), "enter.bias": torch.zeros(3)})
    with pytest.raises(WeightsError, match="reader"):
        load_reader(tmp_path)
