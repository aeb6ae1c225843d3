"""The public test sets: what they hold, how their authors lay them out, where they are found on this machine.

None of them comes with sanarestore. A folder of one's own, of clean images or of pairs, is a set too.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from PIL import Image as PillowImage

from sanarestore import images
from sanarestore.degradations.operations import Pixels
from sanarestore.degradations.pairs import read_pairs
from sanarestore.errors import NoImagesError, UnreadableImage, UsageError

MISSING_NAMED = 5
"""Files that are missing, of which a message tells the names."""

VARIABLE = "SANARESTORE_DATA"
"""Environment variable that names the folder of sets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """One way in which a set's files are named, as regular expressions of paths below its folder."""

    clean: str
    """Of clean files; where there are pairs, its groups name the pair."""
    degraded: str | None = None
    """Of degraded files, with the same groups; None where the set is clean."""
    example: str
    """Of a path, to show."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Remote:
    """A stable public address of a set's files, one by one."""

    address: str
    """With {name} for a file's."""
    sha256: Mapping[str, str]
    """File name -> the first 16 digits of its hash, of the pixels as 8-bit RGB: recompressed, it is the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Set:
    """A published test set."""

    name: str
    title: str
    count: int
    """Images, or pairs."""
    task: str
    """What it is mostly used for: the default task."""
    layouts: tuple[Layout, ...]
    published: str
    """Where its authors, or those who have it from them, publish it."""
    remote: Remote | None = None
    """Where `download` fetches it; None where only archives are published, or addresses that come and go."""
    names: tuple[str, ...] = ()
    """Of its images without suffixes, in lower case; empty where they go by several."""
    folders: tuple[str, ...] = ()
    """What its archives call the folder, in lower case, besides its name."""


def _flat(pattern: str, example: str, more: str = "") -> Layout:
    """Files of any lossless format, and of those of `more`, in the folder, or one folder below."""
    return Layout(clean=rf"(?:[^/]+/)?(?:{pattern})\.(?:png|bmp|tiff?{more})", example=example)


def _numbered(pattern: str, first: int, last: int) -> tuple[str, ...]:
    return tuple(pattern.format(number) for number in range(first, last + 1))


_LIVE1 = (
    "bikes|building2|buildings|caps|carnivaldolls|cemetry|churchandcapitol|coinsinfountain|dancers|flowersonih35|house|"
    "lighthouse2|lighthouse3|manfishing|monarch|ocean|paintedhouse|parrots|plane|rapids|sailing[1-4]|statue|stream|"
    "studentsculpture|woman|womanhat"
)
_SET14 = "baboon|barbara|bridge|coastguard|comic|face|flowers|foreman|lenna|man|monarch|pepper|ppt3|zebra"
_CLASSIC5 = "baboon|barbara|boats|lena|peppers"

_KODAK = (
    "a002107433535944", "ae5a495df4ec40e0", "234e61f585503f2a", "e88e788fca00e6c7", "ed3d1ee770909d3b",
    "7f45158999fa297d", "4e3664bf6fe865b4", "889c3740e4ed54ca", "f8453140e63a4230", "fabe11b5c4f02839",
    "ab4dd9bf8431e717", "f412db2168e59994", "875703d56fb9396f", "2bd5029ee75ac169", "b5353e7511277009",
    "ed21745fd32fce95", "566bc866664e9b06", "3475af71066f3ca8", "7956408ef24222d3", "666ce8f2db5566a1",
    "2d6902daf7c4486b", "f430842120c108b6", "81992a83592267e6", "e3e3ccc3e795b82a",
)  # fmt: skip

SETS: Mapping[str, Set] = {
    each.name: each
    for each in (
        Set(
            name="urban100", title="Urban100 (Huang et al. 2015)", count=100, task="denoise",
            layouts=(
                _flat(r"img_\d{3}", "img_001.png"),
                _flat(r"img\d{3}", "HR/img001.png"),
                Layout(clean=r"(?:image_SRF_4/)?img_\d{3}_SRF_4_HR\.png", example="img_001_SRF_4_HR.png"),
            ),
            published="https://github.com/jbhuang0604/SelfExSR", names=_numbered("img_{:03d}", 1, 100),
        ),
        Set(
            name="cbsd68", title="CBSD68 (Martin et al. 2001; Roth & Black 2009)", count=68, task="denoise",
            # As Berkeley has them, these are JPEG files of the best quality.
            layouts=(_flat(r"\d{4,6}", "101085.png", "|jpe?g"), _flat(r"test\d{3}|\d{4}", "0001.png")),
            published="https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/bsds/",
        ),
        Set(
            name="kodak24", title="Kodak (Eastman Kodak 1993)", count=24, task="denoise",
            layouts=(_flat(r"(?:kodim)?\d{1,2}", "kodim01.png"),),
            published="https://r0k.us/graphics/kodak/",
            remote=Remote(
                address="https://r0k.us/graphics/kodak/kodak/{name}",
                sha256={f"kodim{number:02d}.png": sha256 for number, sha256 in enumerate(_KODAK, start=1)},
            ),
            names=_numbered("kodim{:02d}", 1, 24), folders=("kodak",),
        ),
        Set(
            name="mcmaster", title="McMaster (Zhang et al. 2011)", count=18, task="denoise",
            layouts=(_flat(r"(?:McM)?\d{1,2}", "1.tif"),),
            published="https://www4.comp.polyu.edu.hk/~cslzhang/CDM_Dataset.htm",
        ),
        Set(
            name="set12", title="Set12 (Zhang et al. 2017)", count=12, task="denoise",
            layouts=(_flat(r"\d{2}", "01.png"),), published="https://github.com/cszn/DnCNN",
            names=_numbered("{:02d}", 1, 12),
        ),
        Set(
            name="set14", title="Set14 (Zeyde et al. 2010)", count=14, task="sr",
            layouts=(_flat(_SET14, "baboon.png"), _flat(r"img_\d{3}(?:_SRF_4_HR)?", "img_001_SRF_4_HR.png")),
            published="https://github.com/jbhuang0604/SelfExSR", names=tuple(_SET14.split("|")),
        ),
        Set(
            name="bsd100", title="BSD100 (Martin et al. 2001)", count=100, task="sr",
            layouts=(
                _flat(r"\d{4,6}", "101085.png", "|jpe?g"), _flat(r"img_\d{3}(?:_SRF_4_HR)?", "img_001_SRF_4_HR.png"),
            ),
            published="https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/bsds/",
        ),
        Set(
            name="live1", title="LIVE1 (Sheikh et al. 2006)", count=29, task="jpeg",
            layouts=(_flat(_LIVE1, "bikes.bmp"),), published="https://live.ece.utexas.edu/research/quality/subjective.htm",
            names=tuple(_LIVE1.replace("sailing[1-4]", "sailing1|sailing2|sailing3|sailing4").split("|")),
        ),
        Set(
            name="classic5", title="Classic5 (Foi et al. 2007)", count=5, task="jpeg",
            layouts=(_flat(_CLASSIC5, "baboon.bmp"), _flat("[1-5]", "1.png")),
            published="https://webpages.tuni.fi/foi/SA-DCT/", names=tuple(_CLASSIC5.split("|")),
        ),
        Set(
            name="div2k-val", title="DIV2K validation (Agustsson & Timofte 2017)", count=100, task="denoise",
            layouts=(_flat(r"0[89]\d\d", "DIV2K_valid_HR/0801.png"),), published="https://data.vision.ee.ethz.ch/cvl/DIV2K/",
            names=_numbered("{:04d}", 801, 900), folders=("div2k_valid_hr", "div2k"),
        ),
        Set(
            name="sidd-val", title="SIDD validation blocks, sRGB (Abdelhamed et al. 2018)", count=1280, task="real",
            layouts=(
                Layout(
                    clean=r"Validation(Gt)BlocksSrgb\.mat", degraded=r"Validation(Noisy)BlocksSrgb\.mat",
                    example="ValidationNoisyBlocksSrgb.mat",
                ),
            ),
            published="https://www.eecs.yorku.ca/~kamel/sidd/benchmark.php",
        ),
        Set(
            name="nam", title="Nam, the 15 crops (Nam et al. 2016)", count=15, task="real",
            layouts=(
                Layout(
                    clean=r"(?:[^/]+/)?(.+)_mean\.png", degraded=r"(?:[^/]+/)?(.+)_real\.png",
                    example="5dmark3_iso3200_1_real.png",
                ),
            ),
            published="https://github.com/woozzu/ccnoise",
        ),
        Set(
            name="realsr", title="RealSR version 3, x4 (Cai et al. 2019)", count=100, task="real",
            layouts=(
                Layout(
                    clean=r"(?:(?:[^/]+/)?(?:Canon|Nikon)/Test/4/)?((?:Canon|Nikon)_\d{3})_HR\.png",
                    degraded=r"(?:(?:[^/]+/)?(?:Canon|Nikon)/Test/4/)?((?:Canon|Nikon)_\d{3})_LR4\.png",
                    example="Canon/Test/4/Canon_001_LR4.png",
                ),
            ),
            published="https://github.com/csjcai/RealSR", folders=("realsr(v3)",),
        ),
    )
}  # fmt: skip
"""Every set that is known by name."""

GRAY = ("set12", "classic5")
"""Those that are gray as they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One image of a set, or one pair; small, so that it can be sent to another process."""

    name: str
    clean: Path
    degraded: Path | None = None
    prompt: str | None = None
    """What a list of pairs says is to be asked; None for the default."""
    block: int | None = None
    """Which block of a .mat file."""

    def read(self) -> tuple[Pixels, Pixels | None]:
        """Clean and degraded [H, W, 1 or 3] in [0, 1]; UnreadableImage says what is wrong."""
        return _pixels(self.clean, self.block), _pixels(self.degraded, self.block) if self.degraded else None


def find_set(name: str, data_dir: Path | None = None) -> tuple[Item, ...]:
    """The items of a set, in order of their names.

    Looked for in `data_dir`, else in the folder that SANARESTORE_DATA names, else in the cache, in a folder of the
    set's name. UsageError for an unknown name, NoImagesError if the files are not there: it says which, and where from.
    """
    known = SETS.get(name.lower())
    if known is None:
        raise UsageError(f"'{name}' is no set that is known", where="bench", next_step=f"Known: {', '.join(SETS)}.")
    folder = _folder(known, data_folder(data_dir))
    found = [_paired(layout, folder) for layout in known.layouts] if folder.is_dir() else []
    items: Sequence[Item] = max(found, key=len, default=())
    if known.name == "sidd-val" and items:
        items = _blocks(items[0], known.count)
    if len(items) != known.count:
        examples = ", or ".join(layout.example for layout in known.layouts)
        there = _short_of(known, items) if folder.is_dir() else f"{known.title} is not there"
        raise NoImagesError(
            there, where=folder,
            next_step=f"Put its {known.count} {'pairs' if known.layouts[0].degraded else 'images'} there, named as "
            f"{examples}: they are published at {known.published}. Or name another folder with --data-dir"
            f"{', or fetch them with --download' if known.remote else '; --download has no stable address of it'}.",
        )  # fmt: skip
    return tuple(items)


def _folder(known: Set, parent: Path) -> Path:
    """The set's, whatever the case of its letters, or what its archive makes; where it should be, if none is there."""
    wanted = (known.name, *known.folders)
    there = {path.name.lower(): path for path in sorted(parent.iterdir())} if parent.is_dir() else {}
    return next((there[name] for name in wanted if name in there), parent / known.name)


