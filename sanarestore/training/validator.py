"""Validate a run at its beginning, at intervals and at its end; keep results and pictures in its folder."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sanarestore.training.batching import Batch
from sanarestore.training.objective import Objective
from sanarestore.training.pictures import chosen, write_pictures
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.results import Results
from sanarestore.training.scores import Validation, measure, measure_each
from sanarestore.training.settings import at_settings, by_base

RANDOM_PIXELS = "colour-correction"
"""The objective that is validated on random pixels of photographs, of which pictures would show nothing."""


class Validator:
    """Measures an objective on validation batches. Several processes measure together; the one that `writes` is the
    first."""

    def __init__(self, folder: Path, objective: Objective, recipe: TrainingRecipe, *, writes: bool = True) -> None:
        self.results = Results()
        self._folder = folder
        self._objective = objective
        self._shows = recipe.objective != RANDOM_PIXELS
        self._writes = writes

    def load(self) -> None:
        """Load the results of a resumed run."""
        self.results = Results.load(self._folder)

    def begin(self, batches: Sequence[Batch]) -> Results:
        """Validate the weights before training, and the base with the experts that training drops."""
        before = measure(self._objective.restore, batches, with_ssim=self._shows)
        base = by_base(self._objective)
        self.results = Results(
            before=before,
            base=measure(base, batches, with_ssim=self._shows) if base else None,
            settings_before=self._at_settings(batches),
        )
        self._save()
        return self.results

    def measure(self, batches: Sequence[Batch], step: int, *, is_last: bool = False) -> Validation:
        """Validate the weights after a step; after the last one, also at the settings of restoration."""
        found = measure(self._objective.restore, batches, with_ssim=self._shows)
        self.results = replace(self.results, after=found, step=step)
        if is_last:
            self.results = replace(self.results, settings_after=self._at_settings(batches))
        self._save()
        return found

    def draw(self, batches: Sequence[Batch], step: int) -> None:
        """Write a grid of some images before and after restoration; a disk that refuses it does not stop the run."""
        if not self._shows:
            return
        samples = [(batch, self._objective.restore(batch)) for batch in chosen(batches)]
        if self._writes:
            with suppress(OSError):
                write_pictures(self._folder, step, samples)

    def _at_settings(self, batches: Sequence[Batch]) -> dict[str, Validation]:
        restore = at_settings(self._objective)
        return measure_each(restore, batches, with_ssim=self._shows) if restore else {}

    def _save(self) -> None:
        if self._writes:
            self.results.save(self._folder)
