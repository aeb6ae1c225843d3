"""Files and folders written whole or not at all, and hashes of files.

A file is written under another name in the same folder and then renamed. The other name is hidden and begins with
`.sanarestore-`, so that a search for photographs passes over what a crash may leave.
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

PIECE = 1 << 16
"""Bytes of each piece that `sampled_hash` reads."""


@contextmanager
def write_atomically(target: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Give a file to write, which takes the target's place when the block ends; folders above it are created.

    If anything fails, no partial file is left, and an older target stays. A `durable` file also survives a power cut;
    for files that are soon deleted, that would be slow for nothing. OSError if the disk refuses.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # Opened with "x" and not by tempfile, whose files only the owner can read: the user's umask decides.
    temporary = target.with_name(f".sanarestore-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    if durable:
        _sync_folder(target.parent)


def replace_folder(fresh: Path, target: Path, old: Path) -> None:
    """Put a complete folder in the place of an older one, which is deleted; all three paths have one parent.

    A crash in between leaves `target` or `old` complete, and `fresh` if it has not been renamed yet.
    """
    for path in fresh.rglob("*"):
        if path.is_file():
            with path.open("r+b") as file:
                os.fsync(file.fileno())
    _sync_folder(fresh)
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        target.replace(old)
    fresh.replace(target)
    _sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def hash_file(path: Path, algorithm: str = "sha256") -> str:
    """Hexadecimal hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def hash_text(text: str) -> str:
    """Hexadecimal sha256 of a text, in which file names may have left bytes that are not valid text."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def files_in(folder: Path, *parts: str) -> set[str]:
    """Names relative to a folder, with forward slashes, of all files in some of its parts."""
    return {
        path.relative_to(folder).as_posix() for part in parts for path in (folder / part).rglob("*") if path.is_file()
    }


def sampled_hash(folder: Path, *parts: str) -> str:
    """Hexadecimal sha256 over the name, the size and 64 pieces of each file in some parts of a folder; fast even for
    gigabytes."""
    digest = hashlib.sha256()
    for name in sorted(files_in(folder, *parts)):
        size = (folder / name).stat().st_size
        digest.update(f"{name}\0{size}\0".encode())
        with (folder / name).open("rb") as file:
            for piece in range(64):
                file.seek(max(size - PIECE, 0) * piece // 63)
                digest.update(file.read(PIECE))
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder survive a power cut, where the system can (Windows cannot open folders)."""
    if os.name != "posix":
        return
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
