"""Wordings: unambiguous grammars, and held-out sentences that no grammar can produce."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from sanarestore.degradations import wordings
from sanarestore.degradations.grammar import LANGUAGES, UNSPACED, Grammar, Wording, read_grammar
from sanarestore.degradations.requests import DEFAULT_PROMPT, KINDS, Request, folded
from sanarestore.degradations.wordings import (
    COUNTS,
    ENGLISH_SHARE,
    HELD_BACK_EVERY,
    HELD_OUT,
    WRITTEN_SHARE,
    Language,
    is_held_back,
    languages,
    read_sentences,
    vocabulary,
    word,
    word_strangely,
)

KEPT_BACK = sorted((Path(__file__).parents[1] / "data" / "wordings").glob("*.tsv"))
"""Held-out wordings, one per line: the text and its meaning, separated by tabs."""

PARTS = ("frames", "keep", "but")

SLOT = "qqq"
"""A stand-in for `{}` while a frame is folded."""


def bare(text: str, language: str) -> str:
    """Fold a text, and remove spaces if its language has none, because folding separates ideographs."""
    return folded(text).replace(" ", "") if language in UNSPACED else folded(text)


class Sentences:
    """A lookup of all sentences of a grammar, without listing the hundred thousand of them."""

    def __init__(self, grammar: Grammar) -> None:
        self.language = grammar.language
        self.complete: dict[str, set[str]] = {}
        """Bare phrase -> kinds, `general` or `other`."""
        self.frames: dict[tuple[str, str], set[tuple[str, str]]] = {}
        """Text before and after the blank -> parts and forms."""
        self.fillings: dict[tuple[str, str], set[str]] = {}
        """Form and bare noun or adjective -> kinds."""
        for kind in KINDS:
            for phrase in grammar.phrases[kind]:
                self.complete.setdefault(self._bare(phrase), set()).add(kind)
            for form, nouns in grammar.nouns[kind].items():
                for noun in nouns:
                    self.fillings.setdefault((form, self._bare(noun)), set()).add(kind)
            for look in grammar.looks[kind]:
                self.fillings.setdefault(("looks", self._bare(look)), set()).add(kind)
        for phrase in grammar.general:
            self.complete.setdefault(self._bare(phrase), set()).add("general")
        for phrase in grammar.other:
            self.complete.setdefault(self._bare(phrase), set()).add("other")
        for part in PARTS:
            for form, frames in getattr(grammar, part).items():
                self._add_frames(part, form, frames)
        self._add_frames("frames", "looks", grammar.look_frames)
        self._beginnings = {before for before, _ in self.frames}

    def _bare(self, text: str) -> str:
        return bare(text, self.language)

    def _add_frames(self, part: str, form: str, frames: tuple[str, ...]) -> None:
        for frame in frames:
            before, after = self._bare(frame.replace("{}", SLOT)).split(SLOT)
            self.frames.setdefault((before, after), set()).add((part, form))

    def meanings(self, text: str) -> set[tuple[str, str]]:
        """Return what a text can mean, as parts and kinds; the part of a complete phrase is `phrases`."""
        text = self._bare(text)
        found = {("phrases", kind) for kind in self.complete.get(text, ())}
        for first in range(len(text)):
            if text[:first] not in self._beginnings:
                continue
            for last in range(first + 1, len(text) + 1):
                for part, form in self.frames.get((text[:first], text[last:]), ()):
                    found |= {(part, kind) for kind in self.fillings.get((form, text[first:last]), ())}
        return found

    def asked(self, text: str) -> set[str]:
        """Return the kinds that a text can ask for."""
        return {kind for part, kind in self.meanings(text) if part in ("phrases", "frames")}


@pytest.fixture(scope="module")
def sentences() -> Mapping[str, Sentences]:
    """The sentences of every language."""
    return {language: Sentences(read_grammar(language)) for language in LANGUAGES}


@pytest.fixture(scope="module")
def english() -> Sentences:
    return Sentences(read_grammar("en"))


def pieces(grammar: Grammar) -> Iterator[tuple[str, str]]:
    """Yield complete phrases with the kind, `general` or `other` that they are listed under."""
    for kind in KINDS:
        yield from ((phrase, kind) for phrase in grammar.phrases[kind])
    yield from ((phrase, "general") for phrase in grammar.general)
    yield from ((phrase, "other") for phrase in grammar.other)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_grammar_has_enough_words_of_every_sort(language: str) -> None:
    grammar = read_grammar(language)
    assert grammar.language == language
    assert min(map(len, (grammar.frames, grammar.keep, grammar.but))) > 0
    forms = {form for part in PARTS for form, frames in getattr(grammar, part).items() if frames}
    for kind in KINDS:
        assert {form for form, nouns in grammar.nouns[kind].items() if nouns} >= forms, kind
        assert len(grammar.looks[kind]) >= 3, kind
        assert len(grammar.phrases[kind]) >= 10, kind
    assert len(grammar.look_frames) >= 5
    assert len(grammar.general) >= 20
    assert len(grammar.other) >= 100
    assert min(map(len, (grammar.joins, grammar.before, grammar.after))) >= 3


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_frame_has_one_blank_and_other_texts_have_none(language: str) -> None:
    grammar = read_grammar(language)
    frames = [frame for part in PARTS for each in getattr(grammar, part).values() for frame in each]
    assert not [frame for frame in (*frames, *grammar.look_frames) if re.findall(r"[{}]+", frame) != ["{}"]]
    fillings = [noun for nouns in grammar.nouns.values() for each in nouns.values() for noun in each]
    fillings += [look for looks in grammar.looks.values() for look in looks]
    phrases = [phrase for phrase, _ in pieces(grammar)]
    additions = (*grammar.joins, *grammar.before, *grammar.after)
    assert not [text for text in (*fillings, *phrases, *additions) if "{" in text or "}" in text]
    assert not [text for text in (*fillings, *phrases) if text != text.strip() or not folded(text)]
    assert not [piece for piece in grammar.pieces() if "{" in piece]


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_phrase_has_two_meanings(language: str, sentences: Mapping[str, Sentences]) -> None:
    """A phrase is in one list only, and frames cannot produce it with another kind."""
    known = sentences[language]
    found = {phrase: (kind, known.asked(phrase)) for phrase, kind in pieces(read_grammar(language))}
    assert not {phrase: kinds for phrase, (kind, kinds) in found.items() if kinds != {kind}}


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_noun_or_adjective_belongs_to_two_kinds(language: str, sentences: Mapping[str, Sentences]) -> None:
    assert not {filling: kinds for filling, kinds in sentences[language].fillings.items() if len(kinds) > 1}


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_sentence_both_removes_and_keeps(language: str, sentences: Mapping[str, Sentences]) -> None:
    """A frame such as "no {}" is safe only if its nouns differ: "noise" to remove, "denoising" to keep."""
    known = sentences[language]
    words: dict[str, set[str]] = {}
    for form, filling in known.fillings:
        words.setdefault(form, set()).add(filling)
    for frame, uses in known.frames.items():
        removed, kept = (set().union(*(words[form] for part, form in uses if part == each)) for each in PARTS[:2])
        assert removed.isdisjoint(kept), (frame, removed & kept)


def test_every_kind_has_held_out_sentences() -> None:
    assert set(HELD_OUT) == set(KINDS)
    assert min(map(len, HELD_OUT.values())) >= 5
    held = [folded(sentence) for each in HELD_OUT.values() for sentence in each]
    assert len(set(held)) == len(held)


def test_no_grammar_produces_a_held_out_sentence(sentences: Mapping[str, Sentences]) -> None:
    held = [sentence for each in HELD_OUT.values() for sentence in each]
    assert not [
        (sentence, language) for sentence in held for language in LANGUAGES if sentences[language].meanings(sentence)
    ]


@pytest.mark.parametrize("path", KEPT_BACK, ids=lambda path: path.stem)
def test_no_grammar_produces_a_held_out_wording(path: Path, sentences: Mapping[str, Sentences]) -> None:
    texts = [line.split("\t")[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(texts) > 50
    assert not [(text, language) for text in texts for language in LANGUAGES if sentences[language].meanings(text)]


@pytest.fixture(scope="module")
def learnt() -> set[str]:
    """The sentences of all languages, without what does not tell one from another."""
    return {bare(each.text, "zh") for language in LANGUAGES for each in read_sentences(language)}


@pytest.mark.parametrize("path", KEPT_BACK, ids=lambda path: path.stem)
def test_no_held_out_wording_is_among_the_training_sentences(path: Path, learnt: set[str]) -> None:
    texts = [line.split("\t")[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    texts += [text for each in HELD_OUT.values() for text in each]
    assert not [text for text in texts if bare(text, "zh") in learnt]


@pytest.mark.parametrize("language", LANGUAGES)
def test_training_sentences_cover_every_sort_without_duplicates(language: str) -> None:
    sentences = read_sentences(language)
    assert len({folded(each.text) for each in sentences}) == len(sentences) > 2000
    for kind in KINDS:
        assert sum(each.removed == (kind,) for each in sentences) > 150, kind
        assert sum(kind in each.kept for each in sentences) > 20, kind
    for each in sentences:
        assert {*each.removed, *each.kept} <= {*KINDS}, each
        assert not {*each.removed} & {*each.kept}, each
        assert each.understood or not (each.removed or each.kept), each
    assert sum(not each.understood for each in sentences) > 500
    assert sum(each.understood and not (each.removed or each.kept) for each in sentences) > 150


def test_one_sentence_in_twenty_is_held_back_from_training() -> None:
    for name, language in zip(LANGUAGES, languages(), strict=True):
        held = [each for each in read_sentences(name) if is_held_back(each)]
        assert len(held) * HELD_BACK_EVERY == pytest.approx(len(read_sentences(name)), rel=0.35)
        assert not {*held} & {*language.sentences}
        assert len(held) + len(language.sentences) == len(read_sentences(name))


def test_there_are_held_out_wordings_of_every_language() -> None:
    assert {path.stem for path in KEPT_BACK} == {*LANGUAGES, "general", "other"}


def test_the_lookup_finds_sentences_of_every_part_of_a_grammar(sentences: Mapping[str, Sentences]) -> None:
    """Otherwise the checks for held-out sentences could not fail; capitals and punctuation vary."""
    rng = np.random.default_rng(0)
    for language, known in sentences.items():
        grammar = read_grammar(language)
        for kind in KINDS:
            for _ in range(10):
                assert kind in known.asked(f" {grammar.ask(rng, kind).upper()}!"), (language, kind)
            assert ("keep", kind) in known.meanings(grammar.ask_to_keep(rng, kind))
            assert ("but", kind) in known.meanings(grammar.but_keep(rng, kind))
        assert known.asked(grammar.general[-1]) == {"general"}
        assert known.asked(grammar.other[-1]) == {"other"}
    assert ("frames", "noise") in sentences["en"].meanings("Remove the Noise.")


def test_a_grammar_lists_every_sentence_that_it_produces() -> None:
    grammar = read_grammar("en")
    listed, rng = set(grammar.sentences()), np.random.default_rng(0)
    for kind in KINDS:
        assert {grammar.ask(rng, kind) for _ in range(100)} <= listed
        assert {grammar.ask_to_keep(rng, kind) for _ in range(20)} <= listed
        assert {grammar.but_keep(rng, kind) for _ in range(20)} <= listed
    assert {*grammar.general, *grammar.other} <= listed


def cores(text: str, grammar: Grammar) -> set[str]:
    """Return the possible cores of a text after removing a grammar's beginnings and endings."""
    text = folded(text)
    found = {text} | {text.removeprefix(folded(before)).strip() for before in grammar.before}
    return found | {each.removesuffix(folded(after)).strip() for each in found for after in grammar.after}


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_for_one_kind_request_that_kind_only(kind: str, english: Sentences) -> None:
    rng, grammar = np.random.default_rng(0), read_grammar("en")
    sampled = {word(rng, (kind,)) for _ in range(300)}
    for text in sampled:
        assert {kind} == set().union(*map(english.asked, cores(text, grammar))), text
    assert len(sampled) > 150, "prompts vary"


