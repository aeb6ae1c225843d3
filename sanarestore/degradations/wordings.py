"""How people ask for a restoration, in 15 languages: sentences that a grammar makes, some kept back for measuring.

A grammar is a file of `grammars/`: frames ("remove {}") and the forms of nouns and adjectives that fit into them,
complete phrases, what shall stay, general requests, and texts about anything else. `HELD_OUT` and the tests' files of
wordings are for measuring only: no sentence of them is of a grammar, a test holds that.
"""

import functools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from sanarestore.degradations.requests import DEFAULT_PROMPT, KINDS, Request, folded

Rng = np.random.Generator

LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "nl", "pl", "ru", "tr", "zh", "ja", "ko", "hi", "ar")
"""Languages that prompts are read in."""

ENDS = "?.!？。！؟।"
"""Signs that a sentence ends with, and not what goes on."""

UNSPACED = ("zh", "ja")
"""Languages written without spaces between words."""

ENGLISH_SHARE = 0.2
"""Share of English among the wordings that a reader learns from; the other languages share the rest alike."""

COUNTS = {"other": 0.26, "general": 0.09, "kept": 0.08, "passing": 0.18, "one": 0.22, "two": 0.13, "three": 0.04}
"""What the wordings that a reader learns from name: nothing known, a restoration as a whole, only what shall stay, one
or two kinds in passing, or one to three kinds in requests."""


