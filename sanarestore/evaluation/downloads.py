"""Test sets with a stable public address, fetched file by file and checked pixel by pixel.

A file is there whole or not at all, so that an interrupted download goes on where it was.
"""

import hashlib
import http.client
import io
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from sanarestore import __version__
from sanarestore.errors import NoImagesError, UsageError
from sanarestore.evaluation.datasets import data_folder, find_set
from sanarestore.evaluation.public import SETS, Remote

PATIENCE = 30
"""Seconds without an answer after which a server is given up."""


def download(name: str, data_dir: Path | None = None) -> Iterator[tuple[int, int]]:
    """Fetch what is missing of a set, yielding (files there, files in all) before and after each.

    Nothing is asked of the network where all files are there, or the set has no stable address. NoImagesError if a file
    cannot be had or is not the one that was published; those before it are kept. UsageError if the disk refuses one.
    """
    known = SETS.get(name.lower())
    if known is None or known.remote is None:
        return
    folder = data_folder(data_dir) / known.name
    if _is_whole(name, data_dir):
        return
    others = sorted(
        path.name for path in folder.rglob("[!.]*") if path.is_file() and path.name not in known.remote.sha256
    )
    if others:
        raise UsageError(
            f"holds files of other names than those that are fetched, as {others[0]}", where=folder,
            next_step="Complete the set by hand, or name an empty --data-dir.",
        )  # fmt: skip
    missing = [file for file in known.remote.sha256 if not (folder / file).exists()]
    total = len(known.remote.sha256)
    for number, file in enumerate(missing):
        yield total - len(missing) + number, total
        _write(folder / file, _fetched(known.remote, file))
    if missing:
        yield total, total


def pixel_hash(content: bytes) -> str:
    """The first 16 digits of the sha256 of an image file's pixels as 8-bit RGB. OSError if it is no image."""
    try:
        with PillowImage.open(io.BytesIO(content)) as opened:
            return hashlib.sha256(np.asarray(opened.convert("RGB")).tobytes()).hexdigest()[:16]
    except (SyntaxError, ValueError, PillowImage.DecompressionBombError) as error:  # a PNG broken in other ways
        raise OSError(str(error)) from error


def _is_whole(name: str, data_dir: Path | None) -> bool:
    """Whether the set is there already, under any of the names that it is known by."""
    try:
        find_set(name, data_dir)
    except NoImagesError:
        return False
    return True


def _fetched(remote: Remote, file: str) -> bytes:
    address = remote.address.format(name=file)
    request = urllib.request.Request(address, headers={"User-Agent": f"sanarestore/{__version__}"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            content: bytes = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise NoImagesError(
            f"cannot be fetched ({error})", where=address,
            next_step="Check the connection and run it again: what was fetched is kept.",
        ) from error  # fmt: skip
    try:
        found = pixel_hash(content)
    except OSError:
        found = "no image"
    if found != remote.sha256[file]:
        raise NoImagesError(
            f"is not the image that was published: its pixels hash to {found}, not {remote.sha256[file]}",
            where=address, next_step="Run it again; if it stays so, fetch the set by hand and name its --data-dir.",
        )  # fmt: skip
    return content


def _write(path: Path, content: bytes) -> None:
    fresh = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(content)
        fresh.replace(path)
    except OSError as error:
        raise UsageError(f"cannot be written ({error.strerror})", where=path) from error
