"""Tests of Photoshop's image resources."""

import pytest

from sanarestore.images import resources
from tests.images.conftest import IPTC
from tests.images.rich import CLIPPING_PATH, resource


def test_resources_are_split_and_put_together_again() -> None:
    found = resources.split(CLIPPING_PATH)
    assert [each.number for each in found] == [1034, 2000, 2999]
    assert b"".join(each.whole for each in found) == CLIPPING_PATH
    assert resources.without(CLIPPING_PATH, (2000,)) == found[0].whole + found[2].whole
    assert resources.without(CLIPPING_PATH, (1034, 2000, 2999)) is None


def test_names_and_other_marks_are_read() -> None:
    named = b"8BIM\x07\xd0\x05Path1" + b"\0\0\0\3abc\0"
    assert [(each.number, each.body) for each in resources.split(named)] == [(2000, b"abc")]
    assert resources.split(b"MeSa" + named[4:])[0].body == b"abc"


def test_iptc_is_found_among_others() -> None:
    whole = resources.with_iptc(IPTC, CLIPPING_PATH)
    assert resources.iptc_of(whole) == IPTC
    assert resources.iptc_of(CLIPPING_PATH + resources.with_iptc(IPTC)) == IPTC
    assert resources.without(whole, (resources.IPTC,)) == CLIPPING_PATH


@pytest.mark.parametrize("cut", range(1, 30, 3))
def test_what_is_cut_off_is_left_out(cut: int) -> None:
    whole = resource(1034, b"\1") + resource(2000, bytes(24))
    assert resources.split(whole[: len(whole) - cut])[:1] == resources.split(resource(1034, b"\1"))