def _short_of(known: Set, items: Sequence[Item]) -> str:
    """How many of a set's files are there, and which are not, if that can be told."""
    counted = f"{len(items)} of {known.count} files of {known.title} are there"
    stems = [item.clean.stem.lower() for item in items]
    if len(items) > known.count:
        strange = [stem for stem in stems if known.names and stem not in known.names]
        return f"{counted}: more than it has{', as ' + strange[0] if strange else ''}"
    missing = [name for name in known.names if name not in stems]
    # By another naming, all would be.
    if not items or len(missing) != known.count - len(items):
        return counted
    more = f" and {len(missing) - MISSING_NAMED} more" if len(missing) > MISSING_NAMED else ""
    return f"{counted}, without {', '.join(missing[:MISSING_NAMED])}{more}"


def find_folder(path: Path) -> tuple[Item, ...]:
    """The items of a folder of clean images, of a pairs.csv, or of a folder that holds one. NoImagesError if none."""
    listed = path / "pairs.csv" if path.is_dir() else path
    if listed.suffix.lower() == ".csv" and listed.is_file():
        pairs = read_pairs(listed)
        return tuple(
            Item(
                name=_below(pair.degraded, listed.parent), clean=pair.target, degraded=pair.degraded,
                prompt=pair.prompt or None,
            )
            for pair in pairs
        )  # fmt: skip
    found = images.find([path]).images
    if not found:
        raise NoImagesError("holds no image that we read", where=path)
    return tuple(Item(name=each.relative.as_posix(), clean=each.path) for each in found)


