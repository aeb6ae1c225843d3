"""Photographs and pairs that are held back from training, to validate on."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from sanarestore.degradations.pairs import Pair
from sanarestore.errors import UsageError

Item = TypeVar("Item")


def hold_back(photos: Sequence[Item], count: int) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Split photos or pairs: those to train on, and `count`, at most half, spread evenly over them, to validate on."""
    count = min(count, len(photos) // 2)
    kept = {(2 * index + 1) * len(photos) // (2 * count) for index in range(count)}
    train = tuple(photo for index, photo in enumerate(photos) if index not in kept)
    return train, tuple(photos[index] for index in sorted(kept))


def hold_back_sources(
    photos: Sequence[Path], sources: Sequence[str], count: int
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Split photos: those to train on, and `count` to validate on, spread evenly over the photos of `sources`.

    A source is the beginning of file names; none of its photos is trained on. UsageError for a source without photos,
    or if no other photo is left.
    """
    kept = tuple(photo for photo in photos if photo.name.startswith(tuple(sources)))
    missing = [source for source in sources if not any(photo.name.startswith(source) for photo in kept)]
    if missing or len(kept) == len(photos):
        facts = f"no photo's name begins with '{missing[0]}'" if missing else "every photo would be kept back"
        raise UsageError(
            facts, where="held_back in the recipe",
            next_step="Name sources as the names of their files begin, or leave held_back out.",
        )  # fmt: skip
    places = [(2 * index + 1) * len(kept) // (2 * min(count, len(kept))) for index in range(min(count, len(kept)))]
    held = set(kept)
    return tuple(photo for photo in photos if photo not in held), tuple(kept[place] for place in places)


def hold_back_pairs(pairs: Sequence[Pair], count: int) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """Split pairs: those to train on, and one pair of each of `count` other photos to validate on.

    Pairs of one photograph stay together: those of one source, or of one target where the list names no sources.
    """
    sources = [pair.source or str(pair.target) for pair in pairs]
    photos, held = hold_back(list(dict.fromkeys(sources)), count)
    kept = []
    for number, photo in enumerate(held):
        variants = [pair for pair, source in zip(pairs, sources, strict=True) if source == photo]
        # The variant differs from photo to photo, so that all kinds of degradation occur.
        kept.append(variants[number % len(variants)])
    trained = set(photos)
    return tuple(pair for pair, source in zip(pairs, sources, strict=True) if source in trained), tuple(kept)
