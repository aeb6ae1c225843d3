"""The text of a list of pairs, split into rows with their line numbers. Lists are written by hand and by spreadsheets,
so common mistakes are recognized and named.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath

from sanarestore.degradations.faults import Fault
from sanarestore.errors import UsageError
from sanarestore.images import is_image_suffix
from sanarestore.images.signature import HEAD, name_foreign, sniff, with_article

SAVE = "Save it as CSV with commas, in UTF-8."

MOST_OPEN = 1000
"""Number of unclosed quotes after which the search ends, because each search reads as much as the longest field
allows."""

_BINARY = (
    (b"PK\3\4", "an Excel workbook or a ZIP file"), (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"PAR1", "a Parquet file"), (b"ARROW1", "an Arrow file"), (b"\x1f\x8b", "a gzip file"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"), (b"SQLite format 3", "an SQLite database"),
    (b"\x89HDF", "an HDF5 file"), (b"\x93NUMPY", "a NumPy file"), (b"%PDF", "a PDF file"),
)  # fmt: skip
"""First bytes of files that are named .csv by mistake."""

_MARKED = (
    (b"\xff\xfe\0\0", "UTF-32"), (b"\0\0\xfe\xff", "UTF-32"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"),
)  # fmt: skip
"""First bytes of text in other encodings."""

_IN_EXCEL = "Save it as UTF-8; in Excel, choose the type 'CSV UTF-8'."


@dataclass(frozen=True, slots=True)
class ListRow:
    """The cells of a row, and the line on which it begins."""

    line: int
    cells: tuple[str, ...]

    @property
    def is_blank(self) -> bool:
        """Whether the row is empty, or has only the commas of a spreadsheet's empty row."""
        return not any(cell.strip() for cell in self.cells)


def read_text(path: Path) -> str:
    """Read a list as UTF-8 text, with or without a byte order mark; UsageError if the file is anything else."""
    data = _bytes_of(path)
    for mark, name in _MARKED:
        if data.startswith(mark):
            raise UsageError(f"it is {name} text, not UTF-8", where=path, next_step=_IN_EXCEL)
    if data and data.count(0) * 3 > len(data):
        raise UsageError("it looks like UTF-16 text, not UTF-8", where=path, next_step=_IN_EXCEL)
    if 0 in data:
        line = data[: data.index(0)].count(b"\n") + 1
        fact = f"line {line}: there is a NUL byte, which text never contains"
        raise UsageError(fact, where=path, next_step="The file is damaged: save the list again as UTF-8.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _undecodable(data, path) from error
    _check_kind(text, path)
    return text


def rows_of(text: str) -> Iterator[ListRow | Fault]:
    """Split a list into rows, and yield a fault for each quote that is not closed; the line after it is read again."""
    lines = lines_of(text)
    start = faults = 0
    while start < len(lines) and faults < MOST_OPEN:
        reader = csv.reader(islice(lines, start, None), strict=True)
        before = start
        try:
            for cells in reader:
                after = start + reader.line_num
                if _swallows(lines[before + 1 : after]):
                    yield _open_quote(before, after)
                    break
                yield ListRow(before + 1, tuple(cells))
                before = after
            else:
                return
        except csv.Error as error:
            if "field limit" in str(error):
                fact = f"a field has more than {csv.field_size_limit():,} characters"
                yield Fault(before + 1, fact, "Shorten the caption, or check for a missing comma.")
            else:
                yield _open_quote(before) if _is_open(lines[before]) else _stray_quote(before)
        start, faults = before + 1, faults + 1


def lines_of(text: str) -> list[str]:
    """Return the lines of a text with their line ends, as a CSV reader counts them."""
    return list(io.StringIO(text, newline=""))


def separator_of(line: str) -> str | None:
    """Return the name of the character that a line uses instead of commas; None if there is none."""
    found = {line.count(mark): name for mark, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars"))}
    return found[max(found)] if max(found) > line.count(",") else None


def looks_like_file(cell: str) -> bool:
    """Return whether a cell ends in the suffix of an image file."""
    return is_image_suffix(PurePath(cell.strip().strip("'\"")).suffix)


def _bytes_of(path: Path) -> bytes:
    """Read the file; UsageError if that fails, or if its first bytes are not those of text."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
            _check_head(head, path)
            return head + file.read()
    except FileNotFoundError as error:
        step = "Check its name, and put quotes around names with spaces."
        raise UsageError("there is no such file or folder", where=path, next_step=step) from error
    except OSError as error:
        fact = f"it cannot be read ({error.strerror or error})"
        if path.is_dir():
            fact = "it is a folder, not a list of pairs"
        raise UsageError(fact, where=path, next_step="Name a pairs.csv, saved as UTF-8 text.") from error


def _check_head(head: bytes, path: Path) -> None:
    kind = next((name for magic, name in _BINARY if head.startswith(magic)), None)
    image = sniff(head) or name_foreign(head)
    if kind is None and image:
        kind = "an image" if sniff(head) else with_article(image)
    if kind:
        raise UsageError(f"it is {kind}, not a list of pairs", where=path, next_step=SAVE)


def _undecodable(data: bytes, path: Path) -> UsageError:
    """Return the error for text in another encoding, with the lines and the first character in Windows-1252."""
    wrong = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        try:
            line.decode()
        except UnicodeDecodeError as error:
            wrong.append((number, line[error.start : error.start + 1]))
    number, byte = wrong[0]
    shown = byte.decode("cp1252", "replace")
    guess = f" ('{shown}' in Windows-1252)" if shown != "\ufffd" else ""
    others = f", and so are {len(wrong) - 1} more lines" if len(wrong) > 2 else ", and so is one more line"
    fact = f"line {number}: it is not UTF-8: byte 0x{byte[0]:02x}{guess}{others if len(wrong) > 1 else ''}"
    return UsageError(fact, where=path, next_step=_IN_EXCEL)


def _check_kind(text: str, path: Path) -> None:
    """Raise UsageError for text of another kind of file."""
    begin = text.lstrip()[:2]
    if not begin:
        raise UsageError("it is empty", where=path, next_step="Add a header line, and a line for each pair.")
    if begin[0] in "{[":
        raise UsageError("it is JSON, not CSV", where=path, next_step=SAVE)
    if begin[0] == "<":
        raise UsageError("it is HTML or XML, not CSV", where=path, next_step="Download the list itself, as CSV.")


def _is_open(line: str) -> bool:
    """Return whether a quote begins in this line and does not end there."""
    try:
        list(csv.reader([line], strict=True))
    except csv.Error as error:
        return "end of data" in str(error)
    return False


def _swallows(inner: Sequence[str]) -> bool:
    """Return whether the further lines of a row are pairs of their own, which a quote has swallowed."""
    return any(sum(map(looks_like_file, line.split(","))) >= 2 for line in inner)


def _open_quote(index: int, end: int | None = None) -> Fault:
    ending = "is not closed" if end is None else f"is closed only in line {end}, with other pairs in between"
    step = 'Write a caption as "remove noise", with a quote at both ends, or without quotes.'
    return Fault(index + 1, f'the quote (") that begins in this line {ending}', step)


def _stray_quote(index: int) -> Fault:
    step = 'Write quotes within a caption twice, as in "remove ""noise"" here".'
    return Fault(index + 1, 'text follows the quote (") that closes a field', step)
