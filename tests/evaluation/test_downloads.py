"""Tests of downloads of test sets: only files equal to the published ones are kept."""

import hashlib
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from sanarestore.cli.app import run
from sanarestore.errors import NoImagesError, UsageError
from sanarestore.evaluation import datasets
from sanarestore.evaluation.datasets import find_set
from sanarestore.evaluation.downloads import download, pixel_hash
from sanarestore.evaluation.public import SETS, Archive, Remote
from tests.conftest import save_photo

NAMES = [f"kodim{number:02d}.png" for number in range(1, 25)]


class Server(http.server.ThreadingHTTPServer):
    """A local HTTP server of a folder; `asked` lists the requested paths."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments: object) -> None:
                super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

            def log_message(self, *_: object) -> None:
                asked.append(self.path)

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder of 24 tiny pictures with the names of Kodak's."""
    for number, name in enumerate(NAMES):
        save_photo(tmp_path / "published" / name, 8, 12, seed=number)
    return tmp_path / "published"


@pytest.fixture
def server(published: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    hashes = {name: pixel_hash((published / name).read_bytes()) for name in NAMES}
    with Server(published) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        remote = Remote(address=f"http://127.0.0.1:{server.server_port}/{{name}}", sha256=hashes)
        monkeypatch.setitem(datasets.SETS, "kodak24", replace(SETS["kodak24"], remote=remote))  # type: ignore[arg-type]
        yield server
        server.shutdown()


def test_a_whole_set_is_downloaded_once(tmp_path: Path, server: Server) -> None:
    assert list(download("Kodak24", tmp_path / "data")) == [(done, 24) for done in range(25)]
    assert [item.name for item in find_set("kodak24", tmp_path / "data")] == NAMES
    assert len(server.asked) == 24
    assert list(download("kodak24", tmp_path / "data")) == []
    assert len(server.asked) == 24


def test_an_interrupted_download_continues(tmp_path: Path, server: Server, published: Path) -> None:
    gone = (published / NAMES[5]).read_bytes()
    (published / NAMES[5]).unlink()
    with pytest.raises(NoImagesError, match=r"kodim06\.png: cannot be fetched .*404"):
        list(download("kodak24", tmp_path))
    assert sorted(path.name for path in (tmp_path / "kodak24").iterdir()) == NAMES[:5]
    (published / NAMES[5]).write_bytes(gone)
    assert list(download("kodak24", tmp_path)) == [(done, 24) for done in range(5, 25)]
    assert len(find_set("kodak24", tmp_path)) == 24
    assert [server.asked.count(f"/{name}") for name in NAMES[:5]] == [1] * 5, "no file is downloaded twice"


def test_a_picture_that_differs_from_the_published_one_is_not_kept(
    tmp_path: Path, server: Server, published: Path
) -> None:
    save_photo(published / NAMES[0], 8, 12, seed=99)
    with pytest.raises(NoImagesError, match="not the image that was published"):
        list(download("kodak24", tmp_path))
    (published / NAMES[0]).write_text("<html>moved</html>")
    with pytest.raises(NoImagesError, match="no image"):
        list(download("kodak24", tmp_path))
    assert not (tmp_path / "kodak24").exists()
    assert server.asked


def test_a_set_with_other_file_names_is_not_changed(tmp_path: Path, server: Server) -> None:
    for number in range(1, 24):
        save_photo(tmp_path / f"kodak24/{number}.png", 8, 12)
    with pytest.raises(UsageError, match=r"files of other names.*1\.png"):
        list(download("kodak24", tmp_path))
    save_photo(tmp_path / "kodak24/24.png", 8, 12)
    assert list(download("kodak24", tmp_path)) == []
    assert not server.asked
    assert len(find_set("kodak24", tmp_path)) == 24


@pytest.mark.usefixtures("server")
def test_a_partial_file_of_a_crash_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "kodak24").mkdir()
    (tmp_path / "kodak24/.kodim01.png.part").write_bytes(b"half")
    assert len(list(download("kodak24", tmp_path))) == 25


class Ranged(Server):
    """A server of one file that supports ranges if `ranges` is set and stops at `end` unless that is None."""

    def __init__(self, content: bytes) -> None:
        super().__init__(Path())
        self.content = content
        self.end: int | None = None
        self.ranges = True
        server, asked = self, self.asked

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range") if server.ranges else None
                asked.append(wanted or "all")
                first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
                self.send_response(416 if first >= len(content) else 206 if wanted else 200)
                self.send_header("Content-Length", str(len(content) - first))
                self.end_headers()
                self.wfile.write(content[first : server.end])

            def log_message(self, *_: object) -> None:
                pass

        self.RequestHandlerClass = Handler


