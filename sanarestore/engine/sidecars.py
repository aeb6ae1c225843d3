"""XMP sidecars: files in which photo programs keep edits and ratings, copied beside results. Imports no torch."""

import os
from contextlib import suppress
from pathlib import Path

from sanarestore.files import place, temporary_beside, write_new

SUFFIXES = (".xmp", ".XMP")


def copy_sidecars(source: Path, target: Path, *, keep_dates: bool, overwrite: bool) -> tuple[str, ...]:
    """Copy the sidecars of a photograph to its result, and return notes on them.

    `a.xmp` belongs to `a.jpg`, and so does `a.jpg.xmp`; beside `b.png` they are called `b.xmp` and `b.png.xmp`.
    A file with other content that is there already is replaced only with `overwrite`.
    """
    notes: dict[Path, str] = {}
    for suffix in SUFFIXES:
        for sidecar, copy in (
            (source.with_suffix(suffix), target.with_suffix(suffix)),
            (source.with_name(source.name + suffix), target.with_name(target.name + suffix)),
        ):
            # Where the disk takes .XMP for .xmp, both name one file.
            if sidecar.is_file() and not any(sidecar.samefile(each) for each in notes):
                notes[sidecar] = _copy(sidecar, copy, keep_dates=keep_dates, overwrite=overwrite)
    return tuple(notes.values())


def _copy(sidecar: Path, copy: Path, *, keep_dates: bool, overwrite: bool) -> str:
    """Copy one file, whole or not at all; return a note."""
    temporary = temporary_beside(copy)
    try:
        data, status = sidecar.read_bytes(), sidecar.stat()
        if copy.is_file() and copy.read_bytes() == data:
            return f"the sidecar {sidecar.name} is at {copy.name} already"
        write_new(temporary, data)
        if keep_dates:
            os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
        place(temporary, copy, replace=overwrite)
    except FileExistsError:
        return f"the sidecar {sidecar.name} is not copied, because another {copy.name} exists"
    except OSError as error:
        return f"the sidecar {sidecar.name} is not copied ({error.strerror or error})"
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return f"the sidecar {sidecar.name} is copied to {copy.name}"
