"""pairs.csv: written atomically, read back unchanged, and refused with all faults by line."""

import os
from pathlib import Path

import pytest

from sanarestore.degradations.list_columns import COLUMNS
from sanarestore.degradations.pairs import Pair, PairRow, read_pairs, write_pairs
from sanarestore.errors import UsageError


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


HEAD = ",".join(COLUMNS) + "\n"
OK = "c0.png,n0.png,remove noise\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files to list, different from the current one."""
    files(tmp_path, *(f"lists/{kind}{number}.png" for kind in "cn" for number in range(4)), "lists/sub/Noisy.TIF")
    files(tmp_path, "here.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "lists"


def refused(listed: Path, content: str | bytes) -> str:
    listed.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError) as refusal:
        read_pairs(listed)
    assert str(refusal.value).startswith(f"{listed}: ")
    return str(refusal.value).removeprefix(f"{listed}: ")


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        ("", "it is empty. Add a header line"),
        (" \n\n", "it is empty"),
        ("\ufeff", "it is empty"),
        (HEAD, "lists no pairs. Add a line for each pair."),
        (HEAD + "\n,,\n", "lists no pairs"),
        ((HEAD + OK).encode("utf-16"), "it is UTF-16 text, not UTF-8. Save it as UTF-8; in Excel"),
        ((HEAD + OK).encode("utf-16-le"), "it looks like UTF-16 text"),
        ((HEAD + OK).encode("utf-32"), "it is UTF-32 text"),
        ((HEAD + OK + "c1.png,n1.png,entferne Störung\n").encode("cp1252"), "line 3: it is not UTF-8: byte 0xf6 ('ö'"),
        ((HEAD + 2 * "c1.png,n1.png,é\n").encode("latin-1"), "and so is one more line"),
        (HEAD + "c0.png,n0\0.png,\n", "line 2: there is a NUL byte"),
        (b"PK\3\4" + bytes(80), "it is an Excel workbook or a ZIP file"),
        (b"\xd0\xcf\x11\xe0" + bytes(80), "it is an old Excel workbook"),
        (b"PAR1" + bytes(80), "it is a Parquet file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(80), "it is an image, not a list of pairs"),
        (b"GIF89a" + bytes(80), "it is a GIF file"),
        ('[{"image_path": "c0.png"}]', "it is JSON, not CSV"),
        ('{"image_path": "c0.png"}\n', "it is JSON, not CSV"),
        ("<!DOCTYPE html>\n<html>", "it is HTML or XML, not CSV"),
        ((HEAD + OK).replace(",", ";"), "line 1: the columns are separated by semicolons, not by commas"),
        ((HEAD + OK).replace(",", "\t"), "line 1: the columns are separated by tabs"),
        ((HEAD + OK).replace(",", "|"), "line 1: the columns are separated by vertical bars"),
        ("sep=;\n" + HEAD, "line 1: this line is Excel's declaration of the separator"),
        ('"' + HEAD.strip() + '"\n', "line 1: a quote encloses the whole line"),
        ("# my pairs\n" + HEAD + OK, "line 1: this line is a comment"),
        (OK + OK, "line 1: this line is a pair, and the header is missing. Begin with a line image_path,"),
        ("image_path,caption\nc0.png,x\n", "line 1: there is no column condition_image_path"),
        ("image_path,condition_image_path\nc0.png,n0.png\n", "line 1: there is no column caption"),
        ("target,input,prompt\n" + OK, "Rename 'target' to image_path, 'input' to condition_image_path and 'prompt'"),
        ("gt_path,lq_path,text\n" + OK, "Rename 'gt_path' to image_path, 'lq_path' to condition_image_path and 'text'"),
        ("image path,condition-image-path,caption\n" + OK, "Rename 'image path' to image_path"),
        ("image_path,condition_image,caption\n" + OK, "Rename 'condition_image' to condition_image_path"),
        ("image_path,image_path,condition_image_path,caption\n", "line 1: there are two columns image_path"),
        ("image_path,condition_image_path,capt\"ion\n\"", "line 1: there is no column caption"),
        (HEAD + OK + 'c1.png,n1.png,"remove noise\n' + "c2.png,n2.png,x\n", 'line 3: the quote (") that begins'),
        (HEAD + 'c1.png,n1.png,"noise\n' + OK + 'c2.png,n2.png,"x"\n', 'line 2: the quote (") that begins'),
        (HEAD + 'c1.png,n1.png,"noise\n' + OK + 'c2.png,n2.png,blur"\n', "closed only in line 4, with other pairs"),
        (HEAD + "c1.png,n1.png," + "x" * 200_000 + "\n", "line 2: a field has more than 131,072 characters"),
        (HEAD + 'c1.png,n1.png,"remove "noise" now"\n', 'line 2: text follows the quote (")'),
        (HEAD + "c0.png,n0.png,remove noise, then blur\n", "there are 4 fields, and the header has 3. Put quotes"),
        (HEAD + 'c0.png,n0.png, "noise, blur"\n', "Remove the spaces in front of quotes"),
        (HEAD + "c0.png,n0.png,“noise, blur”\n", "Use straight quotes"),
        (HEAD + "c0.png,n0.png\n", "line 2: there are only 2 fields, so that it has no caption"),
        (HEAD + "c0.png\n", "line 2: there is only 1 field, so that it has no condition_image_path and no caption"),
        (HEAD + "c0.png;n0.png;x\n", "Fields are separated by semicolons here"),
        (HEAD + "# second shoot\n" + OK, "Remove comments"),
        (HEAD + OK + HEAD, "line 3: this line repeats the header"),
        (HEAD + ",n0.png,x\n", "line 2: a path is empty"),
        (HEAD + "c0.png,  ,x\n", "line 2: a path is empty"),
        (HEAD + OK + "\n\nc1.png,gone.png,x\n", "line 5: there is no file gone.png"),
        (HEAD + "c0.png,nowhere/n0.png,x\n", "There is no folder"),
        (HEAD + "c0.png,sub,x\n", "line 2: sub is a folder, not an image"),
        (HEAD + "c0.png,N0.PNG,x\n", "n0.png is there, which differs in letter case"),
        (HEAD + "c0.png,n0.jpg,x\n", "n0.png is there, which differs in its suffix"),
        (HEAD + "c0.png,nn0.png,x\n", "Is n0.png meant?"),
        (HEAD + "c0.png,here.png,x\n", "Write ../here.png"),
        (HEAD + "c0.png,/elsewhere/n0.png,x\n", "There is a file of this name beside the list: write n0.png"),
        (HEAD + "c0.png,C:\\photos\\n0.png,x\n", "It is a Windows path"),
        (HEAD + "c0.png,sub\\Noisy.TIF,x\n", "Write / in place of \\ between folders"),
        (HEAD + "c0.png,~/n0.png,x\n", "~ and variables are not expanded"),
        (HEAD + "c0.png,$HOME/n0.png,x\n", "~ and variables are not expanded"),
        (HEAD + "c0.png,file:///n0.png,x\n", "without file://"),
        (HEAD + "c0.png,https://example.com/n0.png,x\n", "It is an address: download the image"),
        (HEAD + "c0.png, n0.png,x\n", "Remove the spaces around the path"),
        (HEAD + "c0.png,'n0.png',x\n", "Remove the ' around the path"),
        (HEAD + f"c0.png,{'n' * 300}.png,x\n", "line 2: there is no file nnn"),
        (HEAD + "remove noise,c0.png,x\n", "It reads like a caption: check the order of the columns"),
        (HEAD + "c0.png,n0.png,n1.png\n", "line 2: the caption 'n1.png' is a file name"),
        (HEAD + OK + "c1.png,n1.png,x\n" + OK, "line 4: this pair is already in line 2 already"),
        (HEAD + OK + "./c0.png,sub/../n0.png,remove noise\n", "line 3: this pair is already in line 2 already"),
        (HEAD + "c0.png,c0.png,x\n", "line 2: target and degraded input are the same file, c0.png"),
        (HEAD + "c0.png,n0.png,x\nc1.png,n0.png,x\n", "line 3: n0.png has another target in line 2"),
    ],
)  # fmt: skip
def test_a_wrong_list_is_refused_with_one_clear_message(folder: Path, content: str | bytes, fact: str) -> None:
    message = refused(folder / "pairs.csv", content)
    assert fact in message
    assert "\n" not in message, "one fault takes one line"