SYLLABLES = (
    "ba", "ber", "ble", "cand", "ch", "co", "cu", "dar", "den", "di", "ed", "el", "er", "fa", "fen", "fo", "gle", "go",
    "ha", "hin", "ing", "is", "ja", "kin", "ko", "la", "len", "lo", "ly", "ma", "mer", "mi", "na", "ni", "no", "ol",
    "pa", "per", "po", "qua", "ra", "re", "ro", "sa", "ser", "sti", "ta", "ter", "th", "to", "un", "va", "ver", "wi",
    "wo", "xa", "ye", "za",
)  # fmt: skip

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Wording:
    """A prompt and what it says."""

    text: str
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    understood: bool = True

    @property
    def request(self) -> Request:
        """What it asks for."""
        if not self.understood:
            return Request(None, understood=False)
        return Request.keeping(*self.kept) if self.kept and not self.removed else Request.of(*self.removed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grammar:
    """The wordings of one language."""

    language: str
    frames: Mapping[str, tuple[str, ...]]
    """Form of a noun -> sentences about what shall go, `{}` in place of the noun."""
    keep: Mapping[str, tuple[str, ...]]
    """Form -> sentences about what shall stay."""
    but: Mapping[str, tuple[str, ...]]
    """Form -> what is added to a request about what shall stay."""
    look_frames: tuple[str, ...]
    """Sentences about how a photo looks, `{}` in place of an adjective."""
    nouns: Mapping[str, Mapping[str, tuple[str, ...]]]
    """Kind -> form -> nouns."""
    looks: Mapping[str, tuple[str, ...]]
    """Kind -> adjectives."""
    phrases: Mapping[str, tuple[str, ...]]
    """Kind -> complete requests."""
    general: tuple[str, ...]
    """Requests for a restoration as a whole."""
    other: tuple[str, ...]
    """Texts that ask for nothing of this."""
    joins: tuple[str, ...]
    """What stands between two requests."""
    before: tuple[str, ...]
    after: tuple[str, ...]

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> "Grammar":
        """From a parsed file of `grammars/`."""
        of_forms = {
            part: {form: tuple(frames) for form, frames in table[part].items()} for part in ("frames", "keep", "but")
        }
        return cls(
            language=table["language"],
            **of_forms,
            look_frames=tuple(table["looks"]["frames"]),
            nouns={kind: {form: tuple(nouns) for form, nouns in table[kind]["nouns"].items()} for kind in KINDS},
            looks={kind: tuple(table[kind]["looks"]) for kind in KINDS},
            phrases={kind: tuple(table[kind]["phrases"]) for kind in KINDS},
            general=tuple(table["general"]["phrases"]),
            other=tuple(table["other"]["phrases"]),
            joins=tuple(table["joins"]["and"]),
            before=tuple(table["dress"]["before"]),
            after=tuple(table["dress"]["after"]),
        )

    def ask(self, rng: Rng, kind: str) -> str:
        """A request to remove one kind."""
        family = rng.random()
        if family < 0.4:
            return _pick(rng, self.phrases[kind])
        if family < 0.55:
            return _pick(rng, self.look_frames).format(_pick(rng, self.looks[kind]))
        return self._filled(rng, self.frames, kind)

    def ask_to_keep(self, rng: Rng, kind: str) -> str:
        """A request that leaves one kind as it is."""
        return self._filled(rng, self.keep, kind)

    def but_keep(self, rng: Rng, kind: str) -> str:
        """What is added to a request for something else, that one kind shall stay."""
        return self._filled(rng, self.but, kind)

    def ask_for_nothing(self, rng: Rng) -> str:
        """A sentence of the frames about something that is no kind of degradation."""
        words = _pick(rng, self.other).split()
        first = int(rng.integers(len(words)))
        thing = " ".join(words[first : first + int(rng.integers(1, 4))]).strip("?!.,")
        thing = _pseudo_word(rng) if rng.random() < 0.3 else thing
        part = (self.frames, self.frames, self.keep)[int(rng.integers(3))]
        return _any_frame(rng, part)[1].format(thing)

    def mention(self, rng: Rng, kinds: Sequence[str]) -> str:
        """A text about other things, in which these kinds are named by a noun or an adjective each."""
        spaced = self.language not in UNSPACED
        text = _pick(rng, self.other).rstrip(ENDS)
        pieces = text.split() if spaced else list(text)
        first = int(rng.integers(max(len(pieces), 1)))
        pieces = pieces[first : first + int(rng.integers(1, 8 if spaced else 16))]
        for kind in kinds:
            looks, nouns = self.looks[kind], self.nouns[kind]
            form = _pick(rng, tuple(nouns))
            name = _pick(rng, looks) if rng.random() < 0.35 else _pick(rng, nouns[form])
            pieces.insert(int(rng.integers(len(pieces) + 1)), name)
        return (" " if spaced else "").join(pieces)

    def join(self, rng: Rng, requests: Sequence[str]) -> str:
        """Several requests as one text."""
        text = requests[0]
        for request in requests[1:]:
            text = text.rstrip(ENDS) + _pick(rng, self.joins) + request
        return text

    def dress(self, rng: Rng, text: str, share: float) -> str:
        """What people put before and after a request, each in that share of them."""
        text = _pick(rng, self.before) + text if rng.random() < share else text
        return text.rstrip(ENDS) + _pick(rng, self.after) if rng.random() < share else text

    def pieces(self) -> list[str]:
        """All that its sentences are made of, each once."""
        frames = [frame for part in (self.frames, self.keep, self.but) for each in part.values() for frame in each]
        nouns = [noun for forms in self.nouns.values() for each in forms.values() for noun in each]
        words = [word for table in (self.looks, self.phrases) for each in table.values() for word in each]
        ends = [*self.joins, *self.before, *self.after]
        every = [*frames, *self.look_frames, *nouns, *words, *self.general, *self.other, *ends]
        return [piece.replace("{}", " ") for piece in every]

    def sentences(self) -> list[str]:
        """Every sentence of it, frames filled with one kind at a time."""
        filled = [
            frame.format(noun)
            for part in (self.frames, self.keep, self.but)
            for form, frames in part.items() for frame in frames
            for kind in KINDS for noun in self.nouns[kind][form]
        ]  # fmt: skip
        looks = [frame.format(look) for frame in self.look_frames for kind in KINDS for look in self.looks[kind]]
        phrases = [phrase for kind in KINDS for phrase in self.phrases[kind]]
        return [*filled, *looks, *phrases, *self.general, *self.other]

    def _filled(self, rng: Rng, part: Mapping[str, tuple[str, ...]], kind: str) -> str:
        form, frame = _any_frame(rng, part)
        return frame.format(_pick(rng, self.nouns[kind][form]))


@functools.cache
def read_grammar(language: str) -> Grammar:
    """The grammar of one of `LANGUAGES`."""
    file = resources.files("sanarestore.degradations") / "grammars" / f"{language}.toml"
    return Grammar.from_table(tomllib.loads(file.read_text(encoding="utf-8")))


def grammars() -> tuple[Grammar, ...]:
    """The grammars of all `LANGUAGES`, in that order."""
    return tuple(read_grammar(language) for language in LANGUAGES)


def vocabulary() -> list[str]:
    """All that the grammars are made of, folded, for training a tokenizer."""
    return [folded(piece) for grammar in grammars() for piece in grammar.pieces()]


def word(rng: Rng, removed: tuple[str, ...], kept: str | None = None) -> str:
    """An English prompt that asks to remove these kinds (none: a general one), perhaps naming one to keep."""
    english = read_grammar("en")
    if not removed:
        text = DEFAULT_PROMPT if rng.random() < 0.15 else _pick(rng, english.general)
    else:
        text = english.join(rng, [english.ask(rng, kind) for kind in removed])
    if kept is not None and rng.random() < 0.2:
        text = text.rstrip(ENDS) + english.but_keep(rng, kept)
    text = english.dress(rng, text, 0.12)
    return text[:1].upper() + text[1:] if rng.random() < 0.5 else text


def word_strangely(rng: Rng, known: Sequence[Grammar]) -> Wording:
    """A prompt in any language for a reader to learn from, with stray words and slips of the finger, folded or not."""
    english = [ENGLISH_SHARE if each.language == "en" else 1 - ENGLISH_SHARE for each in known]
    shares = np.array([share / (1 if share == ENGLISH_SHARE else max(len(known) - 1, 1)) for share in english])
    grammar = known[int(rng.choice(len(known), p=shares / shares.sum()))]
    wording = _wording(rng, grammar)
    text = wording.text
    if wording.understood and rng.random() < 0.08:
        aside = _pick(rng, grammar.other)
        text = f"{aside}. {text}" if rng.random() < 0.5 else f"{text}. {aside}"
    if grammar.language not in UNSPACED and rng.random() < 0.2:
        text = _with_stray_words(rng, text)
    if rng.random() < 0.12:
        text = _mistyped(rng, text)
    return Wording(text=text, removed=wording.removed, kept=wording.kept, understood=wording.understood)


def _wording(rng: Rng, grammar: Grammar) -> Wording:
    family = str(rng.choice(list(COUNTS), p=list(COUNTS.values())))
    kinds = [KINDS[int(place)] for place in rng.permutation(len(KINDS))]
    if family == "other":
        return Wording(text=_about_nothing(rng, grammar), understood=False)
    if family == "general":
        return Wording(text=grammar.dress(rng, _pick(rng, grammar.general), 0.3))
    if family == "kept":
        count = 1 if rng.random() < 0.8 else 2
        text = grammar.join(rng, [grammar.ask_to_keep(rng, kind) for kind in kinds[:count]])
        if rng.random() < 0.2:
            text = _pick(rng, grammar.general) + _pick(rng, grammar.joins) + text
        return Wording(text=grammar.dress(rng, text, 0.2), kept=tuple(kinds[:count]))
    if family == "passing":
        count = 1 if rng.random() < 0.75 else 2
        return Wording(text=grammar.mention(rng, kinds[:count]), removed=tuple(kinds[:count]))
    count = ("one", "two", "three").index(family) + 1
    removed, kept = kinds[:count], kinds[count]
    if count > 1 and rng.random() < 0.4:
        text = _listed(rng, grammar, removed)
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
        text = _pick(rng, grammar.general) + _pick(rng, grammar.joins) + text
    return Wording(text=grammar.dress(rng, text, 0.25), removed=tuple(removed))


def _listed(rng: Rng, grammar: Grammar, kinds: Sequence[str]) -> str:
    """One frame about several nouns: remove A and B."""
    form, frame = _any_frame(rng, grammar.frames)
    return frame.format(grammar.join(rng, [_pick(rng, grammar.nouns[kind][form]) for kind in kinds]))


def _about_nothing(rng: Rng, grammar: Grammar) -> str:
    """A text that names no kind: of the list, of pieces of it, a frame about another thing, or no words at all."""
    family = rng.random()
    if family < 0.4:
        return grammar.dress(rng, _pick(rng, grammar.other), 0.15)
    if family < 0.65:
        return grammar.dress(rng, grammar.ask_for_nothing(rng), 0.15)
    if family < 0.75:
        return _pick(rng, grammar.other) + _pick(rng, grammar.joins) + _pick(rng, grammar.other)
    if family < 0.9:
        words = [word for _ in range(3) for word in _pick(rng, grammar.other).split()]
        count = min(int(rng.integers(1, 7)), len(words))
        return " ".join(words[int(place)] for place in rng.permutation(len(words))[:count])
    return " ".join(_pseudo_word(rng) for _ in range(int(rng.integers(1, 6))))


def _any_frame(rng: Rng, part: Mapping[str, tuple[str, ...]]) -> tuple[str, str]:
    """A form and one of its frames; every frame is as likely."""
    place = int(rng.integers(sum(map(len, part.values()))))
    for form, frames in part.items():
        if place < len(frames):
            return form, frames[place]
        place -= len(frames)
    raise AssertionError("a grammar has frames")


def _with_stray_words(rng: Rng, sentence: str) -> str:
    words = sentence.split()
    for _ in range(int(rng.integers(1, 3))):
        words.insert(int(rng.integers(len(words) + 1)), _pseudo_word(rng))
    return " ".join(words)


def _pseudo_word(rng: Rng) -> str:
    """A word without meaning."""
    return "".join(_pick(rng, SYLLABLES) for _ in range(int(rng.integers(1, 4))))


def _mistyped(rng: Rng, sentence: str) -> str:
    """One letter left out, doubled, or exchanged with the next; nothing stays nothing."""
    if not sentence:
        return sentence
    place = int(rng.integers(len(sentence)))
    before, here, after = sentence[:place], sentence[place : place + 2], sentence[place + 2 :]
    return before + _pick(rng, (here[1:], here[:1] + here, here[::-1])) + after


def _pick(rng: Rng, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]
