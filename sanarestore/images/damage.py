"""Damage: what is said of a file of which only a part can be decoded."""

from sanarestore.errors import DamagedImage

BACKUP = "Restore the file from a backup or copy it again."
_OR_ACCEPT = "Restore the file from a backup, or add --accept-damaged to restore what can be decoded."


def damaged(fact: str, *, accepted: bool) -> str:
    """The note on damage that the user accepts; DamagedImage if it is not accepted."""
    if not accepted:
        raise DamagedImage(fact, next_step=_OR_ACCEPT)
    return f"the file is damaged: {fact}"


def hopeless(fact: str) -> DamagedImage:
    """The error of a file of which nothing can be decoded, whatever the user accepts."""
    return DamagedImage(fact, next_step=BACKUP)


def cut(text: object, length: int = 120) -> str:
    """A library's message on one line, cut to a readable length."""
    line = " ".join(str(text).split())
    return line if len(line) <= length else line[: length - 1] + "…"