def test_prompts_without_kinds_are_general_and_often_the_default(english: Sentences) -> None:
    rng, grammar = np.random.default_rng(0), read_grammar("en")
    sampled = [word(rng, ()) for _ in range(500)]
    for text in sampled:
        found = set().union(*map(english.asked, cores(text, grammar)))
        assert found == {"general"} or DEFAULT_PROMPT.lower() in text.lower(), text
    assert sampled.count(DEFAULT_PROMPT) > 25


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """English with recognisable joins and exceptions, and without beginnings and endings."""
    grammar = read_grammar("en")
    form, frames = next(iter(grammar.but.items()))
    changed = dataclasses.replace(
        grammar, joins=(" # ",), before=("",), after=("",), but={form: tuple(f" % {frame}" for frame in frames)}
    )
    monkeypatch.setattr(wordings, "read_grammar", lambda _: changed)


@pytest.mark.usefixtures("marked")
def test_prompts_for_several_kinds_name_all_of_them(english: Sentences) -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        text = word(rng, ("noise", "blur", "colour"))
        assert [english.asked(part) for part in text.split("#")] == [{"noise"}, {"blur"}, {"colour"}], text


@pytest.mark.usefixtures("marked")
def test_some_prompts_name_a_kind_to_keep(english: Sentences) -> None:
    rng = np.random.default_rng(0)
    sampled = [word(rng, ("noise",), kept="blur").split("%") for _ in range(400)]
    exceptions = [parts[1] for parts in sampled if len(parts) > 1]
    assert 0.13 < len(exceptions) / 400 < 0.27
    assert all(("but", "blur") in english.meanings(exception) for exception in exceptions)


