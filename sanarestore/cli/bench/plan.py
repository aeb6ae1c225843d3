"""What is to be measured: sets, tasks, levels and methods, checked before anything is measured."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sanarestore.cli.bench import sets
from sanarestore.errors import UsageError
from sanarestore.options import RestoreOptions

if TYPE_CHECKING:
    from sanarestore.evaluation.benchmark import Benchmark, Method
    from sanarestore.evaluation.tasks import Case, Levels

Number = TypeVar("Number")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """The benchmark that the flags describe."""

    names: Sequence[str]
    folders: Sequence[Path]
    data_dir: Path | None
    download: bool
    tasks: Sequence[str]
    """Empty: each set's own task."""
    levels: Mapping[str, object]
    """Flag -> its value as given; None or empty if it is not."""
    gray: bool
    metrics: Sequence[str]
    limit: int | None
    unprompted: bool
    seeds: int | None
    peers: Sequence[str]
    autoencoders: Sequence[str]


def plans_of(wanted: Wanted, options: RestoreOptions, devices: str) -> "list[Benchmark]":
    """Find the sets and prepare everything, so that whatever is missing is reported at once.

    UsageError, NoImagesError or WeightsError if something is wrong or missing.
    """
    from sanarestore import weights
    from sanarestore.cli import console
    from sanarestore.engine.workers import parse_devices
    from sanarestore.evaluation.methods import autoencoder_sources, autoencoders, our_methods
    from sanarestore.evaluation.perceptual import Perceptual
    from sanarestore.evaluation.tasks import RECONSTRUCTION

    levels = _levels(wanted.levels)
    Perceptual(_metrics(wanted), parse_devices(devices)[0])
    found = sets.find_sets(list(wanted.names), list(wanted.folders), wanted.data_dir)
    flags = [flag for flag, value in wanted.levels.items() if value]
    tasks = sets.tasks(list(wanted.tasks), flags, [own for _, own, _ in found])
    seeds = None if wanted.seeds is None else tuple(range(wanted.seeds))
    ours = partial(our_methods, options, seeds, tuple(wanted.peers))
    sources = autoencoder_sources(options, wanted.autoencoders) if RECONSTRUCTION in tasks else ()
    console.show_licences(*wanted.autoencoders, wanted=weights.WANTED_OF_AUTOENCODERS)
    console.show_licences(weights.chosen(options.model, options.adapter), options.adapter)
    return list(_plans(wanted, options, found, tasks, levels, ours, partial(autoencoders, sources)))


def check(wanted: Wanted, options: RestoreOptions) -> None:
    """Raise UsageError for wrong tasks and levels, and for flags that contradict each other; sets are looked for
    later."""
    from sanarestore.evaluation.tasks import RECONSTRUCTION, cases

    levels = _levels(wanted.levels)
    for task in wanted.tasks:
        cases(task, levels)

    if wanted.unprompted and options.prompt is not None:
        raise UsageError(
            "this cannot be combined with --prompt", where="--unprompted", next_step="Leave one of them out."
        )
    if wanted.autoencoders and RECONSTRUCTION not in wanted.tasks:
        raise UsageError(
            "autoencoders are measured by the task reconstruction", where="--autoencoder",
            next_step="Add --task reconstruction.",
        )  # fmt: skip


def numbers(flag: str, text: str, kind: Callable[[str], Number]) -> tuple[Number, ...]:
    """Parse numbers separated by commas; UsageError names the flag."""
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"'{text}' is not a list of numbers", where=flag, next_step="Use commas, as in 15,25,50."
        ) from error


def _plans(
    wanted: Wanted,
    options: RestoreOptions,
    found: "Sequence[sets.FoundSet]",
    tasks: Sequence[str],
    levels: "Levels",
    ours: "Callable[[str], Sequence[Method]]",
    reconstructing: "Callable[[str], Sequence[Method]]",
) -> "Iterator[Benchmark]":
    """A benchmark per set and kind of method, and one of flat fields if harm is measured."""
    from sanarestore.evaluation.benchmark import Benchmark
    from sanarestore.evaluation.flat_fields import FLAT, FLAT_FIELDS
    from sanarestore.evaluation.tasks import CLEAN, RECONSTRUCTION, cases

    captions = options.prompt is None and not wanted.unprompted
    planned = partial(Benchmark, gray=wanted.gray, metrics=_metrics(wanted), captions=captions)
    for name, own, items in found:
        asked: tuple[Case, ...] = tuple(case for task in tasks or [own] for case in cases(task, levels))
        of_ours = tuple(case for case in asked if case.task != RECONSTRUCTION)
        of_autoencoders = tuple(case for case in asked if case.task == RECONSTRUCTION)
        for methods, of_a_kind in ((ours, of_ours), (reconstructing, of_autoencoders)):
            if of_a_kind:
                yield planned(dataset=name, items=items[: wanted.limit], cases=of_a_kind, methods=methods)
    if CLEAN in tasks:
        # Flat fields are measured once for all sets, and --limit does not apply to them.
        yield planned(dataset=FLAT, items=FLAT_FIELDS, cases=cases(CLEAN, levels), methods=ours)


def _metrics(wanted: Wanted) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.lower() for name in wanted.metrics))


def _levels(flags: Mapping[str, object]) -> "Levels":
    from sanarestore.evaluation.tasks import Levels

    kinds: dict[str, Callable[[str], float]] = {"--sigma": float, "--quality": int, "--scale": int, "--blur": float}
    given: dict[str, object] = {
        flag.removeprefix("--"): numbers(flag, str(flags[flag]), kind)
        for flag, kind in kinds.items() if flags[flag] is not None
    }  # fmt: skip
    if flags["--draws"] is not None:
        given["draws"] = flags["--draws"]
    return Levels(recipe=tuple(flags["--recipe"] or ()), **given)  # type: ignore[arg-type]
