"""`restore --report`: pages that show every photograph before and after, what changed, and what failed.

The pages need no network. Previews lie beside them, in the photographs' own colours: profiles are embedded.
"""

import math
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps

from sanarestore import images
from sanarestore.cli.reports import SPOKEN
from sanarestore.engine.jobs import Outcome
from sanarestore.errors import SanarestoreError, UsageError, disk_full
from sanarestore.files import is_full, write_atomically
from sanarestore.images import Image, Pixels, from_float, resize
from sanarestore.templates import write_page

PREVIEW_SIDE = 1280
"""Longest side of a preview in pixels."""

DETAIL_SIDE = 256
"""Side of the detail that is shown at full size: the square block whose pixels changed most."""

PER_PAGE = 200
"""Photographs on one page."""

MARK = '<meta name="generator" content="sanarestore report">'
"""Line in `index.html` that marks a folder as an earlier report, which may be replaced."""

_PREVIEWS = "previews"
_ANOTHER = "Name an empty or a new folder with --report."
_QUALITY = 90


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """The difference of a result from its input."""

    decibels: float
    """PSNR of the result against the input in dB, of values clipped to [0, 1]; infinite if they are equal."""
    brightness: float
    """Mean of the result minus mean of the input, in 8-bit codes."""
    detail: tuple[int, int]
    """Top and left of the block of `DETAIL_SIDE` that changed most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """The part of a page for one photograph."""

    outcome: Outcome
    views: tuple[tuple[str, str, str], ...] = ()
    """Title of a view, and the paths of its pictures before and after, below the report's folder."""
    facts: tuple[str, ...] = ()


