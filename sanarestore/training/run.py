"""A training as a user asks for it: recipe, data and base brought together, stage after stage, in one folder."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sanarestore import __version__
from sanarestore.degradations.pairs import Pair
from sanarestore.degradations.wordings import word_files
from sanarestore.errors import UsageError
from sanarestore.files import copy_folder
from sanarestore.model.prompts import MAX_TOKENS
from sanarestore.model.tensors import write_json
from sanarestore.training.batching import Batch
from sanarestore.training.captions import captions_of_pairs, captions_of_recipe
from sanarestore.training.card import Trained, write_card
from sanarestore.training.checkpoint import find_checkpoint
from sanarestore.training.claim import claimed, decoded_in
from sanarestore.training.data import OverviewSamples, PairSamples, PhotoSamples, WordingSamples
from sanarestore.training.decoder_objective import DecoderObjective
from sanarestore.training.decoder_pruning import prune_decoder, restored_decoder
from sanarestore.training.depth import change_depth, restored_depth
from sanarestore.training.depth_record import DepthRecord
from sanarestore.training.distilling import check_stages
from sanarestore.training.fitting import Training, fitting_objective
from sanarestore.training.latents import SHARD, LatentSamples, encode, plan_latents
from sanarestore.training.lengths import pixels_of
from sanarestore.training.loop import Trainer
from sanarestore.training.memory import LENGTH, Setting
from sanarestore.training.objective import PartsObjective
from sanarestore.training.order import SCRATCH, Order, earlier_stages, origin_of, refuse_taken
from sanarestore.training.preflight import Preflight, check_pairs, check_photos, fingerprint_of
from sanarestore.training.progress import TrainingProgress
from sanarestore.training.ranks import Ranks
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.recipe_shapes import DECODER
from sanarestore.training.record import MOST_CAPTIONS, DataFacts, RunRecord
from sanarestore.training.refining import ColourCorrectionObjective
from sanarestore.training.report import write_report
from sanarestore.training.results import Results
from sanarestore.training.resuming import check_division
from sanarestore.training.tracking import Trackers
from sanarestore.training.validation import overview_validation, pair_validation, validation_batches


class Run:
    """One training of one recipe, ready to begin: data found, weights loaded, captions embedded."""

    def __init__(
        self, order: Order, recipe: TrainingRecipe, ranks: Ranks | None = None, *, name: str = "",
        whole: TrainingRecipe | None = None,
    ) -> None:  # fmt: skip
        """Read data and weights; UsageError, NoImagesError or WeightsError for faults in them.

        `whole` is the recipe of all stages, and `name` is the stage of this run.
        """
        self._whole = whole
        self.order = order
        self.name = name
        """Number of the stage and of all stages, in words; empty for a single stage."""
        recipe = divided(recipe, ranks or Ranks())
        self.recipe = recipe
        self.folder = order.folder
        self.preflight = check_data(order.data, recipe)
        self._files = [(path,) for path in word_files()] if recipe.objective == "wording" else self.preflight.files
        self.samples, validation = _samples(self.preflight, recipe, decoded_in(order.folder))
        listed = (*self.preflight.pairs, *self.preflight.held_pairs)
        self.facts = _facts(self._files, validation, recipe, listed)
        """The data in numbers."""
        self.kind = "wordings" if recipe.objective == "wording" else "pairs" if listed else "photos"
        self.count = len(self._files)
        """Photographs or pairs to train on."""
        self.pixels = 0 if self.kind == "wordings" else pixels_of([paths[0] for paths in self._files])
        """Pixels of the photographs, or of the targets of the pairs."""
        self.training = _training(order, recipe, listed, ranks or Ranks(), self.pixels)
        objective, self.memory = fitting_objective(self.training)
        self._prepare_captions(objective, listed)
        if isinstance(objective, ColourCorrectionObjective):
            objective.prepare(self.samples)
        self.depth: DepthRecord | None = None
        """The change of the blocks of the transformer or of the decoder; None if they are the base's."""
        if isinstance(objective, DecoderObjective):
            # All batches of validation show the same clean photographs.
            objective.to(torch.device(order.schedule.device))
            validation = [objective.referred(each.to(torch.device(order.schedule.device))) for each in validation[:1]]
        if recipe.changes_depth:
            objective, self.depth = self._with_depth(objective, validation, ranks or Ranks())
        self.trainer = Trainer(
            order.folder, objective, recipe, order.schedule, validation, origin=origin_of(order),
            data=fingerprint_of(self._files), ranks=ranks,
        )  # fmt: skip

    @contextmanager
    def begun(self) -> Iterator[Results | None]:
        """Hold the run's folder within the block; yield the validation before training, None if there is none.

        UsageError if the folder is in use, or if the run to resume does not match.
        """
        _make(self.folder)
        with claimed(self.folder, is_first=self.trainer.ranks.is_first):
            if self.order.resume:
                self.trainer.resume()
            elif self.trainer.ranks.is_first:
                refuse_taken(self.folder)  # by a run that has ended meanwhile
            if self.depth and self.trainer.ranks.is_first:
                # Before the first checkpoint, whose weights are useless without this record.
                self.depth.save(self.folder)
            found = self.trainer.begin()
            if self.trainer.ranks.is_first:
                self.facts.save(self.folder)
                if self._whole is not None:
                    # Where --resume looks for it.
                    write_json(self.folder.parent / "recipe.json", self._whole.to_dict())
            yield found

    def encode(self) -> Iterator[tuple[int, int]]:
        """Encode the crops of the recipe's `cached_passes`, yielding (crops done, crops to do)."""
        if not self.recipe.cached_passes:
            return
        trainer = self.trainer
        autoencoder = trainer.objective.parts.path.autoencoder  # type: ignore[attr-defined]
        plan = plan_latents(self.recipe, self._files, autoencoder)
        self.trainer.note(plan.note)
        device = torch.device(self.order.schedule.device)
        missing = min(plan.crops, len(plan.missing) * SHARD)

        def encoded(image_BCHW: Tensor) -> Tensor:
            with trainer.learner.autocast():
                latent_BCHW: Tensor = autoencoder.encode(image_BCHW)
                return latent_BCHW

        for done in encode(plan, self.samples, encoded, self.recipe, device, trainer.ranks):
            yield done, missing
        self.samples = LatentSamples(plan, self.recipe)

    def steps(self) -> Generator[TrainingProgress, None, None]:
        """Train to the end, yielding after each step; closing it saves a checkpoint and writes the report."""
        is_first, before = self.trainer.ranks.is_first, self.trainer.results.before
        trackers = Trackers(self.order.track if is_first else (), self.folder, self.recipe)
        trackers.start(before.gains if before and not self.trainer.step else None)
        try:
            with closing(self.trainer.run(self.samples)) as steps:
                for progress in steps:
                    yield replace(progress, notes=(*progress.notes, *trackers.log(progress)))
        finally:
            trackers.finish()
            if is_first:
                with suppress(OSError):  # the error of the checkpoint names the fault of the disk
                    write_report(self.folder)

    def finish(self) -> Path:
        """Write the model or adapter with the history of its weights, and return its folder."""
        trainer, recipe = self.trainer, self.recipe
        base = None if self.order.base == SCRATCH else self.order.base
        stage = {
            "objective": recipe.objective, "base": trainer.origin, "data": trainer.data, "samples": len(self._files),
            "steps": trainer.step, "minutes": round(trainer.minutes, 1), "sanarestore": __version__,
            "recipe": recipe.changed(),
        }  # fmt: skip
        if self.depth:
            blocks = {"before": self.depth.before, "after": self.depth.after, "removed": self.depth.removed}
            stage["decoder_blocks" if self.depth.decoder else "blocks"] = blocks
        model = trainer.finish({"stages": [*earlier_stages([self.order.base, *recipe.experts.values()]), stage]})
        if trainer.ranks.is_first:
            write_report(self.folder)
            write_card(Trained.of(model, recipe.name, base), RunRecord.read(self.folder))
        return model

    def _with_depth(self, objective: Any, validation: Sequence[Batch], ranks: Ranks) -> tuple[Any, DepthRecord]:
        """Return the objective at the recipe's depth; a resumed run uses the same blocks as before."""
        device = torch.device(self.order.schedule.device)
        if isinstance(objective, DecoderObjective):
            if self.order.resume:
                return restored_decoder(objective, self.folder)
            return prune_decoder(objective, self.samples, validation, device, ranks)
        if self.order.resume:
            return restored_depth(objective, self.recipe, self.folder)
        return change_depth(objective, self.recipe, self.samples, validation, device, ranks)

    def _prepare_captions(self, objective: Any, pairs: Sequence[Pair]) -> None:
        if not isinstance(objective, PartsObjective):
            return
        device, prompts = torch.device(self.order.schedule.device), objective.parts.prompts
        if pairs:
            prompts.prepare_pairs([*captions_of_pairs(pairs), *([""] if self.recipe.caption_dropout else [])], device)
        elif self.recipe.objective != "wording":
            prompts.prepare_photos(captions_of_recipe(self.recipe) if prompts.prompts.as_typed else {}, device)


