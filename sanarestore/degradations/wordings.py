"""How people ask for a restoration, in 15 languages: written sentences, and what grammars make, for a reader to learn.

`HELD_OUT` and the tests' files of wordings are for measuring only: no grammar makes them and no list holds them, a test
says so.
"""

import functools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np

from sanarestore.degradations.grammar import (
    ENDS,
    LANGUAGES,
    UNSPACED,
    Grammar,
    Rng,
    Wording,
    any_frame,
    pick,
    pseudo_word,
    read_grammar,
)
from sanarestore.degradations.requests import DEFAULT_PROMPT, KINDS, folded

ENGLISH_SHARE = 0.25
"""Share of English among the wordings that a reader learns from; the other languages share the rest alike."""

WRITTEN_SHARE = 0.85
"""Share of written sentences among them; grammars make the rest."""

HELD_BACK_EVERY = 20
"""One written sentence in so many is never learnt from, so that readers can be compared by them."""

COUNTS = {"other": 0.26, "general": 0.09, "kept": 0.12, "passing": 0.03, "one": 0.29, "two": 0.17, "three": 0.04}
"""What the wordings that grammars make name: nothing known, a restoration as a whole, only what shall stay, one or two
kinds in passing, or one to three kinds in requests."""

HELD_OUT = {
    "noise": (
        "take the grain out", "could the noise be removed?", "this shot is really grainy", "kill the sensor noise",
        "my picture came out noisy at high ISO", "strip away speckle",
    ),
    "jpeg": (
        "take the JPEG artifacts out", "could the compression artefacts be removed?", "this shot is really blocky",
        "kill the blocking", "my picture was compressed badly", "strip away JPEG blocks",
    ),
    "blur": (
        "take the blur out", "could the softness be removed?", "this shot is really blurry", "kill the lens blur",
        "my picture came out unsharp", "get a sharp focus",
    ),
    "lowres": (
        "take the pixelation out", "could the resolution be increased?", "this shot is really low resolution",
        "upscale my picture", "give me a high-resolution version", "bring back missing detail",
    ),
    "lowlight": (
        "lift the darkness", "could the exposure be raised?", "this shot is really dark",
        "my picture came out underexposed", "make the night photo brighter", "brighten up the shadows",
    ),
    "colour": (
        "take the colour cast out", "could the white balance be corrected?", "the colours of this shot are wrong",
        "kill the tint", "my picture came out with bad colours", "strip away the color shift",
    ),
}  # fmt: skip
"""Wordings never trained on, for measuring whether prompts are understood rather than remembered."""


@functools.cache
def read_sentences(language: str) -> tuple[Wording, ...]:
    """The written sentences of one of `LANGUAGES`, each text once, of `sentences/`.

    A line holds a text, the kinds to remove (or `general`, or `other`), and those to keep, with tabs between.
    """
    file = resources.files("sanarestore.degradations") / "sentences" / f"{language}.tsv"
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()]
    return tuple(_as_written(text, removed, kept) for text, removed, kept in rows)


def _as_written(text: str, removed: str, kept: str) -> Wording:
    if removed in ("general", "other"):
        return Wording(text=text, understood=removed == "general")
    return Wording(
        text=text, removed=tuple(removed.split(",")) if removed else (), kept=tuple(kept.split(",")) if kept else ()
    )


def word_files() -> tuple[Path, ...]:
    """All that a reader learns from."""
    folder = Path(str(resources.files("sanarestore.degradations")))
    return tuple(sorted([*folder.glob("grammars/*.toml"), *folder.glob("sentences/*.tsv")]))


def is_held_back(wording: Wording) -> bool:
    """Whether a written sentence is one of those that are never learnt from."""
    return zlib.crc32(folded(wording.text).encode()) % HELD_BACK_EVERY == 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Language:
    """What a reader learns one language from."""

    grammar: Grammar
    sentences: tuple[Wording, ...] = ()
    """Written ones; where there are none, the grammar makes everything."""


def languages() -> tuple[Language, ...]:
    """All of `LANGUAGES`, in that order, without the sentences that are held back."""
    return tuple(
        Language(
            grammar=read_grammar(name),
            sentences=tuple(wording for wording in read_sentences(name) if not is_held_back(wording)),
        )
        for name in LANGUAGES
    )


def vocabulary() -> list[str]:
    """All that the grammars are made of, folded, for training a tokenizer."""
    return [folded(piece) for name in LANGUAGES for piece in read_grammar(name).pieces()]


def word(rng: Rng, removed: tuple[str, ...], kept: str | None = None) -> str:
    """An English prompt that asks to remove these kinds (none: a general one), perhaps naming one to keep."""
    english = read_grammar("en")
    if not removed:
        text = DEFAULT_PROMPT if rng.random() < 0.15 else pick(rng, english.general)
    else:
        text = english.join(rng, [english.ask(rng, kind) for kind in removed])
    if kept is not None and rng.random() < 0.2:
        text = text.rstrip(ENDS) + english.but_keep(rng, kept)
    text = english.dress(rng, text, 0.12)
    return text[:1].upper() + text[1:] if rng.random() < 0.5 else text


