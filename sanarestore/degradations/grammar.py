"""The grammars of 15 languages: what people say about a photograph that shall be restored, piece by piece.

A grammar is a file of `grammars/`: frames ("remove {}") and the forms of nouns and adjectives that fit into them,
complete phrases, what shall stay, general requests, and texts about anything else.
"""

import functools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from sanarestore.degradations.requests import KINDS, Request

Rng = np.random.Generator

LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "nl", "pl", "ru", "tr", "zh", "ja", "ko", "hi", "ar")
"""Languages that prompts are read in."""

ENDS = "?.!？。！؟।"
"""Signs that a sentence ends with, and not what goes on."""

UNSPACED = ("zh", "ja")
"""Languages written without spaces between words."""

SYLLABLES = (
    "ba", "ber", "ble", "cand", "ch", "co", "cu", "dar", "den", "di", "ed", "el", "er", "fa", "fen", "fo", "gle", "go",
    "ha", "hin", "ing", "is", "ja", "kin", "ko", "la", "len", "lo", "ly", "ma", "mer", "mi", "na", "ni", "no", "ol",
    "pa", "per", "po", "qua", "ra", "re", "ro", "sa", "ser", "sti", "ta", "ter", "th", "to", "un", "va", "ver", "wi",
    "wo", "xa", "ye", "za",
)  # fmt: skip


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
            return pick(rng, self.phrases[kind])
        if family < 0.55:
            return pick(rng, self.look_frames).format(pick(rng, self.looks[kind]))
        return self._filled(rng, self.frames, kind)

    def ask_to_keep(self, rng: Rng, kind: str) -> str:
        """A request that leaves one kind as it is."""
        return self._filled(rng, self.keep, kind)

    def but_keep(self, rng: Rng, kind: str) -> str:
        """What is added to a request for something else, that one kind shall stay."""
        return self._filled(rng, self.but, kind)

    def ask_for_nothing(self, rng: Rng) -> str:
        """A sentence of the frames about something that is no kind of degradation."""
        words = pick(rng, self.other).split()
        first = int(rng.integers(len(words)))
        thing = " ".join(words[first : first + int(rng.integers(1, 4))]).strip("?!.,")
        thing = pseudo_word(rng) if rng.random() < 0.3 else thing
        part = (self.frames, self.frames, self.keep)[int(rng.integers(3))]
        return any_frame(rng, part)[1].format(thing)

    def mention(self, rng: Rng, kinds: Sequence[str]) -> str:
        """A text about other things, in which these kinds are named by a noun or an adjective each."""
        spaced = self.language not in UNSPACED
        text = pick(rng, self.other).rstrip(ENDS)
        pieces = text.split() if spaced else list(text)
        first = int(rng.integers(max(len(pieces), 1)))
        pieces = pieces[first : first + int(rng.integers(1, 8 if spaced else 16))]
        for kind in kinds:
            looks, nouns = self.looks[kind], self.nouns[kind]
            form = pick(rng, tuple(nouns))
            name = pick(rng, looks) if rng.random() < 0.35 else pick(rng, nouns[form])
            pieces.insert(int(rng.integers(len(pieces) + 1)), name)
        return (" " if spaced else "").join(pieces)

    def join(self, rng: Rng, requests: Sequence[str]) -> str:
        """Several requests as one text."""
        text = requests[0]
        for request in requests[1:]:
            text = text.rstrip(ENDS) + pick(rng, self.joins) + request
        return text

    def dress(self, rng: Rng, text: str, share: float) -> str:
        """What people put before and after a request, each in that share of them."""
        text = pick(rng, self.before) + text if rng.random() < share else text
        return text.rstrip(ENDS) + pick(rng, self.after) if rng.random() < share else text

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
        form, frame = any_frame(rng, part)
        return frame.format(pick(rng, self.nouns[kind][form]))


@functools.cache
def read_grammar(language: str) -> Grammar:
    """The grammar of one of `LANGUAGES`."""
    file = resources.files("sanarestore.degradations") / "grammars" / f"{language}.toml"
    return Grammar.from_table(tomllib.loads(file.read_text(encoding="utf-8")))


def any_frame(rng: Rng, part: Mapping[str, tuple[str, ...]]) -> tuple[str, str]:
    """A form and one of its frames; every frame is as likely."""
    place = int(rng.integers(sum(map(len, part.values()))))
    for form, frames in part.items():
        if place < len(frames):
            return form, frames[place]
        place -= len(frames)
    raise AssertionError("a grammar has frames")


def pseudo_word(rng: Rng) -> str:
    """A word without meaning."""
    return "".join(pick(rng, SYLLABLES) for _ in range(int(rng.integers(1, 4))))


def pick(rng: Rng, choices: Sequence[str]) -> str:
    """One of them, each as likely."""
    return choices[int(rng.integers(len(choices)))]
