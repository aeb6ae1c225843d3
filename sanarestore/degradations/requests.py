"""What a prompt can ask for: the kinds of degradation, requests to remove them, and one plain wording of each request.

Every prompt that is understood becomes a `Request`; networks receive the embedding of its plain wording. So two
prompts with the same meaning give the same photograph, whatever their language, case or spelling.
"""

import re
import unicodedata
from dataclasses import dataclass

DEFAULT_PROMPT = "Restore this image"
"""The prompt used when none is given."""

KINDS = ("noise", "jpeg", "blur", "lowres", "lowlight", "colour")
"""Kinds of degradation that a prompt can name."""

LIGHT_AND_COLOUR = ("lowlight", "colour")
"""Kinds that are removed only where a prompt names them: a dark photograph may be meant to be dark."""

FAULTS = ("noise", "jpeg")
"""Kinds that are removed when a prompt names only what to keep: faults of capture and storage."""

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
    """A request: the kinds of degradation to remove."""

    removes: tuple[str, ...] | None = None
    """The kinds to remove, in the order of `KINDS`; None to restore as without a prompt."""
    understood: bool = True
    """False if the prompt was read but not understood; `removes` is then None."""

    @classmethod
    def of(cls, *kinds: str) -> "Request":
        """Request to remove these kinds; without kinds, the unprompted request. ValueError for an unknown kind."""
        unknown = set(kinds) - set(KINDS)
        if unknown:
            raise ValueError(f"{sorted(unknown)[0]} is not one of {', '.join(KINDS)}")
        return cls(tuple(kind for kind in KINDS if kind in kinds) or None)

    @classmethod
    def keeping(cls, *kinds: str) -> "Request":
        """Request of a prompt that names only what to keep; it removes nothing if these are all `FAULTS`."""
        return cls(tuple(kind for kind in FAULTS if kind not in kinds))

    @property
    def plain(self) -> str:
        """The plain wording of the request, which networks receive."""
        wordings = [PLAIN[kind] for kind in self.removes or ()] or [DEFAULT_PROMPT]
        return " and ".join([", ".join(wordings[:-1]), wordings[-1]] if wordings[1:] else wordings)

    @property
    def is_lit(self) -> bool:
        """Whether the request asks to change the light."""
        return "lowlight" in (self.removes or ())

    @property
    def is_coloured(self) -> bool:
        """Whether the request asks to change the colours."""
        return "colour" in (self.removes or ())


def every_request() -> list[Request]:
    """The unprompted request, and one for every non-empty set of kinds: 64 in all."""
    return [
        Request.of(*(kind for place, kind in enumerate(KINDS) if number >> place & 1))
        for number in range(2 ** len(KINDS))
    ]


_ARABIC = str.maketrans({"أ": "ا", "إ": "ا", "آ": "ا", "ٱ": "ا", "ى": "ي", "ة": "ه", "ؤ": "و", "ئ": "ي", "ـ": None})
_LATIN = str.maketrans({"ı": "i", "ł": "l", "ø": "o", "đ": "d", "œ": "oe", "æ": "ae"})


def folded(text: str) -> str:
    """Normalise a text for comparing and reading prompts: no case, accents or punctuation, and single spaces only.

    The two letters i of Turkish become one, so that capitals fold like small letters; Arabic loses its vowel marks and
    the variants of its letters; Devanagari and kana keep their signs. Spaces separate ideographs.
    """
    # NFKC would split an acute accent typed for an apostrophe into a space and a mark.
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
    """Return whether a combining mark is kept, as Devanagari signs and kana voicing marks are."""
    name = unicodedata.name(mark, "")
    return name.startswith(("DEVANAGARI", "COMBINING KATAKANA")) and name != "DEVANAGARI SIGN NUKTA"
