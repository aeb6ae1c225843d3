"""Progress of `train`: loss, speed, time left and validation."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from rich.progress import BarColumn, Progress, TextColumn

from sanarestore.cli import console
from sanarestore.cli.pace import spoken_duration
from sanarestore.evaluation.columns import Place, table

if TYPE_CHECKING:
    from sanarestore.training.depth_record import DepthRecord
    from sanarestore.training.results import Results


class TrainingReport:
    """Progress of a training run: loss, speed, time left, validation."""

    def __init__(self, *, quiet: bool = False, as_json: bool = False) -> None:
        self._json = as_json
        self._quiet = quiet
        self._validation = float("nan")
        self._told: set[str] = set()
        self._said = 0.0
        live = console.is_live(quiet=quiet or as_json)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=None),
            TextColumn("{task.fields[left]}"), console=console.stderr, expand=True, disable=not live,
        )  # fmt: skip
        self._live = live
        self._task = self._progress.add_task("starting", total=1.0, left="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, results: "Results | None", name: str) -> None:
        """Show the validation before training, with the name of the stage if there are several."""
        if self._quiet or self._json:
            return
        if name:
            console.say(name)
        if results is None or results.before is None:
            return
        before = f"{results.before.gain:+.2f} dB"
        if results.base is not None:
            before = f"{results.base.gain:+.2f} dB by the base, {before} by its refiner without the experts"
        console.say(f"validation before training: {before}")

    def end(self, results: "Results", depth: "DepthRecord | None" = None) -> None:
        """Show a table of all degradations before and after training, and warn of those that got worse.

        If the `depth` of a network was changed, also show how much quality that cost and training recovered.
        """
        if self._quiet or self._json or results.after is None:
            return
        from sanarestore.training.results import EXPLAINED, EXPLAINED_BASE

        captions = [EXPLAINED, EXPLAINED_BASE] if results.base else [EXPLAINED]
        console.table("validation by degradation", table(results.rows, Place.TERMINAL), captions)
        if rows := results.setting_rows:
            console.table("validation of the latent path", table(rows, Place.TERMINAL))
        if depth and (cost := depth.cost(results.after)):
            name = "validation" if depth.decoder is None else "reconstruction"
            console.say(f"blocks: {depth.words}; {name} {cost}")
        if results.warning:
            console.print_word("warning", "yellow", results.warning)

    def encoding(self, done: int, total: int) -> None:
        """Show the progress of encoding latents."""
        self._progress.update(self._task, completed=done / total, description=f"encoding crop {done}/{total}", left="")

    def step(self, fields: Mapping[str, Any]) -> None:
        """Show one step, given `TrainingProgress` as a mapping; JSON lines only at validations."""
        for note in set(fields["notes"]) - self._told if not self._quiet and not self._json else ():
            self._told.add(note)
            console.print_word("note", "yellow", note)
        fresh = fields["validation"] is not None
        self._validation = fields["validation"] if fresh else self._validation
        gain = "" if self._validation != self._validation else f"  validation {self._validation:+.2f} dB"
        speed = f"{fields['images_per_second']:.0f} images/s"
        line = f"step {fields['step']}/{fields['steps']}  loss {fields['loss']:.4g}  {speed}"
        share = max(fields["share"], 1e-9)
        left = f"{spoken_duration(60 * fields['minutes'] * (1 - share) / share)} left"
        self._progress.update(self._task, completed=share, description=line + gain, left=left)
        if self._json and fresh:
            console.print_json(fields)
        # Without a terminal, print a line every minute, so that a log shows the progress.
        if not self._live and not self._quiet and not self._json and (fresh or fields["minutes"] - self._said >= 1):
            self._said = fields["minutes"]
            console.stderr.print(f"{line}{gain}  {left}", soft_wrap=True)
