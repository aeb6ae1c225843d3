"""Tests of options: their permitted values, and a fingerprint that changes with the result."""

import dataclasses
import math
from typing import Any

import pytest

from sanarestore.errors import UsageError
from sanarestore.options import (
    BLENDING,
    SMALLEST_TILE,
    RestoreOptions,
    Shard,
    WriteOptions,
    parse_bit_depth,
    parse_shard,
)


@pytest.mark.parametrize(
    ("choice", "option"),
    [
        ({"strength": -0.01}, "--strength"),
        ({"strength": 1.01}, "--strength"),
        ({"strength": math.nan}, "--strength"),
        ({"fidelity": -0.01}, "--fidelity"),
        ({"fidelity": 1.01}, "--fidelity"),
        ({"fidelity": math.nan}, "--fidelity"),
        ({"steps": 0}, "--steps"),
        ({"steps": 51}, "--steps"),
        ({"guidance": 0.9}, "--guidance"),
        ({"guidance": math.nan}, "--guidance"),
        ({"guidance": math.inf}, "--guidance"),
        ({"candidates": 0}, "--candidates"),
        ({"candidates": 65}, "--candidates"),
        ({"judge": "niqe"}, "--judge"),
        ({"candidates": 2, "judge": "taste"}, "--judge"),
        ({"candidates": 2, "judge": "taste:"}, "--judge"),
        ({"candidates": 2, "judge": object()}, "--judge"),
        ({"tiling": "mosaic"}, "--tiling"),
        ({"overlap": 64}, "--overlap"),
        ({"tiling": "off", "overlap": 64}, "--overlap"),
        ({"tiling": "causal", "overlap": -1}, "--overlap"),
        ({"tiling": "causal", "tile": 256, "overlap": 129}, "--overlap"),
        ({"tiling": "off", "tile": 512}, "--tile"),
        ({"scale": 4.1}, "--scale"),
        ({"scale": 0.9}, "--scale"),
        ({"scale": math.nan}, "--scale"),
        ({"long_side": 0}, "--long-side"),
        ({"long_side": 100, "scale": 2}, "--long-side"),
        ({"tile": SMALLEST_TILE - 1}, "--tile"),
        ({"dtype": "float16"}, "--dtype"),
        ({"threads": 0}, "--threads"),
        ({"quantize": "int2"}, "--quantize"),
        ({"offload": "all"}, "--offload"),
        ({"device_memory": 0}, "--device-memory"),
        ({"device_memory": "eight"}, "--device-memory"),
    ],
)
def test_invalid_values_are_refused(choice: dict[str, object], option: str) -> None:
    with pytest.raises(UsageError) as refused:
        RestoreOptions(**choice)  # type: ignore[arg-type]
    assert refused.value.where == option


def test_extreme_values_are_allowed() -> None:
    shares = [{name: value} for name in ("strength", "fidelity") for value in (0.0, 1.0)]
    for choice in (*shares, {"scale": 4}, {"tile": SMALLEST_TILE}, {"threads": 1}):
        RestoreOptions(**choice)  # type: ignore[arg-type]


def test_sizes_of_results_are_rounded() -> None:
    assert RestoreOptions().result_size(301, 1) == (301, 1)
    assert RestoreOptions(scale=1.5).result_size(301, 1) == (452, 2)
    assert RestoreOptions(scale=4).result_size(301, 7) == (1204, 28)
    assert RestoreOptions(long_side=100).result_size(301, 1) == (100, 1)
    assert RestoreOptions(long_side=1000).result_size(7, 300) == (23, 1000)
    assert RestoreOptions(long_side=1000).result_size(20, 30) == (80, 120), "four times at most"
    for side in range(1, 2000, 7):
        assert max(RestoreOptions(long_side=1234).result_size(side, 1999)) == 1234


def test_a_factor_is_the_same_as_a_whole_number_and_as_a_fraction() -> None:
    assert RestoreOptions(scale=2).fingerprint() == RestoreOptions(scale=2.0).fingerprint()


def test_memory_is_given_as_text_or_in_bytes() -> None:
    assert RestoreOptions(device_memory="8G").device_memory == 8 * 10**9
    assert RestoreOptions(device_memory="8G") == RestoreOptions(device_memory=8 * 10**9)


def test_the_default_strength_is_full() -> None:
    assert RestoreOptions().strength == 1


CHANGES = {
    "prompt": "remove noise",
    "strength": 0.5,
    "fidelity": 0.5,
    "scale": 2,
    "long_side": 300,
    "dtype": "bfloat16",
    "seed": 1,
    "steps": 2,
    "guidance": 2.0,
    "quantize": "int8",
    "device_memory": "8G",
    "candidates": 2,
}
SAME = {
    "model": "other", "adapter": "other", "autoencoder": "other", "tile": 128, "tiling": "off", "threads": 3,
    "offload": "blocks",
}  # fmt: skip


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(RestoreOptions)])
def test_the_fingerprint_changes_with_the_result(name: str) -> None:
    """Every field is in one of the two lists, so that a new field forces a decision."""
    values = CHANGES | SAME
    if name == "overlap":  # which applies only to blended tiles
        assert "overlap" in BLENDED
        return
    if name == "judge":  # it applies only to several candidates
        assert "judge" in JUDGED
        return
    changed = RestoreOptions(**{name: values[name]}).fingerprint()  # type: ignore[arg-type]
    assert (changed != RestoreOptions().fingerprint()) == (name in CHANGES)


