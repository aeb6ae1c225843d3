"""Damage: errors and notes for files of which only a part can be decoded, and decompression of such parts."""

import zlib
from collections.abc import Iterable, Iterator
from typing import TypeVar

from sanarestore.errors import DamagedImage

Part = TypeVar("Part")

BACKUP = "Restore the file from a backup or copy it again."
_OR_ACCEPT = "Restore the file from a backup, or add --accept-damaged to restore what can be decoded."


MOST_PARTS = 400_000
"""Chunks or segments that a file may have; hostile files consist of empty ones, which would fill the memory."""


def damaged(fact: str, *, accepted: bool) -> str:
    """Return the note for accepted damage; raise DamagedImage if it is not accepted."""
    if not accepted:
        raise DamagedImage(fact, next_step=_OR_ACCEPT)
    return f"the file is damaged: {fact}"


def hopeless(fact: str) -> DamagedImage:
    """The error for a file that cannot be decoded at all, whatever the user accepts."""
    return DamagedImage(fact, next_step=BACKUP)


def limited(parts: Iterable[Part]) -> Iterator[Part]:
    """Pass on the parts of a file; DamagedImage if there are more than `MOST_PARTS`."""
    for number, part in enumerate(parts):
        if number == MOST_PARTS:
            raise hopeless("it consists of too many parts")
        yield part


def cut(text: object, length: int = 120) -> str:
    """A library's message on one line, cut to a readable length."""
    line = " ".join(str(text).split())
    return line if len(line) <= length else line[: length - 1] + "…"


def inflate_partly(pieces: Iterable[bytes], size: int) -> bytearray:
    """Decompress damaged deflate data as far as possible, to at most `size` bytes.

    An error loses all that came out of its piece; that piece is decompressed again byte by byte.
    """
    found, inflater = bytearray(), zlib.decompressobj()
    for piece in pieces:
        before = inflater.copy()
        try:
            found += inflater.decompress(piece, max(size - len(found), 1))
        except zlib.error:
            found += b"".join(_before_the_error(before, piece))
            break
        if inflater.eof or len(found) >= size:
            break
    return found[:size]


def _before_the_error(inflater: "zlib._Decompress", piece: bytes) -> Iterator[bytes]:
    for at in range(len(piece)):
        try:
            yield inflater.decompress(piece[at : at + 1])
        except zlib.error:
            return
