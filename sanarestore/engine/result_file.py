"""The file to which Python writes one result: checked before the work, and written when it is done."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from sanarestore import images
from sanarestore.engine.kinds import Opened
from sanarestore.engine.planning import format_named
from sanarestore.errors import UnwritableImage, UsageError


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file for one result, in the format that its suffix names."""

    path: Path
    format: images.Format | None
    """None keeps the input's."""

    @classmethod
    def checked(cls, path: str | PathLike[str], opened: Opened, *, overwrite: bool) -> "ResultFile":
        """Check that the result may be written to a path, and that its format can hold it.

        UsageError if the path is a folder or the input itself, names no format that is written, or would have to hold
        several images; UnwritableImage if it exists and is not to be replaced, or if the format cannot hold the image.
        """
        target = Path(path)
        format = format_named(target)  # noqa: A001 - the word users say
        if len(opened.held) != 1:
            raise UsageError(
                f"{len(opened.held)} images do not fit into one file", where=target,
                next_step="Give them one at a time.",
            )  # fmt: skip
        if target.is_dir():
            raise UsageError("it is a folder", where=target, next_step="Name a file in it.")
        if format is None:
            raise UsageError(
                f"'{target.suffix}' names no format that is written" if target.suffix else "its name has no suffix",
                where=target, next_step="Use .tif, .png, .jpg or .webp.",
            )  # fmt: skip
        if opened.source is not None and target.exists() and target.samefile(opened.source):
            raise UsageError("it would replace the input", where=target, next_step="Name another file.")
        if target.exists() and not overwrite:
            raise UnwritableImage(
                "it exists already", where=target, next_step="Choose another name, or allow overwrite=True."
            )
        # a.jpg to b.jpg keeps the real format, even if the suffix is wrong; a.jpg to b.png asks for another.
        same = opened.source is not None and format == images.SUFFIXES.get(opened.source.suffix.lower())
        file = cls(target, None if same else format)
        images.check_writable(opened.held[0], target, format=file.format)
        return file

    def write(self, image: images.Image) -> None:
        """Write the result whole or not at all; UnwritableImage if the disk refuses."""
        images.write(image, self.path, format=self.format)