def test_prompts_depend_on_the_generator_only() -> None:
    first = [word(np.random.default_rng(seed), ("jpeg",)) for seed in range(20)]
    assert first == [word(np.random.default_rng(seed), ("jpeg",)) for seed in range(20)]
    assert len(set(first)) > 10


def toy(language: str, **changes: object) -> Grammar:
    """Make a grammar of a few words that show their kind or meaning."""
    shapes = {"it": "IT {}", "them": "THEM {}"}
    grammar = Grammar(
        language=language,
        frames={form: (f"drop {shape}",) for form, shape in shapes.items()},
        keep={form: (f"leave {shape}",) for form, shape in shapes.items()},
        but={form: (f" save {shape}",) for form, shape in shapes.items()},
        look_frames=("so {}",),
        nouns={kind: {form: (f"{kind}/{form}/",) for form in shapes} for kind in KINDS},
        looks={kind: (f"{kind}/look/",) for kind in KINDS},
        phrases={kind: (f"{kind}/phrase/",) for kind in KINDS},
        general=("MEND",),
        other=("tea with milk", "rain all day"),
        joins=(" & ",),
        before=("oh ",),
        after=(" now",),
    )
    return dataclasses.replace(grammar, **changes)


def strange(count: int, *grammars: Grammar, seed: int = 0, sentences: tuple[Wording, ...] = ()) -> list[Wording]:
    rng, known = np.random.default_rng(seed), [Language(grammar=each, sentences=sentences) for each in grammars]
    return [word_strangely(rng, known) for _ in range(count)]