BLENDED = {"tile": 512, "overlap": 64}
JUDGED = {"candidates": 4, "judge": "niqe"}


class Named:
    """A judge that cannot be copied."""

    def __init__(self, name: str) -> None:
        self.name = name

    def score(self, degraded: object, candidate: object) -> float:
        return 0.0

    def __deepcopy__(self, memory: object) -> "Named":
        raise TypeError("it holds a connection")


def test_the_fingerprint_includes_the_judge_of_several_candidates() -> None:
    default = RestoreOptions(candidates=4)
    judges = ("niqe", "my.judges:taste", Named("one"), Named("two"))
    prints = {RestoreOptions(candidates=4, judge=judge).fingerprint() for judge in judges}
    assert len(prints | {default.fingerprint(), RestoreOptions(**JUDGED).fingerprint()}) == 5  # type: ignore[arg-type]
    assert RestoreOptions(candidates=4, judge="fidelity").fingerprint() == default.fingerprint()
    assert RestoreOptions(candidates=4, judge=Named("one")).fingerprint() in prints
    assert (RestoreOptions().judged_by, default.judged_by) == (None, "fidelity")


@pytest.mark.parametrize("tiling", BLENDING)
def test_the_fingerprint_includes_tile_and_overlap_for_blended_schemes(tiling: str) -> None:
    plain = RestoreOptions(tiling=tiling)  # type: ignore[arg-type]
    prints = {plain.fingerprint(), RestoreOptions().fingerprint()}
    for name, value in BLENDED.items():
        prints.add(dataclasses.replace(plain, **{name: value}).fingerprint())
        assert dataclasses.replace(plain, **{name: plain.blended[name == "overlap"]}).fingerprint() in prints
    assert len(prints) == 4


@pytest.mark.parametrize(
    ("choice", "option"),
    [
        ({"format": "gif"}, "--format"),
        ({"quality": 0}, "--quality"),
        ({"quality": 101}, "--quality"),
        ({"quality": 90, "format": "png"}, "--quality"),
        ({"bit_depth": 12}, "--bit-depth"),
        ({"bit_depth": 16, "format": "jpeg"}, "--bit-depth"),
    ],
)
def test_results_that_cannot_be_written_are_refused(choice: dict[str, object], option: str) -> None:
    with pytest.raises(UsageError) as refused:
        WriteOptions(**choice)  # type: ignore[arg-type]
    assert refused.value.where == option


CHANGES_BYTES = {"format": "tiff", "quality": 80, "bit_depth": 16, "strip": True, "provenance": True}
SAME_BYTES = {"keep_dates": True}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(WriteOptions)])
def test_the_fingerprint_changes_with_the_bytes(name: str) -> None:
    """Every field is in one of the two lists, so that a new field forces a decision."""
    changed = WriteOptions(**{name: (CHANGES_BYTES | SAME_BYTES)[name]}).fingerprint()  # type: ignore[arg-type]
    assert (changed != WriteOptions().fingerprint()) == (name in CHANGES_BYTES)


def test_bit_depths_are_parsed() -> None:
    assert [parse_bit_depth(text) for text in ("keep", "8", "16")] == [None, 8, 16]
    for text in ("", "12", "16 bit", "-8"):
        with pytest.raises(UsageError, match="--bit-depth"):
            parse_bit_depth(text)


def test_options_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RestoreOptions().seed = 3  # type: ignore[misc]


def test_parts_are_parsed() -> None:
    assert parse_shard("2/4") == Shard(2, 4)
    for text in ("", "2", "0/4", "5/4", "a/b", "-1/4", "9" * 5000 + "/2"):
        with pytest.raises(UsageError, match="--shard"):
            parse_shard(text)


def test_whole_numbers_are_the_same_options_as_floats() -> None:
    one, other = (RestoreOptions(strength=kind(0), fidelity=kind(1), guidance=kind(1)) for kind in (int, float))
    assert one.fingerprint() == other.fingerprint()


@pytest.mark.parametrize(
    "wrong",
    [{"strength": "0.5"}, {"scale": "2"}, {"tile": 64.5}, {"threads": 1.5}, {"long_side": 31.5}, {"seed": True}],
)
def test_options_that_are_no_numbers_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"is not a (whole )?number"):
        RestoreOptions(**wrong)


@pytest.mark.parametrize("wrong", [{"quality": "90"}, {"quality": 90.5}, {"bit_depth": "8"}])
def test_options_of_writing_that_are_no_numbers_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="is not a whole number"):
        WriteOptions(**wrong)
