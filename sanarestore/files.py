"""Files and folders written whole or not at all, and hashes of files.

A file is written under another name in the same folder and then renamed. The other name is hidden and begins with
`.sanarestore-`, so that a search for photographs passes over what a crash may leave.
"""

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from sanarestore.errors import SanarestoreError, UnwritableImage, disk_full

TEMPORARY = ".sanarestore-*.tmp"
"""Pattern of the names of files that are not complete yet."""

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
    temporary = temporary_beside(target)
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


def write_new(path: Path, data: bytes) -> None:
    """Write a new file that survives a power cut; folders above it are created. OSError if the disk refuses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def temporary_beside(target: Path) -> Path:
    """A random name for a file that is to take the place of `target` when it is complete."""
    return target.with_name(TEMPORARY.replace("*", secrets.token_hex(8)))


def place(temporary: Path, target: Path, *, replace: bool) -> None:
    """Give a complete file its name. FileExistsError if there is such a file and it must not be replaced.

    No moment passes between the check and the change, so a file that another program writes meanwhile survives.
    """
    if replace:
        temporary.replace(target)
    elif os.name == "nt":
        temporary.rename(target)  # never replaces on Windows
    else:
        _link(temporary, target)
    _sync_folder(target.parent)


def _link(temporary: Path, target: Path) -> None:
    try:
        target.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:
        # The disk has no links (exFAT, some network disks): an empty file reserves the name.
        target.open("xb").close()
        temporary.replace(target)
    else:
        temporary.unlink()


def is_full(error: OSError) -> bool:
    """Return whether an error says that the disk or a quota is full."""
    return error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def unwritable(target: Path, error: OSError) -> SanarestoreError:
    """The error for an image that the disk refuses: DiskFull, which concerns all files, or UnwritableImage."""
    if is_full(error):
        return disk_full(target)
    return UnwritableImage(
        f"it cannot be written ({error.strerror or error})", where=target,
        next_step="Check the name and the permissions of its folder.",
    )  # fmt: skip


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


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder of files beside `target` and put the copy there whole, in the place of an older one."""
    with changed_copy(source, target):
        pass


@contextmanager
def changed_copy(source: Path, target: Path, *leave_out: str) -> Iterator[Path]:
    """Copy a folder of files beside `target`, without the names `leave_out`, and give its path to the block inside.

    After the block, the copy with its changes is put in the place of `target`; if the block fails, nothing is.
    """
    fresh, old = (target.with_name(f"{target.name}.{name}") for name in ("new", "old"))
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        shutil.copytree(source, fresh, ignore=shutil.ignore_patterns(*leave_out))
        yield fresh
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    replace_folder(fresh, target, old)


def hash_file(path: Path, algorithm: str = "sha256") -> str:
    """Hexadecimal hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def hash_bytes(data: bytes) -> str:
    """Hexadecimal sha256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def hash_text(text: str) -> str:
    """Hexadecimal sha256 of a text, in which file names may have left bytes that are not valid text."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def files_in(folder: Path, *parts: str) -> set[str]:
    """List files of a folder, and all files of some of its subfolders, by their relative names with forward slashes."""
    found = (path for part in parts for path in (folder / part, *(folder / part).rglob("*")))
    return {path.relative_to(folder).as_posix() for path in found if path.is_file()}


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