def named(text: str) -> set[str]:
    """Return the kinds whose names are intact in a text of a toy grammar; typing errors may hide some."""
    return {kind for kind in KINDS if f"{kind}/" in text}


def test_strange_wordings_match_their_labels() -> None:
    exact = 0
    for wording in strange(2000, toy("en")):
        said = {*wording.removed, *wording.kept}
        assert named(wording.text) <= said, wording
        assert not set(wording.removed) & set(wording.kept)
        exact += named(wording.text) == said
        kept = {kind for kind in KINDS if re.search(rf"(leave|save) (IT|THEM) {kind}/", wording.text)}
        assert kept <= set(wording.kept), wording
        if not wording.understood:
            assert not said
            assert "MEND" not in wording.text
    assert exact > 1850, "only typing errors hide a kind"


WRITTEN = (
    Wording(text="WRITTEN so noise/look/ it hurts", removed=("noise",)),
    Wording(text="WRITTEN hands off blur/them/ please", kept=("blur",)),
    Wording(text="WRITTEN as it was", understood=True),
    Wording(text="WRITTEN tea and nothing else", understood=False),
)


def test_written_sentences_appear_with_their_share_and_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wordings, "_mistyped", lambda rng, text: text)
    sampled = [wording for wording in strange(3000, toy("en"), sentences=WRITTEN) if "WRITTEN" in wording.text]
    assert len(sampled) / 3000 == pytest.approx(WRITTEN_SHARE, abs=0.03)
    joined = 0
    for wording in sampled:
        parts = [each for each in WRITTEN if each.text.split()[1] in wording.text.split()]
        if wording.text.count("WRITTEN") == len(parts) == 1:
            (part,) = parts
            assert (wording.removed, wording.kept, wording.understood) == (part.removed, part.kept, part.understood)
        elif len(parts) == 2:
            joined += 1
            assert {*wording.removed} == {kind for part in parts for kind in part.removed}
            assert {*wording.kept} == {kind for part in parts for kind in part.kept}
            assert wording.understood == any(part.understood for part in parts)
    assert joined > 100