def runs(order: Order, recipe: TrainingRecipe, ranks: Ranks | None = None) -> Iterator[Run]:
    """The run of each stage that is left to do, the next one after the one before has finished.

    A recipe of several stages trains each in a folder of its own, `stage-1` and so on, from the model of the one
    before; the last model is then copied to `model`.
    """
    stages = recipe.staged()
    if not recipe.stages:
        yield Run(order, recipe, ranks)
        return
    if not order.resume:
        refuse_taken(order.folder)
    if order.base != SCRATCH:
        check_stages(recipe, order.base)
    whole = sum(stage.steps for stage in stages)
    base, rank, folder = order.base, order.rank, order.folder
    for number, stage in enumerate(stages, start=1):
        folder = order.folder / f"stage-{number}"
        if not (folder / "model").is_dir():
            minutes = order.schedule.max_minutes
            schedule = replace(order.schedule, max_minutes=minutes * stage.steps / whole if minutes else None)
            begun = order.resume and find_checkpoint(folder) is not None
            # Later stages begin from a model that has the autoencoder, or from an adapter that names it.
            autoencoder = order.autoencoder if number == 1 else None
            own = replace(
                order, folder=folder, base=base, rank=rank, schedule=schedule, resume=begun, autoencoder=autoencoder
            )
            name = f"stage {number} of {len(stages)}: {stage.objective}"
            yield Run(own, stage, ranks, name=name, whole=recipe)
        # An adapter is trained further as the kind that it is.
        base, rank = str(folder / "model"), None
    if ranks is None or ranks.is_first:
        copy_folder(folder / "model", order.folder / "model")
        write_report(order.folder, [order.folder / f"stage-{number}" for number in range(1, len(stages) + 1)])


