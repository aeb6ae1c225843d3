"""Tests of which photographs are restored in strips, and of the memory that this is expected to take."""

from dataclasses import replace
from typing import Any

import pytest

from sanarestore.engine.budget import memory_to_restore
from sanarestore.engine.strips.use import LARGE, in_strips, memory_in_strips
from sanarestore.images import Header
from sanarestore.options import RestoreOptions

HEADER = Header(
    width=24000, height=16667, channels=3, depth="uint16", format="tiff", file_size=2 * 10**9, sample_bytes=2,
    rows_at_once=1,
)  # fmt: skip


def used(header: Header = HEADER, result: Header | None = None, **chosen: Any) -> bool:
    options = RestoreOptions(**chosen)
    return in_strips(header, result or header, options, is_generated=False, is_judged=False)


def test_large_tiff_and_png_files_are_restored_in_strips() -> None:
    assert used()
    assert used(replace(HEADER, format="png"))
    assert used(result=replace(HEADER, format="png"))
    assert used(replace(HEADER, channels=4))
    assert used(tiling="causal")
    side = round(LARGE**0.5)
    assert used(replace(HEADER, width=side + 1, height=side + 1))
    assert not used(replace(HEADER, width=side - 1, height=side - 1))


@pytest.mark.parametrize(
    ("given", "result"),
    [
        ({"rows_at_once": 0}, {}), ({"more": (HEADER,)}, {}), ({"channels": 4, "alpha_kind": "associated"}, {}),
        ({}, {"format": "webp"}), ({}, {"depth": "uint8"}), ({}, {"width": 48000, "height": 33334}),
    ],
)  # fmt: skip
def test_what_needs_the_whole_photograph_is_not(given: dict[str, Any], result: dict[str, Any]) -> None:
    header = replace(HEADER, **given)
    assert not used(header, replace(header, **result))


def test_the_latent_path_candidates_and_other_tilings_need_the_whole_photograph() -> None:
    assert not in_strips(HEADER, HEADER, RestoreOptions(), is_generated=True, is_judged=False)
    assert not in_strips(HEADER, HEADER, RestoreOptions(), is_generated=False, is_judged=True)
    assert not used(tiling="off")
    assert not used(tiling="independent")


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_memory_hardly_grows_with_the_photograph(depth: Any) -> None:
    large = replace(HEADER, depth=depth)
    small = replace(large, width=6000, height=4000, file_size=10**8)
    in_all = memory_to_restore(small, small, tile=1536)
    assert memory_in_strips(large, tile=1536, is_host=True) < 1.3 * in_all
    tall = replace(large, height=4 * large.height)
    assert memory_in_strips(tall, tile=1536, is_host=True) == memory_in_strips(large, tile=1536, is_host=True)
    assert memory_to_restore(large, large, tile=1536) > 5 * in_all
