"""Check the data of a training run, pairs of a list or a folder of clean photographs, before any weights are loaded.

All faults of a list are one UsageError, by line; doubts are notes.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from sanarestore import images
from sanarestore.degradations.faults import Fault, refusal
from sanarestore.degradations.list_columns import is_header
from sanarestore.degradations.pairs import Pair, list_pairs
from sanarestore.errors import ImageError, NoImagesError, UsageError
from sanarestore.files import hash_text
from sanarestore.images.signature import HEAD, name_foreign, sniff
from sanarestore.training.holding_back import hold_back, hold_back_pairs, hold_back_sources
from sanarestore.training.journal import NAME
from sanarestore.training.pair_images import (
    Headers,
    PairFindings,
    Progress,
    headers_of,
    look,
    named_lines,
    unreadable,
    wrong_size,
)
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.variants import DEGRADED, TARGET

LIST = "pairs.csv"

FEW = 10
"""Number of photographs below which a note says that they are few."""

MOSTLY = 0.8
"""Share of the pairs with evidence that must be reversed before swapped columns are suspected."""

FEWEST, LEAST = 2, 0.1
"""Number of reversed pairs, and their share of all pairs, below which swapped columns are not suspected."""

ALIKE = 0.8
"""Share of equal names in two folders above which these look like pairs."""

MOST_LISTS = 20
"""Largest number of files named .csv in a folder whose first lines are read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preflight:
    """Checked data: photographs or pairs to train on and to validate on, and facts for a plan."""

    pairs: tuple[Pair, ...] = ()
    """Pairs to train on; empty for photographs."""
    held_pairs: tuple[Pair, ...] = ()
    """Pairs to validate on."""
    photos: tuple[Path, ...] = ()
    """Clean photographs to train on; empty for pairs."""
    held_photos: tuple[Path, ...] = ()
    """Photographs to validate on."""
    notes: tuple[str, ...] = ()
    """Notes for the user, each a clause without a full stop."""
    photographs: int
    """Number of distinct clean photographs, those to validate on included."""
    megapixels: float
    """Millions of pixels in all distinct files."""
    smallest: tuple[int, int] | None = None
    """Width and height of the smallest image; None if no header can be read."""
    largest: tuple[int, int] | None = None
    """Width and height of the largest image."""

    @property
    def files(self) -> list[tuple[Path, ...]]:
        """The files of each photograph or pair to train on."""
        return [(pair.target, pair.degraded) for pair in self.pairs] or [(photo,) for photo in self.photos]

    @property
    def fingerprint(self) -> str:
        """Hash of the names and sizes of the files to train on."""
        return fingerprint_of(self.files)


def fingerprint_of(files: Iterable[tuple[Path, ...]]) -> str:
    """Hash of the names and sizes of training files, in order: a run resumes only with the same files."""
    listing = "\n".join(f"{path.name} {path.stat().st_size}" for paths in files for path in paths)
    return hash_text(listing)[:16]


def _silent(_done: int, _total: int) -> None:
    """Ignore progress: the default callback."""