def test_all_faults_are_named_by_line_in_order(folder: Path) -> None:
    rows = ("c0.png,gone.png,x", 'c1.png,n1.png,"x', "c2.png,c2.png,x", "c3.png,missing.png,x", "c1.png,n1.png")
    first, *lines = refused(folder / "pairs.csv", HEAD + "\n".join(rows)).splitlines()
    assert first == "the list has 5 faults. Correct them and run the command again."
    assert [line.split(":")[0] for line in lines] == [f"  line {number}" for number in range(2, 7)]
    assert "Paths are relative" in lines[0]
    assert "Paths are relative" not in lines[3], "a step is said once"


def test_of_many_faults_twenty_are_listed(folder: Path) -> None:
    lines = refused(folder / "pairs.csv", HEAD + "gone.png,n0.png,x\n" * 500).splitlines()
    assert len(lines) == 22
    assert lines[0].startswith("the list has 500 faults")
    assert lines[-1] == "  and 480 more"


@pytest.mark.parametrize(
    "content",
    [
        ("\ufeff" + HEAD + OK).encode(),
        (HEAD + "\n" + OK + "\n,,\n").replace("\n", "\r\n").encode(),
        (HEAD + OK).replace("\n", "\r").encode(),
        b" Image_Path , CONDITION_IMAGE_PATH,caption\n" + OK.encode(),
        (HEAD.strip() + ",label,\n" + OK.strip() + ",noise:5,\n").encode(),
        (HEAD.strip() + ",label\n" + OK).encode(),
        (HEAD.strip() + '\n"c0.png","n0.png","remove noise"').encode(),
    ],
)
def test_harmless_variations_are_read(folder: Path, content: bytes) -> None:
    (folder / "pairs.csv").write_bytes(content)
    (pair,) = read_pairs(folder / "pairs.csv")
    assert pair == Pair(target=folder / "c0.png", degraded=folder / "n0.png", prompt="remove noise")


