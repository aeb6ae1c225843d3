"""A training as a user asks for it: recipe, data and base brought together, stage after stage, in one folder."""

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from sanarestore import __version__, images, weights
from sanarestore.degradations.pairs import Pair, list_pairs
from sanarestore.degradations.wordings import word_files
from sanarestore.errors import UsageError
from sanarestore.files import copy_folder, sampled_hash
from sanarestore.model.prompts import MAX_TOKENS
from sanarestore.training.captions import captions_of_pairs, captions_of_recipe
from sanarestore.training.card import Trained, write_card
from sanarestore.training.checkpoint import find_checkpoint
from sanarestore.training.claim import claimed, decoded_in
from sanarestore.training.data import Batch, OverviewSamples, PairSamples, PhotoSamples, WordingSamples
from sanarestore.training.fitting import Training, fitting_objective
from sanarestore.training.latents import SHARD, LatentSamples, encode, plan_latents
from sanarestore.training.lengths import pixels_of, scaled
from sanarestore.training.loop import Progress, Schedule, Trainer, check_division
from sanarestore.training.memory import LENGTH, Setting
from sanarestore.training.objective import PartsObjective
from sanarestore.training.preflight import Preflight, check_pairs, check_photos, fingerprint_of
from sanarestore.training.ranks import Ranks
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.record import MOST_CAPTIONS, DataFacts, RunRecord
from sanarestore.training.report import write_report
from sanarestore.training.results import Results
from sanarestore.training.starting import Start
from sanarestore.training.tracking import Trackers
from sanarestore.training.validation import overview_validation, pair_validation, validation_batches

SCRATCH = "scratch"
"""Name of the base for fresh weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What a user asks a training for."""

    data: Path
    """A folder of clean photographs, or a list of pairs."""
    folder: Path
    """The folder of the run."""
    recipe: Path | None = None
    """A recipe; None for that of the run to resume, or otherwise the embedded model's, adjusted to the base."""
    base: str = weights.EMBEDDED
    """Name of a model, a published base or an adapter, or `SCRATCH`."""
    rank: int | None = None
    """Rank of low-rank weights to train; None to train weights themselves, or as the adapter that is the base."""
    steps: int | None = None
    """Steps in all; None for the recipe's."""
    cached_passes: int | None = None
    """Passes over the data whose latents are encoded once, in stages whose objective is flow; None for the recipe's."""
    resume: bool = False
    schedule: Schedule = field(default_factory=Schedule)
    track: tuple[str, ...] = ()
    """Trackers that record the run."""

    @property
    def start(self) -> Start:
        """What the networks begin from."""
        base = None if self.base == SCRATCH else self.base
        return Start(base=base, rank=self.rank, dtype=self.schedule.arithmetic)


