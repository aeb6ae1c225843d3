"""Wordings: what prompts say, and that those kept for measuring cannot be met in training."""

import itertools
import re

import numpy as np
import pytest

from sanarestore.degradations.wordings import (
    DEFAULT_PROMPT,
    ENDINGS,
    FRAMES,
    GENERAL,
    HELD_OUT,
    KEEPING,
    KINDS,
    NOUNS,
    OPENINGS,
    PHRASES,
    vocabulary,
    word,
)


def bare(sentence: str) -> str:
    """Without case, punctuation and doubled spaces: what dressing may add is not a difference."""
    return " ".join(re.sub(r"[^\w\s]", " ", sentence.casefold()).split())


def requests(kind: str) -> set[str]:
    framed = {bare(frame.format(noun=noun)) for frame in FRAMES for noun in NOUNS[kind]}
    return framed | {bare(phrase) for phrase in PHRASES[kind]}


def dressed(sentences: set[str]) -> set[str]:
    coats = {(bare(opening), bare(ending)) for opening, ending in itertools.product(OPENINGS, ENDINGS)}
    return {" ".join(filter(None, (opening, each, ending))) for each in sentences for opening, ending in coats}


def test_every_kind_has_words() -> None:
    assert set(NOUNS) == set(PHRASES) == set(HELD_OUT) == set(KINDS)
    for kind in KINDS:
        assert len(NOUNS[kind]) >= 5
        assert len(PHRASES[kind]) >= 5
        assert len(HELD_OUT[kind]) >= 5


def test_held_out_sentences_cannot_be_produced() -> None:
    """Against every frame x noun, phrase and general prompt, with every opening and ending."""
    trained = set().union(*(requests(kind) for kind in KINDS)) | {bare(general) for general in GENERAL}
    held = {bare(sentence) for sentences in HELD_OUT.values() for sentence in sentences}
    assert held.isdisjoint(dressed(trained))
    # Longer sentences join requests by these; none that is held out can be taken for one of them.
    keeping = {bare(keep.format(noun=noun)) for keep in KEEPING for nouns in NOUNS.values() for noun in nouns}
    assert not [sentence for sentence in held if any(sentence.endswith(keep) for keep in keeping)]
    assert not [sentence for sentence in held if re.search(r"\b(and|then)\b", sentence)]


def test_held_out_sentences_differ_from_each_other() -> None:
    held = [bare(sentence) for sentences in HELD_OUT.values() for sentence in sentences]
    assert len(set(held)) == len(held)


def test_the_check_for_held_out_sentences_would_find_one() -> None:
    assert bare("Please remove the film grain from this photo!") in dressed(requests("noise"))
    assert bare("DEBLUR now.") in dressed(requests("blur"))


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_for_one_kind_come_from_its_own_words(kind: str) -> None:
    allowed = dressed(requests(kind))
    rng = np.random.default_rng(0)
    sentences = {word(rng, (kind,)) for _ in range(300)}
    assert {bare(sentence) for sentence in sentences} <= allowed
    assert len(sentences) > 150, "varied"


def test_kinds_do_not_share_requests() -> None:
    for one, other in itertools.combinations(KINDS, 2):
        assert requests(one).isdisjoint(requests(other)), (one, other)
        assert requests(one).isdisjoint({bare(general) for general in GENERAL})


def test_no_kind_gives_a_general_prompt_and_often_the_default() -> None:
    rng = np.random.default_rng(0)
    sentences = [word(rng, ()) for _ in range(500)]
    assert {bare(sentence) for sentence in sentences} <= dressed({bare(general) for general in GENERAL})
    assert sentences.count(DEFAULT_PROMPT) > 25


def test_several_kinds_are_all_named() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        sentence = bare(word(rng, ("noise", "blur")))
        assert any(request in sentence for request in requests("noise")), sentence
        assert any(request in sentence for request in requests("blur")), sentence


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


def test_the_vocabulary_holds_every_word_of_the_grammar() -> None:
    words = {each for text in vocabulary() for each in bare(text).split()}
    rng = np.random.default_rng(0)
    for kind in KINDS:
        drawn = bare(" ".join(word(rng, (kind,), kept="noise") for _ in range(100)))
        assert not set(drawn.split()) - words