def check_pairs(listed: Path, recipe: TrainingRecipe, progress: Progress = _silent) -> Preflight:
    """Read a list of pairs, check its images, and hold some back for validation.

    One UsageError names all faults of the list and of its images, by line. Large images take up to a second each:
    `progress` is called with the numbers of compared and of all pairs.
    """
    found = list_pairs(listed)
    headers = headers_of(path for pair in found.pairs for path in (pair.target, pair.degraded))
    folder = listed.parent.absolute()

    def name(path: Path) -> str:
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)

    sizes = {pair: wrong_size(pair, headers, name, recipe.scale) for pair in found.pairs}
    seen = look(found.pairs, headers, progress, recipe.scale)
    step = "Save both images upright."
    turned = [
        Fault(each.line, "an orientation tag was applied to one of the two images only", step)
        for each in seen if each.is_turned
    ]  # fmt: skip
    faults = [*found.faults, *filter(None, sizes.values()), *unreadable(found.pairs, headers, seen, name), *turned]
    if faults:
        raise refusal(listed, faults)
    train, held = hold_back_pairs(found.pairs, recipe.validation_photos)
    again = not held and recipe.validation_photos > 0
    if again:
        held = train[:: -(-len(train) // recipe.validation_photos)]
    photographs = len({pair.target for pair in found.pairs})
    # Targets are as large as enlarged inputs.
    cropped = headers if recipe.scale == 1 else {pair.target: headers[pair.target] for pair in found.pairs}
    return Preflight(
        pairs=train, held_pairs=held, photographs=photographs, **_extent(headers),
        notes=(*_doubts(seen, found.pairs), *_small(cropped, recipe.patch), *_few(photographs, again)),
    )  # fmt: skip


def check_photos(data: Path, recipe: TrainingRecipe) -> Preflight:
    """Find the clean photographs of a folder, and hold some back for validation.

    UsageError if the folder holds pairs, or if DATA is a file of another kind. NoImagesError if there is no photograph
    that can be read. Files that cannot be read are left out, and a note says so.
    """
    _check_file(data)
    _refuse_pairs(data)
    found = images.find([str(data)])
    found.check_inputs()
    paths, passed_over = _without_pairs(data, [each.path for each in found.images])
    if not paths:
        raise NoImagesError(
            "there is no image in a supported format", where=data,
            next_step="Name a folder of TIFF, PNG, JPEG or WebP photos.",
        )  # fmt: skip
    headers = headers_of(paths)
    errors = [each for each in headers.values() if isinstance(each, ImageError)]
    if len(errors) == len(paths):
        raise NoImagesError("none of the photographs can be read", where=data, next_step=str(errors[0]))
    count = recipe.validation_photos
    photos, held = hold_back_sources(paths, recipe.held_back, count) if recipe.held_back else hold_back(paths, count)
    again = not held and count > 0
    failed = [f"{each.path}: {each.fact}; it is left out" for each in found.failed]
    return Preflight(
        photos=photos, held_photos=photos[:count] if again else held, photographs=len(paths),
        **_extent(headers),
        notes=(
            *passed_over, *failed, *_equal_names(data, paths), *_small(headers, recipe.patch),
            *_few(len(paths), again),
        ),
    )  # fmt: skip


def _doubts(seen: Sequence[PairFindings], pairs: Sequence[Pair]) -> list[str]:
    """Return notes on doubts that the pixels of pairs raise."""
    notes = []
    sides = Counter(each.side for each in seen if each.side)
    if sides["first"] >= max(FEWEST, LEAST * len(seen), MOSTLY * sides.total()):
        notes.append(
            f"in {sides['first']} of {sides.total()} pairs that show it, the target is the worse image: check if the "
            "columns image_path (clean target) and condition_image_path (degraded input) are swapped"
        )
    others = [each for each in seen if each.is_other_scene]
    if others:
        notes.append(f"the two images of a pair seem to show different scenes in {named_lines(others)}")
    equal = [each for each in seen if each.is_equal]
    if equal:
        notes.append(
            f"input and target are equal in {named_lines(equal)}: such pairs teach the network to change nothing"
        )
    if len(seen) < len(pairs):
        notes.append(f"the headers of all images were read, and the pixels of {len(seen)} of {len(pairs)} pairs")
    return notes


def _few(photographs: int, again: bool) -> list[str]:
    notes = []
    if photographs < FEW:
        counted = "one photograph is" if photographs == 1 else f"{photographs} photographs are"
        notes.append(f"{counted} few: a long training overfits them")
    if again:
        notes.append("validation uses crops of the training photographs: there is only one")
    return notes


def _small(headers: Headers, patch: int) -> list[str]:
    small = [
        path for path, header in headers.items()
        if isinstance(header, images.Header) and min(header.width, header.height) < patch
    ]  # fmt: skip
    if not small:
        return []
    counted = f"{small[0]} is" if len(small) == 1 else f"{small[0]} and {len(small) - 1} more are"
    return [f"{counted} smaller than the crops of {patch} x {patch} pixels: they are continued by mirroring"]


class _Extent(TypedDict):
    megapixels: float
    smallest: tuple[int, int] | None
    largest: tuple[int, int] | None


def _extent(headers: Headers) -> _Extent:
    """Fields of `Preflight` about the sizes of all files."""
    sizes = sorted(
        ((each.width, each.height) for each in headers.values() if isinstance(each, images.Header)),
        key=lambda size: size[0] * size[1],
    )
    return _Extent(
        megapixels=sum(width * height for width, height in sizes) / 1e6,
        smallest=sizes[0] if sizes else None,
        largest=sizes[-1] if sizes else None,
    )


def _check_file(data: Path) -> None:
    """Raise UsageError if DATA is a file that is neither an image nor named .csv."""
    if not data.is_file():
        return
    with data.open("rb") as file:
        head = file.read(HEAD)
    if sniff(head) is None and name_foreign(head) is None:
        raise UsageError(
            "it is neither a folder of photographs nor a list of pairs", where=data,
            next_step="Save a list as CSV with commas, in a file whose name ends in .csv.",
        )  # fmt: skip


def _refuse_pairs(data: Path) -> None:
    """Raise UsageError if DATA is a folder of pairs, or a folder that `degrade` is writing."""
    whole = data.resolve()
    for folder in (whole, *whole.parents):
        if folder.name in (DEGRADED, TARGET) and (folder.parent / NAME).is_file():
            raise _holds_pairs(data, _list_in(folder.parent))
    if data.is_dir() and ((data / NAME).is_file() or _list_in(data)):
        raise _holds_pairs(data, _list_in(data))


def _without_pairs(data: Path, paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Leave out the images of pairs in folders below DATA, with a note on these; UsageError if no photographs are
    left."""
    known: dict[Path, Path | None] = {}
    made: dict[Path, Path | None] = {}
    for path in paths:
        below = [folder for folder in path.parents if folder != data and folder.is_relative_to(data)]
        for folder in below:
            if folder not in known:
                known[folder] = _list_in(folder)
            is_made = folder.name in (DEGRADED, TARGET) and (folder.parent / NAME).is_file()
            # If there is a journal, `degrade` made the list, and photographs may lie beside its folders.
            if is_made or (known[folder] and not (folder / NAME).is_file()):
                made[path] = _list_in(folder.parent) if is_made else known[folder]
    left = [path for path in paths if path not in made]
    lists = sorted({str(listed) for listed in made.values() if listed})
    if made and not left:
        raise _holds_pairs(data, Path(lists[0]) if lists else None)
    of = f": {lists[0]} lists them" if lists else ""
    return left, [f"{len(made)} images of pairs are left out{of}"] if made else []


def _list_in(folder: Path) -> Path | None:
    """Find the list of pairs in a folder: pairs.csv, or another .csv file with its columns."""
    if (folder / LIST).is_file():
        return folder / LIST
    for path in sorted(folder.glob("*.csv"))[:MOST_LISTS]:
        try:
            with path.open(encoding="utf-8-sig", errors="replace") as file:
                if is_header(file.readline(4096).split(",")):
                    return path
        except OSError:
            continue
    return None


def _holds_pairs(data: Path, listed: Path | None) -> UsageError:
    step = f"Name {listed}, or a folder of clean photographs."
    if listed is None:
        step = f"Finish making them with `degrade`, and name the {LIST} that it writes."
    return UsageError("it holds pairs, not clean photographs", where=data, next_step=step)


def _equal_names(data: Path, paths: Sequence[Path]) -> list[str]:
    """Return a note on two folders in DATA that hold files of the same names."""
    names: dict[str, set[str]] = {}
    for path in paths:
        top, *rest = path.relative_to(data).parts if data in path.parents else (path.name,)
        if rest:
            names.setdefault(top, set()).add(re.sub(r"\.\w+$", "", "/".join(rest)))
    folders = sorted(names, key=lambda top: -len(names[top]))[:2]
    if len(folders) < 2:
        return []
    first, second = sorted(folders)
    if len(names[first] & names[second]) < ALIKE * len(names[first] | names[second]):
        return []
    return [
        f"{first}/ and {second}/ hold files of the same names, and all are taken as clean photographs: list them in a "
        f"{LIST} if they are pairs"
    ]