def divided(recipe: TrainingRecipe, ranks: Ranks) -> TrainingRecipe:
    """Return the recipe with as many parts per batch as several processes leave; UsageError if the batch cannot be
    divided.

    `accumulate` saves memory on one device; each of several devices computes fewer crops anyway.
    """
    most = min(recipe.accumulate, max(1, recipe.batch // ranks.count))
    parts = next((parts for parts in range(most, 0, -1) if recipe.batch % (ranks.count * parts) == 0), None)
    recipe = replace(recipe, accumulate=parts) if parts and ranks.count > 1 else recipe
    check_division(recipe, ranks)
    return recipe


def _training(order: Order, recipe: TrainingRecipe, pairs: Sequence[Pair], ranks: Ranks, pixels: int) -> Training:
    """The choices of a run that decide on its memory."""
    longest = max((len(prompt) for pair in pairs for prompt in pair.prompts), default=0)
    setting = Setting(
        device=torch.device(order.schedule.device), processes=ranks.count, is_sharded=order.schedule.sharded,
        # A token has three characters or more, and pairs two images of three bytes a pixel.
        length=min(max(longest // 3, LENGTH), MAX_TOKENS), data_bytes=3 * pixels * (2 if pairs else 1),
    )  # fmt: skip
    return Training(recipe=recipe, start=order.start, setting=setting)


def _make(folder: Path) -> None:
    """Make the run's folder before anything is trained; UsageError if that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot be made a folder ({error.strerror})", where=folder, next_step="Name another one with -o."
        ) from error


def check_data(data: Path, recipe: TrainingRecipe) -> Preflight:
    """Check the data of a run, before any weights are loaded; UsageError or NoImagesError names all faults found."""
    if data.suffix.lower() != ".csv":
        return check_photos(data, recipe)
    if recipe.objective in ("colour-correction", "wording", DECODER):
        raise UsageError(
            f"the objective '{recipe.objective}' needs clean photos", where=data,
            next_step="Name a folder of clean photos, not a list of pairs.",
        )  # fmt: skip
    if recipe.held_back:
        raise UsageError(
            "photos can be held back from a folder, but not from a list of pairs", where="held_back in the recipe",
            next_step="Remove held_back, or train on a folder of clean photos.",
        )  # fmt: skip
    return check_pairs(data, recipe)


def _samples(found: Preflight, recipe: TrainingRecipe, decoded: Path) -> tuple[Any, list[Batch]]:
    """Training samples and validation batches; the folder `decoded` holds decoded photos during the run."""
    if found.pairs:
        return PairSamples(found.pairs, recipe, decoded), pair_validation(found.held_pairs, scale=recipe.scale)
    if recipe.objective == "colour-correction":
        return OverviewSamples(found.photos, recipe, decoded), overview_validation(found.held_photos)
    if recipe.objective == "wording":
        # This objective trains on words alone; the photos are not used.
        return WordingSamples(recipe), []
    return PhotoSamples(found.photos, recipe, decoded), validation_batches(found.held_photos)


def _facts(
    used: Sequence[tuple[Path, ...]], validation: Sequence[Batch], recipe: TrainingRecipe, pairs: Sequence[Pair]
) -> DataFacts:
    """The data in numbers, for the report and the card."""
    kind = "pairs" if pairs else "lists of words" if recipe.objective == "wording" else "photographs"
    captions = captions_of_pairs(pairs)
    # Photographs are validated under several degradations each, pairs once.
    held = [len(batch.prompts) for batch in validation]
    return DataFacts(
        kind=kind, trained=len(used), held_back=sum(held) if pairs else max(held, default=0),
        size=sum(path.stat().st_size for paths in used for path in paths),
        captions=tuple(captions[:MOST_CAPTIONS]), other_captions=len(captions[MOST_CAPTIONS:]),
    )  # fmt: skip
