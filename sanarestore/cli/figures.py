"""Reports of measured figures: progress bars, then tables or lines of JSON, and pages."""

import shlex
import sys
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, Self

from sanarestore.cli import console
from sanarestore.cli.reports import counting
from sanarestore.errors import UsageError
from sanarestore.evaluation.sources import sources

BESIDES = {"psnr_y": {"sr"}, "psnr_b": {"jpeg"}, "worst_psnr": {"clean"}, "largest_change": {"clean"}}
"""Figure -> the tasks that are compared by it, besides PSNR."""

TITLES = {"psnr_y": "PSNR-Y", "psnr_b": "PSNR-B", "worst_psnr": "worst", "largest_change": "change"}

JUDGED = {"lpips": 3, "dists": 3, "fid": 1}
"""Perceptual metric -> digits shown after the decimal point."""


class BenchReport:
    """Progress over images and cases, and a table of rows for every set."""

    def __init__(self, total: int, *, quiet: bool = False, as_json: bool = False) -> None:
        self._json, self._shown = as_json, not (as_json or quiet)
        self._progress = counting(quiet=quiet or as_json)
        self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def score(self, dataset: str, case: str, *, finished: bool) -> None:
        """Show the current set and case; `finished` is true once for every image and case."""
        self._progress.update(self._task, description=f"{dataset} {case}", advance=int(finished))

    def rows(self, rows: list[dict[str, Any]]) -> None:
        """Print the rows of one set: lines of JSON, or a table."""
        for row in rows if self._json else ():
            console.print_json(row)
        if rows and self._shown:
            more = [name for name, tasks in BESIDES.items() if {row["task"] for row in rows} & tasks]
            gains = ["gain", "improved"] if any("gain" in row for row in rows) else []
            columns = ["", "method", "PSNR", "±", *gains, "SSIM", *(TITLES[name] for name in more), "s/MP"]
            count = rows[0]["images"]
            title = f"{rows[0]['dataset']}, {count} image{'s' * (count > 1)}"
            cells = [_cells(row, rows[max(index - 1, 0)], gains, more) for index, row in enumerate(rows)]
            console.table(title, columns, cells, texts=2)
            for sentence in sources(rows):
                console.say(sentence)
        judged = [row for row in rows if JUDGED.keys() & row.keys()] if self._shown else []
        if judged:
            columns = ["", "method", "LPIPS", "DISTS", "FID"]
            console.table(
                "Perceptual metrics", columns,
                [_judged(row, judged[max(index - 1, 0)]) for index, row in enumerate(judged)], texts=2,
            )  # fmt: skip
        for row in rows if self._shown else ():
            if "worst_image" in row:
                console.say(
                    f"{row['method']}, {row['task']} {row['level']}: lowest PSNR {row['worst_psnr']:.2f} dB "
                    f"({row['worst_image']}); largest change {row['largest_change']} of 255"
                )
            if "margin" in row:
                share, margin = row["right_beats_wrong"], row["margin"]
                console.say(
                    f"{row['method']}: the right prompt gives the better result in {share:.1%} of pairs, "
                    f"by {margin:.2f} dB on average"
                )
            if "seed_deviation" in row:
                agreeing = f"; results agree to {row['seed_agreement']:.1f} dB" if "seed_agreement" in row else ""
                console.say(
                    f"{row['method']}, {row['task']} {row['level']}: PSNR has a standard deviation of "
                    f"{row['seed_deviation']:.2f} dB between seeds{agreeing}"
                )

    def changes(self, changes: list[dict[str, Any]], unmatched: list[str]) -> None:
        """Print what changed since an earlier benchmark, and what cannot be compared: lines of JSON, or a table."""
        for change in changes if self._json else ():
            console.print_json({"compared": True, **change})
        for sentence in unmatched:
            if self._json:
                console.print_json({"compared": False, "reason": sentence})
            elif self._shown:
                console.say(f"not compared: {sentence}")
        if changes and self._shown:
            columns = ["", "method", "then", "now", "change", "95%", "beyond chance"]
            cells = [
                [
                    f"{each['dataset']} {each['task']} {each['level']}", each["method"], f"{each['before']:.2f}",
                    f"{each['after']:.2f}", f"{each['change']:+.2f}",
                    f"{each['interval'][0]:+.2f} to {each['interval'][1]:+.2f}",
                    {True: "yes", False: "no", None: "too few images"}[each["exceeds_noise"]],
                ]
                for each in changes
            ]  # fmt: skip
            console.table("Changes since then", columns, cells, texts=2)


