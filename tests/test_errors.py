"""Tests of errors: their sentence, pickling between processes, and exit codes."""

import pickle
from pathlib import Path

import pytest

from sanarestore import errors
from sanarestore.errors import ExitCode, ImageError, SanarestoreError, UnreadableImage, UsageError


def test_the_sentence_says_where_what_and_what_next() -> None:
    assert str(UsageError("2 is too small", where="--tile", next_step="Use 64.")) == "--tile: 2 is too small. Use 64."
    assert str(UsageError("2 is too small")) == "2 is too small."
    assert str(ImageError("it is empty", where=Path("a.png"))) == "a.png: it is empty."


def test_each_of_several_faults_has_a_line() -> None:
    error = UsageError("2 faults", where="a.csv", next_step="Correct them.", details=["line 2: one.", "line 3: two."])
    assert str(error) == "a.csv: 2 faults. Correct them.\n  line 2: one.\n  line 3: two."
    assert error.summary == "a.csv: 2 faults. Correct them."


@pytest.mark.parametrize("kind", [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SanarestoreError)])  # fmt: skip  # noqa: E501
def test_pickling_keeps_all_fields(kind: type[SanarestoreError]) -> None:
    error = kind("fact", where="place", next_step="Step.", details=("line 2: one", "line 3: two"))
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (copy.fact, copy.where, copy.next_step) == ("fact", "place", "Step.")
    assert copy.details == ("line 2: one", "line 3: two")
    assert str(copy) == str(error)


def test_exit_codes_equal_the_documented_ones() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "DONE": 0, "SOME_FAILED": 1, "USAGE": 2, "NO_IMAGES": 3, "WEIGHTS": 4, "INTERRUPTED": 130,
    }  # fmt: skip
    codes = {kind.__name__: kind.exit_code for kind in SanarestoreError.__subclasses__()}
    assert codes == {
        "UsageError": 2, "ImageError": 1, "NoImagesError": 3, "WeightsError": 4, "OutOfMemory": 1,
        "DiskFull": 1, "Diverged": 1,
    }  # fmt: skip
    assert UnreadableImage("gone").exit_code == 1


def test_the_documented_tree_lists_all_errors() -> None:
    documented = (errors.__doc__ or "").split("\n\n")[1]
    named = [line.replace("|", " ").replace("+-", " ").split()[0] for line in documented.splitlines()]
    defined = [name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert named == defined