def _below(path: Path, folder: Path) -> str:
    """The path from the folder on, which tells images of one name apart; whole where it lies elsewhere."""
    path, folder = path.absolute(), folder.absolute()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


def data_folder(data_dir: Path | None) -> Path:
    """Where sets are looked for."""
    if data_dir is not None:
        return data_dir
    named = os.environ.get(VARIABLE)
    return Path(named) if named else platformdirs.user_cache_path("sanarestore") / "data"


def _paired(layout: Layout, folder: Path) -> list[Item]:
    clean = _matching(layout.clean, folder)
    if layout.degraded is None:
        return [Item(name=path.relative_to(folder).as_posix(), clean=path) for path, _ in clean]
    degraded = {_key(match): path for path, match in _matching(layout.degraded, folder)}
    return [
        Item(name=_key(match), clean=path, degraded=degraded[_key(match)])
        for path, match in clean if _key(match) in degraded
    ]  # fmt: skip


def _key(match: re.Match[str]) -> str:
    """Names the pair; the two files of SIDD are one, whatever their groups say."""
    return "blocks" if match[1] in ("Gt", "Noisy") else match[1]


def _matching(pattern: str, folder: Path) -> list[tuple[Path, re.Match[str]]]:
    expression = re.compile(pattern, re.IGNORECASE)
    return [
        (path, match)
        for path in sorted(folder.rglob("*"))
        if (match := expression.fullmatch(path.relative_to(folder).as_posix())) and path.is_file()
    ]