class SeamsReport:
    """Progress over images and schemes, and a table at the end."""

    def __init__(self, total: int, *, quiet: bool = False, as_json: bool = False) -> None:
        self._json, self._shown = as_json, not (as_json or quiet)
        self._rows: list[dict[str, Any]] = []
        self._progress = counting(quiet=quiet or as_json)
        self._task = self._progress.add_task("untiled", total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._progress.stop()
        columns = ["", "seams", "at seams", "off seams", "steps", "shifted", "flat", "s", "MiB"]
        for image, rows in groupby(self._rows if self._shown else (), lambda row: row["image"]):
            console.table(
                f"{image}, PSNR against the untiled result", columns, [_seam_cells(row) for row in rows], texts=1
            )

    def add(self, row: dict[str, Any]) -> None:
        """Add one image under one scheme: a line of JSON now, or a row of the table at the end."""
        self._rows.append(row)
        self._progress.update(self._task, description=f"{row['image']} {row['tiling']}", advance=1)
        if self._json:
            console.print_json(row)


def _seam_cells(row: Mapping[str, Any]) -> list[str]:
    figures = [f"{row[name]:.1f}" if name in row else "" for name in ("seam_psnr", "off_seam_psnr")]
    steps = f"{row['discontinuity'] / row['untiled_discontinuity']:.3f}" if row.get("untiled_discontinuity") else ""
    rest = [f"{row[name]:.1f}" if name in row else "" for name in ("shift_psnr", "flat_step", "seconds")]
    memory = f"{row['peak_bytes'] / 2**20:.0f}" if "peak_bytes" in row else ""
    return [row["tiling"], str(row["borders"]), *figures, steps, *rest, memory]


def timings(rows: list[dict[str, Any]], powers: Mapping[str, float]) -> None:
    """Print time and memory of each part, ours first, others below, and how seconds grow with the pixel count."""
    columns = ["", "by", "size", "s", "s/MP", "ratio", "95%", "A/A", "MiB", "compute", "memory"]
    cells = []
    for row in rows:
        is_ours = "of_compute" in row
        low, high = row.get("ratio_interval", (0.0, 0.0))
        cells.append(
            [
                row["part"] if is_ours else "", row["by"], str(row["size"]) if is_ours else "",
                _seconds(row["seconds"]) if "seconds" in row else "no memory",
                f"{row['seconds_per_megapixel']:.2f}" if "seconds" in row else "",
                *([f"{row['ratio']:.2f}", f"{low:.2f}..{high:.2f}"] if "ratio" in row else ["", ""]),
                f"{row['chance']:.2f}" if is_ours else "",
                f"{row['peak_memory'] / 2**20:.0f}" if "peak_memory" in row else "",
                *([f"{row['of_compute']:.0%}", f"{row['of_bandwidth']:.0%}"] if is_ours else ["", ""]),
            ]
        )  # fmt: skip
    count = rows[0]["rounds"]
    title = f"{rows[0]['device']}, {rows[0]['dtype']}, {count} round{'s' * (count > 1)}"
    console.table(title, columns, cells, texts=2)
    for row in rows:
        if "tile_area_factor" in row:
            memory = row.get("beyond_buffers")
            beyond = "" if memory is None else f"; {memory / 2**20:.0f} MiB beyond the image's buffers"
            console.say(f"at {row['size']} px, tiles compute {row['tile_area_factor']:.2f} times the area{beyond}")
    grown = ", ".join(f"{part} {power:.2f}" for part, power in powers.items())
    console.say(f"seconds grow with the pixel count to the power of: {grown}", quiet=not powers)


def _seconds(value: float) -> str:
    """Format seconds; kernels take only some microseconds."""
    return f"{value:.3f}" if value >= 0.01 else f"{value:.6f}"


def _case(row: Mapping[str, Any], above: Mapping[str, Any]) -> str:
    """Task and level; empty if they are those of the row above."""
    case = f"{row['task']} {row['level']}"
    return "" if row is not above and case == f"{above['task']} {above['level']}" else case


def _judged(row: Mapping[str, Any], above: Mapping[str, Any]) -> list[str]:
    """Cells of a row of `BenchReport` in the table of perceptual metrics."""
    figures = [f"{row[name]:.{digits}f}" if name in row else "" for name, digits in JUDGED.items()]
    return [_case(row, above), row["method"], *figures]


def _cells(row: Mapping[str, Any], above: Mapping[str, Any], gains: list[str], more: list[str]) -> list[str]:
    """Cells of a row of `BenchReport`; `gains` and `more` name the optional columns of gains and further figures."""
    heading = _case(row, above)
    if "published" in row:
        return [heading, f"{row['method']}, published", f"{row['psnr']:.2f}", *[""] * (3 + len(gains) + len(more))]
    besides = [_besides(row[name]) if name in row else "" for name in more]
    low, high = row["interval"]
    around = f"{(high - low) / 2:.2f}"
    ssim = f"{row['ssim']:.3f}" if "ssim" in row else ""
    if row["method"] == "degraded":
        return [heading, row["method"], f"{row['psnr']:.2f}", around, *[""] * len(gains), ssim, *besides, ""]
    speed = f"{row['seconds_per_megapixel']:.2f}"
    gained = [f"{row['gain']:+.2f}", f"{row['improved']:.0%}"] if "gain" in row else [""] * len(gains)
    return [heading, row["method"], f"{row['psnr']:.2f}", around, *gained, ssim, *besides, speed]


def _besides(value: float) -> str:
    """Format decibels or whole codes."""
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def page(folder: Path, write: Callable[..., None]) -> None:
    """Call `write(path, command=...)` with the command line of this run; UsageError if the page cannot be written."""
    try:
        write(folder / "index.html", command=shlex.join(["sanarestore", *sys.argv[1:]]))
    except OSError as error:
        raise UsageError(
            f"cannot be written ({error.strerror})", where=folder, next_step="Name another folder."
        ) from error
