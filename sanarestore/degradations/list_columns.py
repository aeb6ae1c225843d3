"""Columns of a list of pairs, identified by name; other common names are known, so that an error can suggest the right
one.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from sanarestore.degradations.faults import Fault, joined, refusal
from sanarestore.degradations.list_text import ListRow, looks_like_file, separator_of

COLUMNS = ("image_path", "condition_image_path", "caption")
"""Clean target, degraded input, prompt."""

HEADER = ",".join(COLUMNS)

_MEANINGS = ("clean target", "degraded input", "prompt")

_OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "image_path": (
        "target", "gt", "hq", "hr", "clean", "output", "ground_truth", "groundtruth", "sharp", "image", "original",
        "reference", "high", "after", "truth", "label",
    ),
    "condition_image_path": (
        "input", "lq", "lr", "degraded", "condition", "conditioning", "source", "noisy", "blurry", "blurred", "low",
        "before", "control", "distorted", "corrupted", "noise", "blur",
    ),
    "caption": ("prompt", "text", "instruction", "edit_prompt", "captions", "description", "prompts"),
}  # fmt: skip
"""Column -> other names in use for it."""

_ENDINGS = ("path", "paths", "file", "files", "filename", "image", "img", "name", "text")


def columns_of(header: ListRow, first_line: str, path: Path) -> dict[str, int]:
    """Return the place of each of `COLUMNS` in the header; letter case and spaces around names do not matter.

    UsageError if a column is missing or appears twice; it suggests the column that is probably meant.
    """
    names = [cell.strip().casefold() for cell in header.cells]
    missing = [column for column in COLUMNS if column not in names]
    double = [column for column in COLUMNS if names.count(column) > 1]
    if missing:
        raise refusal(path, [_without(missing, header, first_line)])
    if double:
        fact = f"there are two columns {double[0]}"
        raise refusal(path, [Fault(header.line, fact, "Remove one, or give it another name.")])
    return {column: names.index(column) for column in COLUMNS}


def is_header(cells: Sequence[str]) -> bool:
    """Return whether the cells name all `COLUMNS`."""
    return set(COLUMNS) <= {cell.strip().casefold() for cell in cells}


def _without(missing: Sequence[str], header: ListRow, first_line: str) -> Fault:
    """Return the fault of a first line that lacks columns."""
    line, cells = header.line, [cell.strip() for cell in header.cells]
    if re.match(r"sep=", cells[0], re.IGNORECASE):
        return Fault(line, "this line is Excel's declaration of the separator, not a header", "Remove the line.")
    separator = separator_of(first_line)
    if separator:
        return Fault(line, f"the columns are separated by {separator}, not by commas", "Save the list with commas.")
    if len(cells) == 1 and "," in cells[0]:
        return Fault(line, "a quote encloses the whole line", "Put quotes around single captions only.")
    if cells[0].startswith("#"):
        return Fault(line, "this line is a comment, not a header", "Remove the line.")
    guessed = {cell: guess for cell in cells if (guess := _meant(cell)) in missing}
    if any(map(looks_like_file, cells)) and not guessed:
        return Fault(line, "this line is a pair, and the header is missing", f"Begin with a line {HEADER}.")
    renamed = [f"'{cell}' to {guess}" for cell, guess in guessed.items()]
    columns = [f"{column} ({meaning})" for column, meaning in zip(COLUMNS, _MEANINGS, strict=True)]
    step = f"Rename {joined(renamed)}: the" if renamed else "The"
    noun = "column" if len(missing) == 1 else "columns"
    fact = f"there {'is' if len(missing) == 1 else 'are'} no {noun} {joined(missing)}"
    also = "; other columns are ignored" if len(missing) == 3 else ""
    return Fault(line, fact, f"{step} columns are {joined(columns)}{also}.")


def _meant(name: str) -> str | None:
    """Return the column that a name probably stands for."""
    parts = [part for part in re.split(r"[\W_]+", name.casefold()) if part]
    whole = "_".join(parts)
    while len(parts) > 1 and parts[-1] in _ENDINGS:
        parts = parts[:-1]
    short = "_".join(parts)
    for column in COLUMNS:
        if whole == column or whole in _OTHER_NAMES[column] or short in _OTHER_NAMES[column]:
            return column
    close = difflib.get_close_matches(whole, COLUMNS, n=1, cutoff=0.8)
    return close[0] if close else None
