"""The embedded reader on held-out wordings, by writers who had seen neither its grammars nor its sentences.

`tests/data/wordings/LANGUAGE.tsv` holds a prompt a line, the kinds that it asks to remove, and those it asks to keep;
`general.tsv` requests that name no fault, `other.tsv` texts about other things, both with their language.
"""

from collections import Counter
from pathlib import Path

import pytest

from sanarestore import weights
from sanarestore.degradations.grammar import LANGUAGES, Wording
from sanarestore.degradations.requests import KINDS, Request
from sanarestore.model.reading import Reader, load_reader

FOLDER = Path(__file__).parents[1] / "data/wordings"


@pytest.fixture(scope="module")
def reader() -> Reader:
    return load_reader(weights.resolve(weights.EMBEDDED))


def held_out(language: str) -> list[Wording]:
    """Read the held-out prompts of a language that name kinds of degradation."""
    found = []
    for line in (FOLDER / f"{language}.tsv").read_text(encoding="utf-8").splitlines():
        text, *named = line.split("\t")
        removed, kept = (tuple(kinds.split(",")) if kinds else () for kinds in (*named, "")[:2])
        assert set(removed + kept) <= set(KINDS), line
        found.append(Wording(text=text, removed=removed, kept=kept))
    return found


def listed(name: str) -> list[tuple[str, str]]:
    """Read texts with their languages."""
    lines = (FOLDER / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    return [(text, language) for text, language in (line.split("\t") for line in lines)]


WANTED = dict.fromkeys(LANGUAGES, 0.97) | {"en": 0.99}
"""Required share of correct readings: 99% in English, 97% in other languages."""


@pytest.mark.parametrize("language", LANGUAGES)
def test_held_out_requests_are_read_correctly(reader: Reader, language: str) -> None:
    wordings = held_out(language)
    assert len(wordings) >= 100
    read = reader.read([wording.text for wording in wordings])
    wrong = [
        (wording.text, request.removes, wording.request.removes)
        for wording, request in zip(wordings, read, strict=True) if request != wording.request
    ]  # fmt: skip
    assert len(wrong) <= (1 - WANTED[language]) * len(wordings), wrong


def test_real_requests_are_rarely_not_understood(reader: Reader) -> None:
    texts = [wording.text for language in LANGUAGES for wording in held_out(language)]
    texts += [text for text, _ in listed("general")]
    missed = [text for text, request in zip(texts, reader.read(texts), strict=True) if not request.understood]
    assert len(missed) <= 0.01 * len(texts), missed


def test_texts_about_other_things_are_not_understood(reader: Reader) -> None:
    texts = listed("other")
    read = reader.read([text for text, _ in texts])
    accepted = [text for (text, _), request in zip(texts, read, strict=True) if request.understood]
    assert len(texts) >= 200
    assert len(accepted) <= 0.05 * len(texts), accepted


def test_general_requests_are_read_like_no_prompt(reader: Reader) -> None:
    texts = listed("general")
    read = reader.read([text for text, _ in texts])
    wrong = [(text, request) for (text, _), request in zip(texts, read, strict=True) if request.removes is not None]
    assert len(wrong) <= 0.03 * len(texts), wrong


def test_held_out_wordings_cover_every_kind() -> None:
    for language in LANGUAGES:
        counts = Counter(kind for wording in held_out(language) for kind in wording.removed)
        assert min(counts[kind] for kind in KINDS) >= 10, (language, counts)


@pytest.mark.parametrize(
    ("text", "removes"),
    [
        ("REMOVE NOISE", ("noise",)), ("  remove   noise. ", ("noise",)), ("ｒｅｍｏｖｅ　ｎｏｉｓｅ", ("noise",)),
        ("GÜRÜLTÜYÜ KALDIR", ("noise",)), ("gürültüyü kaldır", ("noise",)), ("Rauschen entfernen", ("noise",)),
        ("убрать шум", ("noise",)), ("去除噪声", ("noise",)), ("réduire le bruit", ("noise",)),
        ("remove noise but leave the blur", ("noise",)), ("do not touch the noise", ("jpeg",)),
        ("keep the grain", ("jpeg",)), ("brighten this photo", ("lowlight",)), ("fix the colours", ("colour",)),
        ("fix everything", None), ("Restore this image", None),
    ],
)  # fmt: skip
def test_common_prompts_are_read_correctly(reader: Reader, text: str, removes: tuple[str, ...] | None) -> None:
    assert reader.read([text]) == [Request(removes)]