def test_nouns_fill_only_frames_of_their_form() -> None:
    for wording in strange(1000, toy("en")):
        assert not re.search(r"IT \w+/them/|THEM \w+/it/", wording.text), wording


def test_sorts_of_strange_wordings_have_their_stated_frequencies() -> None:
    sampled = strange(4000, toy("en"))
    counts = dict.fromkeys((*COUNTS, "passing"), 0)
    for wording in sampled:
        if not wording.understood:
            counts["other"] += 1
        elif not wording.removed:
            counts["kept" if wording.kept else "general"] += 1
        elif not re.search(r"(drop|so|leave|save) |/phrase/", wording.text):
            counts["passing"] += 1
        else:
            counts[("one", "two", "three")[len(wording.removed) - 1]] += 1
    assert sum(COUNTS.values()) == pytest.approx(1)
    # Typing errors hide the sort of a few wordings.
    assert {sort: count / 4000 for sort, count in counts.items()} == pytest.approx(COUNTS, abs=0.03)
    both = [wording for wording in sampled if wording.removed and wording.kept]
    assert 0.06 < len(both) / 4000 < 0.15, "some wordings remove one kind and keep another"
    assert len({wording.text for wording in sampled}) > 2000


@pytest.mark.parametrize("language", ["en", "zh"])
def test_kinds_mentioned_in_passing_are_among_unrelated_words(language: str) -> None:
    rng = np.random.default_rng(0)
    others, grammar = {"tea", "with", "milk", "rain", "all", "day"}, toy(language)
    if language == "zh":
        others, grammar = {*"tearain"}, toy(language, other=("tea", "rain"))
    places = set()
    for _ in range(200):
        text = grammar.mention(rng, ("blur", "noise"))
        assert named(text) == {"blur", "noise"}
        rest = re.sub(r"(blur|noise)/(it|them|look)/", " ", text)
        assert set(rest.split() if language == "en" else rest.replace(" ", "")) <= others
        assert rest.strip()
        places.add(text.startswith(("blur/", "noise/")))
    assert places == {True, False}