def test_a_caption_may_hold_lines_quotes_commas_and_bars(folder: Path) -> None:
    (folder / "pairs.csv").write_text(HEAD + 'c0.png,n0.png,"noise, ""or"" blur\nnow|later"\nc1.png,n1.png,5" lens\n')
    pairs = read_pairs(folder / "pairs.csv")
    assert [pair.prompt for pair in pairs] == ['noise, "or" blur\nnow|later', '5" lens']
    assert [pair.line for pair in pairs] == [2, 4]


def test_an_image_may_have_several_captions_and_a_degraded_one_several_targets(folder: Path) -> None:
    rows = "c0.png,n0.png,remove noise\nc0.png,n0.png,denoise\nc1.png,n0.png,sharpen\n"
    (folder / "pairs.csv").write_text(HEAD + rows)
    assert len(read_pairs(folder / "pairs.csv")) == 3


def test_a_name_that_only_looks_strange_is_read(folder: Path) -> None:
    for name in ("~a.png", " b.png", "c$x.png"):
        (folder / name).touch()
    (folder / "pairs.csv").write_text(HEAD + "~a.png,n0.png,\n b.png,n1.png,\nc$x.png,n2.png,\n")
    assert [pair.target.name for pair in read_pairs(folder / "pairs.csv")] == ["~a.png", " b.png", "c$x.png"]


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_links_to_one_file_are_one_file(folder: Path) -> None:
    (folder / "link.png").symlink_to("c0.png")
    (folder / "dead.png").symlink_to("gone.png")
    assert "the same file" in refused(folder / "pairs.csv", HEAD + "c0.png,link.png,x\n")
    assert "a link to a file that is missing" in refused(folder / "pairs.csv", HEAD + "c0.png,dead.png,x\n")


def test_a_missing_list_and_a_folder_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file or folder"):
        read_pairs(folder / "gone.csv")
    (folder / "sub.csv").mkdir()
    with pytest.raises(UsageError, match="it is a folder, not a list of pairs"):
        read_pairs(folder / "sub.csv")