class ContactSheet:
    """Collects outcomes, draws their previews in the background, and writes the pages when it is closed."""

    def __init__(self, folder: Path, command: str) -> None:
        """UsageError if the folder cannot be written, or holds files but no earlier report."""
        self._folder, self._command = folder, command
        _claim(folder)
        self._drawing = ThreadPoolExecutor(1, thread_name_prefix="report")
        self._cards: list[Future[Card]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After an interruption, the pages show the photographs drawn so far.
        self._drawing.shutdown(cancel_futures=kind is not None)
        cards = [each.result() for each in self._cards if not each.cancelled()]
        # What failed comes first: it is what someone looks for.
        cards.sort(key=lambda card: card.outcome.status != "failed")
        _write_pages(self._folder, self._command, cards)

    def add(self, outcome: Outcome) -> None:
        """Add a photograph; ignored files are left out."""
        if outcome.status != "ignored":
            self._cards.append(self._drawing.submit(_draw, self._folder, len(self._cards), outcome))


def compare(before_HWC: Pixels, after_HWC: Pixels) -> Difference:
    """Compare two images of one size; differences count equally in all channels."""
    side = min(DETAIL_SIDE, *before_HWC.shape[:2])
    squared, difference, most, place = 0.0, 0.0, -1.0, (0, 0)
    height, width = before_HWC.shape[:2]
    for top in range(0, height, side):
        rows = slice(top, min(top + side, height))
        before, after = (np.clip(each[rows], 0, 1).astype(np.float64) for each in (before_HWC, after_HWC))
        changed_HWC = after - before
        difference += float(changed_HWC.sum())
        energy_W = np.square(changed_HWC).sum(axis=(0, 2))
        squared += float(energy_W.sum())
        for left in range(0, width, side):
            found = float(energy_W[left : left + side].sum())
            if found > most:
                most, place = found, (min(top, height - side), min(left, width - side))
    mean = squared / before_HWC.size
    return Difference(
        decibels=math.inf if mean == 0 else -10 * math.log10(mean),
        brightness=255 * difference / before_HWC.size, detail=place,
    )  # fmt: skip


def _claim(folder: Path) -> None:
    index = folder / "index.html"
    if folder.exists() and not folder.is_dir():
        raise UsageError("it is a file, not a folder", where=folder, next_step=_ANOTHER)
    try:
        if folder.exists() and any(folder.iterdir()) and MARK not in _text_of(index):
            raise UsageError("it holds files that are not an earlier report", where=folder, next_step=_ANOTHER)
        (folder / _PREVIEWS).mkdir(parents=True, exist_ok=True)
        for old in (*(folder / _PREVIEWS).glob("*.webp"), *folder.glob("page-*.html")):
            old.unlink()
    except OSError as error:
        if is_full(error):
            raise disk_full(folder) from error
        fact = f"nothing can be written there ({error.strerror or error})"
        raise UsageError(fact, where=folder, next_step=_ANOTHER) from error


def _text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _draw(folder: Path, number: int, outcome: Outcome) -> Card:
    """Read a photograph and its result, compare them, and write their previews."""
    if outcome.status == "failed" or outcome.output is None:
        return Card(outcome=outcome)
    try:
        before, after = images.read(outcome.path, accept_damaged=True), images.read(outcome.output)
    except SanarestoreError as error:  # a file may be moved while the batch runs
        return Card(outcome=outcome, facts=(f"no preview: {error.fact}",))
    if after.format in images.UPRIGHT:
        before = images.turned_upright(before)
    grown = f"{before.width} x {before.height} to {after.width} x {after.height} pixels"
    is_resized = (before.height, before.width) != (after.height, after.width)
    channels = min(before.pixels_HWC.shape[2], after.pixels_HWC.shape[2])
    pixels = [each.pixels_HWC[..., :channels] if channels == 1 else each.pixels_HWC for each in (before, after)]
    if is_resized:
        pixels[0] = resize(pixels[0], after.width, after.height)
    change = compare(*pixels)
    views: list[tuple[str, str, str]] = []
    top, left = change.detail
    for title, cut in (
        ("whole", None),
        ("detail, at full size", (slice(top, top + DETAIL_SIDE), slice(left, left + DETAIL_SIDE))),
    ):
        names = {}
        for side, values, image in zip(("before", "after"), pixels, (before, after), strict=True):
            name = f"{_PREVIEWS}/{number:05d}-{'whole' if cut is None else 'detail'}-{side}.webp"
            _save(folder / name, values if cut is None else values[cut], image)
            names[side] = name
        views.append((title, names["before"], names["after"]))
    facts = (
        *((grown,) if is_resized else (f"{after.width} x {after.height} pixels",)),
        "unchanged" if math.isinf(change.decibels) else f"differs from the input by {change.decibels:.1f} dB (PSNR)",
        f"mean brightness {change.brightness:+z.2f} codes",
        *_restored(outcome),
    )
    return Card(outcome=outcome, views=tuple(views), facts=facts)


def _restored(outcome: Outcome) -> list[str]:
    facts = []
    if outcome.removes is not None:
        facts.append(f"asked to remove {' and '.join(SPOKEN[kind] for kind in outcome.removes) or 'nothing'}")
    if outcome.expert:
        facts.append(f"mostly by the expert for {SPOKEN.get(outcome.expert, f'{outcome.expert}s')}")
    if outcome.status == "skipped":
        facts.append("finished before")
    elif outcome.seconds:
        facts.append(f"{outcome.seconds:.1f} s")
    return facts


def _save(path: Path, pixels_HWC: Pixels, image: Image) -> None:
    """Write a preview, upright, with the photograph's profile."""
    longest = max(pixels_HWC.shape[:2])
    if longest > PREVIEW_SIDE:
        height, width = (max(1, round(side * PREVIEW_SIDE / longest)) for side in pixels_HWC.shape[:2])
        pixels_HWC = resize(np.clip(pixels_HWC, 0, 1), width, height)
    codes = from_float(np.nan_to_num(pixels_HWC), "uint8")
    picture = PillowImage.fromarray(codes[..., 0] if codes.shape[2] == 1 else codes)
    orientation = _orientation(image)
    if orientation != 1:
        picture.getexif()[274] = orientation
        picture = ImageOps.exif_transpose(picture)
    # A gray profile does not fit WebP, which has only colour.
    profile = image.metadata.icc if codes.shape[2] == 3 else None
    with write_atomically(path, durable=False) as file:
        picture.convert("RGB").save(file, "WEBP", quality=_QUALITY, method=2, icc_profile=profile or b"", exif=b"")


def _orientation(image: Image) -> int:
    """EXIF's orientation, 1 to 8; 1 if there is none."""
    found = PillowImage.Exif()
    if image.metadata.exif:
        found.load(b"Exif\0\0" + image.metadata.exif)
    value: Any = found.get(274, 1)
    return value if value in range(1, 9) else 1


def _write_pages(folder: Path, command: str, cards: list[Card]) -> None:
    parts = [cards[first : first + PER_PAGE] for first in range(0, len(cards), PER_PAGE)] or [[]]
    names = ["index.html", *(f"page-{number}.html" for number in range(2, len(parts) + 1))]
    counts = {status: sum(card.outcome.status == status for card in cards) for status in ("done", "skipped", "failed")}
    for name, part in zip(names, parts, strict=True):
        write_page(
            folder / name, __package__, "contact_sheet.html",
            mark=MARK, command=command, counts=counts, cards=part, names=names, here=name,
        )  # fmt: skip
