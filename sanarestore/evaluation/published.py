"""Figures that others published, with their sources, to be shown beside measured ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from sanarestore.evaluation.columns import Column, Record
from sanarestore.evaluation.rows import case_of

DRUNET = "as compared by Zhang et al. 2021 (DRUNet)"
RESTORMER = "as compared by Zamir et al. 2022 (Restormer)"
FBCNN = "Jiang et al. 2021 (FBCNN)"
SWINIR = "Liang et al. 2021 (SwinIR)"
NAFNET = "Chen et al. 2022 (NAFNet)"

CROPPED = "; on crops of 500 x 500"
"""Added to the sources for Kodak24: most papers use crops of it; the set here has the whole images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Published(Record):
    """One published figure."""

    dataset: str
    task: str
    level: Annotated[str, Column("", value=case_of, words=True, merges=True)]
    method: Annotated[str, Column("method", "{}, published", words=True)]
    psnr: Annotated[float, Column("PSNR", "{:.2f}")]
    """PSNR in dB."""
    gray: bool = False
    source: str
    published: Literal[True] = True
    """Marks it as not measured."""


def _figures() -> Iterator[Published]:
    methods = ("BM3D", "DnCNN", "FFDNet", "DRUNet", "SwinIR", "Restormer")
    sources = (DRUNET, *[RESTORMER] * 5)
    colour = {
        "cbsd68": (30.71, 31.24, 31.21, 31.69, 31.78, 31.79),
        "kodak24": (32.15, 32.14, 32.13, 32.89, 32.89, 33.04),
        "mcmaster": (31.66, 31.52, 32.35, 33.14, 33.20, 33.34),
        "urban100": (31.36, 30.81, 31.40, 32.60, 32.90, 32.96),
    }
    for dataset, figures in colour.items():
        for method, psnr, source in zip(methods, figures, sources, strict=True):
            origin = source + CROPPED if dataset == "kodak24" else source
            yield Published(dataset=dataset, task="denoise", level="25", method=method, psnr=psnr, source=origin)
    gray = (
        ("live1", "FBCNN", FBCNN, (29.75, 32.13, 33.54, 34.53)),
        ("live1", "SwinIR", SWINIR, (29.86, 32.25, 33.69, 34.67)),
        ("classic5", "FBCNN", FBCNN, (30.12, 32.31, 33.54, 34.35)),
    )
    for dataset, method, source, four in gray:
        for quality, psnr in zip((10, 20, 30, 40), four, strict=True):
            yield Published(
                dataset=dataset, task="jpeg", level=str(quality), method=method, psnr=psnr, gray=True, source=source
            )
    for method, psnr in (("NAFNet-w32", 39.97), ("NAFNet-w64", 40.30)):
        yield Published(dataset="sidd-val", task="real", level="given", method=method, psnr=psnr, source=NAFNET)


PUBLISHED = tuple(_figures())


def published(dataset: str, task: str, level: str, *, gray: bool) -> list[Published]:
    """Return the published figures for a set at one level of a task, in gray or in colour, in order of year."""
    where = (dataset, task, level, gray)
    return [each for each in PUBLISHED if (each.dataset, each.task, each.level, each.gray) == where]