class Run:
    """One training of one recipe, ready to begin: data found, weights loaded, captions embedded."""

    def __init__(self, order: Order, recipe: TrainingRecipe, ranks: Ranks | None = None, name: str = "") -> None:
        """Read data and weights; UsageError, NoImagesError or WeightsError if anything is wrong with them."""
        self.order = order
        self.name = name
        """Which stage of how many this is; empty if it is the only one."""
        recipe = divided(recipe, ranks or Ranks())
        self.recipe = recipe
        self.folder = order.folder
        self.preflight = check_data(order.data, recipe)
        self._files = [(path,) for path in word_files()] if recipe.objective == "wording" else self.preflight.files
        self.samples, validation = _samples(self.preflight, recipe, decoded_in(order.folder))
        listed = (*self.preflight.pairs, *self.preflight.held_pairs)
        self._data_facts = _facts(self._files, validation, recipe, listed)
        self.kind = "wordings" if recipe.objective == "wording" else "pairs" if listed else "photos"
        self.count = len(self._files)
        """Photographs or pairs to train on."""
        self.pixels = 0 if self.kind == "wordings" else pixels_of([paths[0] for paths in self._files])
        """Pixels of the photographs, or of the targets of the pairs."""
        self.training = _training(order, recipe, listed, ranks or Ranks(), self.pixels)
        objective, self.memory = fitting_objective(self.training)
        self._prepare_captions(objective, listed)
        self.trainer = Trainer(
            order.folder, objective, recipe, order.schedule, validation, origin=origin_of(order),
            data=fingerprint_of(self._files), ranks=ranks,
        )  # fmt: skip

    @contextmanager
    def begun(self) -> Iterator[Results | None]:
        """Hold the run's folder within the block; yield the validation before training, None if there is none.

        UsageError if the folder is taken, or if a run to resume does not fit.
        """
        _make(self.folder)
        with claimed(self.folder, is_first=self.trainer.ranks.is_first):
            if self.order.resume:
                self.trainer.resume()
            elif self.trainer.ranks.is_first:
                refuse_taken(self.folder)  # by a run that has ended meanwhile
            found = self.trainer.begin()
            if self.trainer.ranks.is_first:
                self._data_facts.save(self.folder)
            yield found

    def encode(self) -> Iterator[tuple[int, int]]:
        """Encode the crops that the recipe wants encoded once, yielding (crops done, crops to do)."""
        if not self.recipe.cached_passes:
            return
        trainer = self.trainer
        autoencoder = trainer.objective.parts.path.autoencoder  # type: ignore[attr-defined]
        plan = plan_latents(self.recipe, self._files, autoencoder)
        self.trainer.note(plan.note)
        device = torch.device(self.order.schedule.device)
        missing = min(plan.crops, len(plan.missing) * SHARD)
        with trainer.autocast():
            for done in encode(plan, self.samples, autoencoder.encode, self.recipe, device, trainer.ranks):
                yield done, missing
        self.samples = LatentSamples(plan, self.recipe)

    def steps(self) -> Generator[Progress, None, None]:
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
                with suppress(OSError):  # the checkpoint's error says what is wrong with the disk
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
        model = trainer.finish({"stages": [*earlier_stages([self.order.base, *recipe.experts.values()]), stage]})
        if trainer.ranks.is_first:
            write_report(self.folder)
            write_card(Trained.of(model, recipe.name, base), RunRecord.read(self.folder))
        return model

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
    whole = sum(stage.steps for stage in stages)
    base, rank, folder = order.base, order.rank, order.folder
    for number, stage in enumerate(stages, start=1):
        folder = order.folder / f"stage-{number}"
        if not (folder / "model").is_dir():
            minutes = order.schedule.max_minutes
            schedule = replace(order.schedule, max_minutes=minutes * stage.steps / whole if minutes else None)
            begun = order.resume and find_checkpoint(folder) is not None
            own = replace(order, folder=folder, base=base, rank=rank, schedule=schedule, resume=begun)
            yield Run(own, stage, ranks, f"stage {number} of {len(stages)}: {stage.objective}")
        # An adapter is trained further as the kind that it is.
        base, rank = str(folder / "model"), None
    if ranks is None or ranks.is_first:
        copy_folder(folder / "model", order.folder / "model")
        write_report(order.folder, [order.folder / f"stage-{number}" for number in range(1, len(stages) + 1)])