def _blocks(files: Item, count: int) -> list[Item]:
    return [
        Item(name=f"block {index:04d}", clean=files.clean, degraded=files.degraded, block=index)
        for index in range(count)
    ]


def _pixels(path: Path, block: int | None) -> Pixels:
    if block is not None:
        blocks = _mat(path)
        if block >= len(blocks):
            raise UnreadableImage(
                f"holds {len(blocks)} blocks, and one of number {block + 1} is wanted", where=path,
                next_step="Fetch it again: it was cut short.",
            )  # fmt: skip
        pixels: Pixels = blocks[block].astype(np.float32) / np.float32(255)
        return pixels
    if path.suffix.lower() == ".bmp":
        return _bmp(path)
    return images.read(path).pixels_HWC


def _bmp(path: Path) -> Pixels:
    """Some sets are published so; as input of `restore` it is no format for photographs."""
    try:
        with PillowImage.open(path) as opened:
            codes = np.asarray(opened.convert("L" if opened.mode in ("1", "L") else "RGB"))
    except OSError as error:
        raise UnreadableImage(f"no BMP that can be read ({error})", where=path) from error
    return (codes.reshape(*codes.shape[:2], -1) / np.float32(255)).astype(np.float32)


@lru_cache(maxsize=2)
def _mat(path: Path) -> Any:
    """All blocks of a file, [N, H, W, 3] uint8: an array of that many dimensions is the only one in it."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        arrays = _arrays(loadmat(path))
        array = next(arrays)
    except (OSError, ValueError, StopIteration, MatReadError) as error:
        raise UnreadableImage(f"no MATLAB file of blocks ({error})", where=path) from error
    return array.reshape(-1, *array.shape[2:])


def _arrays(content: Mapping[str, Any]) -> Iterator[Any]:
    return (value for value in content.values() if getattr(value, "ndim", 0) == 5)
