"""Photographs and pairs that are held back for validation."""

from pathlib import Path

import pytest

from sanarestore.degradations.pairs import Pair
from sanarestore.errors import UsageError
from sanarestore.training.holding_back import hold_back, hold_back_pairs, hold_back_sources


def test_photos_are_held_back_evenly_and_one_alone_is_not() -> None:
    many = [Path(str(index)) for index in range(20)]
    train, kept = hold_back(many, 4)
    assert kept == tuple(many[index] for index in (2, 7, 12, 17))
    assert sorted(train + kept, key=lambda path: int(path.name)) == many
    assert hold_back(many[:1], 4) == ((many[0],), ())


def test_all_pairs_of_a_validation_photo_are_held_back() -> None:
    pairs = [
        Pair(target=Path(f"{n}.png"), degraded=Path(f"{n}__v{variant}.png"), prompt="") for n in range(10)
        for variant in range(5)
    ]  # fmt: skip
    train, kept = hold_back_pairs(pairs, 4)
    assert len(kept) == len({pair.target for pair in kept}) == 4
    assert not {pair.target for pair in kept} & {pair.target for pair in train}
    assert len(train) == 6 * 5
    assert len({pair.degraded.stem[-2:] for pair in kept}) == 4, "validation uses a different variant of each photo"
    assert hold_back_pairs(pairs[:5], 4) == (tuple(pairs[:5]), ())


def test_pairs_of_one_source_stay_together_whatever_their_targets() -> None:
    """`degrade` writes a target of its own for every variant whose target keeps a degradation."""
    pairs = [
        Pair(target=Path(f"{photo}{variant}.png"), degraded=Path(f"d{variant}.png"), prompt="", source=str(photo))
        for photo in range(6)
        for variant in range(4)
    ]  # fmt: skip
    train, kept = hold_back_pairs(pairs, 2)
    assert len({pair.source for pair in kept}) == len(kept) == 2
    assert not {pair.source for pair in kept} & {pair.source for pair in train}
    assert len(train) == 4 * 4


def test_a_source_is_held_back_as_a_whole() -> None:
    photos = [Path(f"{source}__{number}.jpg") for source in ("alps", "beach", "city") for number in range(6)]
    train, kept = hold_back_sources(photos, ("beach__", "city__5"), 3)
    assert train == (*photos[:6], *photos[12:17])
    assert kept == (photos[7], photos[9], photos[11])
    assert hold_back_sources(photos, ("beach__",), 100)[1] == tuple(photos[6:12])


@pytest.mark.parametrize(("sources", "message"), [(("sea__",), "'sea__'"), (("alps", "beach", "city"), "every photo")])
def test_unknown_sources_or_holding_back_every_photo_are_refused(sources: tuple[str, ...], message: str) -> None:
    photos = [Path(f"{source}__{number}.jpg") for source in ("alps", "beach", "city") for number in range(6)]
    with pytest.raises(UsageError, match=message):
        hold_back_sources(photos, sources, 3)
