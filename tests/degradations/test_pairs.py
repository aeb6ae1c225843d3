"""pairs.csv: written atomically, read back unchanged, and refused with the number of a wrong line."""

import os
from pathlib import Path

import pytest

from sanarestore.degradations.pairs import COLUMNS, Pair, PairRow, read_pairs, write_pairs
from sanarestore.errors import NoImagesError, UsageError


def files(folder: Path, *names: str) -> tuple[Path, ...]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return tuple(folder / name for name in names)


def row(target: Path, degraded: Path, prompt: str = "remove noise") -> PairRow:
    return PairRow(pair=Pair(target=target, degraded=degraded, prompt=prompt), label="noise:25", variant=3, sha256="ab")


def test_a_written_list_is_read_back_unchanged(tmp_path: Path) -> None:
    clean, degraded = files(tmp_path, "photos/ä, 'b'.png", "out/degraded/日本__v03.png")
    listed = tmp_path / "out" / "pairs.csv"
    write_pairs(listed, [row(clean, degraded, 'remove "noise", please\nnow')])
    (pair,) = read_pairs(listed)
    assert pair.target.samefile(clean)
    assert pair.degraded.samefile(degraded)
    assert pair.prompt == 'remove "noise", please\nnow'


def test_the_list_has_fixed_columns_and_relative_paths(tmp_path: Path) -> None:
    clean, degraded = files(tmp_path, "photos/a.png", "out/degraded/a__v03.png")
    write_pairs(tmp_path / "out" / "pairs.csv", [row(clean, degraded)])
    assert (tmp_path / "out" / "pairs.csv").read_bytes().decode() == (
        "image_path,condition_image_path,caption,label,variant,sha256\n"
        "../photos/a.png,degraded/a__v03.png,remove noise,noise:25,3,ab\n"
    )


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_relative_paths_are_valid_in_a_linked_folder(tmp_path: Path) -> None:
    clean, degraded = files(tmp_path, "photos/a.png", "deep/er/out/a__v03.png")
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er" / "out")
    write_pairs(tmp_path / "link" / "pairs.csv", [row(clean, tmp_path / "link" / degraded.name)])
    assert "../../../photos/a.png,a__v03.png," in (tmp_path / "link" / "pairs.csv").read_text(encoding="utf-8")
    (pair,) = read_pairs(tmp_path / "link" / "pairs.csv")
    assert pair.target.samefile(clean)
    assert pair.degraded.samefile(degraded)


def test_an_existing_list_stays_unchanged_when_writing_fails(tmp_path: Path) -> None:
    clean, degraded = files(tmp_path, "a.png", "b.png")
    listed = tmp_path / "pairs.csv"
    write_pairs(listed, [row(clean, degraded)])
    before = listed.read_bytes()

    def rows() -> object:
        yield row(clean, degraded)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pairs(listed, rows())  # type: ignore[arg-type]
    assert listed.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "pairs.csv"]


def test_a_handmade_list_is_read(tmp_path: Path) -> None:
    clean, degraded = files(tmp_path, "a.png", "b.png")
    listed = tmp_path / "mine.csv"
    listed.write_text(f"caption,condition_image_path,image_path\r\ndeblur,b.png,{clean}\r\n", encoding="utf-8-sig")
    assert read_pairs(listed) == (Pair(target=clean, degraded=degraded, prompt="deblur"),)


@pytest.mark.parametrize(
    ("text", "error", "fact"),
    [
        ("image_path,caption\na.png,x\n", UsageError, "no column condition_image_path"),
        (",".join(COLUMNS) + "\na.png,b.png,x\na.png,gone.png,x\n", UsageError, "line 3 names a file"),
        (",".join(COLUMNS) + "\n", NoImagesError, "lists no pairs"),
        ("", UsageError, "no column image_path"),
        (",".join(COLUMNS) + "\na.png,b.png\n", UsageError, "line 2 has no caption"),
        (",".join(COLUMNS) + "\na.png\n", UsageError, "line 2 has no condition_image_path"),
    ],
)
def test_invalid_lists_are_refused_with_the_reason(
    tmp_path: Path, text: str, error: type[Exception], fact: str
) -> None:
    files(tmp_path, "a.png", "b.png")
    (tmp_path / "pairs.csv").write_text(text, encoding="utf-8")
    with pytest.raises(error, match=r"pairs\.csv") as refusal:
        read_pairs(tmp_path / "pairs.csv")
    assert fact in str(refusal.value)


def test_missing_or_undecodable_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file or folder"):
        read_pairs(tmp_path / "gone.csv")
    (tmp_path / "latin.csv").write_bytes(b"image_path,condition_image_path,caption\n\xe9,b,c\n")
    with pytest.raises(UsageError, match="cannot be read"):
        read_pairs(tmp_path / "latin.csv")
