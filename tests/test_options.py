"""Options are checked once, and their fingerprint changes when the result would."""

import dataclasses
import math

import pytest

from sanarestore.errors import UsageError
from sanarestore.options import SMALLEST_TILE, RestoreOptions


@pytest.mark.parametrize(
    ("choice", "option"),
    [
        ({"fidelity": -0.01}, "--fidelity"),
        ({"fidelity": 1.01}, "--fidelity"),
        ({"fidelity": math.nan}, "--fidelity"),
        ({"steps": 0}, "--steps"),
        ({"steps": 51}, "--steps"),
        ({"guidance": 0.9}, "--guidance"),
        ({"guidance": math.nan}, "--guidance"),
        ({"guidance": math.inf}, "--guidance"),
        ({"tiling": "causal"}, "--tiling"),
        ({"tiling": "off", "tile": 512}, "--tile"),
        ({"scale": 3}, "--scale"),
        ({"scale": 0}, "--scale"),
        ({"tile": SMALLEST_TILE - 1}, "--tile"),
        ({"dtype": "float16"}, "--dtype"),
        ({"threads": 0}, "--threads"),
    ],
)
def test_what_cannot_be_done_is_refused(choice: dict[str, object], option: str) -> None:
    with pytest.raises(UsageError) as refused:
        RestoreOptions(**choice)  # type: ignore[arg-type]
    assert refused.value.where == option


def test_the_edges_are_allowed() -> None:
    for choice in ({"fidelity": 0.0}, {"fidelity": 1.0}, {"scale": 4}, {"tile": SMALLEST_TILE}, {"threads": 1}):
        RestoreOptions(**choice)  # type: ignore[arg-type]


CHANGES = {
    "prompt": "remove noise",
    "fidelity": 0.5,
    "scale": 2,
    "dtype": "bfloat16",
    "seed": 1,
    "steps": 2,
    "guidance": 2.0,
}
SAME = {"model": "other", "adapter": "other", "tile": 128, "tiling": "off", "threads": 3}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(RestoreOptions)])
def test_the_fingerprint_changes_with_the_result(name: str) -> None:
    """Every field is in one of the two lists: a new one must be thought about."""
    value = (CHANGES | SAME)[name]
    changed = RestoreOptions(**{name: value}).fingerprint()  # type: ignore[arg-type]
    assert (changed != RestoreOptions().fingerprint()) == (name in CHANGES)


def test_options_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RestoreOptions().seed = 3  # type: ignore[misc]
