"""Test sets with a stable public address: fetched file by file and checked pixel by pixel, or as an archive.

A file is there whole or not at all, and of an archive what has come is kept apart, so that an interrupted download
goes on where it was.
"""

import hashlib
import http.client
import io
import re
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image as PillowImage

from sanarestore import __version__
from sanarestore.errors import NoImagesError, UsageError
from sanarestore.evaluation.datasets import data_folder, find_set
from sanarestore.evaluation.public import SETS, Archive, Remote, Set

PATIENCE = 30
"""Seconds without an answer after which a server is given up."""

CHUNK = 2**20
"""Bytes of an archive that are written at once."""


def download(name: str, data_dir: Path | None = None) -> Iterator[tuple[int, int]]:
    """Fetch what is missing of a set, yielding (done, in all) as it goes: files, or MiB of an archive.

    Nothing is asked of the network where all files are there, or the set has no stable address. NoImagesError if a file
    cannot be had or is not the one that was published; those before it are kept. UsageError if the disk refuses one.
    """
    known = SETS.get(name.lower())
    if known is None or known.remote is None or _is_whole(name, data_dir):
        return
    folder = data_folder(data_dir) / known.name
    if isinstance(known.remote, Archive):
        yield from _unpacked(known, known.remote, folder)
    else:
        yield from _one_by_one(known.remote, folder)


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


def _one_by_one(remote: Remote, folder: Path) -> Iterator[tuple[int, int]]:
    _refuse_others(folder, remote.sha256.__contains__)
    missing = [file for file in remote.sha256 if not (folder / file).exists()]
    total = len(remote.sha256)
    for number, file in enumerate(missing):
        yield total - len(missing) + number, total
        _write(folder / file, _fetched(remote, file))
    if missing:
        yield total, total


def _fetched(remote: Remote, file: str) -> bytes:
    address = remote.address.format(name=file)
    try:
        with _asked(address) as answer:
            content: bytes = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise _out_of_reach(address, error) from error
    try:
        found = pixel_hash(content)
    except OSError:
        found = "no image"
    if found != remote.sha256[file]:
        raise _another("image", address, f"its pixels hash to {found}, not {remote.sha256[file]}")
    return content


def _unpacked(known: Set, archive: Archive, folder: Path) -> Iterator[tuple[int, int]]:
    """Fetch the archive beside where its files go, check it, and take out the files that the set's layouts name."""
    patterns = [each for layout in known.layouts for each in (layout.clean, layout.degraded) if each]

    def belongs(name: str) -> bool:
        return any(re.fullmatch(pattern, name) for pattern in patterns)

    _refuse_others(folder, belongs)
    part = folder / f".{PurePosixPath(archive.address).name}.part"
    yield from _appended(archive.address, part)
    with _refusals_told(part), part.open("rb") as opened:
        found = hashlib.file_digest(opened, "md5").hexdigest()
    if found != archive.md5:
        part.unlink()
        raise _another("archive", archive.address, f"its MD5 is {found}, not {archive.md5}")
    with zipfile.ZipFile(part) as packed:
        for member in filter(belongs, packed.namelist()):
            # By its last name alone, whatever folders an archive tells of.
            _write(folder / PurePosixPath(member).name, packed.read(member))
    part.unlink()


def _appended(address: str, part: Path) -> Iterator[tuple[int, int]]:
    """Append to `part` what it lacks of the file at the address, yielding (MiB there, MiB in all)."""
    with _refusals_told(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        opened = part.open("ab")
    with opened:
        there = total = opened.tell()
        try:
            with _asked(address, first=there) as answer:
                if answer.status != HTTPStatus.PARTIAL_CONTENT:  # it begins anew
                    there = opened.truncate(0)
                total = there + int(answer.headers.get("Content-Length", 0))
                while chunk := answer.read(CHUNK):
                    with _refusals_told(part):
                        opened.write(chunk)
                    there += len(chunk)
                    yield there >> 20, max(total, there) >> 20
        except (OSError, http.client.HTTPException) as error:
            # All of it may have come before, and not been unpacked.
            whole = isinstance(error, urllib.error.HTTPError) and (
                error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            )
            if not whole:
                raise _out_of_reach(address, error) from error
    if there < total:
        raise _out_of_reach(address, f"it ended after {there} of {total} bytes")


def _asked(address: str, *, first: int = 0) -> http.client.HTTPResponse:
    """The answer to a request for a file, or for what of it comes after some bytes."""
    headers = {"User-Agent": f"sanarestore/{__version__}", **({"Range": f"bytes={first}-"} if first else {})}
    answer: http.client.HTTPResponse = urllib.request.urlopen(
        urllib.request.Request(address, headers=headers), timeout=PATIENCE
    )
    return answer


def _refuse_others(folder: Path, belongs: Callable[[str], bool]) -> None:
    """UsageError if a folder holds what is not fetched: two namings would be mixed."""
    others = sorted(path.name for path in folder.rglob("[!.]*") if path.is_file() and not belongs(path.name))
    if others:
        raise UsageError(
            f"holds files of other names than those that are fetched, as {others[0]}", where=folder,
            next_step="Complete the set by hand, or name an empty --data-dir.",
        )  # fmt: skip


def _write(path: Path, content: bytes) -> None:
    fresh = path.with_name(f".{path.name}.part")
    with _refusals_told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(content)
        fresh.replace(path)


@contextmanager
def _refusals_told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot be written ({error.strerror})", where=path) from error


def _out_of_reach(address: str, why: object) -> NoImagesError:
    return NoImagesError(
        f"cannot be fetched ({why})", where=address,
        next_step="Check the connection and run it again: what was fetched is kept.",
    )  # fmt: skip


def _another(what: str, address: str, difference: str) -> NoImagesError:
    return NoImagesError(
        f"is not the {what} that was published: {difference}", where=address,
        next_step="Run it again; if it stays so, fetch the set by hand and name its --data-dir.",
    )  # fmt: skip
