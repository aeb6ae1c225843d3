"""What a prompt can ask for: the kinds of degradation, a request for some of them, and its one plain wording.

Every prompt that is understood becomes a `Request`; networks are given the embedding of its plain wording. So two
prompts that ask for the same give the same photograph, whatever their language, case or spelling.
"""

import re
import unicodedata
from dataclasses import dataclass

DEFAULT_PROMPT = "Restore this image"
"""What is asked for when nothing is said."""

KINDS = ("noise", "jpeg", "blur", "lowres", "lowlight", "colour")
"""What a prompt can name."""

LIGHT_AND_COLOUR = ("lowlight", "colour")
"""Kinds that are removed only where a prompt names them: a dark photograph may be meant to be dark."""

FAULTS = ("noise", "jpeg")
"""Kinds that are removed where a prompt names only what shall stay: faults of capture and storage."""

PLAIN = {
    "noise": "remove the noise",
    "jpeg": "remove the JPEG artefacts",
    "blur": "deblur",
    "lowres": "increase the resolution",
    "lowlight": "brighten this photo",
    "colour": "fix the colours",
}
"""The plain wording of each kind."""


@dataclass(frozen=True, slots=True)
class Request:
    """What shall be done to a photograph."""

    removes: tuple[str, ...] | None = None
    """The kinds to remove, in the order of `KINDS`; None for a photograph that is restored as without a prompt."""
    understood: bool = True
    """False where the prompt was read and says nothing that we know; `removes` is None then."""

    @classmethod
    def of(cls, *kinds: str) -> "Request":
        """A request for these kinds, in any order; ValueError for an unknown one. Without any, the request of no
        prompt."""
        unknown = set(kinds) - set(KINDS)
        if unknown:
            raise ValueError(f"{sorted(unknown)[0]} is not one of {', '.join(KINDS)}")
        return cls(tuple(kind for kind in KINDS if kind in kinds) or None)

    @classmethod
    def keeping(cls, *kinds: str) -> "Request":
        """The request of a prompt that names only what shall stay; it removes nothing where all `FAULTS` shall."""
        return cls(tuple(kind for kind in FAULTS if kind not in kinds))

    @property
    def plain(self) -> str:
        """Its plain wording, by which the networks know it."""
        wordings = [PLAIN[kind] for kind in self.removes or ()] or [DEFAULT_PROMPT]
        return " and ".join([", ".join(wordings[:-1]), wordings[-1]] if wordings[1:] else wordings)

    @property
    def is_lit(self) -> bool:
        """Whether it asks for another light."""
        return "lowlight" in (self.removes or ())

    @property
    def is_coloured(self) -> bool:
        """Whether it asks for other colours."""
        return "colour" in (self.removes or ())


def every_request() -> list[Request]:
    """The request of no prompt, and one for every set of kinds: 64 in all."""
    return [
        Request.of(*(kind for place, kind in enumerate(KINDS) if number >> place & 1))
        for number in range(2 ** len(KINDS))
    ]


_ARABIC = str.maketrans({"أ": "ا", "إ": "ا", "آ": "ا", "ٱ": "ا", "ى": "ي", "ة": "ه", "ؤ": "و", "ئ": "ي", "ـ": None})
_LATIN = str.maketrans({"ı": "i", "ł": "l", "ø": "o", "đ": "d", "œ": "oe", "æ": "ae"})


def folded(text: str) -> str:
    """The text by which prompts are compared and read: without case, accents, punctuation, or more than single spaces.

    Both i's of Turkish become one, so that its capitals fold as its small letters do; Arabic loses its vowel marks and
    the variants of its letters; Devanagari and kana keep their signs. Ideographs stand alone, each between spaces.
    """
    # An acute accent typed for an apostrophe would be split into a space and a mark.
    text = unicodedata.normalize("NFKC", text.replace("´", "'")).casefold().translate(_ARABIC)
    text = re.sub(r"n['’ʼ`]t\b", "nt", text)
    letters = []
    for letter in unicodedata.normalize("NFD", text):
        category = unicodedata.category(letter)
        if category == "Mn" and not _is_kept(letter):
            continue
        if category == "Cf":
            continue
        letters.append(letter if category[0] in "LMN" else " ")
    text = unicodedata.normalize("NFC", "".join(letters)).translate(_LATIN)
    return " ".join(re.sub(r"([\u3400-\u9fff])", r" \1 ", text).split())


def _is_kept(mark: str) -> bool:
    """Whether a combining mark is a letter of its own."""
    name = unicodedata.name(mark, "")
    return name.startswith(("DEVANAGARI", "COMBINING KATAKANA")) and name != "DEVANAGARI SIGN NUKTA"
