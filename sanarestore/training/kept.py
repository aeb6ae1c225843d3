"""Pairs and lists of earlier runs, which a run with another recipe, seed or number of variants must not replace."""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sanarestore.degradations.recipes import PRESETS
from sanarestore.errors import UsageError
from sanarestore.training.journal import PairRecord
from sanarestore.training.variants import DEGRADED, VariantSettings, stem

_ANOTHER = "Name another output with -o"

_COLUMN = "condition_image_path"
"""Column of the degraded files."""


def check_kept(settings: VariantSettings, names: Sequence[str], listed: Path, known: Mapping[str, PairRecord]) -> None:
    """Check what a run would replace, before it begins.

    `names` are the photos to degrade, `listed` the list to write, and `known` the journal's records. UsageError if
    these pairs were made with another recipe or seed, or if the list that exists is not this run's.
    """
    for name in names:
        for variant in range(settings.variants):
            record = known.get(stem(DEGRADED, name, variant))
            if record is not None and not _is_alike(record, settings) and _is_there(record, settings.output):
                raise UsageError(
                    f"holds pairs of {_made_with(record)}, which would be replaced", where=settings.output,
                    next_step=f"{_ANOTHER}, or delete this one.",
                )  # fmt: skip
    _check_list(settings, listed, known)


def _check_list(settings: VariantSettings, listed: Path, known: Mapping[str, PairRecord]) -> None:
    """Raise UsageError if there is a list that is not of this recipe, seed and number of variants."""
    if not listed.is_file():
        return
    variants = 0
    for place in _listed(listed, settings.output):
        record = known.get(os.path.splitext(place)[0])  # noqa: PTH122 - text with forward slashes
        if record is None:
            raise UsageError(
                "it exists already, and its pairs are not known to be of this output", where=listed,
                next_step="Name another list with --pairs, or delete it.",
            )  # fmt: skip
        if not _is_alike(record, settings):
            raise _replaced(listed, _made_with(record))
        variants = max(variants, record.variant + 1)
    if variants not in (0, settings.variants):
        raise _replaced(listed, f"{variants} {'variant' if variants == 1 else 'variants'} of each photo")


def _listed(listed: Path, output: Path) -> Iterator[str]:
    """Degraded files of a list, relative to the output, with forward slashes; UsageError if it is no list of pairs."""
    folder, root = listed.parent.resolve(), output.resolve()
    try:
        with listed.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if _COLUMN not in (reader.fieldnames or [_COLUMN]):
                raise KeyError(_COLUMN)
            for row in reader:
                whole = os.path.join(folder, row[_COLUMN])  # noqa: PTH118 - fast, for many lines
                yield Path(os.path.relpath(whole, root)).as_posix()
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UsageError(
            "it exists already, and is not a list of pairs", where=listed, next_step="Name another file with --pairs."
        ) from error


def _is_alike(record: PairRecord, settings: VariantSettings) -> bool:
    return (record.recipe, record.seed) == (settings.recipe, settings.seed)


def _is_there(record: PairRecord, output: Path) -> bool:
    return record.describes(record.recipe, record.seed, record.sha256, output)


def _made_with(record: PairRecord) -> str:
    """Recipe and seed of a pair in words, the recipe by its name if it has one."""
    names = {"".join(line.lower().split()): name for name, line in PRESETS.items()}
    return f"the recipe {names.get(record.recipe, record.recipe)} with seed {record.seed}"


def _replaced(listed: Path, what: str) -> UsageError:
    return UsageError(
        f"lists pairs of {what}, and would be replaced", where=listed,
        next_step=f"{_ANOTHER}, or another list with --pairs.",
    )  # fmt: skip
