"""Trackers of experiments, such as TensorBoard, through accelerate: curves and pictures during a run."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sanarestore.errors import UsageError
from sanarestore.training.pictures import picture_of
from sanarestore.training.progress import TrainingProgress
from sanarestore.training.recipe import TrainingRecipe

PROJECT = "sanarestore"
"""Project name for trackers on servers."""

PACKAGES = {
    "aim": "aim", "clearml": "clearml", "comet_ml": "comet-ml", "dvclive": "dvclive", "mlflow": "mlflow",
    "swanlab": "swanlab", "tensorboard": "sanarestore[track]", "trackio": "trackio", "wandb": "wandb",
}  # fmt: skip
"""Name of a tracker, and of the module that it needs -> what pip installs."""

LOGGED_EVERY = 10
"""Steps between logged losses, so that slow trackers do not slow a run down."""

_NAMED = ("wandb", "trackio")
"""Trackers whose runs are named by the run's folder."""

_PICTURES = "pictures"


def check_trackers(names: Sequence[str]) -> None:
    """Raise UsageError for a tracker that is unknown or not installed."""
    for name in names:
        if name in PACKAGES and importlib.util.find_spec(name) is None:
            raise UsageError(
                f"{name} is not installed", where="--track", next_step=f"Install it: pip install '{PACKAGES[name]}'"
            )
        if name not in PACKAGES and name not in _classes():
            raise UsageError(
                f"'{name}' is not a tracker", where="--track", next_step=f"Known: {', '.join(sorted(PACKAGES))}."
            )


class Trackers:
    """The trackers of one run. A tracker that fails is dropped, because a lost connection must not end a training."""

    def __init__(self, names: Sequence[str], folder: Path, recipe: TrainingRecipe) -> None:
        self._names = tuple(dict.fromkeys(names))
        self._folder = folder
        self._recipe = recipe
        self._open: dict[str, Any] = {}
        self._notes: list[str] = []

    def start(self, results: dict[str, float] | None = None) -> None:
        """Begin a record with each tracker; `results` are the gains before training."""
        if self._names:
            _prepare()
        for name in self._names:
            self._attempt(name, self._begin, name)
        if results:
            self._log({f"validation/{label}": gain for label, gain in results.items()}, 0)
        self._log_picture(0)

    def log(self, progress: TrainingProgress) -> tuple[str, ...]:
        """Log the progress after a step; return notes for the user about trackers that failed."""
        values: dict[str, float] = {}
        if progress.step % LOGGED_EVERY == 0 or progress.validation is not None or progress.step == 1:
            values = {"loss": progress.loss, "learning_rate": progress.learning_rate}
        if progress.validation is not None:
            values["validation"] = progress.validation
        for label, gain in (progress.validations or {}).items():
            values[f"validation/{label}"] = gain
        if values:
            self._log(values, progress.step)
        self._log_picture(progress.step)
        notes, self._notes = tuple(self._notes), []
        return notes

    def finish(self) -> None:
        """End all records."""
        for name in tuple(self._open):
            self._attempt(name, self._open[name].finish)
        self._open = {}

    def _begin(self, name: str) -> None:
        kind = _classes()[name]
        options: dict[str, Any] = {"name": self._folder.name} if name in _NAMED else {}
        if kind.requires_logging_directory:
            tracker = kind(name, str(self._folder), **options)
        else:
            tracker = kind(PROJECT, **options)
        # Only the first process has trackers; accelerate need not choose one.
        tracker.main_process_only = False
        getattr(tracker, "start", lambda: None)()  # older versions of accelerate start on construction
        fields = self._recipe.to_dict().items()
        tracker.store_init_configuration({key: value for key, value in fields if isinstance(value, (int, float, str))})
        self._open[name] = tracker

    def _log(self, values: dict[str, float], step: int) -> None:
        for name, tracker in tuple(self._open.items()):
            self._attempt(name, tracker.log, values, step=step)

    def _log_picture(self, step: int) -> None:
        picture = picture_of(self._folder, step) if self._open else None
        if picture is None:
            return
        for name, tracker in tuple(self._open.items()):
            # Aim accepts single images, and trackers without this method none.
            if hasattr(tracker, "log_images") and name != "aim":
                options = {"dataformats": "NHWC"} if name == "tensorboard" else {}
                values = {_PICTURES: picture[None] if name == "tensorboard" else [picture]}
                self._attempt(name, tracker.log_images, values, step=step, **options)

    def _attempt(self, name: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        try:
            call(*arguments, **options)
        except Exception as error:
            # Trackers raise errors of many types, none of which may end a training.
            self._open.pop(name, None)
            self._notes.append(f"{name} stopped recording this run: {type(error).__name__}: {error}")


def _classes() -> dict[str, Any]:
    from accelerate import tracking

    return dict(tracking.LOGGER_TYPE_TO_CLASS)


def _prepare() -> None:
    """Give accelerate the state that its messages need, which changes the number of threads."""
    import torch
    from accelerate import PartialState

    threads = torch.get_num_threads()
    PartialState(cpu=True)
    torch.set_num_threads(threads)
