"""Download test sets that have a stable public address: file by file with their pixels checked, or as an archive.

A file is complete or absent, and a partial archive is kept in a file of its own, so that an interrupted download
resumes where it stopped.
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
from sanarestore.files import hash_file, write_atomically

PATIENCE = 30
"""Seconds without an answer after which a request fails."""

CHUNK = 2**20
"""Bytes of an archive that are written at once."""


def download(name: str, data_dir: Path | None = None) -> Iterator[tuple[int, int]]:
    """Fetch the missing files of a set, yielding (done, in all) as it goes, in files or in MiB of an archive.

    The network is not used if all files are there or the set has no stable address. NoImagesError if a file cannot be
    fetched or is not the published one; the files before it are kept. UsageError if a file cannot be written, or the
    folder holds files of other names.
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
    """Return the first 16 hex digits of the sha256 of an image file's 8-bit RGB pixels; OSError if it is none."""
    try:
        with PillowImage.open(io.BytesIO(content)) as opened:
            return hashlib.sha256(np.asarray(opened.convert("RGB")).tobytes()).hexdigest()[:16]
    except (SyntaxError, ValueError, PillowImage.DecompressionBombError) as error:  # other damage, to a PNG above all
        raise OSError(str(error)) from error


def _is_whole(name: str, data_dir: Path | None) -> bool:
    """Return whether the set is already complete, in a folder of any of its known names."""
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
    """Fetch the archive into the set's folder, check it, and extract the files that the set's layouts name."""
    patterns = [each for layout in known.layouts for each in (layout.clean, layout.degraded) if each]

    def belongs(name: str) -> bool:
        return any(re.fullmatch(pattern, name) for pattern in patterns)

    _refuse_others(folder, belongs)
    part = folder / f".{PurePosixPath(archive.address).name}.part"
    yield from _appended(archive.address, part)
    with _refusals_told(part):
        found = hash_file(part, "md5")
    if found != archive.md5:
        part.unlink()
        raise _another("archive", archive.address, f"its MD5 is {found}, not {archive.md5}")
    with zipfile.ZipFile(part) as packed:
        for member in filter(belongs, packed.namelist()):
            # Only the file name is used, so that no folder in an archive decides where a file is written.
            _write(folder / PurePosixPath(member).name, packed.read(member))
    part.unlink()


def _appended(address: str, part: Path) -> Iterator[tuple[int, int]]:
    """Append to `part` the bytes of the file at the address that it lacks, yielding (MiB there, MiB in all)."""
    with _refusals_told(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        opened = part.open("ab")
    with opened:
        there = total = opened.tell()
        try:
            with _asked(address, first=there) as answer:
                if answer.status != HTTPStatus.PARTIAL_CONTENT:  # the server sends the whole file
                    there = opened.truncate(0)
                total = there + int(answer.headers.get("Content-Length", 0))
                while chunk := answer.read(CHUNK):
                    with _refusals_told(part):
                        opened.write(chunk)
                    there += len(chunk)
                    yield there >> 20, max(total, there) >> 20
        except (OSError, http.client.HTTPException) as error:
            # An earlier run may have fetched all of it without unpacking it.
            whole = isinstance(error, urllib.error.HTTPError) and (
                error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            )
            if not whole:
                raise _out_of_reach(address, error) from error
    if there < total:
        raise _out_of_reach(address, f"it ended after {there} of {total} bytes")


def _asked(address: str, *, first: int = 0) -> http.client.HTTPResponse:
    """Request a file from byte `first` on, and return the response."""
    headers = {"User-Agent": f"sanarestore/{__version__}", **({"Range": f"bytes={first}-"} if first else {})}
    answer: http.client.HTTPResponse = urllib.request.urlopen(
        urllib.request.Request(address, headers=headers), timeout=PATIENCE
    )
    return answer


def _refuse_others(folder: Path, belongs: Callable[[str], bool]) -> None:
    """Raise UsageError if a folder holds files that are not fetched: two namings would be mixed."""
    others = sorted(path.name for path in folder.rglob("[!.]*") if path.is_file() and not belongs(path.name))
    if others:
        raise UsageError(
            f"holds files of other names than those that are fetched, as {others[0]}", where=folder,
            next_step="Complete the set by hand, or name an empty --data-dir.",
        )  # fmt: skip


def _write(path: Path, content: bytes) -> None:
    with _refusals_told(path), write_atomically(path, durable=False) as file:
        file.write(content)


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