def test_english_has_its_share_and_other_languages_share_equally() -> None:
    languages = ("en", "xx", "yy", "zz")
    grammars = [toy(each, joins=(" & ",), general=(f"MEND {each}",)) for each in languages]
    texts = [wording.text for wording in strange(6000, *grammars) if wording.understood and "MEND" in wording.text]
    shares = {each: np.mean([f"MEND {each}" in text for text in texts]) for each in languages}
    rest = (1 - ENGLISH_SHARE) / 3
    assert shares == pytest.approx({"en": ENGLISH_SHARE, "xx": rest, "yy": rest, "zz": rest}, abs=0.06)


@pytest.mark.parametrize("language", ["en", "tr"])
def test_a_single_language_gives_all_wordings(language: str) -> None:
    assert len(strange(20, toy(language))) == 20


def test_wordings_in_scripts_without_spaces_get_no_spaces() -> None:
    shapes = {part: {"it": (f"{part}{{}}",)} for part in PARTS}
    found = {}
    for language in ("en", "zh"):
        additions = {"joins": ("&",), "before": ("oh",), "after": ("now",), "other": ("tea",)}
        dense = toy(language, **shapes, look_frames=("so{}",), **additions)
        # A full stop and a space separate unrelated words, so these wordings are left out.
        texts = [wording.text for wording in strange(600, dense) if wording.understood and ". " not in wording.text]
        found[language] = np.mean([" " in text for text in texts])
    assert found["zh"] == 0
    assert found["en"] > 0.1


def test_empty_wordings_are_allowed() -> None:
    """A frame that is only a blank can end up without any letters."""
    silent = toy("fr", frames={"it": ("{}",)}, keep={"it": ("{}",)}, other=("?",), before=("",), after=("",))
    assert any(not wording.text for wording in strange(3000, silent))


def test_strange_wordings_depend_on_the_generator_only() -> None:
    grammar = read_grammar("en")
    assert strange(50, grammar) == strange(50, grammar)
    assert strange(50, grammar) != strange(50, grammar, seed=1)


def test_real_grammars_fill_every_blank() -> None:
    sampled = strange(3000, *map(read_grammar, LANGUAGES))
    assert not [wording.text for wording in sampled if "{" in wording.text or "}" in wording.text]
    assert {wording.request for wording in sampled} >= {Request.of(kind) for kind in KINDS}


@pytest.mark.parametrize(
    ("fields", "request_"),
    [
        ({}, Request()),
        ({"understood": False}, Request(None, understood=False)),
        ({"removed": ("blur", "noise")}, Request.of("noise", "blur")),
        ({"removed": ("blur",), "kept": ("noise",)}, Request.of("blur")),
        ({"kept": ("noise",)}, Request.of("jpeg")),
        ({"kept": ("noise", "jpeg")}, Request(())),
        ({"kept": ("colour",)}, Request.of("noise", "jpeg")),
    ],
)
def test_a_wording_gives_the_request_of_its_fields(fields: dict[str, object], request_: Request) -> None:
    assert Wording(text="whatever", **fields).request == request_  # type: ignore[arg-type]


def test_the_vocabulary_contains_every_word_of_english_prompts() -> None:
    words = {each for text in vocabulary() for each in text.split()}
    rng = np.random.default_rng(0)
    for kind in KINDS:
        sampled = folded(" ".join(word(rng, (kind,), kept="noise") for _ in range(100)))
        assert not set(sampled.split()) - words


def test_the_vocabulary_covers_every_language() -> None:
    words = set(" ".join(vocabulary()).split())
    for language in LANGUAGES:
        assert set(folded(read_grammar(language).general[0]).split()) <= words, language
