"""Wordings: what prompts say, and that those kept for measuring cannot be met in training."""

import itertools
import re
from collections.abc import Iterable

import numpy as np
import pytest

from sanarestore.degradations.wordings import (
    ADJECTIVES,
    DEFAULT_PROMPT,
    ENDINGS,
    FRAMES,
    GENERAL,
    GOALS,
    HELD_OUT,
    KEEPING,
    KINDS,
    LOOKS,
    NOUNS,
    OPENINGS,
    PHRASES,
    WISHES,
    plain,
    requests,
    vocabulary,
    word,
    word_strangely,
)


def bare(sentence: str) -> str:
    """Without case, punctuation and doubled spaces: what dressing may add is not a difference."""
    return " ".join(re.sub(r"[^\w\s]", " ", sentence.casefold()).split())


def trained(kind: str) -> set[str]:
    return {bare(request) for request in requests(kind)}


def undressed(sentence: str) -> set[str]:
    """What may lie under openings and endings, one of each or none."""
    openings, endings = ({bare(each) for each in coats} for coats in (OPENINGS, ENDINGS))
    found = {sentence}
    found |= {each.removeprefix(opening).strip() for each in found for opening in openings}
    return found | {each.removesuffix(ending).strip() for each in found for ending in endings}


def test_every_kind_has_words() -> None:
    assert set(NOUNS) == set(PHRASES) == set(ADJECTIVES) == set(GOALS) == set(HELD_OUT) == set(KINDS)
    for kind in KINDS:
        assert len(NOUNS[kind]) >= 5
        assert len(PHRASES[kind]) >= 5
        assert len(HELD_OUT[kind]) >= 5


def test_held_out_sentences_cannot_be_produced() -> None:
    """Against every request and general prompt, with every opening and ending."""
    known = set().union(*(trained(kind) for kind in KINDS)) | {bare(general) for general in GENERAL}
    held = {bare(sentence) for sentences in HELD_OUT.values() for sentence in sentences}
    assert not [sentence for sentence in held if undressed(sentence) & known]
    # Longer sentences join requests by these; none that is held out can be taken for one of them.
    keeping = {bare(keep.format(noun=noun)) for keep in KEEPING for nouns in NOUNS.values() for noun in nouns}
    assert not [sentence for sentence in held if any(sentence.endswith(keep) for keep in keeping)]
    assert not [sentence for sentence in held if re.search(r"\b(and|then)\b", sentence)]


def framed(sentence: str, frames: Iterable[str]) -> list[str]:
    """The frames that a bare sentence could be of, whatever is filled in; a blank alone is no frame."""
    patterns = {frame: re.escape(bare(re.sub(r"{\w+}", "BLANK", frame))).replace("blank", ".+") for frame in frames}
    return [frame for frame, pattern in patterns.items() if pattern != ".+" and re.fullmatch(pattern, sentence)]


def test_held_out_frames_are_not_those_of_training() -> None:
    """Nor with other words filled in: what is measured is whether the words are understood in a new sentence."""
    held = [bare(sentence) for sentences in HELD_OUT.values() for sentence in sentences]
    assert not {sentence: found for sentence in held if (found := framed(sentence, (*FRAMES, *LOOKS, *WISHES)))}


def test_the_check_for_held_out_frames_would_find_one() -> None:
    held = [bare(sentence) for sentences in HELD_OUT.values() for sentence in sentences]
    for frame in ("take the {noun} out", "could the {noun} be removed", "get {goal}", "make the {look} photo brighter"):
        assert any(framed(sentence, [frame]) for sentence in held), frame


def test_held_out_sentences_differ_from_each_other() -> None:
    held = [bare(sentence) for sentences in HELD_OUT.values() for sentence in sentences]
    assert len(set(held)) == len(held)


def test_the_check_for_held_out_sentences_would_find_one() -> None:
    assert undressed(bare("Please remove the film grain from this photo!")) & trained("noise")
    assert undressed(bare("DEBLUR now.")) & trained("blur")
    assert undressed(bare("Could you restore my noisy image, thanks")) & trained("noise")
    assert undressed(bare("I want daylight")) & trained("lowlight")


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_for_one_kind_come_from_its_own_words(kind: str) -> None:
    rng = np.random.default_rng(0)
    sentences = {word(rng, (kind,)) for _ in range(300)}
    assert all(undressed(bare(sentence)) & trained(kind) for sentence in sentences)
    assert len(sentences) > 150, "varied"


def test_kinds_do_not_share_requests() -> None:
    for one, other in itertools.combinations(KINDS, 2):
        assert trained(one).isdisjoint(trained(other)), (one, other)
        assert trained(one).isdisjoint({bare(general) for general in GENERAL})


def test_no_kind_gives_a_general_prompt_and_often_the_default() -> None:
    rng = np.random.default_rng(0)
    sentences = [word(rng, ()) for _ in range(500)]
    assert all(undressed(bare(sentence)) & {bare(general) for general in GENERAL} for sentence in sentences)
    assert sentences.count(DEFAULT_PROMPT) > 25


def test_several_kinds_are_all_named() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        sentence = bare(word(rng, ("noise", "blur")))
        assert any(request in sentence for request in trained("noise")), sentence
        assert any(request in sentence for request in trained("blur")), sentence


def test_some_prompts_name_what_to_keep() -> None:
    rng = np.random.default_rng(0)
    sentences = [bare(word(rng, ("noise",), kept="blur")) for _ in range(400)]
    keeping = {bare(keep.format(noun=noun)) for keep in KEEPING for noun in NOUNS["blur"]}
    share = np.mean([any(keep in sentence for keep in keeping) for sentence in sentences])
    assert 0.13 < share < 0.27


def test_prompts_are_a_function_of_the_generator() -> None:
    first = [word(np.random.default_rng(seed), ("jpeg",)) for seed in range(20)]
    assert first == [word(np.random.default_rng(seed), ("jpeg",)) for seed in range(20)]
    assert len(set(first)) > 10


def test_strange_wordings_still_name_what_they_mean() -> None:
    """Half are of the grammar; the rest name a noun or a look among words without meaning, give or take a slip."""
    rng = np.random.default_rng(0)
    known = [bare(each) for each in (*NOUNS["jpeg"], *ADJECTIVES["jpeg"])]
    sentences = [bare(word_strangely(rng, ("jpeg",))) for _ in range(400)]
    regular = [bool(undressed(sentence) & trained("jpeg")) for sentence in sentences]
    assert 0.2 < np.mean(regular) < 0.5
    assert np.mean([any(name in sentence for name in known) for sentence in sentences]) > 0.5
    assert len(set(sentences)) > 390


def test_the_default_prompt_is_never_made_strange() -> None:
    rng = np.random.default_rng(0)
    assert sum(word_strangely(rng, ()) == DEFAULT_PROMPT for _ in range(500)) > 25


def test_a_plain_wording_is_of_the_grammar() -> None:
    assert plain(()) == DEFAULT_PROMPT
    for kind in KINDS:
        assert bare(plain((kind,))) in trained(kind)
    assert plain(("noise", "blur", "colour")) == "remove the noise, deblur and fix the colours"


def test_the_vocabulary_holds_every_word_of_the_grammar() -> None:
    words = {each for text in vocabulary() for each in bare(text).split()}
    rng = np.random.default_rng(0)
    for kind in KINDS:
        drawn = bare(" ".join(word(rng, (kind,), kept="noise") for _ in range(100)))
        assert not set(drawn.split()) - words
