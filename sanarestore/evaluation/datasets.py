"""Find images to measure with: public test sets on this machine, and the user's own images.

sanarestore comes with none. A user's folder of clean images or of pairs is a set too.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from PIL import Image as PillowImage

from sanarestore import images
from sanarestore.degradations.pairs import read_pairs
from sanarestore.errors import NoImagesError, UnreadableImage, UsageError
from sanarestore.evaluation.public import SETS, NamingScheme, Set
from sanarestore.images import Pixels

MISSING_NAMED = 5
"""Most missing files that a message names."""

VARIABLE = "SANARESTORE_DATA"
"""Environment variable that names the folder of sets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One image or pair of a set, without its pixels, so that it can be sent to another process."""

    name: str
    clean: Path
    degraded: Path | None = None
    prompt: str | None = None
    """Prompt from a list of pairs; None for the default."""
    block: int | None = None
    """Index of the block in a .mat file; None for image files."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that its pixels come from: the clean one, and the degraded one of a pair."""
        return (self.clean,) if self.degraded is None else (self.clean, self.degraded)

    def read(self) -> tuple[Pixels, Pixels | None]:
        """Read the clean image and the degraded one of a pair, [H, W, 1 or 3] in [0, 1]; may raise UnreadableImage."""
        return _pixels(self.clean, self.block), _pixels(self.degraded, self.block) if self.degraded else None


def find_set(name: str, data_dir: Path | None = None) -> tuple[Item, ...]:
    """Find the items of a set, in order of their names.

    The set's folder is looked for in `data_dir`, by default the folder that SANARESTORE_DATA names, or the cache.
    UsageError for an unknown name. NoImagesError if files are missing, or one file of a pair is: it says which, where
    that is known, and where the set is published.
    """
    known = SETS.get(name.lower())
    if known is None:
        raise UsageError(f"'{name}' is not a known set", where="bench", next_step=f"Known: {', '.join(SETS)}.")
    folder = _folder(known, data_folder(data_dir))
    found = [_paired(layout, folder) for layout in known.layouts] if folder.is_dir() else []
    items, halves = max(found, key=lambda each: len(each[0]), default=([], []))
    if known.name == "sidd-val" and items:
        items = _blocks(items[0], known.count)
    if len(items) != known.count or halves:
        examples = ", or ".join(layout.example for layout in known.layouts)
        there = _short_of(known, items, halves) if folder.is_dir() else f"{known.title} is not there"
        raise NoImagesError(
            there, where=folder,
            next_step=f"Put its {known.count} {'pairs' if known.layouts[0].degraded else 'images'} there, named as "
            f"{examples}: they are published at {known.published}. Or name another folder with --data-dir"
            f"{', or fetch them with --download' if known.remote else '; --download has no stable address of it'}.",
        )  # fmt: skip
    return tuple(items)


def _folder(known: Set, parent: Path) -> Path:
    """Find a set's folder, by its own or its archive's name in any letter case; if absent, say where it should be."""
    wanted = (known.name, *known.folders)
    there = {path.name.lower(): path for path in sorted(parent.iterdir())} if parent.is_dir() else {}
    return next((there[name] for name in wanted if name in there), parent / known.name)


def _short_of(known: Set, items: Sequence[Item], halves: Sequence[Path]) -> str:
    """Say how many of a set's files are there and, where that is known, which are missing, unpaired or strange."""
    if halves:
        others = f", and so are {len(halves) - 1} more" if len(halves) > 1 else ""
        return (
            f"{len(items)} of {known.count} pairs of {known.title} are whole; {halves[0].name} is half a pair, without "
            f"its other file{others}"
        )
    counted = f"{len(items)} of {known.count} files of {known.title} are there"
    stems = [item.clean.stem.lower() for item in items]
    if len(items) > known.count:
        strange = [stem for stem in stems if known.names and stem not in known.names]
        return f"{counted}: more than it has{', as ' + strange[0] if strange else ''}"
    missing = [name for name in known.names if name not in stems]
    # Otherwise the files follow another naming, by which every name here would count as missing.
    if not items or len(missing) != known.count - len(items):
        return counted
    more = f" and {len(missing) - MISSING_NAMED} more" if len(missing) > MISSING_NAMED else ""
    return f"{counted}, without {', '.join(missing[:MISSING_NAMED])}{more}"


