"""Planning: every input is paired with its output, and what cannot be is refused one by one. Imports no torch."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sanarestore.engine.jobs import Job, Outcome
from sanarestore.engine.naming import Naming, split, suffix_of
from sanarestore.errors import UsageError
from sanarestore.files import temporary_beside
from sanarestore.images import (
    FORMAT_NAMES,
    SUFFIXES,
    WRITTEN,
    Format,
    Found,
    format_of_file,
    is_image_suffix,
    written_instead,
)
from sanarestore.options import LOSSLESS, OutputFormat

_LISTED = " and ".join(", ".join(FORMAT_NAMES[each] for each in WRITTEN).rsplit(", ", 1))


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """The jobs for the files found, and the refused files."""

    jobs: tuple[Job, ...]
    refused: tuple[Outcome, ...]
    """Failed outcomes of files that have no output of their own."""
    inside: tuple[Found, ...] = ()
    """Files in an output folder that lies inside the searched folder; they are not inputs."""
    notes: tuple[str, ...] = ()
    """What is to be said once for all files."""


def plan(
    found: Sequence[Found],
    inputs: Sequence[str],
    output: str | None,
    naming: Naming = Naming(),  # noqa: B008 - frozen
) -> BatchPlan:
    """Pair every input with its output.

    Without `output`, a folder `shoot` goes to `shoot-restored` beside it and a file `a.jpg` to `a-restored.jpg`. The
    output is one file if one file is named as input and the output has an image suffix, which then decides the format;
    otherwise it is a folder, and has such a suffix only if it exists already. Files in an output folder that lies
    inside the searched folder are not inputs. An input in a format that is only read is written as TIFF or PNG, and its
    output is named so.
    A file is refused if its output would replace an input, would be that of an earlier input, or would lie outside of
    the output folder. Jobs have absolute paths. UsageError if the output is of the wrong kind, or `naming` contradicts
    its name.
    """
    if output is None:
        return _noted(_accepted(_writable(_without_output(found, naming), naming), naming), naming)
    kept: list[Found] = []
    inside: list[Found] = []
    for each in found:
        (inside if _lies_in_output(each, Path(output).resolve()) else kept).append(each)
    jobs = _writable(_with_output(kept, inputs, Path(output), naming), naming)
    return _noted(replace(_accepted(jobs, naming), inside=tuple(inside)), naming)


def format_named(output: Path, asked: OutputFormat = "preserve", quality: int | None = None) -> Format | None:
    """The format of an output file: that of its suffix, or the one `asked` for; None keeps the input's.

    UsageError if the format of the suffix is not written, is not the one that is asked for, or has no quality and one
    is asked for.
    """
    suffix = output.suffix.lower()
    named = SUFFIXES.get(suffix)
    if named is None and is_image_suffix(suffix):
        raise UsageError(f"{suffix[1:].upper()} is not written", where=output, next_step=f"{_LISTED} are.")
    if quality is not None and named in LOSSLESS:
        raise UsageError(
            f"{FORMAT_NAMES[named]} is written without loss and has no quality", where=output,
            next_step="Leave out --quality, or name a .jpg, .webp, .avif or .jxl file.",
        )  # fmt: skip
    if asked == "preserve":
        return named
    if named not in (None, asked):
        raise UsageError(
            f"its suffix names {str(named).upper()}, and --format {asked} is asked for", where=output,
            next_step="Leave out --format, or change the suffix.",
        )  # fmt: skip
    return asked


def _lies_in_output(each: Found, output: Path) -> bool:
    """Return whether a found file lies in the output folder, and the output folder lies inside the searched folder."""
    root = each.root.resolve()
    return output != root and output.is_relative_to(root) and output in each.path.resolve().parents


def _with_output(found: Sequence[Found], inputs: Sequence[str], output: Path, naming: Naming) -> list[Job]:
    is_file = not _is_dir(output) and format_named(output) is not None
    single = len(found) == 1 and len(inputs) == 1 and found[0].path == Path(inputs[0])
    if single and is_file:
        return [_to_file(found[0].path, output, naming)]
    if is_file and found:
        count = f"{len(found)} files do" if len(found) > 1 else "what a folder or a pattern finds does"
        raise UsageError(
            f"{count} not fit into one file", where=output,
            next_step=f"Name a folder; --format {format_named(output)} writes its files in that format.",
        )  # fmt: skip
    if not _is_dir(output) and os.path.lexists(output):
        raise UsageError("is a file, and a folder is needed here", where=output)
    format = _format_of(naming)  # noqa: A001 - the word users say
    return [
        Job(source=each.path, target=output / naming.relative(each, index), format=format, folder=output)
        for index, each in enumerate(found, start=1)
    ]


def _to_file(source: Path, output: Path, naming: Naming) -> Job:
    if naming.template is not None:
        raise UsageError(
            f"the output has a name already, {output.name}", where="--name",
            next_step="Leave it out, or name a folder with -o.",
        )  # fmt: skip
    format = format_named(output, naming.format, naming.quality)  # noqa: A001 - as above
    # a.jpg to b.jpg keeps the real format, even if the suffix is wrong; a.jpg to b.png asks for another.
    keeps = naming.format == "preserve" and format == SUFFIXES.get(source.suffix.lower())
    return Job(source=source, target=output, format=None if keeps else format)


def _without_output(found: Sequence[Found], naming: Naming) -> list[Job]:
    jobs = []
    format = _format_of(naming)  # noqa: A001 - as above
    for index, each in enumerate(found, start=1):
        if each.in_folder:
            folder = _beside(each.root)
            target = folder / naming.relative(each, index)
        else:
            folder = each.path.parent
            target = each.path.with_name(naming.name(each.path, index, default="{stem}-restored"))
        jobs.append(Job(source=each.path, target=target, format=format, folder=folder))
    return jobs


def _format_of(naming: Naming) -> Format | None:
    return None if naming.format == "preserve" else naming.format


def _writable(jobs: Iterable[Job], naming: Naming) -> Iterator[Job]:
    """Jobs with the format and the name of their output, where the input's format is only read."""
    for job in jobs:
        format = written_instead(job.source, naming.bit_depth) if job.format is None else None  # noqa: A001 - as above
        if format is None:
            yield job
        elif job.folder is None:  # the user named the file
            yield replace(job, format=SUFFIXES.get(job.target.suffix.lower(), format))
        else:
            name = job.target.name.removesuffix(split(job.source)[1]) + suffix_of(format)
            yield replace(job, format=format, target=job.target.with_name(name))