@pytest.fixture
def archived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ranged]:
    """A server of an archive like DIV2K's, with 100 pictures and files that are not part of the set."""
    picture = save_photo(tmp_path / "picture.png", 8, 12).read_bytes()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(801, 901):
            archive.writestr(f"DIV2K_valid_HR/{number:04d}.png", picture)
        archive.writestr("DIV2K_valid_HR/README.txt", "terms")
        archive.writestr("../elsewhere.png", picture)
        archive.writestr("DIV2K_valid_HR/padding", np.random.default_rng(0).bytes(3 * 2**20))
    content = packed.getvalue()
    with Ranged(content) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/DIV2K_valid_HR.zip"
        remote = Archive(address=address, md5=hashlib.md5(content, usedforsecurity=False).hexdigest())
        monkeypatch.setitem(datasets.SETS, "div2k-val", replace(SETS["div2k-val"], remote=remote))  # type: ignore[arg-type]
        yield server
        server.shutdown()


def test_an_archive_is_downloaded_and_unpacked_once(tmp_path: Path, archived: Ranged) -> None:
    steps = list(download("div2k-val", tmp_path / "data"))
    assert steps[-1] == (3, 3), "progress is in MiB"
    assert len(find_set("div2k-val", tmp_path / "data")) == 100
    assert len(list((tmp_path / "data").rglob("*"))) == 1 + 100, "only the folder and its pictures are kept"
    assert (tmp_path / "data/div2k-val/0801.png").read_bytes() == (tmp_path / "picture.png").read_bytes()
    assert list(download("div2k-val", tmp_path / "data")) == []
    assert archived.asked == ["all"]


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_archive_download_continues(tmp_path: Path, archived: Ranged, ranges: bool) -> None:
    archived.end = 2 * 2**20
    with pytest.raises(NoImagesError, match=r"ended after 2097152 of \d+ bytes.*what was fetched is kept"):
        list(download("div2k-val", tmp_path / "data"))
    archived.end, archived.ranges = None, ranges
    first, *_ = download("div2k-val", tmp_path / "data")
    assert first == ((3, 3) if ranges else (1, 3))
    assert len(find_set("div2k-val", tmp_path / "data")) == 100
    assert archived.asked == ["all", "bytes=2097152-" if ranges else "all"]


def test_a_complete_partial_archive_is_not_downloaded_twice(tmp_path: Path, archived: Ranged) -> None:
    part = tmp_path / "data/div2k-val/.DIV2K_valid_HR.zip.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(archived.content)
    assert list(download("div2k-val", tmp_path / "data")) == []
    assert archived.asked == [f"bytes={len(archived.content)}-"]
    assert len(find_set("div2k-val", tmp_path / "data")) == 100


def test_an_archive_that_differs_from_the_published_one_is_not_kept(tmp_path: Path, archived: Ranged) -> None:
    remote = SETS["div2k-val"].remote
    assert isinstance(remote, Archive)
    wrong = replace(SETS["div2k-val"], remote=replace(remote, md5="0" * 32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(datasets.SETS, "div2k-val", wrong)  # type: ignore[arg-type]
        with pytest.raises(NoImagesError, match="not the archive that was published"):
            list(download("div2k-val", tmp_path / "data"))
    assert list((tmp_path / "data/div2k-val").iterdir()) == []
    assert archived.asked


def test_hashing_a_damaged_file_raises_only_os_errors(published: Path) -> None:
    whole = (published / NAMES[0]).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(2000):
        damaged = bytearray(whole)
        damaged[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        with suppress(OSError):
            pixel_hash(bytes(damaged))


@pytest.mark.usefixtures("server")
def test_a_recompressed_png_counts_as_the_same_picture(tmp_path: Path, published: Path) -> None:
    before = (published / NAMES[0]).read_bytes()
    with PillowImage.open(published / NAMES[0]) as opened:
        opened.load()
    opened.save(published / NAMES[0], compress_level=0)
    assert (published / NAMES[0]).read_bytes() != before
    assert len(list(download("kodak24", tmp_path))) == 25


def test_errors_say_whether_a_set_can_be_downloaded(tmp_path: Path) -> None:
    assert list(download("urban100", tmp_path)) == []
    with pytest.raises(NoImagesError) as caught:
        find_set("kodak24", tmp_path)
    assert "or fetch them with --download" in str(caught.value)
    with pytest.raises(NoImagesError) as caught:
        find_set("urban100", tmp_path)
    assert "--download has no stable address of it" in str(caught.value)


@pytest.mark.parametrize("name", ["kodak24", "set12", "classic5"])
def test_the_stored_hashes_equal_those_of_the_real_sets(name: str, real_data: Path) -> None:
    remote = SETS[name].remote
    assert isinstance(remote, Remote)
    found = {pixel_hash(item.clean.read_bytes()) for item in find_set(name, real_data)}
    assert found == set(remote.sha256.values())


def test_the_command_downloads_only_on_request(
    tmp_path: Path, tiny_folder: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bench", "kodak24", "--data-dir", str(tmp_path / "data"), "--model", str(tiny_folder), "--sigma", "25"]
    command += ["--limit", "1", "--threads", "1"]
    assert run(command) == 3
    assert not server.asked
    assert run([*command, "--download"]) == 0
    assert "kodak24, 1 image" in capsys.readouterr().out
