"""The file to which Python writes one result: checked before the work, and written when it is done."""

import os
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Unpack

from sanarestore import images
from sanarestore.engine.keywords import OF_ONE_IMAGE, WriteKeywords
from sanarestore.engine.kinds import Opened
from sanarestore.engine.planning import format_named
from sanarestore.engine.provenance import provenance
from sanarestore.engine.python_words import in_python
from sanarestore.errors import UnwritableImage, UsageError
from sanarestore.files import hash_file, unwritable
from sanarestore.model.loading import RestorationModel
from sanarestore.options import RestoreOptions, WriteOptions

_OF_A_FILE = {"keep_dates": "only files have dates", "provenance": "it records the hash of a file"}
"""Options that need the input to be a file, and why."""


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file for one result, in the format of the options, or that of its suffix."""

    path: Path
    format: images.Format | None
    """None keeps the input's."""
    options: WriteOptions
    sha256: str
    """Hash of the input, if its provenance is to be written."""
    times: tuple[int, int] | None
    """Times of the last access and change of the input in nanoseconds, if the result is to get them."""

    @classmethod
    def checked(
        cls, path: str | PathLike[str] | None, opened: Opened, *, overwrite: bool, **chosen: Unpack[WriteKeywords]
    ) -> "ResultFile | None":
        """Check that a result may be written to a path, and that the format can hold it; return None without a path.

        UsageError if the path is a folder or the input itself, has no suffix of a format that is written, or would have
        to hold several images, and for options of writing without a path; UnwritableImage if it exists and `overwrite`
        is not set, or if the format cannot hold the image.
        """
        options = WriteOptions(**chosen)
        if path is None:
            if chosen:
                raise UsageError(
                    "it applies to files, and `output` is missing", where=next(iter(chosen)),
                    next_step="Name a file with output, or leave it out.",
                )  # fmt: skip
            return None
        if not isinstance(path, str | PathLike):
            raise UsageError(f"{path!r} is not a path", where="output", next_step="Give a text or a pathlib.Path.")
        if not isinstance(overwrite, bool):
            raise UsageError(
                f"{overwrite!r} is neither True nor False", where="overwrite", next_step="Give one of these."
            )
        if os.fspath(path) == "-":
            raise UsageError(
                "'-' is stdout, and only the command writes there", where="output",
                next_step="Name a file, or leave it out: the result is returned.",
            )  # fmt: skip
        target = Path(path)
        format = _format_of(target, opened, options)  # noqa: A001 - the word users say
        if target.exists() and not overwrite:
            raise UnwritableImage(
                "it exists already", where=target, next_step="Choose another name, or use --overwrite."
            )
        for name, fact in _OF_A_FILE.items():
            if getattr(options, name) and opened.source is None:
                raise UsageError(fact, where=name, next_step="Give the path of the photograph, or leave it out.")
        images.check_writable(opened.held[0], target, format=format, options=options)
        status = opened.source.stat() if opened.source is not None and options.keep_dates else None
        return cls(
            target, format, options,
            sha256=hash_file(opened.source) if opened.source is not None and options.provenance else "",
            times=None if status is None else (status.st_atime_ns, status.st_mtime_ns),
        )  # fmt: skip

    def write(self, image: images.Image, model: RestorationModel, restoring: RestoreOptions) -> images.Image:
        """Write the result whole or not at all, and return it with notes on that; UnwritableImage if that fails."""
        ready = image
        if self.options.strip:
            ready = replace(ready, metadata=images.stripped(ready.metadata))
        if self.options.provenance:
            record = provenance(model, restoring, self.options, self.sha256)
            ready = replace(ready, metadata=images.with_provenance(ready.metadata, record))
        ready = images.prepared(ready, self.format, self.options)
        images.write(
            ready, self.path, format=images.format_written(image, self.format, self.options), options=self.options
        )
        if self.times is not None:
            try:
                os.utime(self.path, ns=self.times)
            except OSError as error:
                raise unwritable(self.path, error) from error
        return replace(image, notes=tuple(in_python(note, OF_ONE_IMAGE) for note in ready.notes))


def _format_of(target: Path, opened: Opened, options: WriteOptions) -> images.Format | None:
    """The format to write, None for the input's; UsageError for a path that names none, or cannot be the output."""
    format = format_named(target, options.format, options.quality)  # noqa: A001 - the word users say
    if len(opened.held) != 1:
        raise UsageError(
            f"{len(opened.held)} images do not fit into one file", where=target, next_step="Give them one at a time."
        )
    if target.is_dir():
        raise UsageError("it is a folder", where=target, next_step="Name a file in it.")
    if format is None:
        raise UsageError(
            f"'{target.suffix}' names no format that is written" if target.suffix else "its name has no suffix",
            where=target, next_step="Use .tif, .png, .jpg, .webp, .avif or .jxl.",
        )  # fmt: skip
    if opened.source is not None and target.exists() and target.samefile(opened.source):
        raise UsageError("it would replace the input", where=target, next_step="Name another file.")
    # a.jpg to b.jpg keeps the real format, even if the suffix is wrong; a.jpg to b.png asks for another.
    same = opened.source is not None and format == images.SUFFIXES.get(opened.source.suffix.lower())
    return None if same and options.format == "preserve" else format