def _beside(folder: Path) -> Path:
    whole = folder.resolve()
    if not whole.name:
        raise UsageError("nothing can be beside this folder", where=whole, next_step="Choose an output with -o.")
    return whole.with_name(f"{whole.name}-restored")


def _accepted(planned: Iterable[Job], naming: Naming) -> BatchPlan:
    """Tell jobs with an output of their own from jobs that are refused."""
    jobs = list(planned)
    names = _Names(jobs)
    sources = {names.of(job.source) for job in jobs}
    taken: dict[str, Job] = {}
    accepted, refused = [], []
    for job in jobs:
        target = names.of(job.target)
        if job.folder and not names.real(job.target).is_relative_to(names.real(job.folder)):
            refused.append(_refused(job, "it would be written outside of the output", "Name its folder instead."))
        elif target in taken and names.of(taken[target].source) == names.of(job.source):
            continue  # the same file, named again through a link to its folder
        elif target in taken:
            fact = f"{taken[target].source} is already to be written to {job.target}"
            refused.append(_refused(job, fact, naming.advice((taken[target].source, job.source))))
        elif target in sources:
            fact = f"its output {job.target} would replace an input"
            refused.append(_refused(job, fact, "Choose another output with -o."))
        else:
            taken[target] = job
            accepted.append(job.anchored())
    return BatchPlan(tuple(accepted), tuple(refused))


def _noted(planned: BatchPlan, naming: Naming) -> BatchPlan:
    """The plan with a note if some of its results have no quality, and one is asked for."""
    if naming.quality is None:
        return planned
    note = without_quality([job.format or format_of_file(job.source) for job in planned.jobs])
    return replace(planned, notes=(*planned.notes, note)) if note else planned


def without_quality(formats: Sequence[Format | None]) -> str | None:
    """A note on results that `--quality` does not change, because their formats are written without loss."""
    lossless = [each for each in formats if each in LOSSLESS]
    if not lossless:
        return None
    names = " and ".join(FORMAT_NAMES[each] for each in WRITTEN if each in lossless)
    which = "" if len(lossless) == len(formats) else f" in {len(lossless)} of {len(formats)} results"
    return f"--quality changes nothing{which}: {names} {'is' if ' and ' not in names else 'are'} written without loss"


def _refused(job: Job, fact: str, next_step: str, reason: str = "collision") -> Outcome:
    return Outcome(path=job.source, status="failed", reason=reason, error=f"{job.source}: {fact}. {next_step}")


class _Names:
    """Names of files as their disk tells them apart: some disks take names of other case or Unicode form for the same.

    A disk is tried only if there are such names.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._real: dict[Path, Path] = {}
        self._folds: dict[Path, bool] = {}
        names: defaultdict[str, set[str]] = defaultdict(set)
        for job in jobs:
            for path in (job.source, job.target):
                whole = str(self.real(path))
                names[_folded(whole)].add(whole)
        self._ambiguous = {folded for folded, several in names.items() if len(several) > 1}

    def of(self, path: Path) -> str:
        """A text that two paths share if they are the same file."""
        whole = str(self.real(path))
        folded = _folded(whole)
        return folded if folded in self._ambiguous and self._does_fold(path) else whole

    def real(self, path: Path) -> Path:
        """The path without links; folders are resolved once, since a batch has few of them."""
        if path.parent not in self._real:
            self._real[path.parent] = Path(os.path.realpath(path.parent))
        return Path(os.path.realpath(path)) if os.path.islink(path) else self._real[path.parent] / path.name  # noqa: PTH114 - as below

    def _does_fold(self, path: Path) -> bool:
        folder = next(each for each in (path.absolute().parent, *path.absolute().parents) if _is_dir(each))
        if folder not in self._folds:
            self._folds[folder] = _takes_names_for_the_same(folder)
        return self._folds[folder]


def _is_dir(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - False for a name that is too long, where Path.is_dir raises an error


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _takes_names_for_the_same(folder: Path) -> bool:
    """Return whether the disk takes names that differ in case or Unicode form for the same; True if it cannot be
    tried."""
    probe = temporary_beside(folder / "x")
    probe = probe.with_name(probe.name.replace(".tmp", "-é.tmp"))
    try:
        probe.open("xb").close()
    except OSError:
        return True
    try:
        others = (probe.name.upper(), unicodedata.normalize("NFD", probe.name))
        return any(probe.with_name(other).exists() for other in others)
    finally:
        probe.unlink()
