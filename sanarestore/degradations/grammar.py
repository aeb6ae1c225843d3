"""Grammars of 15 languages: the pieces of what people say about a photograph to restore.

A grammar is a file in `grammars/`: frames ("remove {}") and the forms of nouns and adjectives that fit into them,
complete phrases, requests to keep something, general requests, and texts about anything else.
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
"""Characters that end a sentence; they are stripped where text follows."""

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
    """A prompt and its meaning."""

    text: str
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    understood: bool = True

    @property
    def request(self) -> Request:
        """The request that the prompt makes."""
        if not self.understood:
            return Request(None, understood=False)
        return Request.keeping(*self.kept) if self.kept and not self.removed else Request.of(*self.removed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grammar:
    """The wordings of one language."""

    language: str
    frames: Mapping[str, tuple[str, ...]]
    """Form of a noun -> sentences about something to remove, `{}` in place of the noun."""
    keep: Mapping[str, tuple[str, ...]]
    """Form of a noun -> sentences about something to keep."""
    but: Mapping[str, tuple[str, ...]]
    """Form of a noun -> clauses that add something to keep to a request."""
    look_frames: tuple[str, ...]
    """Sentences about how a photo looks, `{}` in place of an adjective."""
    nouns: Mapping[str, Mapping[str, tuple[str, ...]]]
    """Kind -> form -> nouns."""
    looks: Mapping[str, tuple[str, ...]]
    """Kind -> adjectives."""
    phrases: Mapping[str, tuple[str, ...]]
    """Kind -> complete requests."""
    general: tuple[str, ...]
    """Requests that name no kind, as "restore this photo"."""
    other: tuple[str, ...]
    """Texts about anything else, as "remove the watermark"."""
    joins: tuple[str, ...]
    """Connectors between two requests."""
    before: tuple[str, ...]
    after: tuple[str, ...]

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> "Grammar":
        """Build from a parsed file of `grammars/`."""
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
        """A request to keep one kind as it is."""
        return self._filled(rng, self.keep, kind)

    def but_keep(self, rng: Rng, kind: str) -> str:
        """A clause that adds one kind to keep to another request."""
        return self._filled(rng, self.but, kind)

    def ask_for_nothing(self, rng: Rng) -> str:
        """A frame filled with something that is not a kind of degradation."""
        words = pick(rng, self.other).split()
        first = int(rng.integers(len(words)))
        thing = " ".join(words[first : first + int(rng.integers(1, 4))]).strip("?!.,")
        thing = pseudo_word(rng) if rng.random() < 0.3 else thing
        part = (self.frames, self.frames, self.keep)[int(rng.integers(3))]
        return any_frame(rng, part)[1].format(thing)

    def mention(self, rng: Rng, kinds: Sequence[str]) -> str:
        """A text about other things that names each of these kinds by a noun or an adjective."""
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
        """Join several requests into one text."""
        text = requests[0]
        for request in requests[1:]:
            text = text.rstrip(ENDS) + pick(rng, self.joins) + request
        return text

    def dress(self, rng: Rng, text: str, share: float) -> str:
        """Add what people say before and after a request, each with probability `share`."""
        text = pick(rng, self.before) + text if rng.random() < share else text
        return text.rstrip(ENDS) + pick(rng, self.after) if rng.random() < share else text

    def pieces(self) -> list[str]:
        """List every piece of the grammar once, without combining pieces; `{}` becomes a space."""
        frames = [frame for part in (self.frames, self.keep, self.but) for each in part.values() for frame in each]
        nouns = [noun for forms in self.nouns.values() for each in forms.values() for noun in each]
        words = [word for table in (self.looks, self.phrases) for each in table.values() for word in each]
        ends = [*self.joins, *self.before, *self.after]
        every = [*frames, *self.look_frames, *nouns, *words, *self.general, *self.other, *ends]
        return [piece.replace("{}", " ") for piece in every]

    def sentences(self) -> list[str]:
        """List every sentence of the grammar, its frames filled with one kind at a time."""
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
    """Pick a form and one of its frames; all frames are equally likely."""
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
    """Pick one of the choices; all are equally likely."""
    return choices[int(rng.integers(len(choices)))]
