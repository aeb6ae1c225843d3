"""The public test sets: what they hold, how their authors lay them out, and where they publish them."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class NamingScheme:
    """One way in which a set's files are named, as regular expressions of paths below its folder."""

    clean: str
    """Pattern of clean files; in sets of pairs its group names the pair."""
    degraded: str | None = None
    """Pattern of degraded files, with the same group; None where the set has only clean images."""
    example: str
    """An example of a path, for messages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Remote:
    """A stable public address of a set's files, one by one."""

    address: str
    """URL with {name} in place of the file's name."""
    sha256: Mapping[str, str]
    """File name -> the first 16 hex digits of the hash of its 8-bit RGB pixels, which recompression leaves the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """A stable public address of a ZIP with a set's files."""

    address: str
    md5: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Set:
    """A published test set."""

    name: str
    title: str
    count: int
    """Number of images, or of pairs."""
    task: str
    """The task that it is mostly used for, which is its default."""
    layouts: tuple[NamingScheme, ...]
    published: str
    """Address at which its authors, or others who hold a copy, publish it."""
    remote: Remote | Archive | None = None
    """Source for `download`; None where no address is stable, or no hash is known."""
    names: tuple[str, ...] = ()
    """File names of its images without suffixes, in lower case; empty where several namings are common."""
    folders: tuple[str, ...] = ()
    """Folder names that its archives use, in lower case, besides its own name."""


def _flat(pattern: str, example: str, more: str = "") -> NamingScheme:
    """Layout of clean files in a lossless format, or one that `more` adds, in the folder or one folder below."""
    return NamingScheme(clean=rf"(?:[^/]+/)?(?:{pattern})\.(?:png|bmp|tiff?{more})", example=example)


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

_SET12 = (
    "a4913edec8486184", "a62c20d3e3ac0e16", "8f20b83e180ef2c1", "836623ada4fea357",
    "d4406c8d688d4605", "b861a2fa146de873", "caad753fef5da94f", "61d50895d6d66ec5",
    "ce784af062c99df9", "81b92d2218178fd4", "2ca0054f053b7c44", "f616a4fb8fbeb56d",
)  # fmt: skip

_CLASSIC5_HASHES = (
    "77abffc2c199f45e", "954059039ccdf9a9", "81b92d2218178fd4", "a762bbfc5ed6418a", "ace00a95e658d6be",
)  # fmt: skip

_SWINIR = "https://raw.githubusercontent.com/JingyunLiang/SwinIR/33f616625268d08ba600f8db89388eec0328edb1/testsets/"
"""A commit that holds several of the sets, one file per image."""

SETS: Mapping[str, Set] = {
    each.name: each
    for each in (
        Set(
            name="urban100", title="Urban100 (Huang et al. 2015)", count=100, task="denoise",
            layouts=(
                _flat(r"img_\d{3}", "img_001.png"),
                _flat(r"img\d{3}", "HR/img001.png"),
                NamingScheme(clean=r"(?:image_SRF_4/)?img_\d{3}_SRF_4_HR\.png", example="img_001_SRF_4_HR.png"),
            ),
            published="https://github.com/jbhuang0604/SelfExSR", names=_numbered("img_{:03d}", 1, 100),
        ),
        Set(
            name="cbsd68", title="CBSD68 (Martin et al. 2001; Roth & Black 2009)", count=68, task="denoise",
            # Berkeley publishes them as JPEG files of the best quality.
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
            remote=Remote(
                address=f"{_SWINIR}Set12/{{name}}",
                sha256={f"{number:02d}.png": sha256 for number, sha256 in enumerate(_SET12, start=1)},
            ),
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
            remote=Remote(
                address=f"{_SWINIR}classic5/{{name}}",
                sha256={
                    f"{name}.bmp": sha256
                    for name, sha256 in zip(_CLASSIC5.split("|"), _CLASSIC5_HASHES, strict=True)
                },
            ),
        ),
        Set(
            name="div2k-val", title="DIV2K validation (Agustsson & Timofte 2017)", count=100, task="denoise",
            layouts=(_flat(r"0[89]\d\d", "DIV2K_valid_HR/0801.png"),), published="https://data.vision.ee.ethz.ch/cvl/DIV2K/",
            remote=Archive(
                # The hash is the one that torchsr (github.com/Coloquinte/torchSR) uses.
                address="https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_valid_HR.zip",
                md5="9fcdda83005c5e5997799b69f955ff88",
            ),
            names=_numbered("{:04d}", 801, 900), folders=("div2k_valid_hr", "div2k"),
        ),
        Set(
            name="sidd-val", title="SIDD validation blocks, sRGB (Abdelhamed et al. 2018)", count=1280, task="real",
            layouts=(
                NamingScheme(
                    clean=r"Validation(Gt)BlocksSrgb\.mat", degraded=r"Validation(Noisy)BlocksSrgb\.mat",
                    example="ValidationNoisyBlocksSrgb.mat",
                ),
            ),
            published="https://www.eecs.yorku.ca/~kamel/sidd/benchmark.php",
        ),
        Set(
            name="nam", title="Nam, the 15 crops (Nam et al. 2016)", count=15, task="real",
            layouts=(
                NamingScheme(
                    clean=r"(?:[^/]+/)?(.+)_mean\.png", degraded=r"(?:[^/]+/)?(.+)_real\.png",
                    example="5dmark3_iso3200_1_real.png",
                ),
            ),
            published="https://github.com/woozzu/ccnoise",
        ),
        Set(
            name="polyu", title="PolyU, the 100 crops (Xu et al. 2018)", count=100, task="real",
            layouts=(
                # The whole photographs, which the authors publish beside the crops, have no number in their names.
                NamingScheme(
                    clean=r"(?:[^/]+/)?([^/]+_\d+)_mean\.JPE?G", degraded=r"(?:[^/]+/)?([^/]+_\d+)_real\.JPE?G",
                    example="CroppedImages/Canon5D2_5_160_3200_chair_5_real.JPG",
                ),
            ),
            published="https://github.com/csjunxu/PolyU-Real-World-Noisy-Images-Dataset",
            folders=("polyu-real-world-noisy-images-dataset", "polyu-real-world-noisy-images-dataset-master"),
        ),
        Set(
            name="realsr", title="RealSR version 3, x4 (Cai et al. 2019)", count=100, task="real",
            layouts=(
                NamingScheme(
                    clean=r"(?:(?:[^/]+/)?(?:Canon|Nikon)/Test/4/)?((?:Canon|Nikon)_\d{3})_HR\.png",
                    degraded=r"(?:(?:[^/]+/)?(?:Canon|Nikon)/Test/4/)?((?:Canon|Nikon)_\d{3})_LR4\.png",
                    example="Canon/Test/4/Canon_001_LR4.png",
                ),
            ),
            published="https://github.com/csjcai/RealSR", folders=("realsr(v3)",),
        ),
    )
}  # fmt: skip
"""Every known set, by its name."""

GRAY = ("set12", "classic5")
"""Names of the sets whose images are gray."""
