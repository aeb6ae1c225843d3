"""Names of photos below the output folder of `degrade`, each with one photo; those that would collide are refused."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from sanarestore import images
from sanarestore.training.variants import PairOutcome


def name_photos(found: Sequence[images.Found]) -> tuple[dict[str, images.Found], list[PairOutcome]]:
    """Return photos by name, in order of their names, and failed outcomes of those that have no name of their own.

    A name is the path below the input folder, with forward slashes and without suffix. Where `a.jpg` stands beside
    `a.png`, the second is called `a.png`. Names that only some disks tell apart, by case or Unicode form, collide. So
    do files of the same name from several folders, and files that would be written outside of the output.
    """
    named: dict[str, images.Found] = {}
    refused: list[PairOutcome] = []
    taken: dict[str, Path] = {}
    for photo in sorted(found, key=_order):
        whole = photo.relative.as_posix()
        name = photo.relative.with_suffix("").as_posix()
        earlier = taken.get(_folded(name))
        if earlier is not None and _folded(earlier.name) != _folded(photo.path.name):
            name, earlier = whole, taken.get(_folded(whole))
        if ".." in photo.relative.parts:
            refused.append(_refused(photo, "it would be written outside of the output", "Name its folder."))
        elif earlier is not None:
            step = "Rename one, or name the folder that holds both."
            refused.append(_refused(photo, f"it would write the same files as {earlier}", step))
        else:
            named[name] = photo
            taken[_folded(name)] = photo.path
    return dict(sorted(named.items())), refused


def _order(photo: images.Found) -> tuple[str, str, str]:
    return photo.relative.with_suffix("").as_posix(), photo.relative.as_posix(), str(photo.path)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _refused(photo: images.Found, fact: str, next_step: str) -> PairOutcome:
    return PairOutcome(
        source=photo.path, status="failed", reason="collision", error=f"{photo.path}: {fact}. {next_step}"
    )