def divided(recipe: TrainingRecipe, ranks: Ranks) -> TrainingRecipe:
    """The recipe with as many parts a batch as several processes leave; UsageError if the batch cannot be divided.

    `accumulate` saves memory on one device, and each of several computes fewer crops anyway.
    """
    most = min(recipe.accumulate, max(1, recipe.batch // ranks.count))
    parts = next((parts for parts in range(most, 0, -1) if recipe.batch % (ranks.count * parts) == 0), None)
    recipe = replace(recipe, accumulate=parts) if parts and ranks.count > 1 else recipe
    check_division(recipe, ranks)
    return recipe


def choose_recipe(order: Order) -> TrainingRecipe:
    """The recipe of an order; see `Order.recipe`. UsageError if it cannot be read or is wrong."""
    recipe = _recipe(order)
    recipe = recipe.with_cached_passes(order.cached_passes) if order.cached_passes else recipe
    if order.steps:
        return recipe.with_steps(order.steps)
    is_own = order.resume and (order.folder / "recipe.json").is_file()
    if order.recipe or is_own or order.base == SCRATCH or order.schedule.max_minutes or recipe.stages:
        return recipe
    # Nobody has said how long to train.
    low_rank = bool(order.rank) or weights.is_adapter(weights.resolve(order.base))
    is_cpu = torch.device(order.schedule.device).type == "cpu"
    return scaled(recipe, pixels_of(_images(order.data)), low_rank=low_rank, is_cpu=is_cpu)


def _recipe(order: Order) -> TrainingRecipe:
    own = order.folder / "recipe.json"
    if order.recipe is None and order.resume and own.is_file():
        return TrainingRecipe.from_dict(json.loads(own.read_text(encoding="utf-8")), own)
    if order.recipe is not None:
        return TrainingRecipe.load(order.recipe)
    embedded = TrainingRecipe.load(weights.resolve(weights.EMBEDDED) / "recipe.toml")
    if order.base == SCRATCH:
        return embedded
    folder, name = weights.resolve(order.base), order.folder.name
    low_rank = bool(order.rank)
    if weights.is_adapter(folder):
        index = weights.read_adapter_index(folder)
        low_rank = index.get("change") == "lora" or index.get("refiner") is None
        folder = weights.resolve(index["base"])
    if weights.is_model(folder):
        return embedded.for_tuning(name, low_rank=low_rank)
    return TrainingRecipe.for_adapting(low_rank=low_rank)


def run_folder(output: Path | None, *, resume: bool) -> Path:
    """The folder of a run, a dated one if none is named; UsageError if --resume lacks it, or it is taken."""
    if output is None:
        if resume:
            raise UsageError("needs the run's folder", where="--resume", next_step="Name it with -o.")
        return Path("runs") / datetime.now().strftime("%Y-%m-%d-%H%M%S")
    if not resume:
        refuse_taken(output)
    elif not output.is_dir():
        raise UsageError("there is no checkpoint to resume from", where=output, next_step="Leave out --resume.")
    return output


def refuse_taken(folder: Path) -> None:
    """UsageError if there is a checkpoint or a model of an earlier run."""
    # A checkpoint without its state was never finished: there is nothing to continue from.
    taken = [name for name in ("checkpoint", "checkpoint.new") if (folder / name / "state.json").is_file()]
    taken += [name for name in ("model", "stage-1") if (folder / name).exists()]
    if taken:
        raise UsageError(
            f"there is a {taken[0]} of an earlier run",
            where=folder,
            next_step="Continue that run with --resume, or name another folder with -o.",
        )


def earlier_stages(models: Sequence[str]) -> list[dict[str, Any]]:
    """List the training stages that these models and adapters record, each once; others have none."""
    found: list[dict[str, Any]] = []
    for model in models:
        if model == SCRATCH:
            continue
        folder = weights.resolve(model)
        if weights.is_model(folder):
            training = weights.read_manifest(folder).get("training", {})
        elif weights.is_adapter(folder):
            training = weights.read_adapter_index(folder).get("training", {})
        else:
            continue
        # Older manifests record only the last run.
        stages = training.get("stages", [training] if training else [])
        found += [stage for stage in stages if stage not in found]
    return found


def origin_of(order: Order) -> str:
    """Name and hash of the base's weights, and the rank if low-rank changes are trained."""
    if order.base == SCRATCH:
        return order.base
    folder = weights.resolve(order.base)
    low_rank = f", by changes of rank {order.rank}" if order.rank else ""
    parts = (*weights.BASE_PARTS, "text_encoder", "tokenizer")
    if weights.is_adapter(folder):
        own = weights.fingerprint(weights.chosen(None, order.base), order.base)
        return f"{Path(order.base).name} {own[:16]}{low_rank}"
    return f"{Path(order.base).name} {sampled_hash(folder, *parts)[:16]}{low_rank}"


def _images(data: Path) -> list[Path]:
    """The clean photographs of the data, and the targets of pairs."""
    if data.suffix.lower() == ".csv":
        return [pair.target for pair in list_pairs(data).pairs]  # faults are told later, all together
    return [each.path for each in images.find([str(data)]).images]


def _training(order: Order, recipe: TrainingRecipe, pairs: Sequence[Pair], ranks: Ranks, pixels: int) -> Training:
    """What decides on the memory of a run."""
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
    if recipe.objective in ("colour-correction", "wording"):
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
        return PairSamples(found.pairs, recipe, decoded), pair_validation(found.held_pairs)
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
