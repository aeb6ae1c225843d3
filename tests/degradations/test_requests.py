"""Requests: one for every set of kinds, one plain wording each, and folding of texts for comparison."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanarestore.degradations.requests import (
    DEFAULT_PROMPT,
    FAULTS,
    KINDS,
    LIGHT_AND_COLOUR,
    PLAIN,
    Request,
    every_request,
    folded,
)


def test_a_request_does_not_depend_on_the_order_of_its_kinds() -> None:
    assert Request.of("blur", "noise") == Request.of("noise", "blur", "noise")
    assert Request.of("blur", "noise").removes == ("noise", "blur")
    assert len({Request.of("blur", "noise"), Request.of("noise", "blur")}) == 1


def test_a_request_without_kinds_equals_that_of_no_prompt() -> None:
    assert Request.of() == Request()
    assert Request().removes is None
    assert Request().understood
    assert Request(None, understood=False) != Request()


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="haze is not one of noise, jpeg"):
        Request.of("noise", "haze")


@pytest.mark.parametrize(
    ("kinds", "plain"),
    [
        ((), DEFAULT_PROMPT),
        (("jpeg",), "remove the JPEG artefacts"),
        (("blur", "noise"), "remove the noise and deblur"),
        (("colour", "blur", "noise"), "remove the noise, deblur and fix the colours"),
        (KINDS, ", ".join(PLAIN[kind] for kind in KINDS[:-1]) + " and fix the colours"),
    ],
)
def test_the_plain_wording_lists_kinds_in_a_fixed_order(kinds: tuple[str, ...], plain: str) -> None:
    assert Request.of(*kinds).plain == plain


def test_a_request_that_is_not_understood_is_worded_like_no_prompt() -> None:
    assert Request(None, understood=False).plain == DEFAULT_PROMPT


def test_only_requests_that_name_light_or_colour_are_lit_or_coloured() -> None:
    for kind in KINDS:
        request = Request.of(kind)
        assert (request.is_lit, request.is_coloured) == (kind == "lowlight", kind == "colour")
        assert (request.is_lit or request.is_coloured) == (kind in LIGHT_AND_COLOUR)
    assert Request.of(*KINDS).is_lit
    assert Request.of(*KINDS).is_coloured
    assert not Request().is_lit
    assert not Request().is_coloured


@pytest.mark.parametrize(
    ("kept", "removes"),
    [
        ((), FAULTS),
        (("blur",), FAULTS),
        (("lowlight", "colour"), FAULTS),
        (("noise",), ("jpeg",)),
        (("jpeg", "blur"), ("noise",)),
        (("jpeg", "noise"), ()),
    ],
)
def test_a_request_that_only_keeps_removes_the_other_faults(kept: tuple[str, ...], removes: tuple[str, ...]) -> None:
    request = Request.keeping(*kept)
    assert request.removes == removes
    assert request.understood


def test_there_is_one_request_for_every_set_of_kinds() -> None:
    requests = every_request()
    assert requests[0] == Request()
    assert len(set(requests)) == len(requests) == 2 ** len(KINDS)
    assert all(Request.of(*request.removes) == request for request in requests if request.removes)


def test_no_two_requests_share_a_plain_wording() -> None:
    assert len({folded(request.plain) for request in every_request()}) == 2 ** len(KINDS)


@pytest.mark.parametrize(
    "texts",
    [
        (
            "denoise",
            "Denoise",
            "DENOISE!!",
            "  denoise\n",
            "«denoise»…",
            "ｄｅｎｏｉｓｅ",
            "de\u200bnoise",
            "de\u00adnoise",
        ),
        ("remove noise", "remove\u00a0noise", "remove   noise", "remove-noise", "remove, noise.", "remove 🙂 noise"),
        ("don't brighten", "don’t brighten", "dont brighten", "DON'T BRIGHTEN", "donʼt brighten", "don`t brighten"),
        ("Schärfe", "scharfe", "SCHÄRFE", "Scha\u0308rfe"),
        ("größer", "GRÖSSER", "grosser"),
        ("débruiter l'œuvre", "DEBRUITER L’OEUVRE", "de\u0301bruiter l'oeuvre"),
        ("usuń żółć", "USUŃ ŻÓŁĆ", "usun zolc"),
        ("¿ruido?", "Ruido", "ruído"),
        ("ışık", "IŞIK", "işik", "isik"),
        ("iyileştir", "İYİLEŞTİR", "IYILESTIR", "i\u0307yileştir"),
        ("ægir ødegård", "Ægir Ødegård", "ǽgir ǿdegard", "aegir odegard"),
        ("ёлка", "елка", "ЁЛКА"),
        ("إزالة", "ازالة", "اِزالَة", "ازاله", "ازالـــة", "آزالة", "ٱزالة"),
        ("ضوضاء", "ضَوْضَاء", "ضـوضـاء"),
        ("فى", "في"),
        ("ノイズ", "ﾉｲｽﾞ", "ノイス\u3099"),
        ("去除噪点", "去除，噪点。", "去 除 噪点", "「去除噪点」"),
        ("노이즈 제거", unicodedata.normalize("NFD", "노이즈 제거"), "노이즈, 제거!"),
        ("फोटो साफ़ करो", "फ़ोटो साफ करो", unicodedata.normalize("NFD", "फोटो साफ़ करो।")),
        ("ISO 12800", "iso １２８００"),
    ],
    ids=lambda texts: texts[0],
)
def test_folding_ignores_case_accents_punctuation_and_spaces(texts: tuple[str, ...]) -> None:
    assert {text: folded(text) for text in texts} == dict.fromkeys(texts, folded(texts[0]))
    assert folded(texts[0])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("की", "का"),
        ("शोर", "शर"),
        ("हटाओ", "हट"),
        ("ザラザラ", "サラサラ"),
        ("ボケ", "ホケ"),
        ("denoise", "de noise"),
        ("ضوء", "ضوضاء"),
        ("шум", "шумы"),
        ("噪点", "燥点"),
        ("iso 100", "iso 1000"),
        ("jpeg", "jpg"),
    ],
)
def test_folding_keeps_letters_and_vowel_signs(one: str, other: str) -> None:
    assert folded(one) != folded(other)


def test_folded_texts_have_their_expected_form() -> None:
    assert folded("Don’t  touch THE Colours!") == folded("don´t touch the colours") == "dont touch the colours"
    assert folded("去除JPEG噪点") == "去 除 jpeg 噪 点"
    assert folded("GÜRÜLTÜYÜ KALDIR") == folded("gürültüyü kaldır") == "gurultuyu kaldir"
    assert folded("फ़ोटो से शोर हटाएँ") == "फोटो से शोर हटाएँ"
    assert folded("¡¿…!? 🙂") == ""


def test_a_letter_and_its_capital_fold_to_the_same_text() -> None:
    letters = [chr(code) for code in range(0x250)] + [chr(code) for code in range(0x370, 0x530)]
    assert not [letter for letter in letters if folded(letter) != folded(letter.upper())]


@given(st.text(max_size=40))
def test_folding_is_idempotent(text: str) -> None:
    once = folded(text)
    assert folded(once) == once
    assert once == " ".join(once.split())