def word_strangely(rng: Rng, known: Sequence[Language]) -> Wording:
    """A prompt in any language for a reader to learn from, with stray words and slips of the finger."""
    is_english = [each.grammar.language == "en" for each in known]
    shares = np.where(is_english, ENGLISH_SHARE, (1 - ENGLISH_SHARE) / max(is_english.count(False), 1))
    language = known[int(rng.choice(len(known), p=shares / shares.sum()))]
    grammar, is_written = language.grammar, rng.random() < WRITTEN_SHARE
    wording = _written(rng, language) if is_written and language.sentences else _wording(rng, grammar)
    text = wording.text
    if grammar.language not in UNSPACED and rng.random() < 0.15:
        text = _with_stray_words(rng, text)
    if rng.random() < 0.12:
        text = _mistyped(rng, text)
    return replace(wording, text=text)


def _written(rng: Rng, language: Language) -> Wording:
    """A written sentence: alone, with another one beside it, or dressed."""
    sentences, grammar = language.sentences, language.grammar
    one, other = (sentences[int(rng.integers(len(sentences)))] for _ in range(2))
    fate = rng.random()
    if fate < 0.15 and not ({*one.kept} & {*other.removed} or {*one.removed} & {*other.kept}):
        between = pick(rng, grammar.joins) if one.understood and other.understood and rng.random() < 0.4 else ". "
        return Wording(
            text=one.text.rstrip(ENDS) + between + other.text,
            removed=tuple(kind for kind in KINDS if kind in one.removed + other.removed),
            kept=tuple(kind for kind in KINDS if kind in one.kept + other.kept),
            understood=one.understood or other.understood,
        )
    return replace(one, text=grammar.dress(rng, one.text, 0.5)) if 0.15 <= fate < 0.3 else one


def _wording(rng: Rng, grammar: Grammar) -> Wording:
    family = str(rng.choice(list(COUNTS), p=list(COUNTS.values())))
    kinds = [KINDS[int(place)] for place in rng.permutation(len(KINDS))]
    if family == "other":
        return Wording(text=_about_nothing(rng, grammar), understood=False)
    if family == "general":
        return Wording(text=grammar.dress(rng, pick(rng, grammar.general), 0.3))
    if family == "kept":
        count = 1 if rng.random() < 0.7 else 2
        if count > 1 and rng.random() < 0.5:
            text = _listed(rng, grammar, grammar.keep, kinds[:count])
        else:
            text = grammar.join(rng, [grammar.ask_to_keep(rng, kind) for kind in kinds[:count]])
        if rng.random() < 0.2:
            text = pick(rng, grammar.general) + pick(rng, grammar.joins) + text
        return Wording(text=grammar.dress(rng, text, 0.2), kept=tuple(kinds[:count]))
    if family == "passing":
        count = 1 if rng.random() < 0.75 else 2
        return Wording(text=grammar.mention(rng, kinds[:count]), removed=tuple(kinds[:count]))
    count = ("one", "two", "three").index(family) + 1
    removed, kept = kinds[:count], kinds[count]
    if count > 1 and rng.random() < 0.4:
        text = _listed(rng, grammar, grammar.frames, removed)
    else:
        text = grammar.join(rng, [grammar.ask(rng, kind) for kind in removed])
    fate = rng.random()
    if fate < 0.18:
        return Wording(
            text=grammar.dress(rng, text, 0.15).rstrip(ENDS) + grammar.but_keep(rng, kept),
            removed=tuple(removed),
            kept=(kept,),
        )
    if fate < 0.25:
        both = [text, grammar.ask_to_keep(rng, kept)]
        both = both if rng.random() < 0.6 else both[::-1]
        return Wording(text=grammar.join(rng, both), removed=tuple(removed), kept=(kept,))
    if fate < 0.3:
        text = pick(rng, grammar.general) + pick(rng, grammar.joins) + text
    return Wording(text=grammar.dress(rng, text, 0.25), removed=tuple(removed))


def _listed(rng: Rng, grammar: Grammar, part: Mapping[str, tuple[str, ...]], kinds: Sequence[str]) -> str:
    """One frame about several nouns: remove A and B, or keep A and B."""
    form, frame = any_frame(rng, part)
    return frame.format(grammar.join(rng, [pick(rng, grammar.nouns[kind][form]) for kind in kinds]))


def _about_nothing(rng: Rng, grammar: Grammar) -> str:
    """A text that names no kind: of the list, of pieces of it, a frame about another thing, or no words at all."""
    family = rng.random()
    if family < 0.4:
        return grammar.dress(rng, pick(rng, grammar.other), 0.15)
    if family < 0.65:
        return grammar.dress(rng, grammar.ask_for_nothing(rng), 0.15)
    if family < 0.75:
        return pick(rng, grammar.other) + pick(rng, grammar.joins) + pick(rng, grammar.other)
    if family < 0.9:
        words = [word for _ in range(3) for word in pick(rng, grammar.other).split()]
        count = min(int(rng.integers(1, 7)), len(words))
        return " ".join(words[int(place)] for place in rng.permutation(len(words))[:count])
    return " ".join(pseudo_word(rng) for _ in range(int(rng.integers(1, 6))))


def _with_stray_words(rng: Rng, sentence: str) -> str:
    words = sentence.split()
    for _ in range(int(rng.integers(1, 3))):
        words.insert(int(rng.integers(len(words) + 1)), pseudo_word(rng))
    return " ".join(words)


def _mistyped(rng: Rng, sentence: str) -> str:
    """One letter left out, doubled, or exchanged with the next; nothing stays nothing."""
    if not sentence:
        return sentence
    place = int(rng.integers(len(sentence)))
    before, here, after = sentence[:place], sentence[place : place + 2], sentence[place + 2 :]
    return before + pick(rng, (here[1:], here[:1] + here, here[::-1])) + after