def find_folder(path: Path) -> tuple[Item, ...]:
    """Find the items of a folder of clean images, of a pairs.csv or of its folder; NoImagesError if there are none."""
    listed = path / "pairs.csv" if path.is_dir() else path
    if listed.suffix.lower() == ".csv" and listed.is_file():
        pairs = read_pairs(listed)
        return tuple(
            Item(
                name=_below(pair.degraded, listed.parent), clean=pair.target, degraded=pair.degraded,
                prompt=pair.prompt or None,
            )
            for pair in pairs
        )  # fmt: skip
    found = images.find([path])
    found.check_inputs()
    if not found.images:
        raise NoImagesError(
            "holds no image", where=path, next_step="Name a folder with TIFF, PNG, JPEG or WebP files, or a pairs.csv."
        )
    return tuple(Item(name=each.relative.as_posix(), clean=each.path) for each in found.images)


def _below(path: Path, folder: Path) -> str:
    """Return the path relative to the folder, which keeps equal file names distinct; absolute if it lies elsewhere."""
    path, folder = path.absolute(), folder.absolute()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


def data_folder(data_dir: Path | None) -> Path:
    """Return the folder in which sets are looked for."""
    if data_dir is not None:
        return data_dir
    named = os.environ.get(VARIABLE)
    return Path(named) if named else platformdirs.user_cache_path("sanarestore") / "data"


def _paired(layout: NamingScheme, folder: Path) -> tuple[list[Item], list[Path]]:
    """Return the images or pairs of a folder, and the files whose pair is incomplete."""
    found = _matching(layout.clean, folder)
    if layout.degraded is None:
        return [Item(name=path.relative_to(folder).as_posix(), clean=path) for path, _ in found], []
    clean = {_key(match): path for path, match in found}
    degraded = {_key(match): path for path, match in _matching(layout.degraded, folder)}
    pairs = [Item(name=key, clean=path, degraded=degraded[key]) for key, path in clean.items() if key in degraded]
    alone = clean.keys() ^ degraded.keys()
    return pairs, [path for group in (clean, degraded) for key, path in group.items() if key in alone]


def _key(match: re.Match[str]) -> str:
    """Return the name of a file's pair; the two files of SIDD are one pair, although their groups differ."""
    return "blocks" if match[1] in ("Gt", "Noisy") else match[1]


def _matching(pattern: str, folder: Path) -> list[tuple[Path, re.Match[str]]]:
    expression = re.compile(pattern, re.IGNORECASE)
    return [
        (path, match)
        for path in sorted(folder.rglob("*"))
        if (match := expression.fullmatch(path.relative_to(folder).as_posix())) and path.is_file()
    ]


def _blocks(files: Item, count: int) -> list[Item]:
    return [
        Item(name=f"block {index:04d}", clean=files.clean, degraded=files.degraded, block=index)
        for index in range(count)
    ]


def _pixels(path: Path, block: int | None) -> Pixels:
    if block is not None:
        blocks = _mat(path)
        if block >= len(blocks):
            raise UnreadableImage(
                f"holds {len(blocks)} blocks, and one of number {block + 1} is wanted", where=path,
                next_step="Fetch it again: it was cut short.",
            )  # fmt: skip
        pixels: Pixels = blocks[block].astype(np.float32) / np.float32(255)
        return pixels
    if path.suffix.lower() == ".bmp":
        return _bmp(path)
    return images.read(path).pixels_HWC


def _bmp(path: Path) -> Pixels:
    """Read a BMP file: some sets are published as BMP, which `restore` does not take."""
    try:
        with PillowImage.open(path) as opened:
            codes = np.asarray(opened.convert("L" if opened.mode in ("1", "L") else "RGB"))
    except OSError as error:
        raise UnreadableImage(f"cannot be read as BMP ({error})", where=path) from error
    return (codes.reshape(*codes.shape[:2], -1) / np.float32(255)).astype(np.float32)


@lru_cache(maxsize=2)
def _mat(path: Path) -> Any:
    """Return all blocks of a file, [N, H, W, 3] uint8, from the only array of five dimensions in it."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        arrays = _arrays(loadmat(path))
        array = next(arrays)
    except (OSError, ValueError, StopIteration, MatReadError) as error:
        raise UnreadableImage(f"cannot be read as a MATLAB file of blocks ({error})", where=path) from error
    return array.reshape(-1, *array.shape[2:])


def _arrays(content: Mapping[str, Any]) -> Iterator[Any]:
    return (value for value in content.values() if getattr(value, "ndim", 0) == 5)
